// SPDX-License-Identifier: GPL-2.0-only
/* Sends UDP packets at a rate into the queue of another core, whatever becomes of them there.
 *
 * Run with BPF_F_TEST_XDP_LIVE_FRAMES on behalf of the interface that the packets are to have come
 * in by. They leave in bursts of BURST: waking the core behind the queue costs the sender some
 * microseconds where it sleeps. A full queue drops, and nothing waits for it.
 *
 * A burst that is late leaves at once. If it is later than LATE_NS, the schedule is put off by as
 * much: a sender that was kept waiting sends less than was asked for, and does not flood the queue
 * to catch up.
 */
#include "frame.h"

#define BURST 32
#define LATE_NS 200000
#define PATIENCE 200000 /* times to look at the clock for one burst: some milliseconds */

const volatile __u32 node_cpu = 0; /* the core that takes the packets */

/* Written by user space before a run, and by the sender's core; read by user space after it. */
struct pace {
	__u64 gap_ns; /* from one burst to the next; 0: as fast as possible */
	__u64 due_ns; /* when the next one is to leave */
	__u64 packets;
	__u64 begin_ns; /* when the first burst left, and the last one */
	__u64 end_ns;
	__u64 late_ns; /* by how much the schedule was put off */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} paces SEC(".maps");

/* The queue: at the core's number its bound in packets (struct bpf_cpumap_val). As large as there
 * are cores, which user space sets. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 2 * sizeof(__u32));
} queue SEC(".maps");

static long look(__u32 index, void *context)
{
	struct pace *pace = *(struct pace **)context;

	(void)index;
	pace->end_ns = bpf_ktime_get_ns();
	return pace->end_ns >= pace->due_ns;
}

/* Wait until the burst is due, and say when the one after it is. */
static __always_inline void wait(struct pace *pace)
{
	pace->end_ns = bpf_ktime_get_ns();
	if (!pace->packets) {
		pace->begin_ns = pace->end_ns;
		pace->due_ns = pace->end_ns;
	}
	if (pace->end_ns < pace->due_ns)
		bpf_loop(PATIENCE, look, &pace, 0);
	if (pace->end_ns > pace->due_ns + LATE_NS) {
		pace->late_ns += pace->end_ns - pace->due_ns;
		pace->due_ns = pace->end_ns;
	}
	pace->due_ns += pace->gap_ns;
}

SEC("xdp")
int send_paced(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct pace *pace = bpf_map_lookup_elem(&paces, &zero);

	if (!pace)
		return XDP_ABORTED;
	if (pace->packets % BURST == 0)
		wait(pace);
	if (write_frame(ctx, 0))
		return XDP_ABORTED;
	pace->packets++;
	return bpf_redirect_map(&queue, node_cpu, 0);
}

/* What the queue took and dropped, and how long others had the core behind it. */
struct seen {
	__u64 came;    /* to the queue: written by the sender's core */
	__u64 dropped; /* of these, since the queue was full */
	__u64 others_ns; /* programs and other threads of the kernel: written by the core behind it */
	__u64 others_longest_ns; /* at once; user space sets it back */
	__u64 others_since;
	__u32 queue_id; /* the kernel's id of the queue: written by user space, before all others */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} seen SEC(".maps");

SEC("tp_btf/xdp_cpumap_enqueue")
int on_enqueue(__u64 *ctx) /* the map's id, packets, those of them that were dropped, the core */
{
	__u32 zero = 0;
	struct seen *mine = bpf_map_lookup_elem(&seen, &zero);

	if (!mine || (__u32)ctx[0] != mine->queue_id)
		return 0;
	mine->came += (__u32)ctx[1];
	mine->dropped += (__u32)ctx[2];
	return 0;
}

struct task_struct {
	int pid; /* 0: the CPU is idle */
	char comm[16];
} __attribute__((preserve_access_index));

/* Threads that carry packets: the queue's own, and the core's one for softirqs. */
static __always_inline int is_ours(const struct task_struct *task)
{
	return !bpf_strncmp(task->comm, 7, "cpumap/") || !bpf_strncmp(task->comm, 9, "ksoftirqd");
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *next = (struct task_struct *)ctx[2];
	__u32 zero = 0, other;
	struct seen *mine;
	__u64 now;

	if (bpf_get_smp_processor_id() != node_cpu)
		return 0;
	mine = bpf_map_lookup_elem(&seen, &zero);
	other = next->pid && !is_ours(next);
	if (!mine || (!other && !mine->others_since))
		return 0;
	now = bpf_ktime_get_ns();
	if (mine->others_since) {
		__u64 had = now - mine->others_since;

		mine->others_ns += had;
		if (had > mine->others_longest_ns)
			mine->others_longest_ns = had;
	}
	mine->others_since = other ? now : 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
