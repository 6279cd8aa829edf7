/* SPDX-License-Identifier: GPL-2.0-only */
/* What an NF keeps per flow: an array of the instance, indexed by the flow's number.
 *
 *   struct my_state { __u32 generation; ... };   // generation comes first
 *   FLOW_STATE(struct my_state);
 *   ...
 *   struct my_state *state = flow_state(pkt, &fresh);
 *
 * `state` is NULL where the flow got no number (table full). `fresh`: this is the instance's
 * first packet of the flow; all but `generation` is zero. No deletion: a number that is given
 * out again comes with another generation.
 */
#ifndef NF_STATE_H
#define NF_STATE_H

#define FLOW_STATE(state_type)                                                                        \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1); /* the flow table's bound + 1, set when loaded */          \
		__type(key, __u32);                                                                \
		__type(value, state_type);                                                            \
	} states SEC(".maps");                                                                     \
                                                                                                   \
	static __always_inline state_type *flow_state(const struct packet *pkt,            \
						      bool *fresh)                    \
	{                                                                                          \
		__u32 number = pkt->flow, mine = pkt->key.generation | 1U << 16, was;              \
		state_type *state = bpf_map_lookup_elem(&states, &number);                               \
                                                                                                   \
		*fresh = false;                                                                    \
		if (!state || !number)                                                             \
			return NULL;                                                               \
		was = state->generation;                                                           \
		if (was == mine)                                                                   \
			return state;                                                              \
		/* Exactly one CPU makes it fresh. */                                              \
		*fresh = __sync_val_compare_and_swap(&state->generation, was, mine) == was;        \
		if (*fresh)                                                                        \
			__builtin_memset((void *)state + sizeof(was), 0, sizeof(*state) - sizeof(was)); \
		return state;                                                                      \
	}

#endif
