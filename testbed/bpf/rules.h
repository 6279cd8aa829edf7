/* SPDX-License-Identifier: GPL-2.0-only */
/* The flow rules, searched by tuple space search: one hash look-up per mask (which fields and
 * prefix lengths a rule names), the masks in the order of their first rule. */
#ifndef RULES_H
#define RULES_H

#include "packet.h"

#define MAX_MASKS 64
#define NO_RULE (~0U)

/* Which part of the 5-tuple a group of rules names: the bits of the key that count. */
struct rule_mask {
	struct flow_key bits;
	__u32 first_order; /* the smallest order of its rules */
};

const volatile struct rule_mask masks[MAX_MASKS];
const volatile __u32 n_masks = 0;

const volatile __u32 n_rules = 0;

/* The key is the masked 5-tuple with the mask's index in `info`. Written by user space. */
struct rule {
	__u32 order; /* position in first-match order */
	__u32 head; /* slot of the chain's first program */
	__u32 tracks; /* the chain keeps state per flow */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct rule);
} rules SEC(".maps");

static __always_inline __u32 mask_index(__u32 i)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? i << 8 : i << 16;
}

/* The rule of one mask that the packet matches, or NULL. */
static __always_inline struct rule *search_mask(const struct flow_key *key, __u32 i)
{
	const volatile struct rule_mask *mask = &masks[i];
	struct flow_key masked;

	if (key->info & PACKET_NO_PORTS && mask->bits.words[2])
		return NULL;
	masked.words[0] = key->words[0] & mask->bits.words[0];
	masked.words[1] = key->words[1] & mask->bits.words[1];
	masked.words[2] = key->words[2] & mask->bits.words[2];
	masked.words[3] = (key->words[3] & mask->bits.words[3]) | mask_index(i);
	return bpf_map_lookup_elem(&rules, &masked);
}

/* Find the first rule that a packet matches; returns 0 where there is none. A function of its own,
 * so that the kernel verifies the loop over the masks once, and not again for each way that leads
 * there: with 64 masks that was more than it takes. */
__noinline int search(const struct flow_key *key, struct rule *best)
{
	__u32 i;

	if (!key || !best)
		return 0;
	best->order = NO_RULE;
	for (i = 0; i < n_masks && i < MAX_MASKS && best->order >= masks[i].first_order; i++) {
		struct rule *rule = search_mask(key, i);

		if (rule && rule->order < best->order)
			*best = *rule;
	}
	return best->order != NO_RULE;
}

#endif
