/* SPDX-License-Identifier: GPL-2.0-only */
/* The node's flow table: every flow whose chain keeps state per flow has one entry and a number.
 *
 * One look-up a packet, in the classifier, gives the chain and the flow's number; each NF keeps
 * what it wants per flow in an array of its own, at that number (state.h). An NF that translates
 * enters the 5-tuple of the replies as well, so that they are known at once.
 *
 * The table is bounded and nothing evicts a living flow: when it is full, new flows go without a
 * number, counted, and each NF says in its nf.yaml what becomes of them. Idle flows are removed by
 * the kernel itself (sweep.h in testbed/bpf).
 */
#ifndef NF_FLOW_H
#define NF_FLOW_H

#include "packet.h"

/* One direction of a flow. Made by the classifier (the way there) and by flow_add_reply() (the way
 * back, and the last two fields of the way there), deleted by the sweep. Kept small: with its key
 * and the kernel's own part an entry fills 96 bytes. */
struct flow {
	__u32 number; /* 1 to the bound */
	__u32 order; /* of the rule that took it; see `policy` */
	__u32 seen_s; /* the sweep's clock at the last packet */
	__u16 head; /* slot of the first program of its way */
	__u16 policy; /* number of the classifier that found order and head */
	__u16 generation; /* how often the number was given out */
	__u16 translator; /* slot of the NF that translates replies and errors; 0: none */
	__u8 reply; /* 1: this is the way back */
	__u8 closing; /* a TCP FIN or RST went this way */
	__be16 to_port; /* where the translator sends the flow: replies come from there */
	__be32 to;
};

enum flow_link { FLOW_LINKED, FLOW_UNKNOWN, FLOW_CLASH, FLOW_FULL };

/* The 5-tuple of packets that go the other way. */
static __always_inline struct flow_key reversed(const struct flow_key *key)
{
	struct flow_key back = {};

	back.src = key->dst;
	back.dst = key->src;
	back.sport = key->dport;
	back.dport = key->sport;
	back.proto = key->proto;
	return back;
}

/* The 5-tuple of the replies of a flow that is sent on to addr:port. */
static __always_inline struct flow_key flow_reply(const struct flow_key *key, __be32 addr,
						  __be16 port)
{
	struct flow_key sent_on = *key;

	sent_on.dst = addr;
	sent_on.dport = port;
	return reversed(&sent_on);
}

static __always_inline bool same_flow(const struct flow *one, const struct flow *other)
{
	return one && one->number == other->number && one->generation == other->generation;
}

/* Enter the 5-tuple of the replies of a flow that is sent on to addr:port, so that they are known
 * at once and come to this NF's reply program. FLOW_CLASH: it belongs to another flow. */
static __always_inline enum flow_link flow_add_reply(const struct flow_key *key, __be32 addr,
						     __be16 port);

#ifdef __bpf__
#include "flow_table.h"
#endif

#endif
