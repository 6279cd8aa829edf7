/* SPDX-License-Identifier: GPL-2.0-only */
/* The UDP frame that generators write, the same in every one of them.
 *
 * BPF_F_TEST_XDP_LIVE_FRAMES recycles frames without resetting them, so every header field that a
 * receiver may have changed is written again for each packet.
 */
#ifndef FRAME_H
#define FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u8 dst_mac[ETH_ALEN];
const volatile __u8 src_mac[ETH_ALEN];
const volatile __be32 src = 0; /* of flow 0; flow n has source address src + n / 50,000 */
const volatile __be32 dst = 0;
const volatile __be16 dport = 0;
const volatile __u32 ip_length = 46;

#define FIRST_PORT 10000
#define PORTS 50000

static __always_inline __u16 header_sum(const struct iphdr *ip)
{
	const __u16 *word = (const void *)ip;
	__u32 sum = 0, i;

#pragma unroll
	for (i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline void write_ip(struct iphdr *ip, __u32 flow)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(ip_length);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = bpf_htonl(bpf_ntohl(src) + flow / PORTS);
	ip->daddr = dst;
	ip->check = header_sum(ip);
}

/* Writes the frame of a flow; gives -1 where the packet is too short for one. */
static __always_inline int write_frame(struct xdp_md *ctx, __u32 flow)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 i;

	if ((void *)(udp + 1) > end)
		return -1;
#pragma unroll
	for (i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = dst_mac[i];
		eth->h_source[i] = src_mac[i];
	}
	eth->h_proto = bpf_htons(ETH_P_IP);
	write_ip(ip, flow);
	udp->source = bpf_htons(FIRST_PORT + flow % PORTS);
	udp->dest = dport;
	udp->len = bpf_htons(ip_length - sizeof(*ip));
	udp->check = 0;
	return 0;
}

#endif
