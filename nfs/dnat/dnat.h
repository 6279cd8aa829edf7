/* SPDX-License-Identifier: GPL-2.0-only */
/* DNAT (thesis 6.1.5): sends connections to another destination and their replies back.
 *
 * The first packet of a connection looks a row of `rules` up; what it finds is kept per
 * connection, so that later packets need no look-up and replies are recognised. What is kept
 * stands in one of two places, by `use_conntrack`: the flow's state in this instance (below) or
 * the kernel's connection tracking (dnat_conntrack.h). Both answer one question: what does this
 * 5-tuple become?
 */
#ifndef NF_DNAT_H
#define NF_DNAT_H

#include "dnat_names.h"
#include "flow.h"
#include "icmp_quote.h"
#include "state.h"

#define DNAT_RULES 256

NF_PARAM __u32 n_rules = 0;
NF_PARAM __u32 use_conntrack = 0;
NF_PARAM __u64 unreplied_ns = 30000000000ULL;
NF_PARAM __u64 replied_ns = 120000000000ULL;
NF_PARAM __u64 tcp_idle_ns = 7440000000000ULL;

/* One row of `rules`; zero means any, and in to_port: keep. Written by user space before the
 * instance is linked in. Network byte order. */
struct dnat_rule {
	__be32 dst;
	__be32 to;
	__be16 dport;
	__be16 to_port;
	__u8 proto;
	__u8 zero[3];
};

NF_TABLE(rules, struct dnat_rule);

enum dnat_phase { DNAT_NEW, DNAT_TRANSLATED, DNAT_LEFT };

/* One connection. Written by its first packet. Network byte order. */
struct dnat_state {
	__u32 generation;
	__be32 to;
	__be32 from; /* the destination that the client knows */
	__be16 to_port;
	__be16 from_port;
	__u32 phase; /* enum dnat_phase; written last */
	__u32 closing; /* TCP: a FIN or RST was seen */
};
FLOW_STATE(struct dnat_state);

/* What a 5-tuple becomes. */
struct dnat_change {
	enum end end; /* DESTINATION on the way there, SOURCE on the way back */
	__be32 addr;
	__be16 port;
};

enum dnat_result { DNAT_FOUND, DNAT_NONE, DNAT_REFUSED_FULL, DNAT_REFUSED_CLASH };

static __always_inline const struct dnat_rule *dnat_rule_for(const struct flow_key *flow)
{
	__u32 i;

	for (i = 0; i < n_rules && i < DNAT_RULES; i++) {
		struct dnat_rule *rule = table_row(rules, i);

		if (rule && (!rule->proto || rule->proto == flow->proto) &&
		    (!rule->dst || rule->dst == flow->dst) &&
		    (!rule->dport || rule->dport == flow->dport))
			return rule;
	}
	return NULL;
}

#include "dnat_conntrack.h"

/* What the first packet's 5-tuple becomes. */
static __always_inline enum dnat_result dnat_create(struct packet *pkt, const struct flow_key *flow,
						    struct dnat_change *change)
{
	const struct dnat_rule *rule = dnat_rule_for(flow);

	if (!rule)
		return DNAT_NONE;
	change->end = DESTINATION;
	change->addr = rule->to;
	change->port = rule->to_port ? rule->to_port : flow->dport;
	return use_conntrack ? dnat_conntrack_create(pkt, flow, change) : DNAT_FOUND;
}

/* Make the replies of a connection known, whoever made the connection. */
static __always_inline enum dnat_result dnat_link(const struct flow_key *flow,
						  const struct dnat_change *change)
{
	switch (flow_add_reply(flow, change->addr, change->port)) {
	case FLOW_LINKED:
		return DNAT_FOUND;
	case FLOW_CLASH:
		return DNAT_REFUSED_CLASH;
	default:
		return DNAT_REFUSED_FULL;
	}
}

/* Answers for both directions; which one it is shows the 5-tuple itself. */
static __always_inline bool dnat_known(const struct dnat_state *state, const struct flow_key *flow,
				       struct dnat_change *change)
{
	if (state->phase != DNAT_TRANSLATED)
		return false;
	if (flow->dst == state->from && flow->dport == state->from_port) {
		change->end = DESTINATION;
		change->addr = state->to;
		change->port = state->to_port;
		return true;
	}
	change->end = SOURCE;
	change->addr = state->from;
	change->port = state->from_port;
	return flow->src == state->to && flow->sport == state->to_port;
}

