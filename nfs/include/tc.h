/* SPDX-License-Identifier: GPL-2.0-only */
/* The packet API on the `tc` datapath, for stages, the classifier and the last step.
 *
 * A packet's findings travel in skb->cb (20 bytes that the kernel keeps across tail calls).
 * Checksums are kept right for every state an skb's checksum can be in (complete, partial because
 * of offload, none), the way the kernel's own NAT does it (net/netfilter/nf_nat_proto.c): the IPv4
 * header is rewritten in place, since its own checksum makes the change neutral to skb->csum; the
 * transport checksum goes through bpf_l4_csum_replace(), which alone knows skb->ip_summed.
 */
#ifndef NF_TC_H
#define NF_TC_H

#include <linux/pkt_cls.h>
#include "checksum.h"
#include "packet.h"

#define HOOK_TC
#define HOOK_SECTION "tc"
#define HOOK_CONTEXT struct __sk_buff
#define HOOK_PASS TC_ACT_UNSPEC /* on to whatever else is attached, then the kernel */
#define HOOK_DROP TC_ACT_SHOT

#define L3_OFFSET ETH_HLEN /* the kernel takes VLAN tags off before tc ingress */

/* ---------------------------------------------------------------- where the findings stand */

/* skb->cb[0..3] is the flow_key, cb[4] the flow's number (0: none). */
static __always_inline void key_store(const struct packet *pkt)
{
	struct __sk_buff *skb = pkt->hook;

	skb->cb[0] = pkt->key.words[0];
	skb->cb[1] = pkt->key.words[1];
	skb->cb[2] = pkt->key.words[2];
	skb->cb[3] = pkt->key.words[3];
}

static __always_inline void packet_store(const struct packet *pkt)
{
	struct __sk_buff *skb = pkt->hook;

	key_store(pkt);
	skb->cb[4] = pkt->flow;
}

static __always_inline void packet_load(struct packet *pkt, struct __sk_buff *skb)
{
	pkt->hook = skb;
	pkt->reason = 0;
	pkt->flow = skb->cb[4];
	pkt->key.words[0] = skb->cb[0];
	pkt->key.words[1] = skb->cb[1];
	pkt->key.words[2] = skb->cb[2];
	pkt->key.words[3] = skb->cb[3];
}

/* ---------------------------------------------------------------- bytes */

static __always_inline struct iphdr *ip_header(const struct packet *pkt)
{
	const struct __sk_buff *skb = pkt->hook;

	return (void *)(long)skb->data + L3_OFFSET;
}

/* Where what can be read directly ends. */
static __always_inline void *linear_end(const struct packet *pkt)
{
	const struct __sk_buff *skb = pkt->hook;

	return (void *)(long)skb->data_end;
}

static __always_inline __u32 packet_length(const struct packet *pkt)
{
	const struct __sk_buff *skb = pkt->hook;

	return skb->len - L3_OFFSET;
}

/* Make the packet so long; what was behind is gone. */
static __always_inline void packet_cut(struct packet *pkt, __u32 length)
{
	bpf_skb_change_tail(pkt->hook, L3_OFFSET + length, 0);
}

static __always_inline int packet_read(const struct packet *pkt, __u32 offset, void *to,
				       __u32 size)
{
	return bpf_skb_load_bytes(pkt->hook, L3_OFFSET + offset, to, size);
}

static __always_inline int packet_write(struct packet *pkt, __u32 offset, const void *from,
					__u32 size)
{
	return bpf_skb_store_bytes(pkt->hook, L3_OFFSET + offset, from, size, 0);
}

static __always_inline int packet_fix_sum(struct packet *pkt, __u32 offset, __be32 from, __be32 to,
					  __u32 size, __u32 flags)
{
	__u64 how = (flags & PACKET_SUM_PSEUDO ? BPF_F_PSEUDO_HDR : 0) |
		    (flags & PACKET_SUM_MANGLED_0 ? BPF_F_MARK_MANGLED_0 : 0);

	return bpf_l4_csum_replace(pkt->hook, L3_OFFSET + offset, from, to, how | size);
}

/* ---------------------------------------------------------------- rewriting */

static __always_inline bool packet_set_address(struct packet *pkt, enum end end, __be32 addr)
{
	struct iphdr *ip = ip_header(pkt);

	if ((void *)(ip + 1) > linear_end(pkt))
		return false;
	header_set_address(ip, end, addr);
	if (end == SOURCE)
		pkt->key.src = addr;
	else
		pkt->key.dst = addr;
	key_store(pkt);
	return true;
}

static __always_inline bool packet_set_end(struct packet *pkt, enum end end, __be32 addr,
					   __be16 port)
{
	const __u8 proto = pkt->key.proto;
	const __u32 l4 = l4_offset(&pkt->key), sum = l4 + transport_checksum(proto);
	const __u32 udp = proto == IPPROTO_UDP ? PACKET_SUM_MANGLED_0 : 0;
	struct iphdr *ip = ip_header(pkt);
	struct udphdr *ports = (void *)ip + l4;
	__be16 old_port, *port_field;
	bool no_sum;
	__be32 old;

	if ((void *)(ports + 1) > linear_end(pkt) || (void *)(ip + 1) > linear_end(pkt) ||
	    packet_length(pkt) < l4 + transport_header(proto))
		return false;
	port_field = end == SOURCE ? &ports->source : &ports->dest;
	old_port = *port_field;
	no_sum = proto == IPPROTO_UDP && !ports->check;
	old = header_set_address(ip, end, addr);
	*port_field = port;
	if (!no_sum)
		packet_fix_sum(pkt, sum, old, addr, sizeof(addr), PACKET_SUM_PSEUDO | udp);
	if (!no_sum && old_port != port)
		packet_fix_sum(pkt, sum, old_port, port, sizeof(port), udp);
	if (end == SOURCE) {
		pkt->key.src = addr;
		pkt->key.sport = port;
	} else {
		pkt->key.dst = addr;
		pkt->key.dport = port;
	}
	key_store(pkt);
	return true;
}

/* ---------------------------------------------------------------- on the wire */

/* Headers of each packet that a GSO packet becomes, TCP options included. */
static __always_inline __u32 segment_headers(const struct packet *pkt)
{
	__u32 l4 = l4_offset(&pkt->key);
	__u8 *offset = (void *)ip_header(pkt) + l4 + 12;

	if (pkt->key.proto == IPPROTO_UDP)
		return l4 + sizeof(struct udphdr);
	if ((void *)(offset + 1) > linear_end(pkt))
		return l4 + sizeof(struct tcphdr);
	return l4 + (*offset >> 4) * 4;
}

/* A GSO packet becomes gso_segs packets. Where it does not say how many (from a TAP or another
 * sender that is not trusted) it is worked out. */
static __always_inline void wire_size(const struct packet *pkt, __u32 *packets, __u32 *bytes)
{
	const struct __sk_buff *skb = pkt->hook;
	__u32 headers, segments = skb->gso_segs;

	*packets = 1;
	*bytes = packet_length(pkt);
	if (!skb->gso_size)
		return;
	headers = segment_headers(pkt);
	if (!segments && *bytes > headers)
		segments = (*bytes - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments <= 1)
		return;
	*packets = segments;
	*bytes += (segments - 1) * headers;
}

#endif
