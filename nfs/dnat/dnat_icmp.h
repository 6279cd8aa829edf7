/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP errors about packets of a translated connection (RFC 5508, section 4; the kernel's
 * nf_nat_icmp_reply_translation()): the packet quoted inside is turned back into what its sender
 * sent, and the error itself comes from, or goes to, the end that this sender knows.
 */
#ifndef NF_DNAT_ICMP_H
#define NF_DNAT_ICMP_H

#define ICMP_HEADER 8
#define ICMP_CHECKSUM 2
#define QUOTED_L4 8 /* what every error quotes of the transport header (RFC 792) */

struct icmp_start {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u32 rest;
};

/* Where things stand in the error, in bytes from the start of the frame. */
struct quoted {
	__u32 icmp;
	__u32 ip;
	__u32 l4;
	struct flow_key flow;
};

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static __always_inline bool quoted_load(struct packet *pkt, struct quoted *quoted)
{
	struct __sk_buff *skb = pkt->skb;
	struct icmp_start icmp;
	struct iphdr ip;
	__be16 ports[2];

	quoted->icmp = l4_offset(&pkt->key);
	quoted->ip = quoted->icmp + ICMP_HEADER;
	if (bpf_skb_load_bytes(skb, quoted->icmp, &icmp, sizeof(icmp)) ||
	    !icmp_is_error(icmp.type) || bpf_skb_load_bytes(skb, quoted->ip, &ip, sizeof(ip)) ||
	    ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(0x1fff) ||
	    !transport_header(ip.protocol))
		return false;
	quoted->l4 = quoted->ip + ip.ihl * 4;
	if (skb->len < quoted->l4 + QUOTED_L4 ||
	    bpf_skb_load_bytes(skb, quoted->l4, ports, sizeof(ports)))
		return false;
	quoted->flow = (struct flow_key){ .src = ip.saddr, .dst = ip.daddr, .sport = ports[0],
					  .dport = ports[1], .proto = ip.protocol };
	return true;
}

/* Write a 16-bit field of the quoted packet and keep the ICMP checksum, which covers it. */
static __always_inline void quoted_write2(struct __sk_buff *skb, const struct quoted *quoted,
					  __u32 offset, __be16 old, __be16 new)
{
	bpf_skb_store_bytes(skb, offset, &new, sizeof(new), 0);
	bpf_l4_csum_replace(skb, quoted->icmp + ICMP_CHECKSUM, old, new, sizeof(new));
}

static __always_inline void quoted_fix_sum(struct __sk_buff *skb, const struct quoted *quoted,
					   __u32 offset, __be32 from, __be32 to)
{
	__sum16 sum, old;

	if (bpf_skb_load_bytes(skb, offset, &sum, sizeof(sum)))
		return;
	old = sum;
	checksum_replace4(&sum, from, to);
	quoted_write2(skb, quoted, offset, old, sum);
}

/* The quoted transport checksum, where it is quoted at all and not absent (UDP's 0). */
static __always_inline void quoted_transport(struct __sk_buff *skb, const struct quoted *quoted,
					     __be32 old_addr, __be32 addr, __be16 old_port,
					     __be16 port)
{
	__u32 offset = quoted->l4 + transport_checksum(quoted->flow.proto);
	bool udp = quoted->flow.proto == IPPROTO_UDP;
	__sum16 sum, old;

	if (skb->len < quoted->l4 + transport_header(quoted->flow.proto) ||
	    bpf_skb_load_bytes(skb, offset, &sum, sizeof(sum)) || (udp && !sum))
		return;
	old = sum;
	checksum_replace4(&sum, old_addr, addr);
	checksum_replace4(&sum, old_port, port);
	if (udp && !sum)
		sum = 0xffff;
	quoted_write2(skb, quoted, offset, old, sum);
}

/* Put addr:port at one end of the quoted packet. */
static __always_inline void quoted_set_end(struct __sk_buff *skb, const struct quoted *quoted,
					   enum end end, __be32 addr, __be16 port)
{
	__be32 old_addr = end == SOURCE ? quoted->flow.src : quoted->flow.dst;
	__be16 old_port = end == SOURCE ? quoted->flow.sport : quoted->flow.dport;
	__u32 at = quoted->ip + (end == SOURCE ? offsetof(struct iphdr, saddr) :
						 offsetof(struct iphdr, daddr));

	quoted_fix_sum(skb, quoted, quoted->ip + offsetof(struct iphdr, check), old_addr, addr);
	bpf_skb_store_bytes(skb, at, &addr, sizeof(addr), 0);
	bpf_l4_csum_replace(skb, quoted->icmp + ICMP_CHECKSUM, old_addr, addr, sizeof(addr));
	quoted_transport(skb, quoted, old_addr, addr, old_port, port);
	quoted_write2(skb, quoted, quoted->l4 + (end == SOURCE ? 0 : 2), old_port, port);
}

static __always_inline enum reply dnat_icmp_error(struct packet *pkt)
{
	struct dnat_change change = {};
	struct quoted quoted = {};
	struct flow_key way_back;
	__be32 old;

	if (!quoted_load(pkt, &quoted))
		return REPLY_NOT_MINE;
	/* The quoted packet went one way, the error comes the other: ask for that direction. */
	way_back = dnat_reply_of(&quoted.flow, quoted.flow.dst, quoted.flow.dport);
	if (!dnat_find(pkt, &way_back, &change))
		return REPLY_NOT_MINE;
	count(pkt, DNAT_ERRORS);
	if (change.end == SOURCE) {
		/* About a packet that we sent on: its sender knows our first address. */
		quoted_set_end(pkt->skb, &quoted, DESTINATION, change.addr, change.port);
		pkt->key.src = change.addr;
	} else {
		/* About a reply that we sent back: the answering end is the one translated to. */
		quoted_set_end(pkt->skb, &quoted, SOURCE, change.addr, change.port);
		pkt->key.dst = change.addr;
	}
	if (!rewrite_address(pkt->skb, change.end, change.addr, &old))
		return REPLY_DROP;
	key_store(pkt->skb, &pkt->key);
	return REPLY_TRANSLATED;
}

#endif
