/* SPDX-License-Identifier: GPL-2.0-only */
/* The last step of a chain that forwards by itself, as far as it is the same at every hook: where a
 * packet goes. The hook's header comes first. */
#ifndef LAST_H
#define LAST_H

#include "count_last.h"
#include "slots.h"

#define AF_INET 2
#define HOPS 64

/* How to leave by an interface. WAY_PEER passes its queue and its transmit counters over: only for
 * a veth without a queue, and at tc only where the other end lies in another namespace. Written by
 * user space. */
enum way { WAY_QUEUE, WAY_PEER };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256);
	__type(key, __u32); /* ifindex */
	__type(value, __u32); /* enum way */
} ways SEC(".maps");

/* What the look-up answered, per CPU, good for one tick of the clock (1 to 10 ms): within it a
 * route is looked up once however many packets use it, and a change of route takes effect with
 * the next tick. Written and read by this program only. */
struct hop {
	__be32 dst;
	__be32 src;
	__u32 in;
	__u32 out;
	__u64 tick;
	__u16 longest; /* IP length that was seen to fit */
	__u8 tos;
	__u8 way;
	__u8 addresses[2 * ETH_ALEN]; /* as in the Ethernet header */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

/* A source that no packet may come from: the kernel's routing drops it. */
static __always_inline bool is_martian(__be32 src)
{
	__u8 first = bpf_ntohl(src) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Fills the hop; returns false, counted, where the kernel has to help. */
static __always_inline bool look_up(HOOK_CONTEXT *hook, __u32 ifindex, struct last_counters *last,
				    struct hop *hop, const struct iphdr *ip, __u32 length)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.tos = ip->tos,
		.tot_len = length,
		.ipv4_src = ip->saddr,
		.ipv4_dst = ip->daddr,
		.ifindex = ifindex,
	};
	long result;
	__u32 *way;

	if (is_martian(ip->saddr)) {
		last->handed[HANDED_ROUTE]++;
		return false;
	}
	result = bpf_fib_lookup(hook, &fib, sizeof(fib), 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS) {
		last->handed[result == BPF_FIB_LKUP_RET_NO_NEIGH    ? HANDED_NEIGHBOUR :
			     result == BPF_FIB_LKUP_RET_FRAG_NEEDED ? HANDED_TOO_LONG :
								      HANDED_ROUTE]++;
		return false;
	}
	way = bpf_map_lookup_elem(&ways, &fib.ifindex);
	hop->dst = ip->daddr;
	hop->src = ip->saddr;
	hop->in = ifindex;
	hop->out = fib.ifindex;
	hop->longest = length;
	hop->tos = ip->tos;
	hop->way = way ? *way : WAY_QUEUE;
	__builtin_memcpy(hop->addresses, fib.dmac, ETH_ALEN);
	__builtin_memcpy(hop->addresses + ETH_ALEN, fib.smac, ETH_ALEN);
	return true;
}

/* length: of the longest IP packet that this one becomes on the wire. */
static __always_inline struct hop *next_hop(HOOK_CONTEXT *hook, __u32 ifindex,
					    struct last_counters *last, const struct iphdr *ip,
					    __u32 length)
{
	__u32 mixed = ip->daddr ^ ip->saddr, index = (mixed ^ mixed >> 8 ^ mixed >> 24) % HOPS;
	struct hop *hop = bpf_map_lookup_elem(&hops, &index);
	__u64 tick = bpf_jiffies64();

	if (!hop)
		return NULL;
	if (hop->tick == tick && hop->dst == ip->daddr && hop->src == ip->saddr &&
	    hop->in == ifindex && hop->tos == ip->tos && length <= hop->longest)
		return hop;
	hop->tick = 0;
	if (!look_up(hook, ifindex, last, hop, ip, length))
		return NULL;
	hop->tick = tick;
	return hop;
}

/* Whether only the kernel's routing can take the packet; counted.
 * to_us: the frame is for this interface alone. */
static __always_inline bool hand_over(struct last_counters *last, const struct iphdr *ip,
				      bool to_us)
{
	if (ip->ttl > 1 && ip->ihl == 5 && to_us)
		return false;
	last->handed[ip->ttl <= 1 ? HANDED_TTL : ip->ihl > 5 ? HANDED_OPTIONS : HANDED_ROUTE]++;
	return true;
}

static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 sum = ip->check + bpf_htons(0x0100);

	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
}

/* What forwarding changes in a frame. */
static __always_inline void send_on(struct ethhdr *eth, struct iphdr *ip, const struct hop *hop)
{
	decrement_ttl(ip);
	__builtin_memcpy(eth, hop->addresses, sizeof(hop->addresses));
}

#endif
