# SPDX-License-Identifier: MIT
"""What the topologies are made of: virtual machines, a bridge, links with a rate.

Each node, the bridge included, is a network namespace, also under plain ``mn``. Nodes send
nothing by themselves: IPv6 is off, ICMP redirects are off, the bridge neither floods known
addresses nor snoops.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface
from typing import Any

from mininet.link import Intf, Link
from mininet.node import Host, Node, Switch
from mininet.topo import Topo

__all__ = ["DEFAULT_QUEUE_PACKETS", "Bridge", "NfcTopo", "PartError", "ShapedLink", "Vm"]

DEFAULT_QUEUE_PACKETS = 1000
_BURST_S = 0.005  # a rate's credit: longer than a core of a busy machine keeps a timer waiting

# Written before the node has an interface, so that none ever has other values. ip_forward
# comes first, because writing it resets others.
_SYSCTLS = {
    "ipv4/ip_forward": 0,
    "ipv4/conf/*/rp_filter": 0,
    "ipv4/conf/*/send_redirects": 0,
    "ipv4/conf/*/accept_redirects": 0,
    "ipv6/conf/*/disable_ipv6": 1,
    "bridge/bridge-nf-call-*": 0,  # bridged frames do not walk netfilter
}


class PartError(RuntimeError):
    """A command that builds a part failed; the message has the node, the command, its output."""


def _run(node: Node, *commands: str) -> None:
    """Run commands in the node's shell, stopping at the first that fails."""
    done = "commands-done"
    output = str(node.cmd(" && ".join((*commands, f"echo {done}"))))
    if not output.rstrip().endswith(done):
        raise PartError(f"{node.name}: `{' && '.join(commands)}` failed: {output.strip()}")


def _set_sysctls(node: Node, **changes: int) -> None:
    values = _SYSCTLS | {f"ipv4/{name}": value for name, value in changes.items()}
    # A pattern without a match stays as it is typed: then this kernel lacks that sysctl, or
    # has it outside of network namespaces only, where it is not ours to write.
    for pattern, value in values.items():
        files = f"/proc/sys/net/{pattern}"
        _run(node, f'for f in {files}; do [ ! -e "$f" ] || echo {value} > "$f" || exit 1; done')


class Vm(Host):  # type: ignore[misc]
    """A machine: the hypervisor or a virtual machine of the thesis.

    :param forward: whether it forwards packets between and within its links.
    :param routes: pairs of a destination prefix and the address of the next hop.
    :param nfc: whether it runs network function chains (the testbed asks for this).
    """

    def __init__(
        self,
        name: str,
        *,
        forward: bool = False,
        routes: Sequence[tuple[str, str]] = (),
        nfc: bool = False,
        **params: Any,
    ) -> None:
        super().__init__(name, **params)
        self.forward, self.routes, self.nfc = forward, tuple(routes), nfc
        _set_sysctls(self, ip_forward=int(forward))

    def config(self, **_params: Any) -> dict[str, Any]:
        """Bring ``lo`` up and add the routes; the links have brought their addresses."""
        _run(self, "ip link set dev lo up")
        for prefix, via in self.routes:
            _run(self, f"ip route replace {prefix} via {via}")
        return {}


class Bridge(Switch):  # type: ignore[misc]
    """A Linux bridge in a namespace of its own; it needs no controller."""

    # Mininet's Switch reads it, but sets it only outside of namespaces.
    controlIntf = None  # noqa: N815

    def __init__(self, name: str, **params: Any) -> None:
        params["inNamespace"] = True
        super().__init__(name, **params)
        _set_sysctls(self)

    def start(self, controllers: Sequence[Any]) -> None:
        """Make the bridge and attach the links, with their far ends' addresses.

        The addresses are entered for good, because a receiver that never answers would be
        forgotten and its packets flooded to everybody.
        """
        _run(self, f"ip link add name {self.name} type bridge stp_state 0 mcast_snooping 0")
        for port in self.intfList():
            far = port.link.intf2 if port.link.intf1 is port else port.link.intf1
            _run(
                self,
                f"ip link set dev {port} master {self.name}",
                f"bridge fdb replace {far.mac} dev {port} master static",
            )
        _run(self, f"ip link set dev {self.name} up")

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: N803 - Mininet's name
        """Remove the bridge."""
        self.cmd(f"ip link del dev {self.name}")
        super().stop(deleteIntfs)


