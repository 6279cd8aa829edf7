/* SPDX-License-Identifier: GPL-2.0-only */
/* From a frame to the findings that the classifier and the NFs work with. */
#ifndef PARSE_H
#define PARSE_H

#include "packet.h"

#define IP_MF 0x2000
#define VLAN_ID 0x0fff

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
static __always_inline bool header_sound(struct iphdr *ip, void *end, __u32 length)
{
	__u32 header = ip->ihl * 4, total = bpf_ntohs(ip->tot_len);

	return ip->version == 4 && header >= sizeof(*ip) && total >= header &&
	       total <= length && checksum_right(ip, end);
}

static __always_inline __u32 key_rest(const struct iphdr *ip, __u8 flags)
{
	union {
		__u8 bytes[4];
		__u32 word;
	} rest = { .bytes = { ip->protocol, flags | ip->ihl, 0, 0 } };

	return rest.word;
}

/* Find out about a packet; false where it is no sound IPv4.
 *
 * ip: its first byte; end: where what can be read directly ends; length: of all of it, and of what
 * the frame carries behind it (ip_rcv() cuts that off). */
static __always_inline bool parse(struct flow_key *key, struct iphdr *ip, void *end, __u32 length)
{
	__u32 *ports; /* both */
	__u8 padded;

	if ((void *)(ip + 1) > end || !header_sound(ip, end, length))
		return false;
	padded = bpf_ntohs(ip->tot_len) < length ? PACKET_PADDED : 0;
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

#endif
