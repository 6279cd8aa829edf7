/* SPDX-License-Identifier: GPL-2.0-only */
/* Removes idle flows from the node's flow table, by a BPF timer: flows age whether or not a
 * controlling process is alive.
 *
 * The timer looks at a slice of the flows at a time, so that no packet waits for long; a table of
 * up to SLICE * 100 flows is gone through once a second, a larger one more slowly. It is armed by
 * the first packet that makes a flow and ends with the last user reference (pin or descriptor) to
 * its map.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "flow.h"

#define SECOND_NS 1000000000ULL
#define SLICE 512 /* flows; takes about 0.2 ms */
#define SLICES_A_SECOND 100 /* at most */
#define CLOCK_MONOTONIC 1
#define TCP_CLOSING_S 120 /* as nf_conntrack_tcp_timeout_time_wait */

/* How long a flow without packets is kept: the longest that one of the node's NFs asks for. */
const volatile __u32 idle_s = 0; /* any flow */
const volatile __u32 unreplied_s = 0; /* translated ones: nothing came back */
const volatile __u32 replied_s = 0;
const volatile __u32 tcp_idle_s = 0; /* TCP, replied */
const volatile __u32 max_flows = 1; /* bound of the table */
const volatile __u16 policy = 1; /* number of this classifier; a later one takes the timer over */

struct sweep {
	struct bpf_timer timer;
	__u32 armed_by; /* policy */
	__u32 now_s; /* the clock of flow.seen_s: CLOCK_MONOTONIC, as of the last slice */
	__u32 next; /* number of the next flow to look at */
	__u32 given; /* numbers given out so far */
	__u64 expired; /* flows removed; read by user space */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweep);
} sweeper SEC(".maps");

/* Numbers that flows had and gave back, each with the generation of its next flow. The others, up
 * to the bound, are given out one by one (sweep.given). */
struct number {
	__u32 number;
	__u32 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1); /* the bound, set when loaded */
	__type(value, struct number);
} numbers SEC(".maps");

static __always_inline bool take_number(struct number *number)
{
	__u32 zero = 0, given;
	struct sweep *sweep;

	if (!bpf_map_pop_elem(&numbers, number))
		return true;
	sweep = bpf_map_lookup_elem(&sweeper, &zero);
	if (!sweep || sweep->given >= max_flows)
		return false;
	given = __sync_fetch_and_add(&sweep->given, 1);
	if (given >= max_flows) {
		__sync_fetch_and_add(&sweep->given, -1);
		return false;
	}
	number->number = given + 1;
	number->generation = 0;
	return true;
}

static __always_inline __u32 kept_s(const struct flow *there, const struct flow *back, __u8 proto)
{
	__u32 keep_s = unreplied_s;

	if (back && back->seen_s)
		keep_s = proto == IPPROTO_TCP ? tcp_idle_s : replied_s;
	if (proto == IPPROTO_TCP && (there->closing || (back && back->closing)) &&
	    keep_s > TCP_CLOSING_S)
		keep_s = TCP_CLOSING_S;
	return keep_s > idle_s ? keep_s : idle_s;
}

/* Which flow has a number: its key on the way there. Written by the classifier when it gives the
 * number out; stale where the number is free. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the bound + 1, set when loaded */
	__type(key, __u32);
	__type(value, struct flow_key);
} owners SEC(".maps");

static __always_inline void sweep_flow(struct sweep *sweep, const struct flow_key *key,
				       const struct flow *there)
{
	struct flow_key reply = flow_reply(key, there->to, there->to_port);
	struct number free = { .number = there->number, .generation = there->generation + 1 };
	__u32 seen_s = there->seen_s;
	struct flow *back = NULL;

	if (there->translator)
		back = bpf_map_lookup_elem(&flows, &reply);
	if (back && (__s32)(back->seen_s - seen_s) > 0)
		seen_s = back->seen_s;
	if (sweep->now_s - seen_s <= kept_s(there, back, key->proto))
		return;
	if (bpf_map_delete_elem(&flows, key))
		return;
	if (back)
		bpf_map_delete_elem(&flows, &reply);
	bpf_map_push_elem(&numbers, &free, 0);
	sweep->expired++;
}

static long sweep_number(__u32 i, void *unused)
{
	__u32 zero = 0, number;
	struct sweep *sweep = bpf_map_lookup_elem(&sweeper, &zero);
	struct flow_key *owner, key;
	struct flow *flow;

	(void)i, (void)unused;
	if (!sweep)
		return 1;
	number = sweep->next < max_flows ? sweep->next + 1 : 1;
	sweep->next = number;
	owner = bpf_map_lookup_elem(&owners, &number);
	if (!owner || !owner->proto)
		return 0;
	key = *owner;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && !flow->reply && flow->number == number)
		sweep_flow(sweep, &key, flow);
	return 0;
}

/* Time from slice to slice: all of them once a second, but not too often. */
static __always_inline __u64 slice_ns(void)
{
	__u32 slices = (max_flows + SLICE - 1) / SLICE;

	return SECOND_NS / (slices < 1 ? 1 : slices > SLICES_A_SECOND ? SLICES_A_SECOND : slices);
}

static int sweep_slice(void *map, __u32 *index, struct sweep *sweep)
{
	(void)map, (void)index;
	sweep->now_s = now_ns() / SECOND_NS;
	bpf_loop(max_flows < SLICE ? max_flows : SLICE, sweep_number, NULL, 0);
	bpf_timer_start(&sweep->timer, slice_ns(), 0);
	return 0;
}

static __always_inline void sweep_arm(struct sweep *sweep)
{
	__u32 by = sweep->armed_by;

	if (by == policy || __sync_val_compare_and_swap(&sweep->armed_by, by, policy) != by)
		return;
	if (!by) {
		sweep->now_s = now_ns() / SECOND_NS;
		bpf_timer_init(&sweep->timer, &sweeper, CLOCK_MONOTONIC);
	}
	bpf_timer_set_callback(&sweep->timer, sweep_slice);
	bpf_timer_start(&sweep->timer, slice_ns(), 0);
}

#endif
