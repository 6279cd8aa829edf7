/* SPDX-License-Identifier: GPL-2.0-only */
/* The packet API on the `netfilter` datapath (BPF programs at NF_INET_PRE_ROUTING, Linux 6.4).
 *
 * A packet can be read here, not written: packet_write() and what rewrites are not defined. The
 * hook sees IPv4 as ip_rcv() lets it through, from the IPv4 header on. A program cannot keep
 * anything with the packet, so its findings stand in `findings`, one entry a CPU: netfilter takes
 * a packet through its hooks in one go, and a CPU takes one packet at a time.
 */
#ifndef NF_NETFILTER_H
#define NF_NETFILTER_H

#define HOOK_CLOCK bpf_ktime_get_ns

#include "packet.h"
#include <bpf/bpf_core_read.h>

#define HOOK_NETFILTER
#define HOOK_SECTION "netfilter"
#define HOOK_CONTEXT struct bpf_nf_ctx
#define HOOK_PASS 1 /* NF_ACCEPT */
#define HOOK_DROP 0 /* NF_DROP */
#define HOOK_BY_COPY /* no pointers into the packet: packet_read() only */

/* ---------------------------------------------------------------- the kernel's own structures */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	unsigned int len;
	unsigned long _nfct; /* the connection, and in its last 3 bits enum ip_conntrack_info */
	unsigned char *head;
	unsigned int end; /* from head on, on 64-bit kernels */
};

struct net_device {
	int ifindex;
};

struct nf_hook_state {
	struct net_device *in;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
};

#pragma clang attribute pop

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags,
			       struct bpf_dynptr *ptr) __ksym __weak;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* ---------------------------------------------------------------- where the findings stand */

/* What is known of the packet that this CPU has in hand. Written by the classifier and by the stage
 * that leaves for the kernel's NAT; read by all. */
struct finding {
	struct flow_key key;
	__u32 flow;
	__u32 go_on; /* slot to go on with behind the kernel's NAT; 0: the chain is at its end */
	__u64 skb; /* whose it is, where go_on is set */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1); /* shared by the node's programs */
	__type(key, __u32);
	__type(value, struct finding);
} findings SEC(".maps");

/* NULL never in practice: index 0 is there. */
static __always_inline struct finding *finding(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&findings, &zero);
}

static __always_inline void packet_store(const struct packet *pkt)
{
	struct finding *found = finding();

	if (!found)
		return;
	found->key = pkt->key;
	found->flow = pkt->flow;
}

static __always_inline void packet_load(struct packet *pkt, struct bpf_nf_ctx *hook)
{
	const struct finding *found = finding();
	const struct finding none = {};

	if (!found)
		found = &none;
	pkt->hook = hook;
	pkt->reason = 0;
	pkt->flow = found->flow;
	pkt->key = found->key;
}

/* ---------------------------------------------------------------- bytes */

static __always_inline struct sk_buff *skb_of(const struct packet *pkt)
{
	struct bpf_nf_ctx *hook = pkt->hook;

	return hook->skb;
}

static __always_inline __u32 packet_length(const struct packet *pkt)
{
	return skb_of(pkt)->len;
}

/* A function of its own, so that the handle's place on the stack is used for nothing else: the
 * verifier would not have that. */
static __noinline int skb_read(struct sk_buff *skb, __u32 offset, void *to, __u32 size)
{
	struct bpf_dynptr bytes;

	if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &bytes))
		return -1;
	return bpf_dynptr_read(to, size, &bytes, offset, 0);
}

static __always_inline int packet_read(const struct packet *pkt, __u32 offset, void *to,
				       __u32 size)
{
	return skb_read(skb_of(pkt), offset, to, size);
}

/* ip_rcv() has cut off what was behind the packet. */
static __always_inline void packet_cut(struct packet *pkt, __u32 length)
{
	(void)pkt, (void)length;
}

/* ---------------------------------------------------------------- on the wire */

/* Headers of each packet that a GSO packet becomes, TCP options included. */
static __always_inline __u32 segment_headers(const struct packet *pkt)
{
	__u32 l4 = l4_offset(&pkt->key);
	__u8 offset;

	if (pkt->key.proto == IPPROTO_UDP)
		return l4 + sizeof(struct udphdr);
	if (packet_read(pkt, l4 + 12, &offset, sizeof(offset)))
		return l4 + sizeof(struct tcphdr);
	return l4 + (offset >> 4) * 4;
}

static __always_inline void wire_size(const struct packet *pkt, __u32 *packets, __u32 *bytes)
{
	struct sk_buff *skb = skb_of(pkt);
	struct skb_shared_info *shared =
		bpf_rdonly_cast(skb->head + skb->end, bpf_core_type_id_kernel(struct skb_shared_info));
	__u32 headers, segments;

	*packets = 1;
	*bytes = skb->len;
	if (!shared->gso_size)
		return;
	segments = shared->gso_segs;
	headers = segment_headers(pkt);
	if (!segments && *bytes > headers)
		segments = (*bytes - headers + shared->gso_size - 1) / shared->gso_size;
	if (segments <= 1)
		return;
	*packets = segments;
	*bytes += (segments - 1) * headers;
}

#endif
