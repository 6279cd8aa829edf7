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

#include "packet.h"

#define STATE_TAKEN (1U << 16) /* beside the generation: somebody's; 0 is nobody's */
#define STATE_BUSY (1U << 17) /* being cleared by another CPU, for some nanoseconds */
#define STATE_PATIENCE 64

/* The generation is published last, so that nobody judges by what an earlier flow left. */
#define FLOW_STATE(state_type)                                                                     \
	NF_TABLE(states, state_type); /* as long as the flow table's bound + 1 */                  \
                                                                                                   \
	static __always_inline state_type *flow_state(const struct packet *pkt, bool *fresh)       \
	{                                                                                          \
		__u32 number = pkt->flow, mine = pkt->key.generation | STATE_TAKEN, was, i;        \
		state_type *state = table_row(states, number);                                     \
                                                                                                   \
		*fresh = false;                                                                    \
		if (!state || !number)                                                             \
			return NULL;                                                               \
		was = *(volatile __u32 *)&state->generation;                                       \
		if (was == mine)                                                                   \
			return state;                                                              \
		/* A packet that was on its way when its number was given out again. */            \
		if (was && (__s16)((__u16)mine - (__u16)was) < 0)                                  \
			return NULL;                                                               \
		*fresh = !(was & STATE_BUSY) &&                                                    \
			 __sync_val_compare_and_swap(&state->generation, was,                      \
						     mine | STATE_BUSY) == was;                    \
		if (*fresh) {                                                                      \
			__builtin_memset((void *)state + sizeof(was), 0,                           \
					 sizeof(*state) - sizeof(was));                            \
			__sync_lock_test_and_set(&state->generation, mine);                        \
			return state;                                                              \
		}                                                                                  \
		for (i = 0; i < STATE_PATIENCE; i++) {                                             \
			if (*(volatile __u32 *)&state->generation == mine)                         \
				return state;                                                      \
		}                                                                                  \
		return NULL;                                                                       \
	}

#endif
