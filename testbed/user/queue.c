// SPDX-License-Identifier: GPL-2.0-only
/* One queue: packets in, verdicts out. Packets are taken in batches; verdicts that are the same
 * for packets in a row become one, and all of a batch go out in one message. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "program.h"

#define MESSAGE_BYTES (MAX_PACKET + 1024)
#define VERDICT_BYTES (1 << 17) /* what one message may hold */
#define IDLE_MS 100
#define BUFFER_PER_PACKET (1 << 14) /* a jumbo frame, and what goes with it */
#define BUFFER_PER_MERGED (1 << 17)
#define BUFFER_LIMIT (1 << 30)

struct queue {
	const struct program *program;
	unsigned int thread;
	__u16 number;
	struct mnl_socket *socket;
	int back; /* descriptor of the TAP interface, or -1 */
	__u8 *verdicts; /* that wait to be sent */
	size_t filled;
	/* The same verdict for packets in a row, not in `verdicts` yet. */
	bool run;
	int run_verdict;
	__u32 run_id; /* of the last one */
};

/* What a message tells of a packet. */
struct arrival {
	__u32 id, ifindex;
	bool whole;
	struct user_packet user;
};

static void ask(struct queue *queue, struct nlmsghdr *message, const char *what)
{
	char answer[MNL_SOCKET_BUFFER_SIZE];
	ssize_t got;

	message->nlmsg_flags |= NLM_F_ACK;
	if (mnl_socket_sendto(queue->socket, message, message->nlmsg_len) < 0 ||
	    (got = mnl_socket_recvfrom(queue->socket, answer, sizeof(answer))) < 0 ||
	    mnl_cb_run(answer, got, 0, mnl_socket_get_portid(queue->socket), NULL, NULL) < 0)
		fail("queue %u: %s: %s", queue->number, what, strerror(errno));
}

static struct nlmsghdr *message_for(struct queue *queue, void *buffer)
{
	return nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, queue->number);
}

static void open_queue(struct queue *queue)
{
	const struct program *program = queue->program;
	__u32 flags = NFQA_CFG_F_GSO;
	size_t room = program->length * (size_t)(program->gso ? BUFFER_PER_MERGED : BUFFER_PER_PACKET);
	int bytes = room < BUFFER_LIMIT ? room : BUFFER_LIMIT, one = 1;
	char buffer[MNL_SOCKET_BUFFER_SIZE];
	struct nlmsghdr *message;

	queue->socket = mnl_socket_open(NETLINK_NETFILTER);
	if (!queue->socket || mnl_socket_bind(queue->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		fail("open a netlink socket: %s", strerror(errno));
	/* The queue's length is to be the only bound. */
	setsockopt(mnl_socket_get_fd(queue->socket), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
		   sizeof(bytes));
	mnl_socket_setsockopt(queue->socket, NETLINK_NO_ENOBUFS, &one, sizeof(one));

	message = message_for(queue, buffer);
	nfq_nlmsg_cfg_put_cmd(message, AF_INET, NFQNL_CFG_CMD_BIND);
	ask(queue, message, "bind it (does another program have it?)");

	message = message_for(queue, buffer);
	nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, 0xffff);
	mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(program->gso ? flags : 0));
	mnl_attr_put_u32(message, NFQA_CFG_MASK, htonl(flags));
	nfq_nlmsg_cfg_put_qmaxlen(message, program->length);
	ask(queue, message, "set it up");
}

/* ---------------------------------------------------------------- verdicts */

static void send_verdicts(struct queue *queue)
{
	if (!queue->filled)
		return;
	if (mnl_socket_sendto(queue->socket, queue->verdicts, queue->filled) < 0)
		fail("queue %u: send verdicts: %s", queue->number, strerror(errno));
	queue->filled = 0;
}

static void put_verdict(struct queue *queue, int kind, int verdict, __u32 id,
			const struct user_packet *payload)
{
	size_t most = 256 + (payload ? payload->length : 0);
	struct nlmsghdr *message;

	if (queue->filled + most > VERDICT_BYTES)
		send_verdicts(queue);
	message = nfq_nlmsg_put((char *)queue->verdicts + queue->filled, kind, queue->number);
	nfq_nlmsg_verdict_put(message, id, verdict);
	if (verdict == NF_ACCEPT) { /* it is as any other from here on */
		nfq_nlmsg_verdict_put_mark(message, 0);
		mnl_attr_put_u32(message, NFQA_PRIORITY, 0);
	}
	if (payload)
		nfq_nlmsg_verdict_put_pkt(message, payload->data, payload->length);
	queue->filled += NLMSG_ALIGN(message->nlmsg_len);
}

static void end_run(struct queue *queue)
{
	if (queue->run)
		put_verdict(queue, NFQNL_MSG_VERDICT_BATCH, queue->run_verdict, queue->run_id, NULL);
	queue->run = false;
}

static void answer(struct queue *queue, int verdict, const struct arrival *arrival)
{
	if (verdict == NF_ACCEPT && arrival->user.changed) {
		end_run(queue);
		put_verdict(queue, NFQNL_MSG_VERDICT, verdict, arrival->id, &arrival->user);
		return;
	}
	if (queue->run && queue->run_verdict != verdict)
		end_run(queue);
	queue->run = true;
	queue->run_verdict = verdict;
	queue->run_id = arrival->id;
}

/* ---------------------------------------------------------------- packets */

