/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NF_SLOTS_H
#define NF_SLOTS_H

#include "packet.h"

/* Every `next` pointer of the node: one slot each. Written by user space (one slot a change),
 * followed by the classifier and the stages. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1); /* set when loaded; the map is shared by the node's programs */
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

#endif
