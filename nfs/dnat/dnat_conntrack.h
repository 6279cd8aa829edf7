/* SPDX-License-Identifier: GPL-2.0-only */
/* DNAT's state in the kernel's connection tracking, as in the thesis: visible with
 * `conntrack -L`, bounded by net.netfilter.nf_conntrack_max. */
#ifndef NF_DNAT_CONNTRACK_H
#define NF_DNAT_CONNTRACK_H

#include "conntrack.h"

#ifdef HOOK_HAS_CONNTRACK

#define CLOSING_MS 120000 /* as nf_conntrack_tcp_timeout_time_wait */

static __always_inline __u32 dnat_timeout_ms(__u8 proto, bool replied)
{
	return (!replied ? unreplied_ns : proto == IPPROTO_TCP ? tcp_idle_ns : replied_ns) /
	       1000000;
}

static __always_inline void dnat_watch_end(struct packet *pkt, struct dnat_state *state)
{
	__u8 flags;

	if (pkt->key.proto != IPPROTO_TCP ||
	    packet_read(pkt, l4_offset(&pkt->key) + 13, &flags, sizeof(flags)))
		return;
	if (flags & 0x07) /* FIN, SYN, RST */
		state->closing = (flags & 0x07) != 0x02;
}

static __always_inline void dnat_conntrack_touch(struct packet *pkt, struct dnat_state *state,
						 struct nf_conn *ct, bool reply)
{
	bool replied = ct->status & CT_SEEN_REPLY;

	dnat_watch_end(pkt, state);
	if (reply && !replied)
		bpf_ct_change_status(ct, ct->status | CT_SEEN_REPLY | CT_ASSURED);
	bpf_ct_change_timeout(ct, state->closing ? CLOSING_MS :
						   dnat_timeout_ms(pkt->key.proto, replied || reply));
}

static __always_inline bool dnat_conntrack_find(struct packet *pkt, struct dnat_state *state,
						const struct flow_key *flow,
						struct dnat_change *change)
{
	bool reply;
	struct nf_conn *ct = ct_find(pkt, flow, &reply);

	if (!ct)
		return false;
	if (reply) {
		change->end = SOURCE;
		change->addr = ct->tuplehash[CT_ORIGINAL].tuple.dst.u3.ip;
		change->port = ct->tuplehash[CT_ORIGINAL].tuple.dst.u.all;
	} else {
		change->end = DESTINATION;
		change->addr = ct->tuplehash[CT_REPLY].tuple.src.u3.ip;
		change->port = ct->tuplehash[CT_REPLY].tuple.src.u.all;
	}
	if (pkt->key.proto == flow->proto) /* an ICMP error keeps no connection alive */
		dnat_conntrack_touch(pkt, state, ct, reply);
	bpf_ct_release(ct);
	return true;
}

static __always_inline enum dnat_result dnat_conntrack_create(struct packet *pkt,
							      const struct flow_key *flow,
							      struct dnat_change *change)
{
	struct bpf_ct_opts___v1 opts = { .netns_id = CT_CURRENT_NETNS, .l4proto = flow->proto };
	struct bpf_sock_tuple tuple = {};
	union nf_inet_addr addr = {};
	struct nf_conn___init *fresh;
	struct nf_conn *ct;

	ct_tuple(flow, &tuple);
	fresh = ct_alloc(pkt->hook, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (!fresh)
		return DNAT_REFUSED_FULL;
	addr.ip = change->addr;
	bpf_ct_set_timeout(fresh, dnat_timeout_ms(flow->proto, false));
	bpf_ct_set_nat_info(fresh, &addr, bpf_ntohs(change->port), NF_NAT_MANIP_DST);
	ct = bpf_ct_insert_entry(fresh);
	if (!ct)
		return DNAT_REFUSED_CLASH;
	change->addr = ct->tuplehash[CT_REPLY].tuple.src.u3.ip;
	change->port = ct->tuplehash[CT_REPLY].tuple.src.u.all;
	bpf_ct_release(ct);
	return DNAT_FOUND;
}

#else /* nf.yaml offers `state: conntrack` only where there is such a thing */

static __always_inline bool dnat_conntrack_find(struct packet *pkt, struct dnat_state *state,
						const struct flow_key *flow,
						struct dnat_change *change)
{
	(void)pkt, (void)state, (void)flow, (void)change;
	return false;
}

static __always_inline enum dnat_result dnat_conntrack_create(struct packet *pkt,
							      const struct flow_key *flow,
							      struct dnat_change *change)
{
	(void)pkt, (void)flow, (void)change;
	return DNAT_REFUSED_FULL;
}

#endif
#endif
