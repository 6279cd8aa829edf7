// SPDX-License-Identifier: GPL-2.0-only
#include "hook_user.h"
#include "dad.h"

NF_STAGE(dad);
