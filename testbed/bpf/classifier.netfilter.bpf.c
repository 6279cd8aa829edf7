// SPDX-License-Identifier: GPL-2.0-only
/* The classifier (classify.h) at NF_INET_PRE_ROUTING: the thesis's chaining point.
 *
 * Two programs stay attached, whatever the chains become: `classify`, and `go_on` behind the
 * kernel's NAT, for chains with NFs behind DNAT. Left alone: what the node says to itself.
 */
#include "netfilter.h"
#include "classify.h"

#define LOOPBACK 1
#define CT_INFO 7UL /* bits of _nfct */
#define CT_ESTABLISHED 0
#define CT_NEW 2
#define CT_DST_NAT (1 << 5) /* IPS_DST_NAT */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct nf_conn {
	unsigned long status;
};
#pragma clang attribute pop

const volatile __u32 translates = 0; /* a chain of the node does; the kernel tracks connections */

/* The way back of a connection that the kernel translates, or an error about one: the kernel does
 * what is to be done, and no chain is entered. */
static __always_inline bool is_reply(const struct packet *pkt)
{
	unsigned long tracked = skb_of(pkt)->_nfct, info = tracked & CT_INFO;
	struct nf_conn *connection = (void *)(tracked & ~CT_INFO);
	unsigned long status;

	if (info == CT_ESTABLISHED || info == CT_NEW || !connection ||
	    bpf_core_read(&status, sizeof(status), &connection->status))
		return false;
	return status & CT_DST_NAT;
}

/* ip_rcv() has seen to it that the header is sound. */
static __always_inline bool read_packet(struct packet *pkt)
{
	struct iphdr ip;
	__u32 ports;

	if (packet_read(pkt, 0, &ip, sizeof(ip)))
		return false;
	pkt->key.words[0] = ip.saddr;
	pkt->key.words[1] = ip.daddr;
	pkt->key.words[2] = 0;
	if (ip.frag_off & bpf_htons(IP_MF | IP_OFFSET)) {
		pkt->key.words[3] = key_rest(&ip, PACKET_NO_PORTS | PACKET_FRAGMENT);
		return true;
	}
	pkt->key.words[3] = key_rest(&ip, PACKET_NO_PORTS);
	if (!has_ports(ip.protocol) || packet_read(pkt, ip.ihl * 4, &ports, sizeof(ports)))
		return true;
	pkt->key.words[2] = ports;
	pkt->key.words[3] = key_rest(&ip, 0);
	return true;
}

SEC("netfilter")
int classify(struct bpf_nf_ctx *hook)
{
	struct packet pkt = { .hook = hook };
	struct finding *found = finding();
	__u32 packets, bytes;

	if (!found)
		return HOOK_PASS;
	found->go_on = 0;
	if (hook->state->in->ifindex == LOOPBACK || !read_packet(&pkt)) {
		count_rule(n_rules + LEFT_ALONE, 1, packet_length(&pkt));
		return HOOK_PASS;
	}
	if (translates && is_reply(&pkt)) {
		wire_size(&pkt, &packets, &bytes);
		count_rule(n_rules + REPLIES, packets, bytes);
		return HOOK_PASS;
	}
	return take(&pkt);
}

/* Behind the kernel's NAT. A packet that has no way to go on is not one of ours, or its chain ends
 * with the translation. */
SEC("netfilter")
int go_on(struct bpf_nf_ctx *hook)
{
	struct finding *found = finding();
	struct packet pkt;
	__u32 slot;

	if (!found || !found->go_on || found->skb != (__u64)hook->skb)
		return HOOK_PASS;
	slot = found->go_on;
	found->go_on = 0;
	bpf_tail_call(hook, &slots, slot);
	packet_load(&pkt, hook);
	count_rule(n_rules + MISSED, wire_packets(&pkt), wire_bytes(&pkt));
	return HOOK_DROP;
}

char LICENSE[] SEC("license") = "GPL";
