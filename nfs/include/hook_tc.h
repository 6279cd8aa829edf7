/* SPDX-License-Identifier: GPL-2.0-only */
/* The `tc` datapath: an NF as a stage of a chain at tcx or clsact ingress. */
#ifndef NF_HOOK_TC_H
#define NF_HOOK_TC_H

#include "tc.h"
#include "stage.h"

#endif
