/* SPDX-License-Identifier: GPL-2.0-only */
/* DoS Attack Denial (thesis 6.1.5): measures each flow over a window and, where it exceeded the
 * threshold, denies it during the next one.
 *
 *   window 1  present ACCEPT   counter > threshold?  next = DROP
 *   window 2  present DROP     counter > threshold?  next = ...
 *
 * A window opens with the first packet that arrives after the old one ran out; that packet is
 * not counted in the new window. Packets that are denied are counted all the same.
 */
#ifndef NF_DAD_H
#define NF_DAD_H

#include "state.h"

NF_PARAM __u64 window_ns = 10000000000ULL;
NF_PARAM __u64 threshold = 0; /* per window, in `unit` */
NF_PARAM __u32 unit = 0;
NF_PARAM __u32 drop_when_full = 0;

enum dad_unit { UNIT_PACKETS, UNIT_BYTES };
enum dad_reason { DAD_OVER_THRESHOLD, DAD_TABLE_FULL };
enum dad_counter { DAD_UNTRACKED };

/* Written by this program only. `present` and `next` are enum verdict. */
struct dad_state {
	__u32 generation;
	__u16 present;
	__u16 next;
	__u64 window_start_ns; /* CLOCK_MONOTONIC at tick resolution */
	__u64 counter; /* in `unit`, since the window's start */
};
FLOW_STATE(struct dad_state);

/* Exactly one CPU opens a new window: the one whose exchange of the start succeeds. It takes off
 * what was counted up to its own packet, so that what other CPUs add meanwhile is kept, and puts
 * back a verdict that one of them may have found by the old window's count. */
static __always_inline void dad_open_window(struct dad_state *state, __u64 start_ns, __u64 now,
					    __u64 counted)
{
	__u16 next = state->next;

	if (__sync_val_compare_and_swap(&state->window_start_ns, start_ns, now) != start_ns)
		return;
	state->present = next;
	__sync_fetch_and_add(&state->counter, -counted);
	state->next = next;
}

static __always_inline enum verdict dad(struct packet *pkt)
{
	bool fresh;
	struct dad_state *state = flow_state(pkt, &fresh);
	__u64 now = now_ns(), add, counted, start_ns;
	__u16 next;

	if (!state) {
		count(pkt, DAD_UNTRACKED);
		return drop_when_full ? drop(pkt, DAD_TABLE_FULL) : ACCEPT;
	}
	if (fresh) {
		state->window_start_ns = now;
		return ACCEPT;
	}
	add = unit == UNIT_BYTES ? wire_bytes(pkt) : wire_packets(pkt);
	start_ns = state->window_start_ns;
	counted = __sync_fetch_and_add(&state->counter, add) + add;
	if ((__s64)(now - start_ns) >= (__s64)window_ns) {
		dad_open_window(state, start_ns, now, counted);
	} else {
		next = counted > threshold ? DROP : ACCEPT;
		if (state->next != next)
			state->next = next;
	}
	return state->present == DROP ? drop(pkt, DAD_OVER_THRESHOLD) : ACCEPT;
}

#endif
