/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PYTHON_H
#define PYTHON_H

#include "packet.h"
#include "counters.h"
#include "state.h"

/* What an NF in Python keeps per flow; it says itself what the bytes mean. */
struct python_state {
	__u32 generation;
	__u8 bytes[60];
};
FLOW_STATE(struct python_state);

#endif
