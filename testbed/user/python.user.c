// SPDX-License-Identifier: GPL-2.0-only
/* The stage of an NF in Python: what is done around the call. */
#include "hook_user.h"
#include "../bpf/python.h"

static enum verdict run(struct packet *pkt, bool reply)
{
	struct user_packet *user = user_of(pkt);
	struct python_state *state;
	bool fresh;
	int result;

	state = flow_state(pkt, &fresh);
	user->state = state ? state->bytes : NULL;
	user->fresh = fresh;
	user->counters = nf_counters();
	result = user_host.python(user_host.stage, reply, pkt);
	user->failed = result < 0;
	if (!result || result < 0)
		return result ? DROP : ACCEPT;
	pkt->reason = result >> 8;
	count_dropped(pkt, reply);
	return DROP;
}

USER_SYMBOL enum verdict nf(struct packet *pkt)
{
	return run(pkt, false);
}
