/* SPDX-License-Identifier: GPL-2.0-only */
/* What every network function sees of a packet, whatever the datapath.
 *
 * The classifier parses a packet once and leaves its findings (struct flow_key) with the packet;
 * each NF of the chain reads them from there. An NF that rewrites addresses or ports uses
 * packet_set_end(), which keep the findings in step.
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
	PACKET_NO_PORTS = 1 << 4, /* fragment, truncated, or a protocol without ports */
	PACKET_FRAGMENT = 1 << 5, /* any piece of a fragmented datagram, the first one included */
	PACKET_PADDED = 1 << 6, /* the frame went on behind the IP packet; that is cut off by now */
	PACKET_OWN = 1 << 7, /* the node's own, on its way out already */
	PACKET_HEADER_WORDS = 15, /* mask of the IPv4 header's length, options included */
};

/* The 5-tuple, as it stands in the packet (network byte order). Written by the classifier and by
 * NFs that rewrite; read by all. 16 bytes, no holes, so that it is a hash key as it is: a map
 * key has nothing behind proto but PACKET_NO_PORTS (flow_of()).
 *
 * `words` is the same, for copying: a key that is stored in small pieces and hashed in words at
 * once waits for the processor's store buffer, three times a chain. */
struct flow_key {
	union {
		struct {
			__be32 src;
			__be32 dst;
			__be16 sport; /* 0 where PACKET_NO_PORTS */
			__be16 dport;
			__u8 proto;
			__u8 info; /* enum packet_flags; IPv4 header length in 32-bit words */
			__u16 generation; /* of the flow's number */
		};
		__u32 words[4];
	};
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KEY_IDENTITY (0xffU | PACKET_NO_PORTS << 8)
#else
#define KEY_IDENTITY (0xff000000U | PACKET_NO_PORTS << 16)
#endif

/* A chain goes on after ACCEPT and ends with DROP (thesis 5.2). */
enum verdict {
	ACCEPT = 0,
	DROP = 1,
};

/* The flow's identity alone. One that shows no ports is not the flow of ports 0. */
static __always_inline struct flow_key flow_of(const struct flow_key *key)
{
	struct flow_key flow;

	flow.words[0] = key->words[0];
	flow.words[1] = key->words[1];
	flow.words[2] = key->words[2];
	flow.words[3] = key->words[3] & KEY_IDENTITY;
	return flow;
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_TCP || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_UDPLITE || proto == IPPROTO_DCCP;
}

#endif
