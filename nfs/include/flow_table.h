/* SPDX-License-Identifier: GPL-2.0-only */
/* The flow table itself, and how a program in the kernel enters a reply; flow.h says what for. */
#ifndef NF_FLOW_TABLE_H
#define NF_FLOW_TABLE_H

#include "flow.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* set when loaded; shared by the node's programs */
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Slot by which this NF gets the replies and ICMP errors of flows that it translates. */
const volatile __u32 reply_slot = 0;

static __always_inline enum flow_link flow_add_reply(const struct flow_key *key, __be32 addr,
						     __be16 port)
{
	struct flow *there = bpf_map_lookup_elem(&flows, key), *known;
	struct flow back = { .reply = 1, .head = reply_slot, .translator = reply_slot };
	struct flow_key reply = flow_reply(key, addr, port);

	if (!there)
		return FLOW_UNKNOWN;
	back.number = there->number;
	back.generation = there->generation;
	back.policy = there->policy;
	if (bpf_map_update_elem(&flows, &reply, &back, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&flows, &reply);
		if (!known)
			return FLOW_FULL;
		if (!known->reply || !same_flow(known, &back))
			return FLOW_CLASH;
		/* Another CPU has linked this very flow. */
	}
	there->to = addr;
	there->to_port = port;
	there->translator = reply_slot;
	/* The sweep may have removed the flow meanwhile, before it could know of the reply. */
	if (!same_flow(bpf_map_lookup_elem(&flows, key), &back)) {
		bpf_map_delete_elem(&flows, &reply);
		return FLOW_UNKNOWN;
	}
	return FLOW_LINKED;
}

#endif
