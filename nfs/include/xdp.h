/* SPDX-License-Identifier: GPL-2.0-only */
/* The packet API on the `xdp` datapath, for stages, the classifier and the last step.
 *
 * A frame may lie in several pieces (`xdp.frags`, jumbo frames); its headers lie in the first. No
 * offload has left a checksum undone, and no packets have been merged: user space sees to that
 * before it attaches. The frame's own bytes are all that travels: no metadata before them, which
 * not every driver can redirect.
 */
#ifndef NF_XDP_H
#define NF_XDP_H

#include "checksum.h"
#include "packet.h"

#define HOOK_XDP
#define HOOK_SECTION "xdp.frags"
#define HOOK_CONTEXT struct xdp_md
#define HOOK_PASS XDP_PASS
#define HOOK_DROP XDP_DROP

#define L3_OFFSET ETH_HLEN /* the classifier takes the tag of VLAN 0 off */
#define GROUP_ADDRESS 1 /* of an Ethernet address's first byte: broadcast or multicast */

/* ---------------------------------------------------------------- where the findings stand */

/* Of the packet that this CPU is at: the programs of one packet follow each other without another
 * packet between them. Shared by the node's programs, written by the classifier and by rewriting
 * NFs. */
struct findings {
	struct flow_key key;
	__u32 flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct findings);
} findings SEC(".maps");

static __always_inline struct findings *this_cpu_findings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&findings, &zero);
}

static __always_inline void packet_store(const struct packet *pkt)
{
	struct findings *found = this_cpu_findings();

	if (!found)
		return;
	found->key = pkt->key;
	found->flow = pkt->flow;
}

static __always_inline void packet_load(struct packet *pkt, struct xdp_md *ctx)
{
	struct findings *found = this_cpu_findings();

	*pkt = (struct packet){ .hook = ctx };
	if (!found) /* never in practice: index 0 is there */
		return;
	pkt->key = found->key;
	pkt->flow = found->flow;
}

/* ---------------------------------------------------------------- bytes */

static __always_inline struct iphdr *ip_header(const struct packet *pkt)
{
	const struct xdp_md *ctx = pkt->hook;

	return (void *)(long)ctx->data + L3_OFFSET;
}

/* Where what can be read directly ends. */
static __always_inline void *linear_end(const struct packet *pkt)
{
	const struct xdp_md *ctx = pkt->hook;

	return (void *)(long)ctx->data_end;
}

/* Nothing is behind the IP packet once the classifier has seen it, so its own length tells. */
static __always_inline __u32 packet_length(const struct packet *pkt)
{
	struct iphdr *ip = ip_header(pkt);

	return (void *)(ip + 1) > linear_end(pkt) ? 0 : bpf_ntohs(ip->tot_len);
}

/* Make the packet so long; what was behind is gone. */
static __always_inline void packet_cut(struct packet *pkt, __u32 length)
{
	__s32 now = bpf_xdp_get_buff_len(pkt->hook);

	bpf_xdp_adjust_tail(pkt->hook, (__s32)(L3_OFFSET + length) - now);
}

static __always_inline int packet_read(const struct packet *pkt, __u32 offset, void *to,
				       __u32 size)
{
	return bpf_xdp_load_bytes(pkt->hook, L3_OFFSET + offset, to, size);
}

static __always_inline int packet_write(struct packet *pkt, __u32 offset, const void *from,
					__u32 size)
{
	return bpf_xdp_store_bytes(pkt->hook, L3_OFFSET + offset, (void *)from, size);
}

static __always_inline int packet_fix_sum(struct packet *pkt, __u32 offset, __be32 from, __be32 to,
					  __u32 size, __u32 flags)
{
	__sum16 sum;

	(void)size; /* two bytes are four with nothing in the others */
	if (packet_read(pkt, offset, &sum, sizeof(sum)))
		return -1;
	if (flags & PACKET_SUM_MANGLED_0 && !sum)
		return 0;
	checksum_replace4(&sum, from, to);
	if (flags & PACKET_SUM_MANGLED_0 && !sum)
		sum = 0xffff;
	return packet_write(pkt, offset, &sum, sizeof(sum));
}

/* ---------------------------------------------------------------- rewriting */

static __always_inline bool packet_set_address(struct packet *pkt, enum end end, __be32 addr)
{
	struct iphdr *ip = ip_header(pkt);

	if ((void *)(ip + 1) > linear_end(pkt))
		return false;
	header_set_address(ip, end, addr);
	*(end == SOURCE ? &pkt->key.src : &pkt->key.dst) = addr;
	packet_store(pkt);
	return true;
}

static __always_inline bool packet_set_end(struct packet *pkt, enum end end, __be32 addr,
					   __be16 port)
{
	const __u8 proto = pkt->key.proto;
	const __u32 l4 = l4_offset(&pkt->key);
	struct iphdr *ip = ip_header(pkt);
	struct udphdr *ports = (void *)ip + l4;
	__sum16 *sum = (void *)ip + l4 + transport_checksum(proto);
	__be16 *field = end == SOURCE ? &ports->source : &ports->dest, old_port;
	void *limit = linear_end(pkt);
	__be32 old;

	if ((void *)(ip + 1) > limit || (void *)(ports + 1) > limit || (void *)(sum + 1) > limit ||
	    bpf_ntohs(ip->tot_len) < l4 + transport_header(proto))
		return false;
	old_port = *field;
	old = header_set_address(ip, end, addr);
	*field = port;
	if (proto != IPPROTO_UDP || *sum) {
		checksum_replace4(sum, old, addr);
		checksum_replace4(sum, old_port, port);
		if (proto == IPPROTO_UDP && !*sum)
			*sum = 0xffff;
	}
	*(end == SOURCE ? &pkt->key.src : &pkt->key.dst) = addr;
	*(end == SOURCE ? &pkt->key.sport : &pkt->key.dport) = port;
	packet_store(pkt);
	return true;
}

/* ---------------------------------------------------------------- on the wire */

static __always_inline void wire_size(const struct packet *pkt, __u32 *packets, __u32 *bytes)
{
	*packets = 1;
	*bytes = packet_length(pkt);
}

#endif
