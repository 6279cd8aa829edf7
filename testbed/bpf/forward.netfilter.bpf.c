// SPDX-License-Identifier: GPL-2.0-only
/* The last step of a chain at PRE_ROUTING: on to the kernel's routing. */
#include "netfilter.h"
#include "count_last.h"
#include "slots.h"

SEC("netfilter")
int to_stack(struct bpf_nf_ctx *hook)
{
	struct packet pkt;

	packet_load(&pkt, hook);
	count_last(&pkt);
	return HOOK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
