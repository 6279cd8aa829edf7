/* SPDX-License-Identifier: GPL-2.0-only */
/* What a packet bears while it is on its way to user space and back, in its mark and its priority.
 *
 * `to_user` writes both (user.tc.bpf.c); the rules in the node find the queue in the mark; the
 * program in user space reads both and, where the chain goes on in the kernel, sends them back
 * with the packet; `resume` takes them off (resume.h). What user space accepts has them taken off
 * with the verdict. So none of it leaves the node.
 */
#ifndef TAG_H
#define TAG_H

#include <linux/types.h>

#define TAG_OURS 0x80000000U
#define TAG_FRAGMENT 0x40000000U /* it was one when it entered the chain */
#define TAG_BROADCAST 0x20000000U /* its frame was for more than this host */
#define TAG_ENTRY_SHIFT 23 /* where in the program's NFs it goes on: 6 bits */
#define TAG_ENTRIES 64
#define TAG_QUEUE_SHIFT 16 /* which of the node's queues: 7 bits */
#define TAG_QUEUES 128
#define TAG_GENERATION 0xffffU /* of the flow's number, which is the priority */

#define TAG_ENTRY(mark) ((mark) >> TAG_ENTRY_SHIFT & (TAG_ENTRIES - 1))

/* The Ethernet header of what comes back from user space, in network byte order; the addresses of
 * the frame that once came in are of no use behind the chaining point. An index has less than 31 bits, so that the frame looks as if for one host. */
struct tag_frame {
	__u32 ifindex; /* where the packet came in */
	__u32 mark;
	__u32 priority;
	__u16 protocol;
} __attribute__((packed));

/* What became of an entry's packets in user space: packets as on the wire, and their IP bytes. A
 * BPF array, one row a thread and entry: written by the program, read by NodeStatus. */
struct answered {
	__u64 arrived; /* from the queue */
	__u64 arrived_bytes;
	__u64 accepted; /* on to the kernel's routing */
	__u64 accepted_bytes;
	__u64 returned; /* back to the chain */
	__u64 returned_bytes;
	__u64 failed; /* could not be sent back, or an NF broke off: dropped */
	__u64 failed_bytes;
};

#endif
