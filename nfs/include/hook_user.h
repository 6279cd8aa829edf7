/* SPDX-License-Identifier: GPL-2.0-only */
/* The `nfqueue` datapath: an NF as a shared object that the program in user space loads, one
 * private copy an instance (testbed/user/stage.c).
 *
 * Tables, states and counters are the same BPF arrays as in the kernel, mapped: they are looked at
 * in the same way from outside, and outlive the program.
 */
#ifndef NF_HOOK_USER_H
#define NF_HOOK_USER_H

#include "user.h"

#define USER_SYMBOL __attribute__((visibility("default")))

#define NF_PARAM USER_SYMBOL

#define NF_TABLE(table, row_type)                                                                  \
	typedef row_type table##_row;                                                              \
	USER_SYMBOL struct user_table table

#define table_row(table, index) ((table##_row *)user_row(&table, index))

USER_SYMBOL struct user_host user_host;
USER_SYMBOL struct user_table counters; /* one row a thread */

static __thread __u32 user_thread;

#include "counters.h"
#include "flow.h"

static __always_inline struct nf_counters *nf_counters(void)
{
	return user_row(&counters, user_thread);
}

static __always_inline enum flow_link flow_add_reply(const struct flow_key *key, __be32 addr,
						     __be16 port)
{
	return user_host.add_reply(key, addr, port, user_host.reply_slot);
}

USER_SYMBOL void nf_use_thread(__u32 thread)
{
	user_thread = thread;
}

#define NF_USER_STAGE(function, logic, is_reply)                                                   \
	USER_SYMBOL enum verdict function(struct packet *pkt)                                      \
	{                                                                                          \
		if (logic(pkt) == ACCEPT)                                                          \
			return ACCEPT;                                                             \
		count_dropped(pkt, is_reply);                                                      \
		return DROP;                                                                       \
	}

#define NF_STAGE(logic)                                                                            \
	NF_USER_STAGE(nf, logic, false)                                                            \
	typedef int user_end_of_stage

#define NF_REPLY(logic) NF_USER_STAGE(nf_reply, logic, true)

#endif
