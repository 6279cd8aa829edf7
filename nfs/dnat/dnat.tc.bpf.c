// SPDX-License-Identifier: GPL-2.0-only
#include "hook_tc.h"
#include "dnat.h"

NF_STAGE(dnat);
NF_REPLY(dnat_reply)
