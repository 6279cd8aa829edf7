/* SPDX-License-Identifier: GPL-2.0-only */
/* Turns an NF's logic into a stage of a chain, for hooks whose programs follow each other by tail
 * calls. The hook defines HOOK_SECTION, HOOK_CONTEXT, HOOK_DROP and packet_load().
 *
 * A stage is one program. Its findings about the packet travel with it, its successor stands in
 * one slot of `slots` whose index is a constant of the loaded instance, so that the kernel turns
 * the tail call into a direct jump.
 */
#ifndef NF_STAGE_H
#define NF_STAGE_H

#include "counters.h"
#include "slots.h"

/* Slot of this instance's `next` pointer. */
const volatile __u32 next_slot = 0;

/* Where a packet goes that this NF translated on its way back: the last step of the chain. */
const volatile __u32 reply_next_slot = 0;

#define NF_PROGRAM(program, logic, following, reply)                                               \
	SEC(HOOK_SECTION)                                                                          \
	int program(HOOK_CONTEXT *hook)                                                            \
	{                                                                                          \
		struct packet pkt;                                                                 \
                                                                                                   \
		packet_load(&pkt, hook);                                                           \
		if (logic(&pkt) == DROP) {                                                         \
			count_dropped(&pkt, reply);                                                \
			return HOOK_DROP;                                                          \
		}                                                                                  \
		bpf_tail_call(hook, &slots, following);                                            \
		count_missed(&pkt, reply);                                                         \
		return HOOK_DROP;                                                                  \
	}

#define NF_STAGE(logic)                                                                            \
	NF_PROGRAM(nf, logic, next_slot, false)                                                    \
	char LICENSE[] SEC("license") = "GPL"

/* For NFs that translate: gets the replies, and the ICMP errors, of the flows it translated. */
#define NF_REPLY(logic) NF_PROGRAM(nf_reply, logic, reply_next_slot, true)

#endif
