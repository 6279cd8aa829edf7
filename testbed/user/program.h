/* SPDX-License-Identifier: GPL-2.0-only */
/* The program that runs NFs in user space: packets come from NFQUEUE, walk the NFs, and are
 * answered, or sent back into the kernel where the chain goes on there.
 *
 * run.c starts one thread a queue; options.c reads what to run; stage.c loads the NFs; queue.c
 * speaks to the kernel; walk.c takes a packet through the NFs; back.c sends packets back;
 * replies.c enters replies into the flow table.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <linux/types.h>
#include <signal.h>
#include "../bpf/tag.h"
#include "user.h"

#define MAX_STAGES 32
#define MAX_QUEUES 16
#define MAX_BATCH 64
#define MAX_PACKET 65535

/* One NF of the chain. */
struct stage {
	void *library;
	user_stage *nf;
	user_stage *reply; /* NULL: it does not translate */
	user_use_thread *use_thread;
};

/* What to do with the packets of one entry (tag.h): the NFs `first` to `last`, then accept the
 * packet, or send it back to its chain. */
struct entry {
	bool used, reply, back;
	unsigned int first, last;
};

struct program {
	unsigned int queue, queues; /* the first one's number; how many */
	unsigned int length, batch;
	bool gso;
	int alive_fd; /* BPF socket map */
	const char *back; /* interface by which packets go back; NULL: none do */
	struct stage stages[MAX_STAGES];
	unsigned int n_stages;
	struct entry entries[TAG_ENTRIES];
	struct user_table answered; /* struct answered, at thread * TAG_ENTRIES + entry */
};

/* What became of a packet. */
enum outcome {
	PACKET_DROPPED,
	PACKET_ACCEPTED,
	PACKET_BACK, /* its chain goes on in the kernel */
	PACKET_FAILED,
};

/* Runs an NF in Python; gives its verdict and, behind it, reason << 8. */
typedef int python_stage(__u32 stage, bool reply, struct packet *pkt);

extern volatile sig_atomic_t stopping;
extern python_stage *run_python;

/* The whole program; see options.c for the arguments. `python` is NULL where no NF is in Python.
 * Returns the exit code. */
__attribute__((visibility("default"))) int run_program(int argc, char **argv, python_stage *python);

/* These say what went wrong on standard error and end the program where they fail. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);
void read_options(struct program *program, int argc, char **argv);
void load_stage(struct program *program, const char *path);
void set_param(struct program *program, const char *name, const char *value);
void set_table(struct program *program, const char *name, int fd);
void set_reply_slot(struct program *program, unsigned int slot);
void map_table(struct user_table *table, int fd);
void use_flow_table(int fd);
void run_queue(const struct program *program, unsigned int thread);
void queue_is_open(void);

/* Enter the replies of a flow that is sent on to addr:port; enum flow_link. */
int add_reply(const struct flow_key *key, __be32 addr, __be16 port, __u16 reply_slot);

/* Give NULL for a packet that is not of one of this program's entries. */
const struct entry *entry_of(const struct program *program, __u32 mark);

/* Find out about a packet of which user_of(pkt) is filled in; false where it is no IPv4 packet. */
bool packet_find(struct packet *pkt);

enum outcome walk(const struct program *program, const struct entry *entry, struct packet *pkt);

/* Compute the transport checksum that was left to be done. */
void complete_checksum(struct packet *pkt);

int back_open(const char *interface);
int back_send(int fd, const struct packet *pkt, __u32 ifindex);

#endif
