// SPDX-License-Identifier: GPL-2.0-only
/* The last step of a chain at PRE_ROUTING: on to the kernel's routing. */
#include "netfilter.h"
#include "slots.h"

#define HANDED_REASONS 6 /* of a last step that forwards, which there is none of here */

/* Written by this program, read by user space. Packets as on the wire. */
struct last_counters {
	__u64 packets;
	__u64 bytes; /* IP bytes */
	__u64 handed[HANDED_REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last_counters);
} counters SEC(".maps");

SEC("netfilter")
int to_stack(struct bpf_nf_ctx *hook)
{
	__u32 zero = 0, packets, bytes;
	struct last_counters *last = bpf_map_lookup_elem(&counters, &zero);
	struct packet pkt;

	packet_load(&pkt, hook);
	wire_size(&pkt, &packets, &bytes);
	if (last) {
		last->packets += packets;
		last->bytes += bytes;
	}
	return HOOK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
