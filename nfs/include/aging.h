/* SPDX-License-Identifier: GPL-2.0-only */
/* Removes idle entries of a flow table from within the kernel, once a second, by one BPF timer a
 * table: state ages whether or not a controlling process is alive.
 *
 * The timer is armed by the first packet that makes an entry; it stops when the table's last
 * user reference (pin or descriptor) goes.
 */
#ifndef NF_AGING_H
#define NF_AGING_H

#define AGING_PERIOD_NS 1000000000ULL
#ifndef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 1
#endif

/* Handed to the table's own age function, which decides and deletes. */
struct aging {
	__u64 now_ns;
	__u32 expired; /* entries deleted in this sweep */
};

struct aging_clock {
	struct bpf_timer timer;
	__u32 armed;
	__u64 expired; /* entries deleted since the start; read by user space */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct aging_clock);
} aging SEC(".maps");

/* table: the map; age: long (*)(void *map, key *, value *, struct aging *), returns 0;
 * idle: the time after which entries go, 0 for never. Defines aging_start(). */
#define AGING(table, age, idle)                                                                    \
	static int aging_sweep(void *map, __u32 *index, struct aging_clock *clock)                 \
	{                                                                                          \
		struct aging sweep = { .now_ns = bpf_ktime_get_ns() };                             \
                                                                                                   \
		(void)map, (void)index;                                                            \
		bpf_for_each_map_elem(&table, age, &sweep, 0);                                     \
		clock->expired += sweep.expired;                                                   \
		bpf_timer_start(&clock->timer, AGING_PERIOD_NS, 0);                                \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	static __always_inline void aging_start(void)                                              \
	{                                                                                          \
		__u32 zero = 0;                                                                    \
		struct aging_clock *clock;                                                         \
                                                                                                   \
		if (!(idle))                                                                       \
			return;                                                                    \
		clock = bpf_map_lookup_elem(&aging, &zero);                                        \
		if (!clock || clock->armed || __sync_lock_test_and_set(&clock->armed, 1))          \
			return;                                                                    \
		bpf_timer_init(&clock->timer, &aging, CLOCK_MONOTONIC);                            \
		bpf_timer_set_callback(&clock->timer, aging_sweep);                                \
		bpf_timer_start(&clock->timer, AGING_PERIOD_NS, 0);                                \
	}

#endif
