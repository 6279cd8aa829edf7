// SPDX-License-Identifier: GPL-2.0-only
/* The classifier (classify.h) at tcx or clsact ingress.
 *
 * Left alone (TC_ACT_UNSPEC: on to whatever else is attached, then the kernel): everything that
 * the kernel's PRE_ROUTING hook would not see as IPv4 for this interface either - other
 * protocols, frames for another host, tagged frames of a VLAN, broken IPv4 headers.
 */
#include <linux/if_packet.h>
#include "tc.h"
#include "classify.h"

#define WANTED_HEADERS (L3_OFFSET + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define MOST_HEADERS (WANTED_HEADERS + 40)

/* IPv4 for this interface, as far as the frame around it tells. */
static __always_inline bool is_ours(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) && skb->pkt_type != PACKET_OTHERHOST &&
	       !(skb->vlan_present && skb->vlan_tci & VLAN_ID);
}

/* Some senders leave only the Ethernet header in the linear part, or cut through IP options. */
static __always_inline void pull_headers(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;

	if (linear >= skb->len || linear >= MOST_HEADERS)
		return;
	if (linear >= WANTED_HEADERS && (void *)(ip + 1) <= (void *)(long)skb->data_end &&
	    ip->ihl == 5)
		return;
	bpf_skb_pull_data(skb, skb->len < MOST_HEADERS ? skb->len : MOST_HEADERS);
}

static __always_inline bool read_packet(struct packet *pkt)
{
	pull_headers(pkt->hook);
	return parse(&pkt->key, ip_header(pkt), linear_end(pkt), packet_length(pkt));
}

#include "resume.h"

SEC("tc")
int classify(struct __sk_buff *skb)
{
	struct packet pkt = { .hook = skb };

	if (has_user_steps && skb->mark & TAG_OURS)
		return resume(skb);
	if (is_ours(skb) && read_packet(&pkt))
		return take(&pkt);
	count_rule(n_rules + LEFT_ALONE, 1, skb->len);
	return TC_ACT_UNSPEC;
}

/* At egress of a node that translates: what the node itself sends. Its ICMP errors may quote a
 * packet that it has translated, and it may be the one that a flow was sent on to. What it only
 * forwards was seen when it came in. */
SEC("tc")
int classify_out(struct __sk_buff *skb)
{
	struct packet pkt = { .hook = skb };
	struct flow_key identity;
	__u32 packets, bytes;
	struct flow *flow;

	if (skb->ingress_ifindex || skb->protocol != bpf_htons(ETH_P_IP) || !read_packet(&pkt))
		return TC_ACT_UNSPEC;
	pkt.key.info |= PACKET_OWN;
	if (pkt.key.proto == IPPROTO_ICMP)
		icmp_error(&pkt);
	identity = flow_of(&pkt.key);
	flow = bpf_map_lookup_elem(&flows, &identity);
	if (!flow || !flow->reply)
		return TC_ACT_UNSPEC;
	flow_touch(flow, turning_point(&pkt));
	hand_on(&pkt, flow->number, flow->generation);
	wire_size(&pkt, &packets, &bytes);
	count_rule(n_rules + REPLIES, packets, bytes);
	bpf_tail_call(skb, &slots, flow->translator);
	count_rule(n_rules + MISSED, packets, bytes);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
