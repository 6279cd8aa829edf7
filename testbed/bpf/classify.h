/* SPDX-License-Identifier: GPL-2.0-only */
/* The classifier: finds the first flow rule that a packet matches and takes the packet to that
 * rule's chain. The same at every hook whose programs follow each other by tail calls; the hook's
 * header comes first.
 *
 * A packet of a flow that is known already (flow.h) goes by one look-up. Otherwise the rules are
 * searched by tuple space search: they are grouped by mask (which fields and prefix lengths they
 * name); one hash look-up per mask, the masks in the order of their first rule, so that the search
 * stops at the first mask that cannot hold a better rule.
 */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include "flow.h"
#include "icmp_quote.h"
#include "parse.h"
#include "recent.h"
#include "rules.h"
#include "slots.h"
#include "sweep.h"

#define MAX_HEADS 16
#define NOWHERE 0 /* no slot: not to a chain */

/* Head slots of the first MAX_HEADS ways: constants, so that the jump to them is direct. */
const volatile __u32 heads[MAX_HEADS];
const volatile __u32 n_heads = 0;
const volatile __u32 tracks = 0; /* a chain of the node keeps state per flow */
/* By order, then the specials. Written by this program, read by user space. */
struct rule_counters {
	__u64 packets; /* on the wire */
	__u64 bytes; /* IP bytes on the wire */
};

enum special {
	UNMATCHED, /* IPv4 that no rule matched: accepted, untouched */
	LEFT_ALONE, /* not IPv4 for this interface */
	REPLIES, /* the way back of translated flows, and ICMP errors about them */
	TABLE_FULL, /* matched, but the flow got no number */
	MISSED, /* the way had no first program: dropped */
	SPECIALS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_counters);
} rule_counters SEC(".maps");

static __always_inline void count_rule(__u32 index, __u32 packets, __u32 bytes)
{
	struct rule_counters *counters = bpf_map_lookup_elem(&rule_counters, &index);

	if (!counters)
		return;
	counters->packets += packets;
	counters->bytes += bytes;
}

/* A new flow, or one that an earlier policy knew. Returns NULL where the table is full. */
static __always_inline struct flow *flow_enter(const struct flow_key *key, const struct rule *rule)
{
	struct flow fresh = { .order = rule->order, .head = rule->head, .policy = policy };
	struct flow *known = bpf_map_lookup_elem(&flows, key);
	struct number number;

	if (known) {
		known->order = rule->order;
		known->head = rule->head;
		known->policy = policy;
		return known;
	}
	if (!take_number(&number))
		return NULL;
	fresh.number = number.number;
	fresh.generation = number.generation;
	if (bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST))
		bpf_map_push_elem(&numbers, &number, 0); /* another CPU was first, or no memory */
	else
		bpf_map_update_elem(&owners, &number.number, key, BPF_ANY);
	return bpf_map_lookup_elem(&flows, key);
}

static __always_inline void flow_touch(struct flow *flow, __u8 flags)
{
	struct sweep *sweep;
	__u32 zero = 0;

	sweep = bpf_map_lookup_elem(&sweeper, &zero);
	if (!sweep)
		return;
	if (sweep->armed_by != policy)
		sweep_arm(sweep);
	if (flow->seen_s != sweep->now_s)
		flow->seen_s = sweep->now_s;
	if (flags)
		flow->closing = flags != 0x02; /* a SYN alone: the ports are used again */
}

static __always_inline void enter_chain(const struct packet *pkt, __u32 head)
{
	__u32 i;

	/* Unrolled, so that each jump has a constant slot of its own. */
#pragma unroll
	for (i = 0; i < MAX_HEADS; i++) {
		if (i < n_heads && head == heads[i])
			bpf_tail_call(pkt->hook, &slots, heads[i]);
	}
	if (n_heads == MAX_HEADS)
		bpf_tail_call(pkt->hook, &slots, head);
}

/* The TCP flags that tell of a beginning or an end; 0 for other protocols. */
#define TCP_FLAGS 13 /* where in the header */
#define TURNS 0x07 /* FIN, SYN, RST */
static __always_inline __u8 turning_point(const struct packet *pkt)
{
#ifdef HOOK_BY_COPY
	__u8 flags;

	if (pkt->key.proto != IPPROTO_TCP ||
	    packet_read(pkt, l4_offset(&pkt->key) + TCP_FLAGS, &flags, sizeof(flags)))
		return 0;
	return flags & TURNS;
#else
	__u8 *flags = (void *)ip_header(pkt) + l4_offset(&pkt->key) + TCP_FLAGS;

	if (pkt->key.proto != IPPROTO_TCP || (void *)(flags + 1) > linear_end(pkt))
		return 0;
	return *flags & TURNS;
#endif
}

