/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets that come back from user space go on in their chain, with the findings they had. For the
 * classifier at tc, whose read_packet() it uses. */
#ifndef RESUME_H
#define RESUME_H

#include "classify.h"
#include "tag.h"

/* By entry (tag.h): where the chain goes on behind the NFs in user space. */
const volatile __u32 resume_slots[TAG_ENTRIES];
const volatile __u32 has_user_steps = 0;

/* Packets on the wire, by entry. Written by the classifier, read by user space. */
struct resumed {
	__u64 packets;
	__u64 bytes;
	__u64 broken; /* the NFs left no IPv4 packet behind: dropped */
	__u64 missed; /* there was no next program: dropped */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAG_ENTRIES);
	__type(key, __u32);
	__type(value, struct resumed);
} resumes SEC(".maps");

static __always_inline int resume(struct __sk_buff *skb)
{
	__u32 mark = skb->mark, index = TAG_ENTRY(mark), packets, bytes;
	struct resumed *count = bpf_map_lookup_elem(&resumes, &index);
	struct packet pkt = { .hook = skb };
	struct tag_frame tag;

	if (!count || bpf_skb_load_bytes(skb, 0, &tag, sizeof(tag)))
		return TC_ACT_SHOT;
	skb->mark = 0;
	bpf_skb_change_type(skb, mark & TAG_BROADCAST ? PACKET_BROADCAST : PACKET_HOST);
	if (!read_packet(&pkt)) {
		count->broken++;
		return TC_ACT_SHOT;
	}
	if (mark & TAG_FRAGMENT) { /* the kernel may have put it together meanwhile */
		pkt.key.words[2] = 0;
		pkt.key.info |= PACKET_NO_PORTS | PACKET_FRAGMENT;
	}
	hand_on(&pkt, bpf_ntohl(tag.priority), mark & TAG_GENERATION);
	wire_size(&pkt, &packets, &bytes);
	count->packets += packets;
	count->bytes += bytes;
	bpf_tail_call(skb, &slots, resume_slots[index]);
	count->missed += packets;
	return TC_ACT_SHOT;
}

#endif
