/* SPDX-License-Identifier: GPL-2.0-only */
/* What all programs of the `tc` datapath share: where a packet's findings stand and how one
 * program leads to the next. */
#ifndef NF_TC_H
#define NF_TC_H

#include <linux/pkt_cls.h>
#include "packet.h"

#define L3_OFFSET ETH_HLEN /* the kernel takes VLAN tags off before tc ingress */

/* Every `next` pointer of the node: one slot each. Written by user space (one slot a change),
 * followed by the stages. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1); /* set when loaded; the map is shared by the node's programs */
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* skb->cb[0..3] is the flow_key. */
static __always_inline void key_store(struct __sk_buff *skb, const struct flow_key *key)
{
	skb->cb[0] = key->src;
	skb->cb[1] = key->dst;
	skb->cb[2] = (__u32)key->sport | (__u32)key->dport << 16;
	skb->cb[3] = key->proto | key->flags << 8 | key->header_words << 16;
}

static __always_inline void key_load(struct __sk_buff *skb, struct flow_key *key)
{
	__u32 ports = skb->cb[2], rest = skb->cb[3];

	key->src = skb->cb[0];
	key->dst = skb->cb[1];
	key->sport = ports;
	key->dport = ports >> 16;
	key->proto = rest;
	key->flags = rest >> 8;
	key->header_words = rest >> 16;
	key->zero = 0;
}

static __always_inline __u32 l4_offset(const struct flow_key *key)
{
	return L3_OFFSET + (key->header_words & 15) * 4;
}

/* What the wire carries: a GSO packet becomes gso_segs packets, each with its own headers. */
static __always_inline void wire_size(struct __sk_buff *skb, const struct flow_key *key,
				      __u32 *packets, __u32 *bytes)
{
	__u32 headers = (key->header_words & 15) * 4;
	__u32 segments = skb->gso_segs;

	*packets = 1;
	*bytes = skb->len - L3_OFFSET;
	if (segments <= 1)
		return;
	headers += key->proto == IPPROTO_UDP ? sizeof(struct udphdr) : sizeof(struct tcphdr);
	*packets = segments;
	*bytes += (segments - 1) * headers;
}

#endif
