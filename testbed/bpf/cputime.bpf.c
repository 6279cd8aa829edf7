// SPDX-License-Identifier: GPL-2.0-only
/* Exact CPU time: how long tasks and softirqs ran, per CPU, from the scheduler's own trace points.
 *
 * The kernel's figures in /proc/stat may come from ticks, which miss softirqs shorter than a tick.
 * A softirq that interrupts a task counts in both task_ns and softirq_ns; one that finds the CPU
 * idle counts in softirq_ns and idle_softirq_ns. So a CPU was busy for task_ns + idle_softirq_ns
 * (plus hard interrupts of an idle CPU, which are not seen).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define VECTORS 10 /* kinds of softirqs: HI, TIMER, NET_TX, NET_RX, … RCU */

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct cputime {
	__u64 softirq_ns[VECTORS];
	__u64 softirqs[VECTORS];
	__u64 idle_softirq_ns;
	__u64 task_ns;
	__u64 switches;
	__u64 softirq_since; /* 0: none runs, or it began before us */
	__u64 task_since;    /* 0: the CPU is idle, or was never seen to switch */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cputime);
} times SEC(".maps");

static __always_inline struct cputime *mine(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&times, &zero);
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *next = (struct task_struct *)ctx[2];
	struct cputime *cpu = mine();
	__u64 now = bpf_ktime_get_ns();

	if (!cpu)
		return 0;
	if (cpu->task_since)
		cpu->task_ns += now - cpu->task_since;
	cpu->task_since = next->pid ? now : 0;
	cpu->switches++;
	return 0;
}

SEC("tp_btf/softirq_entry")
int on_entry(__u64 *ctx __attribute__((unused)))
{
	struct cputime *cpu = mine();

	if (cpu)
		cpu->softirq_since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_exit")
int on_exit(__u64 *ctx)
{
	struct cputime *cpu = mine();
	__u32 vector = ctx[0];
	__u64 lasted;

	if (!cpu || !cpu->softirq_since || vector >= VECTORS)
		return 0;
	lasted = bpf_ktime_get_ns() - cpu->softirq_since;
	cpu->softirq_since = 0;
	cpu->softirq_ns[vector] += lasted;
	cpu->softirqs[vector]++;
	if (!(__u32)bpf_get_current_pid_tgid())
		cpu->idle_softirq_ns += lasted;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
