/* SPDX-License-Identifier: GPL-2.0-only */
/* What an NF keeps and is given, where it runs in the kernel: parameters, tables, the clock. Code
 * in user space has the same names from hook_user.h. */
#ifndef NF_KERNEL_H
#define NF_KERNEL_H

/* A parameter of an instance: its nf.yaml names it as `rodata`, it is set before the instance
 * runs, and never changes.
 *
 *   NF_PARAM __u64 window_ns = 10000000000ULL; */
#define NF_PARAM const volatile

/* An array of an instance, one row an entry; its length is set when the instance is loaded.
 *
 *   NF_TABLE(rules, struct dnat_rule);     // nf.yaml: bpf_map: rules
 *   struct dnat_rule *rule = table_row(rules, 3);     // NULL behind the end */
#define NF_TABLE(table, row_type)                                                                  \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, row_type);                                                           \
	} table SEC(".maps")

#define table_row(table, index)                                                                    \
	({                                                                                         \
		__u32 table_index = (index);                                                       \
		(typeof((table).value)) bpf_map_lookup_elem(&(table), &table_index);               \
	})

/* A hook whose programs may not call the cheap clock defines another one of CLOCK_MONOTONIC. */
#ifndef HOOK_CLOCK
#define HOOK_CLOCK bpf_ktime_get_coarse_ns
#endif

static __always_inline __u64 now_ns(void)
{
	return HOOK_CLOCK();
}

#endif
