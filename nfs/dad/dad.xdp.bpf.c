// SPDX-License-Identifier: GPL-2.0-only
#include "hook_xdp.h"
#include "dad.h"

NF_STAGE(dad);
