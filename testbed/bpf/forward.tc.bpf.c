// SPDX-License-Identifier: GPL-2.0-only
/* The last step of a chain at tc.
 *
 * `to_stack`: on to the kernel's routing, where the thesis leaves the packet.
 * `to_wire`: the whole way here - TTL, route and neighbour look-up, redirect - and only what
 * needs the kernel's help (no neighbour yet, too long, TTL ran out, options, for this host) goes
 * to its routing after all.
 */
#include <linux/if_packet.h>
#include "tc.h"
#include "last.h"

/* Length of the longest IP packet that this one becomes on the wire. */
static __always_inline __u32 ip_length(struct __sk_buff *skb, const struct iphdr *ip)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);
	__u32 transport = sizeof(struct udphdr);

	if (!skb->gso_size)
		return bpf_ntohs(ip->tot_len);
	if (ip->protocol == IPPROTO_TCP && (void *)(tcp + 1) <= (void *)(long)skb->data_end)
		transport = tcp->doff * 4;
	return skb->gso_size + sizeof(*ip) + transport;
}

SEC("tc")
int to_wire(struct __sk_buff *skb)
{
	struct last_counters *last;
	struct packet pkt;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct hop *hop;

	packet_load(&pkt, skb);
	last = count_last(&pkt);
	if (pkt.key.info & PACKET_OWN)
		return TC_ACT_UNSPEC;
	if (skb->vlan_present)
		bpf_skb_vlan_pop(skb); /* VLAN 0: its priority ends here, as with routing */
	eth = (void *)(long)skb->data;
	ip = (void *)(eth + 1);
	if (!last || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	if (hand_over(last, ip, skb->pkt_type == PACKET_HOST))
		return TC_ACT_UNSPEC;
	hop = next_hop(skb, skb->ifindex, last, ip, ip_length(skb, ip));
	if (!hop)
		return TC_ACT_UNSPEC;
	send_on(eth, ip, hop);
	return hop->way == WAY_PEER ? bpf_redirect_peer(hop->out, 0) : bpf_redirect(hop->out, 0);
}

SEC("tc")
int to_stack(struct __sk_buff *skb)
{
	struct packet pkt;

	packet_load(&pkt, skb);
	count_last(&pkt);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
