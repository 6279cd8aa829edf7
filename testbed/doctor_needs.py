# SPDX-License-Identifier: MIT
"""What nfcbed needs of a machine, as data: why, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FEATURES", "TOOLS", "Feature", "Tool"]

BPF, NETWORK, FILTERS = "Kernel: BPF", "Kernel: network", "Kernel: packet filters"


@dataclass(frozen=True, slots=True)
class Feature:
    """A kernel feature, found by the probe of the same key.

    :param key: name of the probe in :data:`testbed.probe.PROBES`.
    :param title: what it is called in the table.
    :param needed_for: what cannot be done without it.
    :param get: how to get it.
    :param required: the thesis's experiment cannot run without it.
    """

    key: str
    group: str
    title: str
    needed_for: str
    get: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, found on the path; its version is the first match of ``pattern``.

    :param version: arguments that make it print its version.
    :param minimum: oldest version that will do; () takes any.
    :param package: Debian's and Ubuntu's name of the package.
    """

    key: str
    needed_for: str
    package: str
    version: tuple[str, ...] = ("--version",)
    pattern: str = r"\d+(?:\.\d+)+"
    minimum: tuple[int, ...] = ()
    required: bool = False


FEATURES: tuple[Feature, ...] = (
    Feature(
        "namespaces",
        NETWORK,
        "network, mount and pid namespaces",
        "every network of the testbed",
        "a kernel with CONFIG_NET_NS and CONFIG_PID_NS, and no sandbox that forbids them",
        required=True,
    ),
    Feature(
        "veth",
        NETWORK,
        "veth pair",
        "links between nodes",
        "a kernel with CONFIG_VETH",
        required=True,
    ),
    Feature(
        "bridge",
        NETWORK,
        "bridge",
        "the hypervisor's switch",
        "a kernel with CONFIG_BRIDGE",
        required=True,
    ),
    Feature(
        "htb",
        NETWORK,
        "HTB qdisc",
        "links shaped by hand, in classes",
        "a kernel with CONFIG_NET_SCH_HTB",
    ),
    Feature("tbf", NETWORK, "TBF qdisc", "links with a rate", "a kernel with CONFIG_NET_SCH_TBF"),
    Feature(
        "btf",
        BPF,
        "type information (BTF)",
        "conntrack from BPF, tracing, reading live objects",
        "a kernel with CONFIG_DEBUG_INFO_BTF",
    ),
    Feature(
        "bpf_jit",
        BPF,
        "just-in-time compiler",
        "figures worth quoting: interpreted programs are several times slower",
        "sysctl -w net.core.bpf_jit_enable=1",
    ),
    Feature(
        "bpffs",
        BPF,
        "bpffs",
        "pinning a run's chain",
        "a kernel with CONFIG_BPF_SYSCALL",
        required=True,
    ),
    Feature(
        "sched_cls",
        BPF,
        "tc programs",
        "the datapath tc",
        "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF",
        required=True,
    ),
    Feature("tcx", BPF, "tcx link", "the chaining point of tc", "Linux 6.6 or newer"),
    Feature(
        "clsact",
        BPF,
        "clsact with a BPF filter",
        "the chaining point of tc where there is no tcx",
        "a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
    ),
    Feature(
        "tail_call",
        BPF,
        "program array and tail call",
        "going from one NF to the next",
        "Linux 4.2 or newer",
        required=True,
    ),
    Feature(
        "fib_lookup",
        BPF,
        "FIB look-up",
        "chains with forward: direct",
        "Linux 4.18 or newer",
        required=True,
    ),
    Feature(
        "redirect_peer",
        BPF,
        "bpf_redirect_peer",
        "the quickest way out of a chain with forward: direct",
        "Linux 5.10 or newer",
        required=True,
    ),
    Feature(
        "conntrack_kfuncs",
        BPF,
        "connection tracking from BPF",
        "DNAT with state: conntrack",
        "Linux 6.1 or newer with CONFIG_NF_CONNTRACK, CONFIG_NF_NAT and BTF for modules",
    ),
    Feature(
        "bpf_timer",
        BPF,
        "bpf_timer",
        "forgetting idle flows, in the classifier",
        "Linux 5.15 or newer",
        required=True,
    ),
    Feature("prog_test_run", BPF, "BPF_PROG_TEST_RUN", "testing an NF", "Linux 4.12 or newer"),
    Feature("xdp", BPF, "native XDP on veth", "the datapath xdp", "Linux 5.9 or newer"),
    Feature(
        "xdp_live_frames",
        BPF,
        "XDP live frames",
        "nfcbed bench: its packet generator",
        "Linux 5.18 or newer",
    ),
    Feature(
        "netfilter_link",
        BPF,
        "BPF link at a netfilter hook",
        "the datapath netfilter",
        "Linux 6.4 or newer with CONFIG_NETFILTER_BPF_LINK",
    ),
    Feature(
        "tp_btf", BPF, "BTF tracepoints", "exact CPU time", "a kernel with CONFIG_DEBUG_INFO_BTF"
    ),
    Feature("bpf_stats", BPF, "run time per program", "exact CPU time", "Linux 5.8 or newer"),
    Feature(
        "map_memory",
        BPF,
        "account of a map's memory",
        "the memory that a chain holds; without it, what it would hold if its tables were full",
        "Linux 6.4 or newer",
    ),
    Feature(
        "nft_nat",
        FILTERS,
        "NAT in nftables",
        "comparing DNAT with the kernel's own",
        "a kernel with CONFIG_NFT_NAT",
    ),
    Feature(
        "nft_queue",
        FILTERS,
        "queue in nftables",
        "the datapath nfqueue",
        "a kernel with CONFIG_NFT_QUEUE",
    ),
    Feature(
        "xt_nfqueue",
        FILTERS,
        "NFQUEUE in iptables",
        "the datapath nfqueue where nftables has no queue",
        "a kernel with CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
    ),
    Feature(
        "nfnetlink_queue",
        FILTERS,
        "packets to user space",
        "the datapath nfqueue",
        "a kernel with CONFIG_NETFILTER_NETLINK_QUEUE",
    ),
)

TOOLS: tuple[Tool, ...] = (
    Tool("clang", "compiling NFs", "clang", minimum=(11,), required=True),
    Tool("iperf3", "the experiments' flows", "iperf3", minimum=(3, 9), required=True),
    Tool("ip", "building networks", "iproute2", ("-V",), required=True),
    Tool("tc", "links with a rate", "iproute2", ("-V",), required=True),
    Tool("mnexec", "Mininet's nodes", "mininet", ("-v",), required=True),
    Tool("ethtool", "switching offloads", "ethtool"),
    Tool("nft", "the reference nftables", "nftables", ("-v",)),
    Tool("iptables", "the reference iptables", "iptables", ("-V",)),
    Tool("conntrack", "listing translated connections", "conntrack", ("-V",)),
    Tool("vmstat", "memory and CPU as the thesis measures them", "procps", ("-V",)),
    Tool(
        "cpudist",
        "Figure 7.3: how long tasks stay on a CPU",
        "libbpf-tools",
        pattern=r"\d+(?:\.\d+)*",
    ),
    Tool("sockperf", "round-trip times", "sockperf"),
    Tool("tcpdump", "looking at packets by hand", "tcpdump"),
    Tool("bpftool", "looking at loaded programs by hand", "bpftool", ("version",)),
)
