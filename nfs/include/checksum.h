/* SPDX-License-Identifier: GPL-2.0-only */
/* Internet checksums that stand in plain bytes, and the IPv4 header's addresses. */
#ifndef NF_CHECKSUM_H
#define NF_CHECKSUM_H

#include "packet.h"

/* Carry a change of four bytes over. RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). */
static __always_inline void checksum_replace4(__sum16 *sum, __be32 from, __be32 to)
{
	__u32 s = (__u16)~*sum;

	s += (__u16)~from + (__u32)(__u16)(~from >> 16);
	s += (__u16)to + (__u32)(__u16)(to >> 16);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	*sum = ~s;
}

/* Put addr at one end of an IPv4 header, its checksum kept. Returns what was there. */
static __always_inline __be32 header_set_address(struct iphdr *ip, enum end end, __be32 addr)
{
	__be32 *field = end == SOURCE ? &ip->saddr : &ip->daddr, old = *field;

	checksum_replace4(&ip->check, old, addr);
	*field = addr;
	return old;
}

#endif
