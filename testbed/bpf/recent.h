/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows of the last moments, per CPU, so that a busy flow is found without hashing. */
#ifndef RECENT_H
#define RECENT_H

#include "flow.h"

/* Direct-mapped; an entry is good for one tick of the clock (1 to 10 ms), which bounds how late a
 * change of the flow table is seen. Written and read by the classifier only. */
#define RECENT 256

struct recent {
	struct flow_key key;
	__u64 tick;
	__u32 number;
	__u32 order; /* of the counter */
	__u32 head;
	__u32 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RECENT);
	__type(key, __u32);
	__type(value, struct recent);
} recents SEC(".maps");

static __always_inline struct recent *recent_of(const struct flow_key *flow)
{
	__u32 mixed = flow->words[0] ^ flow->words[1] * 0x9e3779b1 ^ flow->words[2] * 0x85ebca6b;
	__u32 index = mixed * 0xc2b2ae35 >> 24;

	return bpf_map_lookup_elem(&recents, &index);
}

static __always_inline bool is_recent(const struct recent *recent, const struct flow_key *flow)
{
	return recent->tick == bpf_jiffies64() && recent->key.words[0] == flow->words[0] &&
	       recent->key.words[1] == flow->words[1] && recent->key.words[2] == flow->words[2] &&
	       recent->key.words[3] == flow->words[3];
}

static __always_inline void make_recent(struct recent *recent, const struct flow_key *key,
					__u32 order, __u32 head, const struct flow *flow)
{
	recent->key = *key;
	recent->tick = bpf_jiffies64();
	recent->order = order;
	recent->head = head;
	recent->number = flow ? flow->number : 0;
	recent->generation = flow ? flow->generation : 0;
}

#endif
