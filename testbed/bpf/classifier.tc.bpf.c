// SPDX-License-Identifier: GPL-2.0-only
/* The program at the chaining point: finds the first flow rule that a packet matches and takes
 * the packet to that rule's chain.
 *
 * Look-up is tuple space search: the rules are grouped by mask (which fields and prefix lengths
 * they name); one hash look-up per mask, the masks in the order of their first rule, so that the
 * search stops at the first mask that cannot hold a better rule.
 *
 * Left alone (TC_ACT_UNSPEC: on to whatever else is attached, then the kernel): everything that
 * the kernel's PRE_ROUTING hook would not see as IPv4 for this interface either - other
 * protocols, frames for another host, tagged frames of a VLAN, broken IPv4 headers.
 */
#include <linux/if_packet.h>
#include "tc.h"

#define MAX_MASKS 64
#define MAX_HEADS 16
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define VLAN_ID 0x0fff
#define WANTED_HEADERS (L3_OFFSET + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define MOST_HEADERS (WANTED_HEADERS + 40)

/* Which part of the 5-tuple a group of rules names. Network byte order. */
struct rule_mask {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u32 proto;
	__u32 first_order; /* the smallest order of its rules */
};

const volatile struct rule_mask masks[MAX_MASKS];
const volatile __u32 n_masks = 0;
/* Head slots of the first MAX_HEADS chains: constants, so that the jump to them is direct. */
const volatile __u32 heads[MAX_HEADS];
const volatile __u32 n_heads = 0;
const volatile __u32 reply_slot = 0; /* head of the list of translating NFs; 0: there are none */
const volatile __u32 n_rules = 0;

/* The masked 5-tuple; in `zero` stands the index of the mask. Written by user space. */
struct rule {
	__u32 order; /* position in first-match order */
	__u32 head; /* slot of the chain's first program */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct rule);
} rules SEC(".maps");

/* By order; then one for IPv4 that no rule matched, one for what is left alone, one for packets
 * whose chain had no first program. Written by this program, read by user space. */
struct rule_counters {
	__u64 packets; /* on the wire */
	__u64 bytes; /* IP bytes on the wire */
};

enum special { UNMATCHED, LEFT_ALONE, MISSED };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_counters);
} rule_counters SEC(".maps");

static __always_inline void count_rule(__u32 index, __u32 packets, __u32 bytes)
{
	struct rule_counters *counters = bpf_map_lookup_elem(&rule_counters, &index);

	if (!counters)
		return;
	counters->packets += packets;
	counters->bytes += bytes;
}

/* Some senders leave only the Ethernet header in the linear part. */
static __always_inline void pull_headers(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;

	if (linear < WANTED_HEADERS && linear < skb->len)
		bpf_skb_pull_data(skb, skb->len < MOST_HEADERS ? skb->len : MOST_HEADERS);
}

static __always_inline bool checksum_right(struct iphdr *ip, void *end)
{
	__u32 *word = (void *)ip;
	__u64 sum = 0;
	__u32 i;

#pragma unroll
	for (i = 0; i < 5; i++)
		sum += word[i];
	if (ip->ihl > 5) {
		for (i = 5; i < 15 && i < ip->ihl; i++) {
			if ((void *)(word + i + 1) > end)
				return false;
			sum += word[i];
		}
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* What ip_rcv() asks of a header before it calls PRE_ROUTING. */
static __always_inline bool header_sound(struct __sk_buff *skb, struct iphdr *ip, void *end)
{
	__u32 header = ip->ihl * 4, total = bpf_ntohs(ip->tot_len);

	return ip->version == 4 && header >= sizeof(*ip) && total >= header &&
	       total <= skb->len - L3_OFFSET && checksum_right(ip, end);
}

static __always_inline bool parse(struct __sk_buff *skb, struct flow_key *key)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;
	void *end = (void *)(long)skb->data_end;
	__be16 *ports;

	if ((void *)(ip + 1) > end || !header_sound(skb, ip, end))
		return false;
	key->src = ip->saddr;
	key->dst = ip->daddr;
	key->sport = 0;
	key->dport = 0;
	key->proto = ip->protocol;
	key->flags = PACKET_NO_PORTS;
	key->header_words = ip->ihl;
	key->zero = 0;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)) {
		key->flags |= PACKET_FRAGMENT;
		return true;
	}
	ports = (void *)ip + ip->ihl * 4;
	if (!has_ports(ip->protocol) || (void *)(ports + 2) > end ||
	    bpf_ntohs(ip->tot_len) < ip->ihl * 4 + 4)
		return true;
	key->sport = ports[0];
	key->dport = ports[1];
	key->flags = 0;
	return true;
}

/* The best rule of one mask, if it is better than the best so far. */
static __always_inline void search_mask(const struct flow_key *flow, __u32 i, bool ports,
					__u32 *order, __u32 *head)
{
	const volatile struct rule_mask *mask = &masks[i];
	struct flow_key masked = {};
	struct rule *rule;

	if (!ports && (mask->sport || mask->dport))
		return;
	masked.src = flow->src & mask->src;
	masked.dst = flow->dst & mask->dst;
	masked.sport = flow->sport & mask->sport;
	masked.dport = flow->dport & mask->dport;
	masked.proto = flow->proto & mask->proto;
	masked.zero = i;
	rule = bpf_map_lookup_elem(&rules, &masked);
	if (rule && rule->order < *order) {
		*order = rule->order;
		*head = rule->head;
	}
}

static __always_inline __u32 search(const struct flow_key *key, __u32 *head)
{
	bool ports = !(key->flags & PACKET_NO_PORTS);
	__u32 order = n_rules, i;

	for (i = 0; i < n_masks && i < MAX_MASKS; i++) {
		if (order < masks[i].first_order)
			break;
		search_mask(key, i, ports, &order, head);
	}
	return order;
}

static __always_inline void enter_chain(struct __sk_buff *skb, __u32 head)
{
	__u32 i;

	/* Unrolled, so that each jump has a constant slot of its own. */
#pragma unroll
	for (i = 0; i < MAX_HEADS; i++) {
		if (i < n_heads && head == heads[i])
			bpf_tail_call(skb, &slots, heads[i]);
	}
	if (n_heads == MAX_HEADS)
		bpf_tail_call(skb, &slots, head);
}

SEC("tc")
int classify(struct __sk_buff *skb)
{
	__u32 packets, bytes, order, head = 0;
	struct flow_key key;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type == PACKET_OTHERHOST ||
	    (skb->vlan_present && skb->vlan_tci & VLAN_ID))
		goto left_alone;
	pull_headers(skb);
	if (!parse(skb, &key))
		goto left_alone;
	wire_size(skb, &key, &packets, &bytes);
	order = search(&key, &head);
	count_rule(order, packets, bytes);
	if (order == n_rules) {
		if (reply_slot) {
			key_store(skb, &key);
			bpf_tail_call(skb, &slots, reply_slot);
		}
		return TC_ACT_UNSPEC;
	}
	key_store(skb, &key);
	enter_chain(skb, head);
	count_rule(n_rules + MISSED, packets, bytes);
	return TC_ACT_SHOT;

left_alone:
	count_rule(n_rules + LEFT_ALONE, 1, skb->len);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
