/* SPDX-License-Identifier: GPL-2.0-only */
/* What every network function sees of a packet, whatever the datapath.
 *
 * The classifier parses a packet once and leaves its findings (struct flow_key) with the packet;
 * each NF of the chain reads them from there. An NF that rewrites addresses or ports uses
 * packet_set_destination()/packet_set_source(), which keep the findings in step.
 */
#ifndef NF_PACKET_H
#define NF_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Findings about the packet that are not part of the flow's identity. */
enum packet_flags {
	PACKET_NO_PORTS = 1 << 0, /* fragment, truncated, or a protocol without ports */
	PACKET_FRAGMENT = 1 << 1, /* any piece of a fragmented datagram, the first one included */
};

/* The 5-tuple, as it stands in the packet (network byte order). Written by the classifier and by
 * NFs that rewrite; read by all. 16 bytes, no holes, so that it is a hash key as it is: a map
 * key has flags and header_words zero (flow_of()). */
struct flow_key {
	__be32 src;
	__be32 dst;
	__be16 sport; /* 0 where PACKET_NO_PORTS */
	__be16 dport;
	__u8 proto;
	__u8 flags; /* enum packet_flags */
	__u8 header_words; /* IPv4 header length in 32-bit words, options included */
	__u8 zero;
};

/* A chain goes on after ACCEPT and ends with DROP (thesis 5.2). */
enum verdict {
	ACCEPT = 0,
	DROP = 1,
};

/* The flow's identity alone. */
static __always_inline struct flow_key flow_of(struct flow_key key)
{
	key.flags = 0;
	key.header_words = 0;
	key.zero = 0;
	return key;
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_TCP || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_UDPLITE || proto == IPPROTO_DCCP;
}

#endif
