// SPDX-License-Identifier: GPL-2.0-only
/* The program at the chaining point: finds the first flow rule that a packet matches and takes
 * the packet to that rule's chain.
 *
 * A packet of a flow that is known already (flow.h) goes by one look-up. Otherwise the rules are
 * searched by tuple space search: they are grouped by mask (which fields and prefix lengths they
 * name); one hash look-up per mask, the masks in the order of their first rule, so that the search
 * stops at the first mask that cannot hold a better rule.
 *
 * Left alone (TC_ACT_UNSPEC: on to whatever else is attached, then the kernel): everything that
 * the kernel's PRE_ROUTING hook would not see as IPv4 for this interface either - other
 * protocols, frames for another host, tagged frames of a VLAN, broken IPv4 headers.
 */
#include <linux/if_packet.h>
#include "icmp_quote.h"
#include "sweep.h"
#include "tc.h"

#define MAX_MASKS 64
#define MAX_HEADS 16
#define IP_MF 0x2000
#define VLAN_ID 0x0fff
#define WANTED_HEADERS (L3_OFFSET + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define MOST_HEADERS (WANTED_HEADERS + 40)

/* Which part of the 5-tuple a group of rules names: the bits of the key that count. */
struct rule_mask {
	struct flow_key bits;
	__u32 first_order; /* the smallest order of its rules */
};

const volatile struct rule_mask masks[MAX_MASKS];
const volatile __u32 n_masks = 0;
/* Head slots of the first MAX_HEADS ways: constants, so that the jump to them is direct. */
const volatile __u32 heads[MAX_HEADS];
const volatile __u32 n_heads = 0;
const volatile __u32 tracks = 0; /* a chain of the node keeps state per flow */
const volatile __u32 n_rules = 0;

/* Flows of the last moments, per CPU, so that a busy flow is found without hashing: direct-mapped,
 * and an entry is good for one tick of the clock (1 to 10 ms), which bounds how late a change of
 * the flow table is seen. Written and read by this program only. */
#define RECENT 256

struct recent {
	struct flow_key key;
	__u64 tick;
	__u32 number;
	__u32 order; /* of the counter */
	__u32 head;
	__u32 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RECENT);
	__type(key, __u32);
	__type(value, struct recent);
} recents SEC(".maps");

/* The key is the masked 5-tuple with the mask's index in `info`. Written by user space. */
struct rule {
	__u32 order; /* position in first-match order */
	__u32 head; /* slot of the chain's first program */
	__u32 tracks; /* the chain keeps state per flow */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct rule);
} rules SEC(".maps");

/* By order, then the specials. Written by this program, read by user space. */
struct rule_counters {
	__u64 packets; /* on the wire */
	__u64 bytes; /* IP bytes on the wire */
};

enum special {
	UNMATCHED, /* IPv4 that no rule matched: accepted, untouched */
	LEFT_ALONE, /* not IPv4 for this interface */
	REPLIES, /* the way back of translated flows, and ICMP errors about them */
	TABLE_FULL, /* matched, but the flow got no number */
	MISSED, /* the way had no first program: dropped */
	SPECIALS,
};

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

static __always_inline void count_full(struct __sk_buff *skb, const struct flow_key *key)
{
	__u32 packets, bytes;

	wire_size(skb, key, &packets, &bytes);
	count_rule(n_rules + TABLE_FULL, packets, bytes);
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

/* What a frame carries behind the IP packet: ip_rcv() cuts it off. */
static __always_inline __u8 padding(const struct __sk_buff *skb, const struct iphdr *ip)
{
	return bpf_ntohs(ip->tot_len) < skb->len - L3_OFFSET ? PACKET_PADDED : 0;
}

static __always_inline void cut_padding(struct __sk_buff *skb)
{
	__be16 total;

	if (!bpf_skb_load_bytes(skb, L3_OFFSET + offsetof(struct iphdr, tot_len), &total,
				sizeof(total)))
		bpf_skb_change_tail(skb, L3_OFFSET + bpf_ntohs(total), 0);
}

static __always_inline __u32 key_rest(const struct iphdr *ip, __u8 flags)
{
	union {
		__u8 bytes[4];
		__u32 word;
	} rest = { .bytes = { ip->protocol, flags | ip->ihl, 0, 0 } };

	return rest.word;
}

static __always_inline bool parse(struct __sk_buff *skb, struct flow_key *key)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;
	void *end = (void *)(long)skb->data_end;
	__u32 *ports; /* both */
	__u8 padded;

	if ((void *)(ip + 1) > end || !header_sound(skb, ip, end))
		return false;
	padded = padding(skb, ip);
	key->words[0] = ip->saddr;
	key->words[1] = ip->daddr;
	key->words[2] = 0;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)) {
		key->words[3] = key_rest(ip, padded | PACKET_NO_PORTS | PACKET_FRAGMENT);
		return true;
	}
	ports = (void *)ip + ip->ihl * 4;
	key->words[3] = key_rest(ip, padded | PACKET_NO_PORTS);
	if (!has_ports(ip->protocol) || (void *)(ports + 1) > end ||
	    bpf_ntohs(ip->tot_len) < ip->ihl * 4 + sizeof(*ports))
		return true;
	key->words[2] = *ports;
	key->words[3] = key_rest(ip, padded);
	return true;
}

