/* SPDX-License-Identifier: GPL-2.0-only */
/* What all programs of the `tc` datapath share: where a packet's findings stand and how one
 * program leads to the next. */
#ifndef NF_TC_H
#define NF_TC_H

#include <linux/pkt_cls.h>
#include "packet.h"

#define IP_OFFSET 0x1fff /* of frag_off: where in its datagram a fragment belongs */
#define L3_OFFSET ETH_HLEN /* the kernel takes VLAN tags off before tc ingress */

/* Every `next` pointer of the node: one slot each. Written by user space (one slot a change),
 * followed by the stages. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1); /* set when loaded; the map is shared by the node's programs */
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* skb->cb[0..3] is the flow_key, cb[4] the flow's number (0: none). */
static __always_inline void key_store(struct __sk_buff *skb, const struct flow_key *key)
{
	skb->cb[0] = key->words[0];
	skb->cb[1] = key->words[1];
	skb->cb[2] = key->words[2];
	skb->cb[3] = key->words[3];
}

static __always_inline void key_load(struct __sk_buff *skb, struct flow_key *key)
{
	key->words[0] = skb->cb[0];
	key->words[1] = skb->cb[1];
	key->words[2] = skb->cb[2];
	key->words[3] = skb->cb[3];
}

static __always_inline __u32 l4_offset(const struct flow_key *key)
{
	return L3_OFFSET + (key->info & PACKET_HEADER_WORDS) * 4;
}

/* Length of the transport header that a rewrite needs, 0 for protocols that are not translated. */
static __always_inline __u32 transport_header(__u8 proto)
{
	return proto == IPPROTO_UDP ? sizeof(struct udphdr) :
	       proto == IPPROTO_TCP ? sizeof(struct tcphdr) :
				      0;
}

/* Headers of each packet that a GSO packet becomes, TCP options included. */
static __always_inline __u32 segment_headers(struct __sk_buff *skb, const struct flow_key *key)
{
	__u32 ip = (key->info & PACKET_HEADER_WORDS) * 4;
	__u8 *offset = (void *)(long)skb->data + L3_OFFSET + ip + 12;

	if (key->proto == IPPROTO_UDP)
		return ip + sizeof(struct udphdr);
	if ((void *)(offset + 1) > (void *)(long)skb->data_end)
		return ip + sizeof(struct tcphdr);
	return ip + (*offset >> 4) * 4;
}

/* What the wire carries: a GSO packet becomes gso_segs packets, each with its own headers. Where
 * it does not say how many (from a TAP or another sender that is not trusted) it is worked out. */
static __always_inline void wire_size(struct __sk_buff *skb, const struct flow_key *key,
				      __u32 *packets, __u32 *bytes)
{
	__u32 headers, segments = skb->gso_segs;

	*packets = 1;
	*bytes = skb->len - L3_OFFSET;
	if (!skb->gso_size)
		return;
	headers = segment_headers(skb, key);
	if (!segments && *bytes > headers)
		segments = (*bytes - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments <= 1)
		return;
	*packets = segments;
	*bytes += (segments - 1) * headers;
}

#endif
