/* SPDX-License-Identifier: GPL-2.0-only */
/* The `tc` datapath: turns an NF's logic into a stage of a chain at tcx or clsact ingress.
 *
 * A stage is one program. Its findings about the packet travel in skb->cb (20 bytes that the
 * kernel keeps across tail calls), its successor stands in one slot of `slots` whose index is a
 * constant of the loaded instance, so that the kernel turns the tail call into a direct jump.
 */
#ifndef NF_HOOK_TC_H
#define NF_HOOK_TC_H

#include "tc.h"
#include "counters.h"

struct packet {
	struct __sk_buff *skb;
	struct flow_key key;
	__u32 flow; /* its number; 0: none */
	__u32 packets; /* on the wire */
	__u32 bytes; /* IP bytes on the wire, all packets together */
	__u32 reason; /* why DROP: index into drop_reasons */
	struct nf_counters *counters;
};

static __always_inline bool packet_load(struct packet *pkt, struct __sk_buff *skb)
{
	pkt->skb = skb;
	pkt->reason = 0;
	key_load(skb, &pkt->key);
	pkt->flow = skb->cb[4];
	wire_size(skb, &pkt->key, &pkt->packets, &pkt->bytes);
	pkt->counters = nf_counters();
	return pkt->counters;
}

static __always_inline enum verdict drop(struct packet *pkt, __u32 reason)
{
	pkt->reason = reason;
	return DROP;
}

static __always_inline void count(struct packet *pkt, __u32 extra)
{
	if (pkt->counters && extra < NF_EXTRA)
		pkt->counters->extra[extra] += pkt->packets;
}

static __always_inline void count_drop(struct packet *pkt)
{
	if (pkt->counters)
		pkt->counters->dropped[pkt->reason & (NF_REASONS - 1)] += pkt->packets;
}

static __always_inline void count_verdict(struct packet *pkt, enum verdict verdict)
{
	struct nf_counters *counters = pkt->counters;

	if (!counters)
		return;
	counters->packets += pkt->packets;
	counters->bytes += pkt->bytes;
	if (verdict == DROP)
		count_drop(pkt);
}

/* Follow the pointer in `slot`. A slot without a program is a fault of ours: the packet has not
 * walked its whole chain, so it must not pass as if it had. */
#define follow(pkt, slot)                                                                          \
	({                                                                                         \
		bpf_tail_call((pkt)->skb, &slots, slot);                                           \
		if ((pkt)->counters)                                                               \
			(pkt)->counters->missed += (pkt)->packets;                                 \
		TC_ACT_SHOT;                                                                       \
	})

/* Slot of this instance's `next` pointer. */
const volatile __u32 next_slot = 0;

/* Where a packet goes that this NF translated on its way back: the last step of the chain. */
const volatile __u32 reply_next_slot = 0;

#define NF_STAGE(logic)                                                                            \
	SEC("tc")                                                                                  \
	int nf(struct __sk_buff *skb)                                                              \
	{                                                                                          \
		struct packet pkt;                                                                 \
		enum verdict verdict;                                                              \
                                                                                                   \
		packet_load(&pkt, skb);                                                            \
		verdict = logic(&pkt);                                                             \
		count_verdict(&pkt, verdict);                                                      \
		if (verdict == DROP)                                                               \
			return TC_ACT_SHOT;                                                        \
		return follow(&pkt, next_slot);                                                    \
	}                                                                                          \
	char LICENSE[] SEC("license") = "GPL"

/* For NFs that translate: gets the replies, and the ICMP errors, of the flows it translated. */
#define NF_REPLY(logic)                                                                            \
	SEC("tc")                                                                                  \
	int nf_reply(struct __sk_buff *skb)                                                        \
	{                                                                                          \
		struct packet pkt;                                                                 \
                                                                                                   \
		packet_load(&pkt, skb);                                                            \
		if (logic(&pkt) == DROP) {                                                         \
			count_drop(&pkt);                                                          \
			return TC_ACT_SHOT;                                                        \
		}                                                                                  \
		return follow(&pkt, reply_next_slot);                                              \
	}

#endif
