// SPDX-License-Identifier: GPL-2.0-only
/* The node's flow table, as far as an NF that translates writes it: what flow_add_reply() does in
 * the kernel (nfs/include/flow_table.h), by system calls. */
#include <bpf/bpf.h>
#include "flow.h"
#include "program.h"

/* Declared for NFs; the program has add_reply(). */
static __always_inline enum flow_link flow_add_reply(const struct flow_key *key, __be32 addr,
						     __be16 port)
{
	return add_reply(key, addr, port, 0);
}

static int flows = -1;

void use_flow_table(int fd)
{
	flows = fd;
}

static bool flow_read(const struct flow_key *key, struct flow *flow)
{
	return !bpf_map_lookup_elem(flows, key, flow);
}

int add_reply(const struct flow_key *key, __be32 addr, __be16 port, __u16 reply_slot)
{
	struct flow there, known, back = { .reply = 1, .head = reply_slot, .translator = reply_slot };
	struct flow_key reply = flow_reply(key, addr, port);

	(void)flow_add_reply;
	if (!flow_read(key, &there))
		return FLOW_UNKNOWN;
	back.number = there.number;
	back.generation = there.generation;
	back.policy = there.policy;
	if (bpf_map_update_elem(flows, &reply, &back, BPF_NOEXIST)) {
		if (!flow_read(&reply, &known))
			return FLOW_FULL;
		if (!known.reply || !same_flow(&known, &back))
			return FLOW_CLASH;
		/* Another thread has linked this very flow. */
	}
	/* The kernel may write `seen_s` and `closing` meanwhile; the next packet does so again. */
	there.to = addr;
	there.to_port = port;
	there.translator = reply_slot;
	/* The sweep may have removed the flow meanwhile, before it could know of the reply. */
	if (bpf_map_update_elem(flows, key, &there, BPF_EXIST)) {
		bpf_map_delete_elem(flows, &reply);
		return FLOW_UNKNOWN;
	}
	return FLOW_LINKED;
}
