// SPDX-License-Identifier: GPL-2.0-only
/* Programs of `nfcbed bench` that are not part of any chain: what counts packets at the far end
 * and drops them, the limit for a packet through two veths, which does nothing but redirect, and
 * what drops the frames of a sender that is measured alone. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 peer_ifindex = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

SEC("tc")
int sink(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&received, &zero);

	(void)skb;
	if (packets)
		*packets += 1;
	return TC_ACT_SHOT;
}

SEC("tc")
int redirect_peer(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_redirect_peer(peer_ifindex, 0);
}

#define NOWHERE 0x7ffffff0 /* no interface has this index */

/* Where the frames of a sender end that is measured alone, at its own egress. Not TC_ACT_SHOT: the
 * sender would be told. */
SEC("tc")
int discard(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_redirect(NOWHERE, 0);
}

char LICENSE[] SEC("license") = "GPL";
