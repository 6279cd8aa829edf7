/* SPDX-License-Identifier: GPL-2.0-only */
/* The `xdp` datapath: an NF as a stage of a chain in the driver, before there is an skb. */
#ifndef NF_HOOK_XDP_H
#define NF_HOOK_XDP_H

#include "xdp.h"
#include "stage.h"

#endif
