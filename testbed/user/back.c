// SPDX-License-Identifier: GPL-2.0-only
/* The way back into the kernel: a TAP interface, at whose ingress a program puts the packet where
 * it came in (testbed/bpf/user.tc.bpf.c). What an offload left undone stays so. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <errno.h>
#include "program.h"

#define GSO_UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4, Linux 6.2 */

/* Each thread opens a queue of the interface for itself. Returns its descriptor. */
int back_open(const char *interface)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		fail("open the interface %s: %s", interface, strerror(errno));
	return fd;
}

static void leave_to_offload(const struct packet *pkt, struct virtio_net_hdr *header)
{
	const struct user_packet *user = user_of(pkt);
	bool udp = pkt->key.proto == IPPROTO_UDP;

	if (!user->partial)
		return;
	header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->csum_start = ETH_HLEN + l4_offset(&pkt->key);
	header->csum_offset = transport_checksum(pkt->key.proto);
	if (!user->gso_size)
		return;
	header->gso_type = udp ? GSO_UDP_L4 : VIRTIO_NET_HDR_GSO_TCPV4;
	header->gso_size = user->gso_size;
	header->hdr_len = ETH_HLEN + user_headers(pkt);
}

/* Returns 0, or -1. */
int back_send(int fd, const struct packet *pkt, __u32 ifindex)
{
	const struct user_packet *user = user_of(pkt);
	struct virtio_net_hdr header = {};
	struct tag_frame tag = {
		.ifindex = htonl(ifindex),
		.mark = htonl(user->mark),
		.priority = htonl(user->priority),
		.protocol = htons(ETH_P_IP),
	};
	struct iovec parts[] = {
		{ &header, sizeof(header) },
		{ &tag, sizeof(tag) },
		{ user->data, user->length },
	};
	ssize_t whole = sizeof(header) + sizeof(tag) + user->length;

	leave_to_offload(pkt, &header);
	return writev(fd, parts, 3) == whole ? 0 : -1;
}
