/* SPDX-License-Identifier: GPL-2.0-only */
/* The packet API in user space, and what an NF that is compiled for it (a shared object, see
 * hook_user.h) shares with the program that runs it (testbed/user).
 *
 * A packet is a buffer of plain bytes. Its transport checksum may be left to be done (`partial`),
 * as with an skb's CHECKSUM_PARTIAL: then the field holds the sum of the pseudo header alone.
 */
#ifndef NF_USER_H
#define NF_USER_H

#include <string.h>
#include <time.h>
#include "checksum.h"
#include "packet.h"

struct nf_counters;

/* What pkt->hook points to. NFs in Python read it too (testbed/user/packet.py). */
struct user_packet {
	__u8 *data; /* the IPv4 header, and all behind it */
	__u32 length;
	__u32 mark, priority; /* as it came (testbed/bpf/tag.h) */
	__u16 gso_size; /* payload of each packet that it becomes on the wire; 0: it is one */
	__u8 partial;
	__u8 changed; /* the bytes are not those that came */
	__u8 fresh; /* for Python: the instance's first packet of the flow */
	__u8 failed; /* the NF broke off: dropped, for no reason of its own */
	__u8 *state; /* for Python: of the flow; NULL: it has none */
	struct nf_counters *counters; /* for Python: this thread's, of the instance */
};

static __always_inline struct user_packet *user_of(const struct packet *pkt)
{
	return pkt->hook;
}

/* ---------------------------------------------------------------- the packet API */

static __always_inline __u32 packet_length(const struct packet *pkt)
{
	return user_of(pkt)->length;
}

static __always_inline bool user_reaches(const struct packet *pkt, __u32 offset, __u32 size)
{
	return size <= packet_length(pkt) && offset <= packet_length(pkt) - size;
}

static __always_inline int packet_read(const struct packet *pkt, __u32 offset, void *to,
				       __u32 size)
{
	if (!user_reaches(pkt, offset, size))
		return -1;
	memcpy(to, user_of(pkt)->data + offset, size);
	return 0;
}

static __always_inline int packet_write(struct packet *pkt, __u32 offset, const void *from,
					__u32 size)
{
	if (!user_reaches(pkt, offset, size))
		return -1;
	memcpy(user_of(pkt)->data + offset, from, size);
	user_of(pkt)->changed = 1;
	return 0;
}

static __always_inline int packet_fix_sum(struct packet *pkt, __u32 offset, __be32 from, __be32 to,
					  __u32 size, __u32 flags)
{
	bool pseudo = flags & PACKET_SUM_PSEUDO, mangled_0 = flags & PACKET_SUM_MANGLED_0;
	__sum16 sum;

	if (size == 2) {
		from = (__u16)from;
		to = (__u16)to;
	}
	if (packet_read(pkt, offset, &sum, sizeof(sum)))
		return -1;
	if (mangled_0 && !sum)
		return 0;
	if (!user_of(pkt)->partial) {
		checksum_replace4(&sum, from, to);
	} else if (pseudo) {
		sum = ~sum; /* the field holds the sum itself, not its complement */
		checksum_replace4(&sum, from, to);
		sum = ~sum;
	}
	if (mangled_0 && !sum)
		sum = 0xffff;
	return packet_write(pkt, offset, &sum, sizeof(sum));
}

static __always_inline __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static __always_inline bool packet_set_address(struct packet *pkt, enum end end, __be32 addr)
{
	if (!user_reaches(pkt, 0, sizeof(struct iphdr)))
		return false;
	header_set_address((struct iphdr *)user_of(pkt)->data, end, addr);
	user_of(pkt)->changed = 1;
	*(end == SOURCE ? &pkt->key.src : &pkt->key.dst) = addr;
	return true;
}

static __always_inline bool packet_set_end(struct packet *pkt, enum end end, __be32 addr,
					   __be16 port)
{
	const __u8 proto = pkt->key.proto;
	const __u32 l4 = l4_offset(&pkt->key), sum_at = l4 + transport_checksum(proto);
	const __u32 port_at = l4 + (end == SOURCE ? 0 : 2);
	const __u32 udp = proto == IPPROTO_UDP ? PACKET_SUM_MANGLED_0 : 0;
	const __be32 old = end == SOURCE ? pkt->key.src : pkt->key.dst;
	__be16 old_port;

	if (packet_length(pkt) < l4 + transport_header(proto) ||
	    packet_read(pkt, port_at, &old_port, sizeof(old_port)) ||
	    !packet_set_address(pkt, end, addr))
		return false;
	packet_write(pkt, port_at, &port, sizeof(port));
	packet_fix_sum(pkt, sum_at, old, addr, sizeof(addr), PACKET_SUM_PSEUDO | udp);
	packet_fix_sum(pkt, sum_at, old_port, port, sizeof(port), udp);
	*(end == SOURCE ? &pkt->key.sport : &pkt->key.dport) = port;
	return true;
}

/* Headers of each packet that a merged packet becomes, TCP options included. */
static __always_inline __u32 user_headers(const struct packet *pkt)
{
	__u32 l4 = l4_offset(&pkt->key);
	__u8 words = sizeof(struct tcphdr) / 4 << 4;

	if (pkt->key.proto == IPPROTO_UDP)
		return l4 + sizeof(struct udphdr);
	packet_read(pkt, l4 + 12, &words, sizeof(words));
	return l4 + (words >> 4) * 4;
}

static __always_inline void wire_size(const struct packet *pkt, __u32 *packets, __u32 *bytes)
{
	__u32 headers, size = user_of(pkt)->gso_size;

	*packets = 1;
	*bytes = packet_length(pkt);
	if (!size)
		return;
	headers = user_headers(pkt);
	if (*bytes <= headers + size)
		return;
	*packets = (*bytes - headers + size - 1) / size;
	*bytes += (*packets - 1) * headers;
}

/* ---------------------------------------------------------------- instances */

/* The rows of a BPF array, mapped: a table of an instance. */
struct user_table {
	__u8 *rows;
	__u32 length;
	__u32 stride;
};

static __always_inline void *user_row(const struct user_table *table, __u32 index)
{
	return index < table->length ? table->rows + (__u64)index * table->stride : NULL;
}

/* What the program gives each instance, in its symbol `user_host`. */
struct user_host {
	int (*add_reply)(const struct flow_key *key, __be32 addr, __be16 port, __u16 reply_slot);
	int (*python)(__u32 stage, bool reply, struct packet *pkt); /* verdict | reason << 8 */
	__u32 stage;
	__u16 reply_slot;
};

/* The symbols `nf`, `nf_reply` (where it translates) and `nf_use_thread`. Beside them an instance
 * has its parameters and its tables by their names. */
typedef enum verdict user_stage(struct packet *pkt);
typedef void user_use_thread(__u32 thread);

#endif