static __always_inline __u32 mask_index(__u32 i)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? i << 8 : i << 16;
}

/* The best rule of one mask, if it is better than the best so far. */
static __always_inline struct rule *search_mask(const struct flow_key *key, __u32 i,
						struct rule *best)
{
	const volatile struct rule_mask *mask = &masks[i];
	struct flow_key masked;
	struct rule *rule;

	if (key->info & PACKET_NO_PORTS && mask->bits.words[2])
		return best;
	masked.words[0] = key->words[0] & mask->bits.words[0];
	masked.words[1] = key->words[1] & mask->bits.words[1];
	masked.words[2] = key->words[2] & mask->bits.words[2];
	masked.words[3] = (key->words[3] & mask->bits.words[3]) | mask_index(i);
	rule = bpf_map_lookup_elem(&rules, &masked);
	return rule && (!best || rule->order < best->order) ? rule : best;
}

static __always_inline struct rule *search(const struct flow_key *key)
{
	struct rule *best = NULL;
	__u32 i;

	for (i = 0; i < n_masks && i < MAX_MASKS; i++) {
		if (best && best->order < masks[i].first_order)
			break;
		best = search_mask(key, i, best);
	}
	return best;
}

/* A new flow, or one that an earlier policy knew. Returns NULL where the table is full. */
static __always_inline struct flow *flow_enter(const struct flow_key *key, const struct rule *rule)
{
	struct flow fresh = { .order = rule->order, .head = rule->head, .policy = policy };
	struct flow *known = bpf_map_lookup_elem(&flows, key);
	struct number number;

	if (known) {
		known->order = rule->order;
		known->head = rule->head;
		known->policy = policy;
		return known;
	}
	if (bpf_map_pop_elem(&numbers, &number))
		return NULL;
	fresh.number = number.number;
	fresh.generation = number.generation;
	if (bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST))
		bpf_map_push_elem(&numbers, &number, 0); /* another CPU was first, or no memory */
	return bpf_map_lookup_elem(&flows, key);
}

/* The TCP flags that tell of a beginning or an end; 0 for other protocols. */
static __always_inline __u8 turning_point(struct __sk_buff *skb, const struct flow_key *key)
{
	__u8 *flags = (void *)(long)skb->data + l4_offset(key) + 13;

	if (key->proto != IPPROTO_TCP || (void *)(flags + 1) > (void *)(long)skb->data_end)
		return 0;
	return *flags & 0x07; /* FIN, SYN, RST */
}

static __always_inline void flow_touch(struct flow *flow, __u8 flags)
{
	struct sweep *sweep;
	__u32 zero = 0;

	sweep = bpf_map_lookup_elem(&sweeper, &zero);
	if (!sweep)
		return;
	if (sweep->armed_by != policy)
		sweep_arm(sweep);
	if (flow->seen_s != sweep->now_s)
		flow->seen_s = sweep->now_s;
	if (flags)
		flow->closing = flags != 0x02; /* a SYN alone: the ports are used again */
}

/* What the NFs find with the packet: the findings about it, and nothing behind it. */
static __always_inline void hand_on(struct __sk_buff *skb, struct flow_key *key, __u32 number,
				    __u16 generation)
{
	key->generation = generation;
	key_store(skb, key);
	skb->cb[4] = number;
	if (key->info & PACKET_PADDED)
		cut_padding(skb);
}

static __always_inline struct recent *recent_of(const struct flow_key *flow)
{
	__u32 mixed = flow->words[0] ^ flow->words[1] * 0x9e3779b1 ^ flow->words[2] * 0x85ebca6b;
	__u32 index = mixed * 0xc2b2ae35 >> 24;

	return bpf_map_lookup_elem(&recents, &index);
}

