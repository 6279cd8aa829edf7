/* SPDX-License-Identifier: GPL-2.0-only */
/* Removes idle flows from the node's flow table, once a second, by a BPF timer: flows age whether
 * or not a controlling process is alive.
 *
 * The timer is armed by the first packet that makes a flow and re-armed by each sweep; it ends
 * with the last user reference (pin or descriptor) to its map.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "flow.h"

#define SECOND_NS 1000000000ULL
#define CLOCK_MONOTONIC 1
#define TCP_CLOSING_S 120 /* as nf_conntrack_tcp_timeout_time_wait */

/* How long a flow without packets is kept: the longest that one of the node's NFs asks for. */
const volatile __u32 idle_s = 0; /* any flow */
const volatile __u32 unreplied_s = 0; /* translated ones: nothing came back */
const volatile __u32 replied_s = 0;
const volatile __u32 tcp_idle_s = 0; /* TCP, replied */
const volatile __u16 policy = 1; /* number of this classifier; a later one takes the timer over */

struct sweep {
	struct bpf_timer timer;
	__u32 armed_by; /* policy */
	__u32 now_s; /* sweeps so far: the clock of flow.seen_s */
	__u64 expired; /* flows removed; read by user space */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweep);
} sweeper SEC(".maps");

/* Numbers that no flow has, each with the generation of its next flow. Filled by user space with
 * 1 to the bound; a number comes back one generation later. */
struct number {
	__u32 number;
	__u32 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1); /* the bound, set when loaded */
	__type(value, struct number);
} numbers SEC(".maps");

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

/* One pass over the table. */
struct pass {
	__u32 now_s;
	__u32 expired;
};

static long sweep_flow(void *map, struct flow_key *key, struct flow *there, struct pass *pass)
{
	struct flow_key reply = flow_reply(key, there->to, there->to_port);
	struct number free = { .number = there->number, .generation = there->generation + 1 };
	__u32 seen_s = there->seen_s;
	struct flow *back = NULL;

	if (there->reply)
		return 0; /* goes with the way there */
	if (there->translator)
		back = bpf_map_lookup_elem(&flows, &reply);
	if (back && back->seen_s > seen_s)
		seen_s = back->seen_s;
	if (pass->now_s - seen_s <= kept_s(there, back, key->proto))
		return 0;
	if (back)
		bpf_map_delete_elem(&flows, &reply);
	if (bpf_map_delete_elem(map, key))
		return 0;
	bpf_map_push_elem(&numbers, &free, 0);
	pass->expired++;
	return 0;
}

static int sweep_all(void *map, __u32 *index, struct sweep *sweep)
{
	struct pass pass = { .now_s = sweep->now_s + 1 };

	(void)map, (void)index;
	sweep->now_s = pass.now_s;
	bpf_for_each_map_elem(&flows, sweep_flow, &pass, 0);
	sweep->expired += pass.expired;
	bpf_timer_start(&sweep->timer, SECOND_NS, 0);
	return 0;
}

static __always_inline void sweep_arm(struct sweep *sweep)
{
	__u32 by = sweep->armed_by;

	if (by == policy || __sync_val_compare_and_swap(&sweep->armed_by, by, policy) != by)
		return;
	if (!by) {
		sweep->now_s = 1;
		bpf_timer_init(&sweep->timer, &sweeper, CLOCK_MONOTONIC);
	}
	bpf_timer_set_callback(&sweep->timer, sweep_all);
	bpf_timer_start(&sweep->timer, SECOND_NS, 0);
}

#endif
