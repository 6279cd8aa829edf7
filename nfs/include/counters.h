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
