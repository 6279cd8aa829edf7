// SPDX-License-Identifier: GPL-2.0-only
/* The last step of a chain at XDP.
 *
 * `to_stack`: on to the kernel's routing.
 * `to_wire`: the whole way here - TTL, route and neighbour look-up, redirect - and only what needs
 * the kernel's help goes to its routing after all: as at tc, and where the way out has a queue,
 * since a redirected frame passes no queue.
 */
#include "xdp.h"
#include "last.h"

SEC("xdp.frags")
int to_wire(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct last_counters *last;
	struct packet pkt;
	struct hop *hop;

	packet_load(&pkt, ctx);
	last = count_last(&pkt);
	if (!last || (void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (hand_over(last, ip, !(eth->h_dest[0] & GROUP_ADDRESS)))
		return XDP_PASS;
	hop = next_hop(ctx, ctx->ingress_ifindex, last, ip, bpf_ntohs(ip->tot_len));
	if (!hop)
		return XDP_PASS;
	if (hop->way != WAY_PEER) {
		last->handed[HANDED_QUEUE]++;
		return XDP_PASS;
	}
	send_on(eth, ip, hop);
	return bpf_redirect(hop->out, 0);
}

SEC("xdp.frags")
int to_stack(struct xdp_md *ctx)
{
	struct packet pkt;

	packet_load(&pkt, ctx);
	count_last(&pkt);
	return XDP_PASS;
}

/* Sends a frame back out of the interface that it seems to come from: tells whether the other end
 * takes redirected frames. */
SEC("xdp.frags")
int knock(struct xdp_md *ctx)
{
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