static __always_inline bool is_recent(const struct recent *recent, const struct flow_key *flow)
{
	return recent->tick == bpf_jiffies64() && recent->key.words[0] == flow->words[0] &&
	       recent->key.words[1] == flow->words[1] && recent->key.words[2] == flow->words[2] &&
	       recent->key.words[3] == flow->words[3];
}

static __always_inline void make_recent(struct recent *recent, const struct flow_key *key,
					__u32 order, __u32 head, const struct flow *flow)
{
	recent->key = *key;
	recent->tick = bpf_jiffies64();
	recent->order = order;
	recent->head = head;
	recent->number = flow ? flow->number : 0;
	recent->generation = flow ? flow->generation : 0;
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

/* An ICMP error about a packet of a translated flow goes to the NF that translated it, whatever
 * rule it matches: it belongs to that flow. */
static __always_inline void icmp_error(struct __sk_buff *skb, struct flow_key *key)
{
	struct quoted quoted = {};
	struct flow_key way_back;
	struct flow *flow;

	if (key->info & PACKET_FRAGMENT || !quoted_load(skb, key, &quoted))
		return;
	way_back = reversed(&quoted.flow);
	flow = bpf_map_lookup_elem(&flows, &way_back);
	if (!flow || !flow->translator)
		return;
	hand_on(skb, key, flow->number, flow->generation);
	count_rule(n_rules + REPLIES, 1, skb->len - L3_OFFSET);
	bpf_tail_call(skb, &slots, flow->translator);
}

static __always_inline int chained(struct __sk_buff *skb, struct flow_key *key, __u32 order,
				   __u32 head)
{
	__u32 packets, bytes;

	wire_size(skb, key, &packets, &bytes);
	count_rule(order, packets, bytes);
	enter_chain(skb, head);
	count_rule(n_rules + MISSED, packets, bytes);
	return TC_ACT_SHOT;
}

/* A flow that is not in the table: because it is new, because its chain keeps no state, or
 * because no rule matches it. */
static __always_inline int unknown_flow(struct __sk_buff *skb, struct flow_key *key,
					const struct flow_key *identity, struct recent *recent)
{
	struct rule *rule = search(key);
	struct flow *flow = NULL;
	__u32 packets, bytes;

	if (!rule) {
		wire_size(skb, key, &packets, &bytes);
		count_rule(n_rules + UNMATCHED, packets, bytes);
		return TC_ACT_UNSPEC;
	}
	if (tracks && rule->tracks) {
		flow = flow_enter(identity, rule);
		if (flow)
			flow_touch(flow, turning_point(skb, key));
	} else if (recent && !(key->info & PACKET_NO_PORTS)) {
		make_recent(recent, identity, rule->order, rule->head, NULL);
	}
	hand_on(skb, key, flow ? flow->number : 0, flow ? flow->generation : 0);
	if (rule->tracks && !flow)
		count_full(skb, key);
	return chained(skb, key, rule->order, rule->head);
}

static __always_inline int known_flow(struct __sk_buff *skb, struct flow_key *key,
				      const struct flow_key *identity, struct recent *recent,
				      struct flow *flow, __u8 flags)
{
	__u32 order = flow->reply ? n_rules + REPLIES : flow->order;

	flow_touch(flow, flags);
	if (recent)
		make_recent(recent, identity, order, flow->head, flow);
	hand_on(skb, key, flow->number, flow->generation);
	return chained(skb, key, order, flow->head);
}

static __always_inline int take(struct __sk_buff *skb, struct flow_key *key)
{
	const struct flow_key identity = flow_of(key);
	struct recent *recent = recent_of(&identity);
	__u8 flags = tracks ? turning_point(skb, key) : 0;
	struct flow *flow;

	if (tracks && key->proto == IPPROTO_ICMP)
		icmp_error(skb, key);
	if (recent && !flags && is_recent(recent, &identity)) {
		hand_on(skb, key, recent->number, recent->generation);
		return chained(skb, key, recent->order, recent->head);
	}
	flow = tracks ? bpf_map_lookup_elem(&flows, &identity) : NULL;
	if (flow && (flow->policy == policy || flow->reply))
		return known_flow(skb, key, &identity, recent, flow, flags);
	return unknown_flow(skb, key, &identity, recent);
}

SEC("tc")
int classify(struct __sk_buff *skb)
{
	struct flow_key key;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type == PACKET_OTHERHOST ||
	    (skb->vlan_present && skb->vlan_tci & VLAN_ID))
		goto left_alone;
	pull_headers(skb);
	if (!parse(skb, &key))
		goto left_alone;
	return take(skb, &key);

left_alone:
	count_rule(n_rules + LEFT_ALONE, 1, skb->len);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
