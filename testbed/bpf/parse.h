/* SPDX-License-Identifier: GPL-2.0-only */
/* From a frame to the findings that the classifier and the NFs work with. */
#ifndef PARSE_H
#define PARSE_H

#include <linux/if_packet.h>
#include "tc.h"

#define IP_MF 0x2000
#define VLAN_ID 0x0fff
#define WANTED_HEADERS (L3_OFFSET + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define MOST_HEADERS (WANTED_HEADERS + 40)

/* IPv4 for this interface, as far as the frame around it tells. */
static __always_inline bool is_ours(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) && skb->pkt_type != PACKET_OTHERHOST &&
	       !(skb->vlan_present && skb->vlan_tci & VLAN_ID);
}

/* Some senders leave only the Ethernet header in the linear part, or cut through IP options. */
static __always_inline void pull_headers(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;

	if (linear >= skb->len || linear >= MOST_HEADERS)
		return;
	if (linear >= WANTED_HEADERS && (void *)(ip + 1) <= (void *)(long)skb->data_end &&
	    ip->ihl == 5)
		return;
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

/* The TCP flags that tell of a beginning or an end; 0 for other protocols. */
static __always_inline __u8 turning_point(struct __sk_buff *skb, const struct flow_key *key)
{
	__u8 *flags = (void *)(long)skb->data + l4_offset(key) + 13;

	if (key->proto != IPPROTO_TCP || (void *)(flags + 1) > (void *)(long)skb->data_end)
		return 0;
	return *flags & 0x07; /* FIN, SYN, RST */
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

#endif
