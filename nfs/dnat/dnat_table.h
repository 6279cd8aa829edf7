/* SPDX-License-Identifier: GPL-2.0-only */
/* DNAT's state in two bounded tables of the instance: one entry a connection and direction.
 *
 * Nothing evicts a living connection: when a table is full, new ones are refused and counted,
 * and idle ones go after the same times as in the kernel's connection tracking (aging.h).
 */
#ifndef NF_DNAT_TABLE_H
#define NF_DNAT_TABLE_H

#define TCP_CLOSING_NS 120000000000ULL /* as nf_conntrack_tcp_timeout_time_wait */

/* Made by the connection's first packet (both directions at once), touched by each packet of its
 * direction, deleted by aging. */
struct dnat_state {
	__be32 addr; /* what the packet's end becomes */
	__be16 port;
	__u8 closing; /* a TCP FIN or RST was seen in this direction */
	__u8 zero;
	__u64 seen_ns; /* CLOCK_MONOTONIC at tick resolution; 0: no packet yet */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct flow_key);
	__type(value, struct dnat_state);
} flows SEC(".maps"), replies SEC(".maps");

static long dnat_age(void *map, struct flow_key *flow, struct dnat_state *state,
		     struct aging *aging)
{
	struct flow_key back = dnat_reply_of(flow, state->addr, state->port);
	struct dnat_state *reply = bpf_map_lookup_elem(&replies, &back);
	__u64 seen_ns = state->seen_ns, limit_ns = unreplied_ns;

	if (reply && reply->seen_ns) {
		if (reply->seen_ns > seen_ns)
			seen_ns = reply->seen_ns;
		limit_ns = flow->proto == IPPROTO_TCP ? tcp_idle_ns : replied_ns;
	}
	if (flow->proto == IPPROTO_TCP && (state->closing || (reply && reply->closing)) &&
	    limit_ns > TCP_CLOSING_NS)
		limit_ns = TCP_CLOSING_NS;
	if ((__s64)(aging->now_ns - seen_ns) < (__s64)limit_ns)
		return 0;
	bpf_map_delete_elem(&replies, &back);
	if (!bpf_map_delete_elem(map, flow))
		aging->expired++;
	return 0;
}
AGING(flows, dnat_age, 1)

static __always_inline void dnat_touch(struct packet *pkt, struct dnat_state *state)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	__u8 flags;

	if (state->seen_ns != now_ns)
		state->seen_ns = now_ns;
	if (pkt->key.proto != IPPROTO_TCP)
		return;
	if (bpf_skb_load_bytes(pkt->skb, l4_offset(&pkt->key) + 13, &flags, 1))
		return;
	if (flags & 0x05) /* FIN, RST */
		state->closing = 1;
	else if (flags & 0x02) /* SYN: the ports are used again */
		state->closing = 0;
}

static __always_inline bool dnat_table_find(struct packet *pkt, const struct flow_key *flow,
					    struct dnat_change *change)
{
	struct dnat_state *state = bpf_map_lookup_elem(&flows, flow);

	change->end = DESTINATION;
	if (!state) {
		change->end = SOURCE;
		state = bpf_map_lookup_elem(&replies, flow);
	}
	if (!state)
		return false;
	change->addr = state->addr;
	change->port = state->port;
	if (pkt->key.proto == flow->proto) /* an ICMP error keeps no connection alive */
		dnat_touch(pkt, state);
	return true;
}

static __always_inline enum dnat_result dnat_table_create(struct packet *pkt,
							  const struct flow_key *flow,
							  struct dnat_change *change)
{
	struct flow_key back = dnat_reply_of(flow, change->addr, change->port);
	struct dnat_state there = { .addr = change->addr, .port = change->port };
	struct dnat_state reply = { .addr = flow->dst, .port = flow->dport };
	struct dnat_state *known;

	(void)pkt;
	there.seen_ns = bpf_ktime_get_coarse_ns();
	if (bpf_map_update_elem(&replies, &back, &reply, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&replies, &back);
		if (!known)
			return DNAT_REFUSED_FULL;
		if (known->addr != flow->dst || known->port != flow->dport)
			return DNAT_REFUSED_CLASH;
		/* Another CPU makes this very connection. */
	}
	if (bpf_map_update_elem(&flows, flow, &there, BPF_NOEXIST) &&
	    !bpf_map_lookup_elem(&flows, flow)) {
		bpf_map_delete_elem(&replies, &back);
		return DNAT_REFUSED_FULL;
	}
	aging_start();
	return DNAT_FOUND;
}

#endif
