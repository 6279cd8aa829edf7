/* SPDX-License-Identifier: GPL-2.0-only */
/* What a network function (NF) sees of a packet, whatever the datapath: the packet API.
 *
 * An NF is written once, in nfs/<nf>/<nf>.h, with nothing but what is declared here and in the
 * headers named below. It never touches a hook's own packet (struct __sk_buff, struct xdp_md, a
 * buffer in user space): a thin file per datapath, nfs/<nf>/<nf>.<datapath>.bpf.c, includes
 * hook_<datapath>.h, which implements the API there, and then the NF. A whole NF:
 *
 *   // nfs/short/short.h: drops packets longer than `most_bytes`, and counts long ones it lets by
 *   NF_PARAM __u32 most_bytes = 1500;            // nf.yaml: rodata: most_bytes
 *   enum short_reason { SHORT_TOO_LONG };        // in the order of drop_reasons in nf.yaml
 *   enum short_counter { SHORT_LONG };           // in the order of counters in nf.yaml
 *
 *   static __always_inline enum verdict short_nf(struct packet *pkt)
 *   {
 *           if (packet_length(pkt) > most_bytes)
 *                   return drop(pkt, SHORT_TOO_LONG);
 *           if (packet_length(pkt) > most_bytes / 2)
 *                   count(pkt, SHORT_LONG);
 *           return ACCEPT;
 *   }
 *
 *   // nfs/short/short.tc.bpf.c
 *   #include "hook_tc.h"
 *   #include "short.h"
 *
 *   NF_STAGE(short_nf);
 *
 * What an NF may use:
 *
 *   pkt->key                  the 5-tuple and what else the classifier found (struct flow_key)
 *   pkt->flow                 the flow's number; 0: none
 *   packet_length(pkt)        bytes of the packet, from its IPv4 header on
 *   packet_read(pkt, …)       copy bytes out
 *   packet_write(pkt, …)      copy bytes in; no checksum is touched
 *   packet_fix_sum(pkt, …)    carry a change over into a transport checksum
 *   packet_set_end(pkt, …)    put an address and a port at one end, checksums and all
 *   packet_set_address(pkt, …)  the same for the address alone
 *   wire_packets(pkt), wire_bytes(pkt)  what it is on the wire, where the kernel merged packets
 *   now_ns()                  a cheap clock
 *   drop(pkt, reason), count(pkt, counter)                       counters.h, which is always there
 *   NF_PARAM, NF_TABLE(name, row), table_row(name, index)        kernel.h, which is always there
 *   FLOW_STATE(type), flow_state(pkt, &fresh)                    #include "state.h"
 *   flow_add_reply(…), reversed(…)                               #include "flow.h"
 *   quoted_load(…)            the packet an ICMP error quotes    #include "icmp_quote.h"
 *   checksum_replace4(…)      the arithmetic alone               #include "checksum.h"
 *
 * Offsets count from the first byte of the IPv4 header. Addresses and ports are in network byte
 * order everywhere. Sizes are constants, so that the kernel's verifier can follow.
 *
 * A datapath that cannot do something does not define it (`netfilter` cannot write): an NF that
 * needs it does not compile there, and its nf.yaml leaves that datapath out of `datapaths`.
 */
#ifndef NF_PACKET_H
#define NF_PACKET_H

#ifdef __bpf__
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#endif
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define IP_OFFSET 0x1fff /* of frag_off: where in its datagram a fragment belongs */

/* ---------------------------------------------------------------- what is known of a packet */

/* Findings about the packet that are not part of the flow's identity. */
enum packet_flags {
	PACKET_NO_PORTS = 1 << 4, /* fragment, truncated, or a protocol without ports */
	PACKET_FRAGMENT = 1 << 5, /* any piece of a fragmented datagram, the first one included */
	PACKET_PADDED = 1 << 6, /* the frame went on behind the IP packet; that is cut off by now */
	PACKET_OWN = 1 << 7, /* the node's own, on its way out already */
	PACKET_HEADER_WORDS = 15, /* mask of the IPv4 header's length, options included */
};

/* The 5-tuple, as it stands in the packet (network byte order). Written by the classifier and by
 * packet_set_end() and packet_set_address(); read by all. 16 bytes, no holes, so that it is a hash
 * key as it is: a map key has nothing behind proto but PACKET_NO_PORTS (flow_of()).
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

struct packet {
	void *hook; /* the hook's own packet: not for NFs */
	struct flow_key key;
	__u32 flow; /* the flow's number; 0: it has none (table full, or the chain keeps no state) */
	__u32 reason; /* why DROP: set by drop() */
};

