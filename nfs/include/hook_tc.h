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
	__u32 reason; /* why DROP: index into drop_reasons */
};

static __always_inline void packet_load(struct packet *pkt, struct __sk_buff *skb)
{
	pkt->skb = skb;
	pkt->reason = 0;
	pkt->flow = skb->cb[4];
	key_load(skb, &pkt->key);
}

/* How many packets this one is on the wire. Asked for where it is needed only: a stage that
 * accepts without counting does not pay for it. */
static __always_inline __u32 wire_packets(const struct packet *pkt)
{
	__u32 packets, bytes;

	wire_size(pkt->skb, &pkt->key, &packets, &bytes);
	return packets;
}

/* Their IP bytes, all together. */
static __always_inline __u32 wire_bytes(const struct packet *pkt)
{
	__u32 packets, bytes;

	wire_size(pkt->skb, &pkt->key, &packets, &bytes);
	return bytes;
}

static __always_inline enum verdict drop(struct packet *pkt, __u32 reason)
{
	pkt->reason = reason;
	return DROP;
}

static __always_inline void count(const struct packet *pkt, __u32 extra)
{
	struct nf_counters *counters = nf_counters();

	if (counters && extra < NF_EXTRA)
		counters->extra[extra] += wire_packets(pkt);
}

static __always_inline void count_end(const struct packet *pkt, __u64 *packets, __u64 *bytes)
{
	__u32 more_packets, more_bytes;

	wire_size(pkt->skb, &pkt->key, &more_packets, &more_bytes);
	*packets += more_packets;
	*bytes += more_bytes;
}

static __always_inline int dropped(const struct packet *pkt, bool reply)
{
	struct nf_counters *counters = nf_counters();
	__u32 reason = pkt->reason & (NF_REASONS - 1);

	if (counters && reply)
		count_end(pkt, &counters->replies_dropped[reason], &counters->replies_dropped_bytes);
	else if (counters)
		count_end(pkt, &counters->dropped[reason], &counters->dropped_bytes);
	return TC_ACT_SHOT;
}

/* A slot without a program is a fault of ours: the packet has not walked its whole chain, so it
 * must not pass as if it had. */
static __always_inline int missed(const struct packet *pkt, bool reply)
{
	struct nf_counters *counters = nf_counters();

	if (counters && reply)
		count_end(pkt, &counters->replies_missed, &counters->replies_dropped_bytes);
	else if (counters)
		count_end(pkt, &counters->missed, &counters->dropped_bytes);
	return TC_ACT_SHOT;
}

/* Slot of this instance's `next` pointer. */
const volatile __u32 next_slot = 0;

/* Where a packet goes that this NF translated on its way back: the last step of the chain. */
const volatile __u32 reply_next_slot = 0;

#define NF_STAGE(logic)                                                                            \
	SEC("tc")                                                                                  \
	int nf(struct __sk_buff *skb)                                                              \
	{                                                                                          \
		struct packet pkt;                                                                 \
                                                                                                   \
		packet_load(&pkt, skb);                                                            \
		if (logic(&pkt) == DROP)                                                           \
			return dropped(&pkt, false);                                               \
		bpf_tail_call(skb, &slots, next_slot);                                             \
		return missed(&pkt, false);                                                        \
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
		if (logic(&pkt) == DROP)                                                           \
			return dropped(&pkt, true);                                                \
		bpf_tail_call(skb, &slots, reply_next_slot);                                       \
		return missed(&pkt, true);                                                         \
	}

#endif