static __always_inline bool dnat_find(struct packet *pkt, struct dnat_state *state,
				      const struct flow_key *flow, struct dnat_change *change)
{
	return use_conntrack ? dnat_conntrack_find(pkt, state, flow, change) :
			       dnat_known(state, flow, change);
}

static __always_inline void dnat_remember(struct dnat_state *state, const struct flow_key *flow,
					  const struct dnat_change *change)
{
	state->to = change->addr;
	state->to_port = change->port;
	state->from = flow->dst;
	state->from_port = flow->dport;
	/* A full barrier: who sees the phase sees the rest. */
	__sync_lock_test_and_set(&state->phase, DNAT_TRANSLATED);
}

static __always_inline enum verdict dnat_put(struct packet *pkt, const struct dnat_change *change)
{
	bool done = change->end == SOURCE ?
			    packet_set_end(pkt, SOURCE, change->addr, change->port) :
			    packet_set_end(pkt, DESTINATION, change->addr, change->port);

	return done ? ACCEPT : drop(pkt, DNAT_MALFORMED);
}

static __always_inline enum verdict dnat_first(struct packet *pkt, struct dnat_state *state,
					       const struct flow_key *flow)
{
	struct dnat_change change = {};
	enum dnat_result result = DNAT_FOUND;
	bool known;

	if (packet_length(pkt) < l4_offset(&pkt->key) + transport_header(flow->proto))
		return drop(pkt, DNAT_MALFORMED); /* before it opens a connection */
	/* The kernel may have tracked it since before this instance. */
	known = use_conntrack && dnat_conntrack_find(pkt, state, flow, &change);
	if (!known)
		result = dnat_create(pkt, flow, &change);
	if (result == DNAT_FOUND)
		result = dnat_link(flow, &change);
	switch (result) {
	case DNAT_NONE:
		state->phase = DNAT_LEFT;
		count(pkt, DNAT_UNTRANSLATED);
		return ACCEPT;
	case DNAT_REFUSED_FULL:
		return drop(pkt, DNAT_NO_STATE);
	case DNAT_REFUSED_CLASH:
		return drop(pkt, DNAT_CLASH);
	default:
		dnat_remember(state, flow, &change);
		if (!known)
			count(pkt, DNAT_CREATED);
		return dnat_put(pkt, &change);
	}
}

static __always_inline enum verdict dnat(struct packet *pkt)
{
	const struct flow_key flow = flow_of(&pkt->key);
	struct dnat_change change = {};
	struct dnat_state *state;
	bool fresh;

	if (!transport_header(flow.proto)) {
		count(pkt, DNAT_UNTRANSLATED);
		return ACCEPT;
	}
	if (pkt->key.info & PACKET_FRAGMENT)
		return drop(pkt, DNAT_FRAGMENT);
	if (pkt->key.info & PACKET_NO_PORTS)
		return drop(pkt, DNAT_MALFORMED);
	state = flow_state(pkt, &fresh);
	if (!state)
		return drop(pkt, DNAT_NO_STATE);
	if (state->phase == DNAT_LEFT) {
		count(pkt, DNAT_UNTRANSLATED);
		return ACCEPT;
	}
	if (state->phase == DNAT_NEW || !dnat_find(pkt, state, &flow, &change))
		return dnat_first(pkt, state, &flow);
	return dnat_put(pkt, &change);
}

#include "dnat_icmp.h"

/* The way back of a flow of ours, or an ICMP error about one of its packets. */
static __always_inline enum verdict dnat_reply(struct packet *pkt)
{
	const struct flow_key flow = flow_of(&pkt->key);
	struct dnat_change change = {};
	struct dnat_state *state;
	bool fresh;

	state = flow_state(pkt, &fresh);
	if (!state)
		return drop(pkt, DNAT_NO_STATE);
	if (flow.proto == IPPROTO_ICMP)
		return dnat_icmp_error(pkt, state);
	if (!dnat_find(pkt, state, &flow, &change))
		return drop(pkt, DNAT_NO_STATE);
	count(pkt, DNAT_REPLIES);
	return dnat_put(pkt, &change);
}

#endif
