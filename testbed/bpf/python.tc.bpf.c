// SPDX-License-Identifier: GPL-2.0-only
/* Counters and states of an NF in Python, which has no program in the kernel: the same maps as
 * those of any NF, made from here and mapped by the program in user space. */
#include "tc.h"
#include "python.h"

char LICENSE[] SEC("license") = "GPL";
