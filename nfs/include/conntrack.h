/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's connection tracking through its kfuncs (net/netfilter/nf_conntrack_bpf.c,
 * nf_nat_bpf.c; Linux 6.1). Their interface is declared unstable: only this file and
 * dnat_conntrack.h call them. All symbols are weak, so that an instance that does not use them
 * loads on a kernel that lacks them; user space probes before it asks for them.
 *
 * HOOK_HAS_CONNTRACK says that there is such a thing at this hook.
 */
#ifndef NF_CONNTRACK_H
#define NF_CONNTRACK_H

#include "packet.h"

#if defined(HOOK_TC)
#define HOOK_HAS_CONNTRACK
#define ct_lookup bpf_skb_ct_lookup
#define ct_alloc bpf_skb_ct_alloc
#elif defined(HOOK_XDP)
#define HOOK_HAS_CONNTRACK
#define ct_lookup bpf_xdp_ct_lookup
#define ct_alloc bpf_xdp_ct_alloc
#endif

#ifdef HOOK_HAS_CONNTRACK
#include <bpf/bpf_core_read.h>

#define CT_ORIGINAL 0
#define CT_REPLY 1
#define CT_SEEN_REPLY (1 << 1) /* IPS_SEEN_REPLY */
#define CT_ASSURED (1 << 2) /* IPS_ASSURED */
#define CT_CURRENT_NETNS (-1)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

union nf_inet_addr {
	__u32 all[4];
	__be32 ip;
};

union nf_conntrack_man_proto {
	__be16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conn {
	__u32 timeout; /* jiffies */
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
};

#pragma clang attribute pop

/* struct bpf_ct_opts as of Linux 5.18; later kernels take this shorter form too. */
struct bpf_ct_opts___v1 {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

enum nf_nat_manip_type { NF_NAT_MANIP_SRC, NF_NAT_MANIP_DST };

struct nf_conn___init {
	int opaque;
};

extern struct nf_conn *ct_lookup(HOOK_CONTEXT *hook, struct bpf_sock_tuple *tuple, __u32 tuple_len,
				 struct bpf_ct_opts___v1 *opts, __u32 opts_len) __ksym __weak;
extern struct nf_conn___init *ct_alloc(HOOK_CONTEXT *hook, struct bpf_sock_tuple *tuple,
				       __u32 tuple_len, struct bpf_ct_opts___v1 *opts,
				       __u32 opts_len) __ksym __weak;
extern int bpf_ct_set_nat_info(struct nf_conn___init *ct, union nf_inet_addr *addr, int port,
			       enum nf_nat_manip_type manip) __ksym __weak;
extern void bpf_ct_set_timeout(struct nf_conn___init *ct, __u32 timeout_ms) __ksym __weak;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *ct) __ksym __weak;
extern int bpf_ct_change_timeout(struct nf_conn *ct, __u32 timeout_ms) __ksym __weak;
extern int bpf_ct_change_status(struct nf_conn *ct, __u32 status) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

static __always_inline void ct_tuple(const struct flow_key *key, struct bpf_sock_tuple *tuple)
{
	tuple->ipv4.saddr = key->src;
	tuple->ipv4.daddr = key->dst;
	tuple->ipv4.sport = key->sport;
	tuple->ipv4.dport = key->dport;
}

/* The connection that this 5-tuple belongs to, in either direction; NULL where there is none.
 * Direction in *reply. The caller releases it. */
static __always_inline struct nf_conn *ct_find(const struct packet *pkt,
					       const struct flow_key *key, bool *reply)
{
	struct bpf_ct_opts___v1 opts = { .netns_id = CT_CURRENT_NETNS, .l4proto = key->proto };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	ct_tuple(key, &tuple);
	ct = ct_lookup(pkt->hook, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	*reply = opts.dir == CT_REPLY;
	return ct;
}

#endif /* HOOK_HAS_CONNTRACK */
#endif