static bool read_message(const struct nlmsghdr *message, struct arrival *arrival)
{
	const struct nfqnl_msg_packet_hw *sender = NULL;
	const struct nlattr *attribute;
	__u32 info = 0;

	memset(arrival, 0, sizeof(*arrival));
	arrival->whole = true;
	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg)) {
		const void *value = mnl_attr_get_payload(attribute);

		switch (mnl_attr_get_type(attribute)) {
		case NFQA_PACKET_HDR:
			arrival->id = ntohl(((const struct nfqnl_msg_packet_hdr *)value)->packet_id);
			break;
		case NFQA_MARK:
			arrival->user.mark = ntohl(*(const __be32 *)value);
			break;
		case NFQA_PRIORITY:
			arrival->user.priority = ntohl(*(const __be32 *)value);
			break;
		case NFQA_IFINDEX_INDEV:
			arrival->ifindex = ntohl(*(const __be32 *)value);
			break;
		case NFQA_HWADDR:
			sender = value;
			break;
		case NFQA_SKB_INFO:
			info = ntohl(*(const __be32 *)value);
			break;
		case NFQA_CAP_LEN:
			arrival->whole = false; /* too long to be told whole */
			break;
		case NFQA_PAYLOAD:
			arrival->user.data = (__u8 *)value;
			arrival->user.length = mnl_attr_get_payload_len(attribute);
			break;
		}
	}
	arrival->user.partial = !!(info & NFQA_SKB_CSUMNOTREADY);
	if (info & NFQA_SKB_GSO && sender) /* see write_segment_size() in user.tc.bpf.c */
		arrival->user.gso_size = sender->hw_addr[0] << 8 | sender->hw_addr[1];
	return arrival->user.data;
}

static void add(__u64 *packets, __u64 *bytes, const struct packet *pkt)
{
	__u32 more_packets, more_bytes;

	wire_size(pkt, &more_packets, &more_bytes);
	*packets += more_packets;
	*bytes += more_bytes;
}

static enum outcome judge(struct queue *queue, struct arrival *arrival, struct packet *pkt,
			  const struct entry *entry)
{
	enum outcome outcome = walk(queue->program, entry, pkt);

	if (outcome == PACKET_DROPPED || outcome == PACKET_FAILED)
		return outcome;
	if (arrival->user.changed && !arrival->whole)
		return PACKET_FAILED;
	if (outcome == PACKET_BACK && (!arrival->whole || back_send(queue->back, pkt,
								     arrival->ifindex)))
		return PACKET_FAILED;
	/* Changed bytes are taken as CHECKSUM_NONE: the sum has to be whole. But where the kernel
	 * cuts a UDP packet up afterwards, it starts from the pseudo header's. */
	if (outcome == PACKET_ACCEPTED && arrival->user.changed && arrival->user.partial &&
	    !(arrival->user.gso_size && pkt->key.proto == IPPROTO_UDP))
		complete_checksum(pkt);
	return outcome;
}

static void take(struct queue *queue, struct arrival *arrival)
{
	const struct program *program = queue->program;
	const struct entry *entry = entry_of(program, arrival->user.mark);
	struct packet pkt = { .hook = &arrival->user };
	struct answered *counters;
	enum outcome outcome;

	counters = user_row(&program->answered,
			    queue->thread * TAG_ENTRIES + TAG_ENTRY(arrival->user.mark));
	if (!entry || !packet_find(&pkt)) { /* not one of ours */
		answer(queue, NF_DROP, arrival);
		return;
	}
	add(&counters->arrived, &counters->arrived_bytes, &pkt);
	outcome = judge(queue, arrival, &pkt, entry);
	if (outcome == PACKET_ACCEPTED)
		add(&counters->accepted, &counters->accepted_bytes, &pkt);
	else if (outcome == PACKET_BACK)
		add(&counters->returned, &counters->returned_bytes, &pkt);
	else if (outcome == PACKET_FAILED)
		add(&counters->failed, &counters->failed_bytes, &pkt);
	answer(queue, outcome == PACKET_ACCEPTED ? NF_ACCEPT : NF_DROP, arrival);
}

static void take_messages(struct queue *queue, const struct nlmsghdr *message, int left)
{
	struct arrival arrival;

	for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
		if (message->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) &&
		    read_message(message, &arrival))
			take(queue, &arrival);
}

/* ---------------------------------------------------------------- the loop */

static bool wait_for_packets(struct queue *queue)
{
	struct pollfd wanted = { .fd = mnl_socket_get_fd(queue->socket), .events = POLLIN };

	return poll(&wanted, 1, IDLE_MS) > 0;
}

static void serve(struct queue *queue, __u8 *buffers)
{
	struct mmsghdr messages[MAX_BATCH] = {};
	struct iovec parts[MAX_BATCH];
	unsigned int i, batch = queue->program->batch;
	int got;

	for (i = 0; i < batch; i++) {
		parts[i] = (struct iovec){ buffers + i * MESSAGE_BYTES, MESSAGE_BYTES };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		got = recvmmsg(mnl_socket_get_fd(queue->socket), messages, batch, MSG_DONTWAIT,
			       NULL);
		if (got <= 0) {
			if (!wait_for_packets(queue) && stopping)
				return; /* what waited has been answered */
			continue;
		}
		for (i = 0; i < (unsigned int)got; i++)
			take_messages(queue, parts[i].iov_base, messages[i].msg_len);
		end_run(queue);
		send_verdicts(queue);
	}
}

void run_queue(const struct program *program, unsigned int thread)
{
	struct queue queue = { .program = program, .thread = thread, .back = -1 };
	__u8 *buffers = malloc((size_t)program->batch * MESSAGE_BYTES);
	unsigned int i;

	queue.number = program->queue + thread;
	queue.verdicts = malloc(VERDICT_BYTES);
	if (!buffers || !queue.verdicts)
		fail("no memory");
	if (program->back)
		queue.back = back_open(program->back);
	for (i = 0; i < program->n_stages; i++)
		program->stages[i].use_thread(thread);
	open_queue(&queue);
	queue_is_open();
	serve(&queue, buffers);
	mnl_socket_close(queue.socket);
}
