/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP errors about packets of a translated connection (RFC 5508, section 4; the kernel's
 * nf_nat_icmp_reply_translation()): the packet quoted inside is turned back into what its sender
 * sent, and the error itself comes from, or goes to, the end that this sender knows.
 */
#ifndef NF_DNAT_ICMP_H
#define NF_DNAT_ICMP_H

#include "checksum.h"

#define ICMP_CHECKSUM 2

/* Write a 16-bit field of the quoted packet and keep the ICMP checksum, which covers it. */
static __always_inline void quoted_write2(struct packet *pkt, const struct quoted *quoted,
					  __u32 offset, __be16 old, __be16 new)
{
	packet_write(pkt, offset, &new, sizeof(new));
	packet_fix_sum(pkt, quoted->icmp + ICMP_CHECKSUM, old, new, sizeof(new), 0);
}

static __always_inline void quoted_fix_sum(struct packet *pkt, const struct quoted *quoted,
					   __u32 offset, __be32 from, __be32 to)
{
	__sum16 sum, old;

	if (packet_read(pkt, offset, &sum, sizeof(sum)))
		return;
	old = sum;
	checksum_replace4(&sum, from, to);
	quoted_write2(pkt, quoted, offset, old, sum);
}

/* The quoted transport checksum, where it is quoted at all and not absent (UDP's 0). */
static __always_inline void quoted_transport(struct packet *pkt, const struct quoted *quoted,
					     __be32 old_addr, __be32 addr, __be16 old_port,
					     __be16 port)
{
	__u32 offset = quoted->l4 + transport_checksum(quoted->flow.proto);
	bool udp = quoted->flow.proto == IPPROTO_UDP;
	__sum16 sum, old;

	if (packet_length(pkt) < quoted->l4 + transport_header(quoted->flow.proto) ||
	    packet_read(pkt, offset, &sum, sizeof(sum)) || (udp && !sum))
		return;
	old = sum;
	checksum_replace4(&sum, old_addr, addr);
	checksum_replace4(&sum, old_port, port);
	if (udp && !sum)
		sum = 0xffff;
	quoted_write2(pkt, quoted, offset, old, sum);
}

/* Put addr:port at one end of the quoted packet. */
static __always_inline void quoted_set_end(struct packet *pkt, const struct quoted *quoted,
					   enum end end, __be32 addr, __be16 port)
{
	__be32 old_addr = end == SOURCE ? quoted->flow.src : quoted->flow.dst;
	__be16 old_port = end == SOURCE ? quoted->flow.sport : quoted->flow.dport;
	__u32 at = quoted->ip + (end == SOURCE ? offsetof(struct iphdr, saddr) :
						 offsetof(struct iphdr, daddr));

	quoted_fix_sum(pkt, quoted, quoted->ip + offsetof(struct iphdr, check), old_addr, addr);
	packet_write(pkt, at, &addr, sizeof(addr));
	packet_fix_sum(pkt, quoted->icmp + ICMP_CHECKSUM, old_addr, addr, sizeof(addr), 0);
	quoted_transport(pkt, quoted, old_addr, addr, old_port, port);
	quoted_write2(pkt, quoted, quoted->l4 + (end == SOURCE ? 0 : 2), old_port, port);
}

static __always_inline enum verdict dnat_icmp_error(struct packet *pkt,
						    struct dnat_state *state)
{
	struct dnat_change change = {};
	struct quoted quoted = {};
	struct flow_key way_back;
	bool done;

	if (!quoted_load(pkt, &quoted))
		return drop(pkt, DNAT_MALFORMED);
	/* The quoted packet went one way, the error comes the other: ask for that direction. */
	way_back = reversed(&quoted.flow);
	if (!dnat_find(pkt, state, &way_back, &change))
		return drop(pkt, DNAT_NO_STATE);
	count(pkt, DNAT_ERRORS);
	if (change.end == SOURCE) {
		/* About a packet that we sent on: its sender knows our first address. */
		quoted_set_end(pkt, &quoted, DESTINATION, change.addr, change.port);
		done = packet_set_address(pkt, SOURCE, change.addr);
	} else {
		/* About a reply that we sent back: the answering end is the one translated to. */
		quoted_set_end(pkt, &quoted, SOURCE, change.addr, change.port);
		done = packet_set_address(pkt, DESTINATION, change.addr);
	}
	return done ? ACCEPT : drop(pkt, DNAT_MALFORMED);
}

#endif
