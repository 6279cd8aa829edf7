/* SPDX-License-Identifier: GPL-2.0-only */
/* DNAT (thesis 6.1.5): sends connections to another destination and their replies back.
 *
 * The first packet of a connection looks a row of `rules` up; what it finds is kept per
 * connection, so that later packets need no look-up and replies are recognised. State is kept in
 * one of two places, by `use_conntrack`: a bounded table of this instance (dnat_table.h) or the
 * kernel's connection tracking (dnat_conntrack.h). Both answer one question: what does this
 * 5-tuple become?
 */
#ifndef NF_DNAT_H
#define NF_DNAT_H

#include "rewrite_tc.h"
#include "aging.h"

#define DNAT_RULES 256

const volatile __u32 n_rules = 0;
const volatile __u32 use_conntrack = 0;
const volatile __u64 unreplied_ns = 30000000000ULL;
const volatile __u64 replied_ns = 120000000000ULL;
const volatile __u64 tcp_idle_ns = 7200000000000ULL;

enum dnat_reason { DNAT_NO_STATE, DNAT_CLASH, DNAT_FRAGMENT, DNAT_MALFORMED };
enum dnat_counter { DNAT_CREATED, DNAT_UNTRANSLATED, DNAT_REPLIES, DNAT_ERRORS };

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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DNAT_RULES);
	__type(key, __u32);
	__type(value, struct dnat_rule);
} rules SEC(".maps");

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
		__u32 index = i;
		struct dnat_rule *rule = bpf_map_lookup_elem(&rules, &index);

		if (rule && (!rule->proto || rule->proto == flow->proto) &&
		    (!rule->dst || rule->dst == flow->dst) &&
		    (!rule->dport || rule->dport == flow->dport))
			return rule;
	}
	return NULL;
}

/* The 5-tuple of the packets that come back over a connection sent to addr:port. */
static __always_inline struct flow_key dnat_reply_of(const struct flow_key *flow, __be32 addr,
						     __be16 port)
{
	return (struct flow_key){
		.src = addr,
		.dst = flow->src,
		.sport = port,
		.dport = flow->sport,
		.proto = flow->proto,
	};
}

#include "dnat_table.h"
#include "dnat_conntrack.h"

/* The state of a known connection, in either direction. */
static __always_inline bool dnat_find(struct packet *pkt, const struct flow_key *flow,
				      struct dnat_change *change)
{
	return use_conntrack ? dnat_conntrack_find(pkt, flow, change) :
			       dnat_table_find(pkt, flow, change);
}

static __always_inline enum dnat_result dnat_create(struct packet *pkt,
						    const struct flow_key *flow,
						    struct dnat_change *change)
{
	const struct dnat_rule *rule = dnat_rule_for(flow);

	if (!rule)
		return DNAT_NONE;
	change->end = DESTINATION;
	change->addr = rule->to;
	change->port = rule->to_port ? rule->to_port : flow->dport;
	return use_conntrack ? dnat_conntrack_create(pkt, flow, change) :
			       dnat_table_create(pkt, flow, change);
}

static __always_inline enum verdict dnat_apply(struct packet *pkt, const struct dnat_change *change)
{
	bool done = change->end == SOURCE ?
			    packet_set_end(pkt, SOURCE, change->addr, change->port) :
			    packet_set_end(pkt, DESTINATION, change->addr, change->port);

	if (change->end == SOURCE)
		count(pkt, DNAT_REPLIES);
	return done ? ACCEPT : drop(pkt, DNAT_MALFORMED);
}

#include "dnat_icmp.h"

static __always_inline enum verdict dnat(struct packet *pkt)
{
	const struct flow_key flow = flow_of(pkt->key);
	struct dnat_change change = {};

	if (!transport_header(flow.proto)) {
		count(pkt, DNAT_UNTRANSLATED);
		return ACCEPT;
	}
	if (pkt->key.flags & PACKET_FRAGMENT)
		return drop(pkt, DNAT_FRAGMENT);
	if (pkt->key.flags & PACKET_NO_PORTS)
		return drop(pkt, DNAT_MALFORMED);
	if (dnat_find(pkt, &flow, &change))
		return dnat_apply(pkt, &change);
	switch (dnat_create(pkt, &flow, &change)) {
	case DNAT_NONE:
		count(pkt, DNAT_UNTRANSLATED);
		return ACCEPT;
	case DNAT_REFUSED_FULL:
		return drop(pkt, DNAT_NO_STATE);
	case DNAT_REFUSED_CLASH:
		return drop(pkt, DNAT_CLASH);
	default:
		count(pkt, DNAT_CREATED);
		return dnat_apply(pkt, &change);
	}
}

/* A packet that no rule matched: the way back of a connection of ours, or an ICMP error about
 * one of its packets? */
static __always_inline enum reply dnat_reply(struct packet *pkt)
{
	const struct flow_key flow = flow_of(pkt->key);
	struct dnat_change change = {};

	if (pkt->key.flags & PACKET_FRAGMENT)
		return REPLY_NOT_MINE;
	if (flow.proto == IPPROTO_ICMP)
		return dnat_icmp_error(pkt);
	if (!transport_header(flow.proto) || pkt->key.flags & PACKET_NO_PORTS)
		return REPLY_NOT_MINE;
	if (!dnat_find(pkt, &flow, &change) || change.end != SOURCE)
		return REPLY_NOT_MINE;
	return dnat_apply(pkt, &change) == ACCEPT ? REPLY_TRANSLATED : REPLY_DROP;
}

#endif
