// SPDX-License-Identifier: GPL-2.0-only
#include "hook_xdp.h"
#include "pass.h"

NF_STAGE(pass);
