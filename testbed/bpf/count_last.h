/* SPDX-License-Identifier: GPL-2.0-only */
/* What the last step of a chain counts, at every hook. The hook's header comes first. */
#ifndef COUNT_LAST_H
#define COUNT_LAST_H

#include "packet.h"

/* Why a packet of `to_wire` went to the kernel after all; a hook without `to_wire` counts none. */
enum handed_over {
	HANDED_TTL,
	HANDED_OPTIONS,
	HANDED_ROUTE,
	HANDED_NEIGHBOUR,
	HANDED_TOO_LONG,
	HANDED_QUEUE, /* xdp: the way out has a queue, or a program at its end, that must see it */
	HANDED_REASONS,
};

/* Written by these programs, read by user space. Packets as on the wire. */
struct last_counters {
	__u64 packets;
	__u64 bytes; /* IP bytes */
	__u64 handed[HANDED_REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last_counters);
} counters SEC(".maps");

/* Returns NULL never in practice: index 0 is there. */
static __always_inline struct last_counters *count_last(const struct packet *pkt)
{
	__u32 zero = 0, packets, bytes;
	struct last_counters *last = bpf_map_lookup_elem(&counters, &zero);

	wire_size(pkt, &packets, &bytes);
	if (last) {
		last->packets += packets;
		last->bytes += bytes;
	}
	return last;
}

#endif
