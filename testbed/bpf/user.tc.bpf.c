// SPDX-License-Identifier: GPL-2.0-only
/* The step of a chain into user space, and the way back.
 *
 * `to_user` stands in the chain as an NF does: it marks the packet and lets it go on to the
 * kernel's PRE_ROUTING, where a rule gives marked packets to the queue of the program that runs
 * the NFs. `from_user` gets what the program sends back through a TAP interface, and puts it where
 * it came in; there the classifier takes it to the rest of its chain (resume.h).
 */
#include <linux/if_packet.h>
#include "slots.h"
#include "tag.h"
#include "tc.h"

const volatile __u32 entry = 0; /* what the program does with these packets (tag.h) */
const volatile __u32 first_queue = 0; /* of the node's queues */
const volatile __u32 n_queues = 1;
const volatile __u32 next_slot = 0; /* behind the NFs in user space */
const volatile __u32 fail_open = 0;

/* Packets as on the wire. Written by this program, read by user space. */
struct step_counters {
	__u64 sent; /* to the queue */
	__u64 sent_bytes;
	__u64 refused; /* the program is dead, and the step fails closed: dropped */
	__u64 refused_bytes;
	__u64 passed_over; /* the program is dead, and the step fails open: on to the next step */
	__u64 passed_over_bytes;
	__u64 missed; /* there was none: dropped */
	__u64 missed_bytes;
	__u64 own; /* the node's own, on their way out already: untouched */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct step_counters);
} counters SEC(".maps");

/* Holds a socket of the program in user space while that lives: the kernel takes it out when the
 * program ends, however it ends. Shared by the entries of one program. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} alive SEC(".maps");

/* Written by the program in user space (tag.h); here it is only made. Shared likewise. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loaded */
	__type(key, __u32);
	__type(value, struct answered);
} answered SEC(".maps");

static __always_inline bool is_alive(void)
{
	__u32 zero = 0;
	struct bpf_sock *socket = bpf_map_lookup_elem(&alive, &zero);

	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

/* Packets of a flow go to one queue, so that they stay in order; the two directions of a numbered
 * flow too. */
static __always_inline __u32 queue_of(const struct flow_key *key, __u32 number)
{
	__u32 mixed = number ? number : key->words[0] ^ key->words[1] ^ key->words[2];

	if (n_queues == 1)
		return first_queue;
	if (!number) {
		mixed ^= mixed >> 16;
		mixed *= 0x9e3779b1;
		mixed ^= mixed >> 15;
	}
	return first_queue + mixed % n_queues;
}

/* The queue's message tells no segment size: it goes with the packet, in the sender's address. */
static __always_inline void write_segment_size(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if (!skb->gso_size || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return;
	eth->h_source[0] = skb->gso_size >> 8;
	eth->h_source[1] = skb->gso_size;
}

static __always_inline int send_up(struct __sk_buff *skb, const struct flow_key *key, __u32 number)
{
	__u32 mark = TAG_OURS | entry << TAG_ENTRY_SHIFT |
		     queue_of(key, number) << TAG_QUEUE_SHIFT | key->generation;

	if (key->info & PACKET_FRAGMENT)
		mark |= TAG_FRAGMENT;
	if (skb->pkt_type != PACKET_HOST)
		mark |= TAG_BROADCAST;
	skb->mark = mark;
	skb->priority = number;
	write_segment_size(skb);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int to_user(struct __sk_buff *skb)
{
	__u32 zero = 0, packets, bytes;
	struct step_counters *count = bpf_map_lookup_elem(&counters, &zero);
	struct packet pkt;

	packet_load(&pkt, skb);
	wire_size(&pkt, &packets, &bytes);
	if (!count)
		return TC_ACT_SHOT;
	if (pkt.key.info & PACKET_OWN) {
		count->own += packets;
		return TC_ACT_UNSPEC;
	}
	if (is_alive()) {
		count->sent += packets;
		count->sent_bytes += bytes;
		return send_up(skb, &pkt.key, pkt.flow);
	}
	if (!fail_open) {
		count->refused += packets;
		count->refused_bytes += bytes;
		return TC_ACT_SHOT;
	}
	count->passed_over += packets;
	count->passed_over_bytes += bytes;
	bpf_tail_call(skb, &slots, next_slot);
	count->passed_over -= packets;
	count->passed_over_bytes -= bytes;
	count->missed += packets;
	count->missed_bytes += bytes;
	return TC_ACT_SHOT;
}

SEC("tc")
int from_user(struct __sk_buff *skb)
{
	struct tag_frame tag;

	if (bpf_skb_load_bytes(skb, 0, &tag, sizeof(tag)) || !(bpf_ntohl(tag.mark) & TAG_OURS))
		return TC_ACT_SHOT;
	skb->mark = bpf_ntohl(tag.mark); /* the priority does not outlive the redirection */
	return bpf_redirect(bpf_ntohl(tag.ifindex), BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "GPL";
