// SPDX-License-Identifier: GPL-2.0-only
/* A packet's way through the NFs of its entry. */
#include "program.h"

#define IP_MF 0x2000

const struct entry *entry_of(const struct program *program, __u32 mark)
{
	const struct entry *entry = &program->entries[TAG_ENTRY(mark)];

	return mark & TAG_OURS && entry->used ? entry : NULL;
}

/* The classifier has judged the header; what the NFs before may have changed is read anew. */
bool packet_find(struct packet *pkt)
{
	struct user_packet *user = user_of(pkt);
	const struct iphdr *ip = (const void *)user->data;
	__u8 flags = 0;

	if (user->length < sizeof(*ip) || ip->version != 4 || ip->ihl < 5 ||
	    user->length < ip->ihl * 4U)
		return false;
	pkt->flow = user->priority;
	pkt->reason = 0;
	pkt->key = (struct flow_key){ .src = ip->saddr, .dst = ip->daddr, .proto = ip->protocol };
	pkt->key.generation = user->mark & TAG_GENERATION;
	if (user->mark & TAG_FRAGMENT || ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		flags = PACKET_FRAGMENT | PACKET_NO_PORTS;
	else if (!has_ports(ip->protocol) || packet_read(pkt, ip->ihl * 4, &pkt->key.words[2], 4))
		flags = PACKET_NO_PORTS;
	pkt->key.info = ip->ihl | flags;
	return true;
}

enum outcome walk(const struct program *program, const struct entry *entry, struct packet *pkt)
{
	struct user_packet *user = user_of(pkt);
	const struct stage *stage;
	const __u8 *data;
	unsigned int i;

	for (i = entry->first; i <= entry->last; i++) {
		stage = &program->stages[i];
		data = user->data;
		if ((entry->reply ? stage->reply : stage->nf)(pkt) == DROP)
			return user->failed ? PACKET_FAILED : PACKET_DROPPED;
		if (user->data != data && !packet_find(pkt)) /* another packet in its place */
			return PACKET_FAILED;
	}
	return entry->back ? PACKET_BACK : PACKET_ACCEPTED;
}

static __u32 sum_of(const __u8 *data, __u32 length, __u64 sum)
{
	__u16 word;

	for (; length > 1; data += 2, length -= 2) {
		memcpy(&word, data, sizeof(word));
		sum += word;
	}
	if (length) {
		word = 0;
		memcpy(&word, data, 1);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The field holds the sum of the pseudo header, so that the sum over all gives what is wanted. */
void complete_checksum(struct packet *pkt)
{
	struct user_packet *user = user_of(pkt);
	__u32 l4 = l4_offset(&pkt->key), offset = l4 + transport_checksum(pkt->key.proto);
	__sum16 sum;

	user->partial = 0;
	if (!transport_header(pkt->key.proto) || !user_reaches(pkt, offset, sizeof(sum)))
		return;
	sum = ~sum_of(user->data + l4, user->length - l4, 0);
	if (!sum && pkt->key.proto == IPPROTO_UDP)
		sum = 0xffff;
	packet_write(pkt, offset, &sum, sizeof(sum));
}
