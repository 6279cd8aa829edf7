/* SPDX-License-Identifier: GPL-2.0-only */
/* The `netfilter` datapath: an NF as a stage of a chain at PRE_ROUTING. */
#ifndef NF_HOOK_NETFILTER_H
#define NF_HOOK_NETFILTER_H

#include "netfilter.h"
#include "stage.h"

#endif
