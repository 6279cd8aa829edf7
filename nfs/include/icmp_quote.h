/* SPDX-License-Identifier: GPL-2.0-only */
/* The packet that an ICMP error quotes (RFC 792). */
#ifndef NF_ICMP_QUOTE_H
#define NF_ICMP_QUOTE_H

#include "packet.h"

#define ICMP_HEADER 8
#define QUOTED_L4 8 /* what every error quotes of the transport header */

struct icmp_start {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u32 rest;
};

/* Where things stand in the error, in bytes from the start of the packet. */
struct quoted {
	__u32 icmp;
	__u32 ip;
	__u32 l4;
	struct flow_key flow;
};

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* Where the IP packet ends: padding may follow. */
static __always_inline __u32 packet_end(const struct packet *pkt)
{
	__be16 total = 0;

	packet_read(pkt, offsetof(struct iphdr, tot_len), &total, sizeof(total));
	return bpf_ntohs(total);
}

/* False where the packet is no ICMP error about a whole TCP or UDP packet. */
static __always_inline bool quoted_load(const struct packet *pkt, struct quoted *quoted)
{
	struct icmp_start icmp;
	struct iphdr ip;

	quoted->icmp = l4_offset(&pkt->key);
	quoted->ip = quoted->icmp + ICMP_HEADER;
	if (packet_read(pkt, quoted->icmp, &icmp, sizeof(icmp)) || !icmp_is_error(icmp.type) ||
	    packet_read(pkt, quoted->ip, &ip, sizeof(ip)) ||
	    ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(IP_OFFSET) ||
	    !transport_header(ip.protocol))
		return false;
	quoted->l4 = quoted->ip + ip.ihl * 4;
	quoted->flow.words[0] = ip.saddr;
	quoted->flow.words[1] = ip.daddr;
	quoted->flow.words[3] = 0;
	quoted->flow.proto = ip.protocol;
	return packet_end(pkt) >= quoted->l4 + QUOTED_L4 &&
	       !packet_read(pkt, quoted->l4, &quoted->flow.words[2], 4);
}

#endif
