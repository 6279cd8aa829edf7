/* SPDX-License-Identifier: GPL-2.0-only */
/* Rewriting addresses and ports on the `tc` datapath, checksums kept right for every state an
 * skb's checksum can be in (complete, partial because of offload, none): the way the kernel's
 * own NAT does it (net/netfilter/nf_nat_proto.c).
 *
 * The IPv4 header is rewritten in place: its own checksum makes the change neutral to skb->csum.
 * The transport checksum goes through bpf_l4_csum_replace(), which alone knows skb->ip_summed.
 */
#ifndef NF_REWRITE_TC_H
#define NF_REWRITE_TC_H

#include "hook_tc.h"

enum end { SOURCE, DESTINATION };

/* RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). */
static __always_inline void checksum_replace4(__sum16 *sum, __be32 from, __be32 to)
{
	__u32 s = (__u16)~*sum;

	s += (__u16)~from + (__u32)(__u16)(~from >> 16);
	s += (__u16)to + (__u32)(__u16)(to >> 16);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	*sum = ~s;
}

static __always_inline __u32 transport_checksum(__u8 proto)
{
	return proto == IPPROTO_UDP ? offsetof(struct udphdr, check) :
				      offsetof(struct tcphdr, check);
}

/* The IPv4 header alone. Returns false where it is not in reach. */
static __always_inline bool rewrite_address(struct __sk_buff *skb, enum end end, __be32 addr,
					    __be32 *old)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;
	__be32 *field;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return false;
	field = end == SOURCE ? &ip->saddr : &ip->daddr;
	*old = *field;
	checksum_replace4(&ip->check, *old, addr);
	*field = addr;
	return true;
}

/* Put addr:port (network order) at one end of a TCP or UDP packet, header, checksums and
 * findings. Returns false, with the packet untouched, where its transport header is truncated. */
static __always_inline bool packet_set_end(struct packet *pkt, enum end end, __be32 addr,
					   __be16 port)
{
	struct __sk_buff *skb = pkt->skb;
	const __u8 proto = pkt->key.proto;
	const __u32 l4 = l4_offset(&pkt->key), sum = l4 + transport_checksum(proto);
	const __u64 udp = proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	struct udphdr *ports = (void *)(long)skb->data + l4;
	__be16 old_port, *port_field;
	bool no_sum;
	__be32 old;

	if ((void *)(ports + 1) > (void *)(long)skb->data_end ||
	    skb->len < l4 + transport_header(proto))
		return false;
	port_field = end == SOURCE ? &ports->source : &ports->dest;
	old_port = *port_field;
	no_sum = proto == IPPROTO_UDP && !ports->check;
	if (!rewrite_address(skb, end, addr, &old))
		return false;
	*port_field = port;
	if (!no_sum)
		bpf_l4_csum_replace(skb, sum, old, addr, BPF_F_PSEUDO_HDR | udp | sizeof(addr));
	if (!no_sum && old_port != port)
		bpf_l4_csum_replace(skb, sum, old_port, port, udp | sizeof(port));
	if (end == SOURCE) {
		pkt->key.src = addr;
		pkt->key.sport = port;
	} else {
		pkt->key.dst = addr;
		pkt->key.dport = port;
	}
	key_store(skb, &pkt->key);
	return true;
}

#endif