/* A chain goes on after ACCEPT and ends with DROP (thesis 5.2). */
enum verdict {
	ACCEPT = 0,
	DROP = 1,
};

/* ---------------------------------------------------------------- what each hook implements */

/* Bytes of the packet, from the first one of its IPv4 header to the last one: as ip->tot_len says,
 * but of a merged (GSO) packet all of it. */
static __always_inline __u32 packet_length(const struct packet *pkt);

/* Copy `size` bytes at `offset` out of the packet. Returns 0; negative, with nothing useful in
 * `to`, where the packet is not that long. */
static __always_inline int packet_read(const struct packet *pkt, __u32 offset, void *to,
				       __u32 size);

/* Copy `size` bytes into the packet at `offset`. Returns 0; negative, with the packet untouched,
 * where the packet is not that long. The bytes alone: whoever changes what a checksum covers calls
 * packet_fix_sum() too; whoever changes an address or a port uses packet_set_end(). */
static __always_inline int packet_write(struct packet *pkt, __u32 offset, const void *from,
					__u32 size);

/* What packet_fix_sum() should know about a checksum and a change. */
enum packet_sum_flags {
	PACKET_SUM_PSEUDO = 1 << 0, /* the change is in the pseudo header: an address */
	PACKET_SUM_MANGLED_0 = 1 << 1, /* UDP: 0 means no sum; leave 0 alone, write 0xffff for 0 */
};

/* Carry a change of 2 or 4 bytes (`size`) from `from` to `to` over into the transport checksum
 * (TCP, UDP, ICMP) at `offset`, whatever an offload has left of it: not computed yet, partly
 * computed, or whole. Returns 0 or negative. Not for the IPv4 header's own checksum, nor for one
 * inside a quoted packet: those are never left to an offload; use checksum_replace4(). */
static __always_inline int packet_fix_sum(struct packet *pkt, __u32 offset, __be32 from, __be32 to,
					  __u32 size, __u32 flags);

enum end { SOURCE, DESTINATION };

/* Put addr:port at one end of a TCP or UDP packet: header, checksums and findings (pkt->key), the
 * way the kernel's own NAT does it. Returns false, with the packet untouched, where its transport
 * header is cut short. `end` is a constant. Not for a packet that shows no ports. */
static __always_inline bool packet_set_end(struct packet *pkt, enum end end, __be32 addr,
					   __be16 port);

/* Put addr at one end of the IPv4 header, with the header's checksum and the findings, and nothing
 * behind the header: for ICMP. Returns false where the header is not in reach. */
static __always_inline bool packet_set_address(struct packet *pkt, enum end end, __be32 addr);

/* How many packets this one is on the wire, and their IP bytes all together: a merged (GSO) packet
 * counts as the packets it becomes, each with headers of its own. Asked for where it is needed
 * only: a stage that accepts without counting does not pay for it. */
static __always_inline void wire_size(const struct packet *pkt, __u32 *packets, __u32 *bytes);

/* CLOCK_MONOTONIC in ns at the resolution of the kernel's tick (1 to 10 ms). */
static __always_inline __u64 now_ns(void);

/* ---------------------------------------------------------------- the same at every hook */

static __always_inline __u32 wire_packets(const struct packet *pkt)
{
	__u32 packets, bytes;

	wire_size(pkt, &packets, &bytes);
	return packets;
}

static __always_inline __u32 wire_bytes(const struct packet *pkt)
{
	__u32 packets, bytes;

	wire_size(pkt, &packets, &bytes);
	return bytes;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KEY_IDENTITY (0xffU | PACKET_NO_PORTS << 8)
#else
#define KEY_IDENTITY (0xff000000U | PACKET_NO_PORTS << 16)
#endif

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

/* Where the transport header begins. */
static __always_inline __u32 l4_offset(const struct flow_key *key)
{
	return (key->info & PACKET_HEADER_WORDS) * 4;
}

/* Length of the transport header that a rewrite needs, 0 for protocols that are not translated. */
static __always_inline __u32 transport_header(__u8 proto)
{
	return proto == IPPROTO_UDP ? sizeof(struct udphdr) :
	       proto == IPPROTO_TCP ? sizeof(struct tcphdr) :
				      0;
}

/* Where a TCP or UDP header has its checksum. */
static __always_inline __u32 transport_checksum(__u8 proto)
{
	return proto == IPPROTO_UDP ? offsetof(struct udphdr, check) :
				      offsetof(struct tcphdr, check);
}

#ifdef __bpf__
#include "kernel.h"
#endif

#endif
