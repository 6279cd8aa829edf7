// SPDX-License-Identifier: GPL-2.0-only
/* Sends UDP packets out of an interface as fast as one core can, for `nfcbed bench`.
 *
 * Run with BPF_F_TEST_XDP_LIVE_FRAMES. */
#include "frame.h"

const volatile __u32 out_ifindex = 0;
const volatile __u32 flows = 1;

__u32 sent = 0; /* one generator runs on one core at a time */

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 flow = sent++;

	if (flow + 1 >= flows)
		sent = 0;
	if (write_frame(ctx, flow))
		return XDP_ABORTED;
	return bpf_redirect(out_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
