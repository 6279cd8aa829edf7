// SPDX-License-Identifier: GPL-2.0-only
/* What to run, from arguments NAME=VALUE in order; those behind a `stage` are that NF's.
 *
 *   queue=N queues=N length=N batch=N gso=0|1    the first queue's number, how many, and how
 *   alive=FD answered=FD flows=FD                BPF maps, as open descriptors
 *   back=INTERFACE                               the TAP interface by which packets go back
 *   stage=FILE                                   an NF's shared object
 *   param:NAME=N table:NAME=FD reply_slot=N      its parameters and its BPF arrays
 *   entry=N:FIRST:LAST:REPLY:BACK                what to do with packets of entry N (program.h)
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "program.h"

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("nfqueue: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(1);
}

static unsigned int number(const char *name, const char *text, unsigned int most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || value > most)
		fail("%s=%s: must be a number up to %u", name, text, most);
	return value;
}

static void add_entry(struct program *program, const char *text)
{
	unsigned int index, reply, back;
	struct entry entry = { .used = true };

	if (sscanf(text, "%u:%u:%u:%u:%u", &index, &entry.first, &entry.last, &reply, &back) != 5 ||
	    index >= TAG_ENTRIES || entry.first > entry.last || entry.last >= program->n_stages)
		fail("entry=%s: must be ENTRY:FIRST:LAST:REPLY:BACK", text);
	entry.reply = reply;
	entry.back = back;
	if (entry.reply && (entry.first != entry.last || !program->stages[entry.first].reply))
		fail("entry=%s: the NF does not translate", text);
	program->entries[index] = entry;
}

static void set_option(struct program *program, const char *name, const char *value)
{
	if (!strcmp(name, "queue"))
		program->queue = number(name, value, 65535);
	else if (!strcmp(name, "queues"))
		program->queues = number(name, value, MAX_QUEUES);
	else if (!strcmp(name, "length"))
		program->length = number(name, value, 65535);
	else if (!strcmp(name, "batch"))
		program->batch = number(name, value, MAX_BATCH);
	else if (!strcmp(name, "gso"))
		program->gso = number(name, value, 1);
	else if (!strcmp(name, "alive"))
		program->alive_fd = number(name, value, INT_MAX);
	else if (!strcmp(name, "answered"))
		map_table(&program->answered, number(name, value, INT_MAX));
	else if (!strcmp(name, "flows"))
		use_flow_table(number(name, value, INT_MAX));
	else if (!strcmp(name, "back"))
		program->back = value;
	else if (!strcmp(name, "stage"))
		load_stage(program, value);
	else if (!strncmp(name, "param:", 6))
		set_param(program, name + 6, value);
	else if (!strncmp(name, "table:", 6))
		set_table(program, name + 6, number(name, value, INT_MAX));
	else if (!strcmp(name, "reply_slot"))
		set_reply_slot(program, number(name, value, 65535));
	else if (!strcmp(name, "entry"))
		add_entry(program, value);
	else
		fail("%s: there is no such option", name);
}

void read_options(struct program *program, int argc, char **argv)
{
	char *value;
	int i;

	for (i = 1; i < argc; i++) {
		value = strchr(argv[i], '=');
		if (!value)
			fail("%s: must be NAME=VALUE", argv[i]);
		*value = 0;
		set_option(program, argv[i], value + 1);
		*value = '='; /* as it was, for whoever looks at the process */
	}
	if (!program->queues || !program->batch || !program->answered.rows)
		fail("queues, batch and answered must be given");
	if (program->answered.length < program->queues * TAG_ENTRIES)
		fail("answered has too few rows");
}
