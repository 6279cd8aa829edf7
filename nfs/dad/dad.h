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

const volatile __u64 window_ns = 10000000000ULL;
const volatile __u64 threshold = 0; /* per window, in `unit` */
const volatile __u32 unit = 0;
const volatile __u32 drop_when_full = 0;
const volatile __u64 idle_ns = 0; /* 0: keep for ever */

enum dad_unit { UNIT_PACKETS, UNIT_BYTES };
enum dad_reason { DAD_OVER_THRESHOLD, DAD_TABLE_FULL };
enum dad_counter { DAD_UNTRACKED, DAD_CREATED, DAD_EXPIRED };

/* State of one flow; made with its first packet, deleted when idle (or never). `present` and
 * `next` are enum verdict. */
struct dad_flow {
	__u64 window_start_ns; /* CLOCK_MONOTONIC */
	__u64 counter; /* in `unit`, since the window's start */
	__u32 present;
	__u32 next;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct flow_key);
	__type(value, struct dad_flow);
} flows SEC(".maps");

#include "aging.h"

static long dad_age(void *map, struct flow_key *key, struct dad_flow *flow, struct aging *aging)
{
	if (aging->now_ns - flow->window_start_ns < idle_ns + window_ns)
		return 0;
	if (!bpf_map_delete_elem(map, key))
		aging->expired++;
	return 0;
}
AGING(flows, dad_age, idle_ns)

static __always_inline enum verdict dad_new_flow(struct packet *pkt, const struct flow_key *flow,
						 __u64 now_ns)
{
	struct dad_flow fresh = { .window_start_ns = now_ns, .present = ACCEPT, .next = ACCEPT };

	/* Another CPU may have been first: its entry is as good. */
	if (bpf_map_update_elem(&flows, flow, &fresh, BPF_NOEXIST) == 0) {
		count(pkt, DAD_CREATED);
		aging_start();
		return ACCEPT;
	}
	if (bpf_map_lookup_elem(&flows, flow))
		return ACCEPT;
	count(pkt, DAD_UNTRACKED);
	return drop_when_full ? drop(pkt, DAD_TABLE_FULL) : ACCEPT;
}

/* Exactly one CPU opens a new window: the one whose exchange of the start succeeds. It takes off
 * what was counted up to its own packet, so that what other CPUs add meanwhile is kept. */
static __always_inline void dad_open_window(struct dad_flow *state, __u64 start_ns, __u64 now_ns,
					    __u64 counted)
{
	if (__sync_val_compare_and_swap(&state->window_start_ns, start_ns, now_ns) != start_ns)
		return;
	state->present = state->next;
	__sync_fetch_and_add(&state->counter, -counted);
}

static __always_inline enum verdict dad(struct packet *pkt)
{
	const struct flow_key flow = flow_of(pkt->key);
	__u64 now_ns = bpf_ktime_get_ns();
	struct dad_flow *state = bpf_map_lookup_elem(&flows, &flow);
	__u64 add, counted, start_ns;
	__u32 next;

	if (!state)
		return dad_new_flow(pkt, &flow, now_ns);
	add = unit == UNIT_BYTES ? pkt->bytes : pkt->packets;
	start_ns = state->window_start_ns;
	counted = __sync_fetch_and_add(&state->counter, add) + add;
	if ((__s64)(now_ns - start_ns) >= (__s64)window_ns) {
		dad_open_window(state, start_ns, now_ns, counted);
	} else {
		next = counted > threshold ? DROP : ACCEPT;
		if (state->next != next)
			state->next = next;
	}
	return state->present == DROP ? drop(pkt, DAD_OVER_THRESHOLD) : ACCEPT;
}

#endif
