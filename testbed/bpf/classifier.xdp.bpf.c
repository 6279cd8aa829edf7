// SPDX-License-Identifier: GPL-2.0-only
/* The classifier (classify.h) at XDP: in the driver, before there is an skb.
 *
 * Left alone (XDP_PASS: on to the kernel): everything that the kernel's PRE_ROUTING hook would not
 * see as IPv4 for this interface either - other protocols, frames for another host, tagged frames
 * of a VLAN, broken IPv4 headers. A tag of VLAN 0 around IPv4 is taken off.
 */
#include "xdp.h"
#include "classify.h"

#define TAG_BYTES 4

/* The address of each interface that this program is attached to, by its index. Written by user
 * space. */
struct mac {
	__u8 bytes[ETH_ALEN];
	__u8 zero[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* set when loaded */
	__type(key, __u32);
	__type(value, struct mac);
} macs SEC(".maps");

struct tagged {
	struct ethhdr eth;
	__be16 tci;
	__be16 inner;
};

/* What eth_type_trans() calls PACKET_OTHERHOST is not for us. */
static __always_inline bool for_us(const struct ethhdr *eth, __u32 ifindex)
{
	struct mac *mac = bpf_map_lookup_elem(&macs, &ifindex);

	if (eth->h_dest[0] & GROUP_ADDRESS)
		return true;
	return mac && *(__u32 *)eth->h_dest == *(__u32 *)mac->bytes &&
	       *(__u16 *)(eth->h_dest + 4) == *(__u16 *)(mac->bytes + 4);
}

static __always_inline bool untag(struct xdp_md *ctx)
{
	struct tagged *tagged = (void *)(long)ctx->data;
	__u8 addresses[2 * ETH_ALEN];
	struct ethhdr *eth;

	if ((void *)(tagged + 1) > (void *)(long)ctx->data_end)
		return false;
	if ((tagged->eth.h_proto != bpf_htons(ETH_P_8021Q) &&
	     tagged->eth.h_proto != bpf_htons(ETH_P_8021AD)) ||
	    tagged->tci & bpf_htons(VLAN_ID) || tagged->inner != bpf_htons(ETH_P_IP))
		return false;
	__builtin_memcpy(addresses, tagged, sizeof(addresses));
	if (bpf_xdp_adjust_head(ctx, TAG_BYTES))
		return false;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(eth, addresses, sizeof(addresses)); /* h_proto was the tag's inner type */
	return true;
}

/* IPv4 for this interface, as far as the frame around it tells. */
static __always_inline bool is_ours(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end || !for_us(eth, ctx->ingress_ifindex))
		return false;
	return eth->h_proto == bpf_htons(ETH_P_IP) || untag(ctx);
}

static __always_inline bool read_packet(struct packet *pkt)
{
	__u32 length = bpf_xdp_get_buff_len(pkt->hook);

	return parse(&pkt->key, ip_header(pkt), linear_end(pkt), length - L3_OFFSET);
}

SEC("xdp.frags")
int classify(struct xdp_md *ctx)
{
	struct packet pkt = { .hook = ctx };

	if (is_ours(ctx) && read_packet(&pkt))
		return take(&pkt);
	count_rule(n_rules + LEFT_ALONE, 1, bpf_xdp_get_buff_len(ctx));
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
