// SPDX-License-Identifier: GPL-2.0-only
/* Threads, the sign of life, and the end. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "program.h"

volatile sig_atomic_t stopping;

static sem_t opened;

void queue_is_open(void)
{
	sem_post(&opened);
}

struct job {
	const struct program *program;
	unsigned int thread;
};

static void *work(void *argument)
{
	const struct job *job = argument;
	char name[16];

	snprintf(name, sizeof(name), "queue %u", job->program->queue + job->thread);
	prctl(PR_SET_NAME, name);
	run_queue(job->program, job->thread);
	return NULL;
}

/* A socket of ours in the map tells `to_user` that packets may come. The kernel takes it out when
 * this program ends, however it ends. */
static void show_life(int map)
{
	struct sockaddr_in anywhere = { .sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int life = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	__u64 value = life;
	__u32 zero = 0;

	if (life < 0 || bind(life, (struct sockaddr *)&anywhere, sizeof(anywhere)) ||
	    bpf_map_update_elem(map, &zero, &value, BPF_ANY))
		fail("show that the program lives: %s", strerror(errno));
}

static void hide_life(int map)
{
	__u32 zero = 0;

	bpf_map_delete_elem(map, &zero);
}

int run_program(int argc, char **argv, python_stage *python)
{
	static struct program program = { .queues = 1, .length = 1024, .batch = 16, .alive_fd = -1 };
	pthread_t threads[MAX_QUEUES];
	struct job jobs[MAX_QUEUES];
	sigset_t ends;
	unsigned int i;
	int received;

	run_python = python;
	read_options(&program, argc, argv);
	sem_init(&opened, 0, 0);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	for (i = 0; i < program.queues; i++) {
		jobs[i] = (struct job){ &program, i };
		if (pthread_create(&threads[i], NULL, work, &jobs[i]))
			fail("start a thread: %s", strerror(errno));
	}
	for (i = 0; i < program.queues; i++)
		sem_wait(&opened);
	show_life(program.alive_fd);
	puts("ready");
	fflush(stdout);
	sigwait(&ends, &received);
	hide_life(program.alive_fd); /* no packet comes from now on */
	stopping = 1;
	for (i = 0; i < program.queues; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
