// SPDX-License-Identifier: GPL-2.0-only
/* Instances of NFs: each a private copy of its shared object, so that its parameters are its own. */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "program.h"

python_stage *run_python;

/* The loader takes two files for one where they are the same file or have the same name: give it a
 * copy, which stays open so that its name is nobody else's. */
static void *load_copy(const char *path)
{
	int from = open(path, O_RDONLY | O_CLOEXEC), copy = memfd_create("nf", MFD_CLOEXEC);
	char name[32];
	struct stat info;
	void *library;
	off_t at = 0;

	if (from < 0 || copy < 0 || fstat(from, &info))
		fail("%s: %s", path, strerror(errno));
	while (at < info.st_size)
		if (sendfile(copy, from, &at, info.st_size - at) <= 0)
			fail("copy %s: %s", path, strerror(errno));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", copy);
	library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		fail("%s: %s", path, dlerror());
	close(from);
	return library;
}

static struct stage *last_stage(struct program *program)
{
	if (!program->n_stages)
		fail("give a stage before what belongs to it");
	return &program->stages[program->n_stages - 1];
}

static void *symbol(struct stage *stage, const char *name)
{
	void *found = dlsym(stage->library, name);

	if (!found)
		fail("the NF has no %s", name);
	return found;
}

void load_stage(struct program *program, const char *path)
{
	struct stage *stage = &program->stages[program->n_stages];
	struct user_host *host;

	if (program->n_stages == MAX_STAGES)
		fail("more than %d NFs", MAX_STAGES);
	stage->library = load_copy(path);
	stage->nf = (user_stage *)symbol(stage, "nf");
	stage->use_thread = (user_use_thread *)symbol(stage, "nf_use_thread");
	stage->reply = (user_stage *)dlsym(stage->library, "nf_reply");
	host = symbol(stage, "user_host");
	host->add_reply = add_reply;
	host->python = run_python;
	host->stage = program->n_stages++;
}

void set_param(struct program *program, const char *name, const char *value)
{
	struct stage *stage = last_stage(program);
	void *variable = symbol(stage, name);
	unsigned long long number;
	ElfW(Sym) *entry = NULL;
	Dl_info info;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (!*value || *end || errno)
		fail("param:%s=%s: must be a number", name, value);
	if (!dladdr1(variable, &info, (void **)&entry, RTLD_DL_SYMENT) || !entry ||
	    entry->st_size > sizeof(number))
		fail("param:%s: is no number in the NF", name);
	if (entry->st_size < sizeof(number) && number >> (entry->st_size * 8))
		fail("param:%s=%s: does not fit", name, value);
	memcpy(variable, &number, entry->st_size); /* little endian */
}

void map_table(struct user_table *table, int fd)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	size_t bytes, page = sysconf(_SC_PAGESIZE);
	void *rows;

	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		fail("read about the map %d: %s", fd, strerror(errno));
	table->stride = (info.value_size + 7) / 8 * 8;
	table->length = info.max_entries;
	bytes = ((size_t)table->stride * table->length + page - 1) / page * page;
	rows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rows == MAP_FAILED)
		fail("map %s: %s", info.name, strerror(errno));
	table->rows = rows;
}

void set_table(struct program *program, const char *name, int fd)
{
	map_table(symbol(last_stage(program), name), fd);
}

void set_reply_slot(struct program *program, unsigned int slot)
{
	struct user_host *host = symbol(last_stage(program), "user_host");

	host->reply_slot = slot;
}
