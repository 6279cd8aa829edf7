// SPDX-License-Identifier: GPL-2.0-only
#include "hook_tc.h"
#include "pass.h"

NF_STAGE(pass);
