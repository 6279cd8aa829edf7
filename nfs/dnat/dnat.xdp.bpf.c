// SPDX-License-Identifier: GPL-2.0-only
#include "hook_xdp.h"
#include "dnat.h"

NF_STAGE(dnat);
NF_REPLY(dnat_reply)
