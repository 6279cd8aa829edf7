/* SPDX-License-Identifier: GPL-2.0-only */
/* What each NF instance counts, per CPU. Written by the NF's own programs only, read by user
 * space, which sums over the CPUs; lives as long as the instance.
 *
 * Packets that an NF accepts cost it no counting: what it saw is what entered the chain less
 * what the NFs before it dropped.
 */
#ifndef NF_COUNTERS_H
#define NF_COUNTERS_H

#include "packet.h"

#define NF_REASONS 8
#define NF_EXTRA 6

/* Packets as on the wire: a GSO packet counts as the packets it becomes. */
struct nf_counters {
	__u64 missed; /* tail calls that found no program: dropped */
	__u64 dropped_bytes; /* IP bytes, all reasons and missed together */
	__u64 dropped[NF_REASONS]; /* by reason, in the order of drop_reasons in nf.yaml */
	__u64 replies_missed; /* the same for packets on the way back, which enter no chain */
	__u64 replies_dropped_bytes;
	__u64 replies_dropped[NF_REASONS];
	__u64 extra[NF_EXTRA]; /* by name, in the order of counters in nf.yaml */
};

/* This CPU's; NULL never in practice. */
static __always_inline struct nf_counters *nf_counters(void);

#ifdef __bpf__
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nf_counters);
} counters SEC(".maps");

static __always_inline struct nf_counters *nf_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}
#endif

/* For NFs: `return drop(pkt, reason);`. The reason is an index into drop_reasons of nf.yaml. */
static __always_inline enum verdict drop(struct packet *pkt, __u32 reason)
{
	pkt->reason = reason;
	return DROP;
}

/* For NFs: count the packet under one of the NF's own names, an index into counters of nf.yaml. */
static __always_inline void count(const struct packet *pkt, __u32 counter)
{
	struct nf_counters *counters = nf_counters();

	if (counters && counter < NF_EXTRA)
		counters->extra[counter] += wire_packets(pkt);
}

static __always_inline void count_end(const struct packet *pkt, __u64 *packets, __u64 *bytes)
{
	__u32 more_packets, more_bytes;

	wire_size(pkt, &more_packets, &more_bytes);
	*packets += more_packets;
	*bytes += more_bytes;
}

/* For hooks: the logic said DROP. */
static __always_inline void count_dropped(const struct packet *pkt, bool reply)
{
	struct nf_counters *counters = nf_counters();
	__u32 reason = pkt->reason & (NF_REASONS - 1);

	if (counters && reply)
		count_end(pkt, &counters->replies_dropped[reason], &counters->replies_dropped_bytes);
	else if (counters)
		count_end(pkt, &counters->dropped[reason], &counters->dropped_bytes);
}

/* For hooks. A slot without a program is a fault of ours: the packet has not walked its whole
 * chain, so it must not pass as if it had. */
static __always_inline void count_missed(const struct packet *pkt, bool reply)
{
	struct nf_counters *counters = nf_counters();

	if (counters && reply)
		count_end(pkt, &counters->replies_missed, &counters->replies_dropped_bytes);
	else if (counters)
		count_end(pkt, &counters->missed, &counters->dropped_bytes);
}

#endif
