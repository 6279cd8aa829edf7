// SPDX-License-Identifier: GPL-2.0-only
/* Counts what arrives at an interface, per 5-tuple; changes nothing. For receivers: what a flow's
 * throughput is worth is what comes out at its end.
 *
 * Fragments and packets without ports are counted under ports 0. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAGMENT 0x3fff /* more-fragments flag and offset */

struct meter_flow {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 zero[3];
};

struct meter_count {
	__u64 packets; /* on the wire: a GSO packet counts as the packets it becomes */
	__u64 payload_bytes; /* behind the UDP header; of other protocols, behind the IP header */
};

/* Written here only, read by user space; entries live as long as the program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct meter_flow);
	__type(value, struct meter_count);
} arrived SEC(".maps");

/* Packets that found no room in `arrived`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} untold SEC(".maps");

static __always_inline struct meter_count *count_of(const struct meter_flow *flow)
{
	struct meter_count *count = bpf_map_lookup_elem(&arrived, flow), none = {};

	if (count)
		return count;
	bpf_map_update_elem(&arrived, flow, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&arrived, flow);
}

/* Bytes behind the headers. A GSO packet's own length fields speak of all its segments or of
 * none, so its length is taken; Ethernet pads short packets, so theirs is not. */
static __always_inline __u32 payload(const struct __sk_buff *skb, const struct iphdr *ip,
				     __u32 headers)
{
	__u32 length = skb->gso_segs > 1 ? skb->len - ETH_HLEN : bpf_ntohs(ip->tot_len);

	return length > headers ? length - headers : 0;
}

SEC("tc")
int meter(struct __sk_buff *skb)
{
	struct meter_flow flow = {};
	struct meter_count *count;
	struct udphdr ports;
	struct iphdr ip;
	__u32 zero = 0, headers;
	__u64 *lost;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return TC_ACT_UNSPEC;
	headers = ip.ihl * 4;
	flow.src = ip.saddr;
	flow.dst = ip.daddr;
	flow.proto = ip.protocol;
	if ((ip.protocol == IPPROTO_UDP || ip.protocol == IPPROTO_TCP) &&
	    !(ip.frag_off & bpf_htons(FRAGMENT)) &&
	    !bpf_skb_load_bytes(skb, ETH_HLEN + headers, &ports, sizeof(ports))) {
		flow.sport = ports.source;
		flow.dport = ports.dest;
		if (ip.protocol == IPPROTO_UDP)
			headers += sizeof(ports);
	}
	count = count_of(&flow);
	if (count) {
		__sync_fetch_and_add(&count->packets, skb->gso_segs > 1 ? skb->gso_segs : 1);
		__sync_fetch_and_add(&count->payload_bytes, payload(skb, &ip, headers));
	} else {
		lost = bpf_map_lookup_elem(&untold, &zero);
		if (lost)
			__sync_fetch_and_add(lost, 1);
	}
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