/* What the NFs find with the packet: the findings about it, and nothing behind it. */
static __always_inline void hand_on(struct packet *pkt, __u32 number, __u16 generation)
{
	__be16 total;

	pkt->key.generation = generation;
	pkt->flow = number;
	packet_store(pkt);
	if (pkt->key.info & PACKET_PADDED &&
	    !packet_read(pkt, offsetof(struct iphdr, tot_len), &total, sizeof(total)))
		packet_cut(pkt, bpf_ntohs(total));
}

/* An ICMP error about a packet of a translated flow goes to the NF that translated it, whatever
 * rule it matches: it belongs to that flow. */
static __always_inline void icmp_error(struct packet *pkt)
{
	struct quoted quoted = {};
	struct flow_key way_back;
	struct flow *flow;

	if (pkt->key.info & PACKET_FRAGMENT || !quoted_load(pkt, &quoted) ||
	    pkt->key.dst != quoted.flow.src) /* errors go to who sent the quoted packet: this is forged */
		return;
	way_back = reversed(&quoted.flow);
	flow = bpf_map_lookup_elem(&flows, &way_back);
	if (!flow || !flow->translator)
		return;
	hand_on(pkt, flow->number, flow->generation);
	count_rule(n_rules + REPLIES, 1, packet_length(pkt));
	bpf_tail_call(pkt->hook, &slots, flow->translator);
}

/* Where a packet goes: to a chain, or on the way back of a translated flow. */
struct way {
	__u32 order; /* index of the counter */
	__u32 head; /* slot of the first program */
	__u32 number; /* of the flow; 0: none */
	__u16 generation;
	bool full; /* it should have a number, but the table is full */
};

static __always_inline void way_of_flow(struct way *way, const struct flow *flow)
{
	way->order = flow->reply ? n_rules + REPLIES : flow->order;
	way->head = flow->head;
	way->number = flow->number;
	way->generation = flow->generation;
	way->full = false;
}

/* A flow that is not in the table: because it is new, because its chain keeps no state, or
 * because no rule matches it (false). */
static __always_inline bool search_way(struct way *way, const struct flow_key *key,
				       const struct flow_key *identity, struct recent *recent,
				       __u8 flags)
{
	struct rule rule = {};
	struct flow *flow;

	if (!search(key, &rule)) {
		/* Where flows are tracked, a reply could become known within this very tick. */
		if (recent && !tracks)
			make_recent(recent, identity, n_rules + UNMATCHED, NOWHERE, NULL);
		return false;
	}
	way->order = rule.order;
	way->head = rule.head;
	way->number = 0;
	way->generation = 0;
	way->full = false;
	if (!tracks || !rule.tracks) {
		if (recent)
			make_recent(recent, identity, way->order, way->head, NULL);
		return true;
	}
	flow = flow_enter(identity, &rule);
	way->full = !flow;
	if (flow) {
		way->number = flow->number;
		way->generation = flow->generation;
		flow_touch(flow, flags);
	}
	return true;
}

static __always_inline bool find_way(const struct packet *pkt, struct way *way)
{
	const struct flow_key identity = flow_of(&pkt->key);
	struct recent *recent = recent_of(&identity);
	__u8 flags = tracks ? turning_point(pkt) : 0;
	struct flow *flow;

	if (recent && !flags && is_recent(recent, &identity)) {
		way->order = recent->order;
		way->head = recent->head;
		way->number = recent->number;
		way->generation = recent->generation;
		way->full = false;
		return way->head != NOWHERE;
	}
	flow = tracks ? bpf_map_lookup_elem(&flows, &identity) : NULL;
	if (!flow || (flow->policy != policy && !flow->reply))
		return search_way(way, &pkt->key, &identity, recent, flags);
	flow_touch(flow, flags);
	way_of_flow(way, flow);
	if (recent)
		make_recent(recent, &identity, way->order, way->head, flow);
	return true;
}

/* Take a packet whose key is known where it belongs; returns the hook's verdict. */
static __always_inline int take(struct packet *pkt)
{
	__u32 packets, bytes;
	struct way way;

	if (tracks && pkt->key.proto == IPPROTO_ICMP)
		icmp_error(pkt);
	if (!find_way(pkt, &way)) {
		wire_size(pkt, &packets, &bytes);
		count_rule(n_rules + UNMATCHED, packets, bytes);
		return HOOK_PASS;
	}
	hand_on(pkt, way.number, way.generation);
	wire_size(pkt, &packets, &bytes);
	count_rule(way.order, packets, bytes);
	if (way.full)
		count_rule(n_rules + TABLE_FULL, packets, bytes);
	enter_chain(pkt, way.head);
	count_rule(n_rules + MISSED, packets, bytes);
	return HOOK_DROP;
}

#endif
