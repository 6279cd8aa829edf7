// SPDX-License-Identifier: GPL-2.0-only
/* DNAT at PRE_ROUTING, where a program cannot write: the kernel's own NAT does it, by rules that
 * are made of the same parameters (testbed/rulesets), at its own place among the hooks.
 *
 * `nf` leaves the chain for it; behind the NAT, go_on() in classifier.netfilter.bpf.c takes the
 * chain up again with `nf_reply`, which sees what became of the packet. The way back is the
 * kernel's, too, and enters no program of this instance.
 */
#include "hook_netfilter.h"
#include "dnat_names.h"

#define CT_INFO 7UL /* bits of _nfct */
#define CT_CONFIRMED (1 << 3) /* IPS_CONFIRMED */

const volatile __u32 reply_slot = 0; /* of `nf_reply` */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct nf_conn {
	unsigned long status;
};
#pragma clang attribute pop

/* Whether this packet opens its connection: one that is known already is confirmed. */
static __always_inline bool opens(const struct packet *pkt)
{
	struct nf_conn *connection = (void *)(skb_of(pkt)->_nfct & ~CT_INFO);
	unsigned long status;

	return connection && !bpf_core_read(&status, sizeof(status), &connection->status) &&
	       !(status & CT_CONFIRMED);
}

SEC("netfilter")
int nf(struct bpf_nf_ctx *hook)
{
	struct finding *found = finding();

	if (!found)
		return HOOK_DROP;
	found->skb = (__u64)hook->skb;
	found->go_on = reply_slot;
	return HOOK_PASS;
}

static __always_inline void look(struct packet *pkt)
{
	__be32 dst = pkt->key.dst;
	__be16 dport = pkt->key.dport;

	packet_read(pkt, offsetof(struct iphdr, daddr), &dst, sizeof(dst));
	if (!(pkt->key.info & PACKET_NO_PORTS))
		packet_read(pkt, l4_offset(&pkt->key) + sizeof(dport), &dport, sizeof(dport));
	if (dst == pkt->key.dst && dport == pkt->key.dport)
		count(pkt, DNAT_UNTRANSLATED);
	else if (opens(pkt))
		count(pkt, DNAT_CREATED);
	pkt->key.dst = dst;
	pkt->key.dport = dport;
	packet_store(pkt);
}

SEC("netfilter")
int nf_reply(struct bpf_nf_ctx *hook)
{
	struct packet pkt;

	packet_load(&pkt, hook);
	look(&pkt);
	bpf_tail_call(hook, &slots, next_slot);
	count_missed(&pkt, false);
	return HOOK_DROP;
}

char LICENSE[] SEC("license") = "GPL";