class ShapedIntf(Intf):  # type: ignore[misc]
    """One end of a :class:`ShapedLink`."""

    def config(
        self,
        *,
        ip: str | None = None,
        mtu: int = 1500,
        rate_mbps: float | None = None,
        queue_packets: int | None = None,
        **_params: Any,
    ) -> dict[str, Any]:
        """Set MTU, rate and address, and bring the interface up."""
        commands = [f"ip link set dev {self.name} mtu {mtu}"]
        if rate_mbps is not None:
            commands += self._shaper(mtu, rate_mbps, queue_packets or DEFAULT_QUEUE_PACKETS)
        if ip is not None:
            commands.append(f"ip address add {ip} dev {self.name}")
            address = IPv4Interface(ip)
            self.ip, self.prefixLen = str(address.ip), address.network.prefixlen
        commands.append(f"ip link set dev {self.name} up")
        _run(self.node, *commands)
        return {}

    def _shaper(self, mtu: int, rate_mbps: float, queue_packets: int) -> list[str]:
        frame_bytes = mtu + 14
        burst_bytes = max(2 * frame_bytes, int(rate_mbps * 1e6 / 8 * _BURST_S))
        # The byte limit belongs to TBF's own queue, which the packet queue replaces.
        return [
            f"tc qdisc replace dev {self.name} root handle 1: tbf rate {round(rate_mbps * 1e6)}bit"
            f" burst {burst_bytes}b limit {queue_packets * frame_bytes}b",
            f"tc qdisc replace dev {self.name} parent 1:1 handle 2: pfifo limit {queue_packets}",
        ]


class ShapedLink(Link):  # type: ignore[misc]
    """A veth pair, each end of which may send at a limited rate (``rate_mbps``).

    The rate is that of Ethernet frames without preamble, checksum and gap. It is kept by TBF
    with a packet queue (pfifo) below: one class and no filter, so that nothing can go round
    it, and GSO packets above the burst are cut to what would be on the wire. HTB would need a
    default class and lets a packet of any size go into debt; netem is missing on many
    kernels. Without a rate there is no queue: a veth hands packets over at once.
    """

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        params.update(cls1=ShapedIntf, cls2=ShapedIntf)
        super().__init__(node1, node2, **params)


class NfcTopo(Topo):  # type: ignore[misc]
    """Base of the topologies: all links alike, all addresses (MAC too) the same in each run.

    A topology overrides :meth:`layout`.

    :param rate_mbps: rate of each link in each direction, 10^6 bit/s; None: no limit.
    :param mtu: MTU of each link in bytes.
    :param queue_packets: packets that wait at a link with a rate (1000 if not given).
    :raises ValueError: a value is out of its range.
    """

    def build(
        self,
        *,
        rate_mbps: float | None = None,
        mtu: int = 1500,
        queue_packets: int | None = None,
    ) -> None:
        """Check the links' parameters and lay the topology out."""
        if rate_mbps is not None and not 0.01 <= rate_mbps <= 100_000:
            raise ValueError(f"rate_mbps: must be 0.01 to 100000, got {rate_mbps}")
        if mtu != int(mtu) or not 576 <= mtu <= 65_535:
            raise ValueError(f"mtu: must be 576 to 65535 bytes, got {mtu}")
        if queue_packets is not None:
            if rate_mbps is None:
                raise ValueError("queue_packets: needs rate_mbps, a link without has no queue")
            if queue_packets != int(queue_packets) or not 1 <= queue_packets <= 1_000_000:
                raise ValueError(f"queue_packets: must be 1 to 1000000, got {queue_packets}")
        self._link = {"rate_mbps": rate_mbps, "mtu": int(mtu), "queue_packets": queue_packets}
        self.layout()

    def layout(self) -> None:
        """Add the nodes and links; each topology does this its own way."""
        raise NotImplementedError

    def vm(self, name: str, **options: Any) -> str:
        """Add a :class:`Vm`."""
        return str(self.addHost(name, cls=Vm, ip=None, **options))

    def bridge(self, name: str) -> str:
        """Add a :class:`Bridge`."""
        return str(self.addSwitch(name, cls=Bridge))

    def wire(
        self, node1: str, node2: str, *, ip1: str | None = None, ip2: str | None = None
    ) -> None:
        """Link two nodes; the addresses (with prefix length) are those of the link's ends."""
        self.addLink(
            node1,
            node2,
            cls=ShapedLink,
            addr1=self._mac(ip1),
            addr2=self._mac(ip2),
            params1={"ip": ip1},
            params2={"ip": ip2},
            **self._link,
        )

    def _mac(self, ip: str | None) -> str:
        """Locally administered: 02:00 and the IPv4 address, or 02:01 and the end's number."""
        if ip is not None:
            tail = IPv4Interface(ip).ip.packed
        else:
            tail = (len(self.links()) + 1).to_bytes(4, "big")
        return ":".join(f"{byte:02x}" for byte in (2, int(ip is None), *tail))
