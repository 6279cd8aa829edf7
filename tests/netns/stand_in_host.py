# SPDX-License-Identifier: MIT
"""A stand-in for the host, as a program, for test_leaves_nothing.py.

It must be started in network, mount and pid namespaces of its own (``unshare``), so that what it
plants and what a fault of ours might destroy is not the real host's. It plants things that
look like ours, takes a snapshot, has runs start and end in the given way, and compares.
"""

from __future__ import annotations

import ctypes
import difflib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from testbed.namespaces import mount
from testbed.network import Network
from testbed.sandbox import Sandbox, run_in_sandbox
from topologies.thesis import Thesis

MAP_CREATE, PROG_LOAD, OBJ_PIN, OBJ_GET_INFO, LINK_CREATE = 0, 5, 6, 15, 28
NEXT_ID = {"program": 11, "map": 12, "link": 31}
PINS = Path("/run/bpf")  # a bpffs of the stand-in host
SCHED_CLS, XDP = 3, 6
TCX_INGRESS, XDP_ATTACH = 46, 37

libc = ctypes.CDLL(None, use_errno=True)


# --- a little of bpf(2) -------------------------------------------------------------------------


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(321 if os.uname().machine == "x86_64" else 280, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return int(result), buffer.raw


def object_id(descriptor: int) -> int:
    info = ctypes.create_string_buffer(256)
    bpf(OBJ_GET_INFO, struct.pack("<IIQ", descriptor, 256, ctypes.addressof(info)))
    return int(struct.unpack_from("<I", info.raw, 4)[0])


def pin(descriptor: int, path: Path) -> None:
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(OBJ_PIN, struct.pack("<QI", ctypes.addressof(name), descriptor))


def all_ids(kind: str) -> set[int]:
    found: set[int] = set()
    last = 0
    while True:
        try:
            last = struct.unpack_from("<I", bpf(NEXT_ID[kind], struct.pack("<I", last))[1], 4)[0]
        except FileNotFoundError:
            return found
        found.add(last)


def make_map() -> int:
    return bpf(MAP_CREATE, struct.pack("<IIII", 2, 4, 4, 1))[0]


def make_program(kind: int = SCHED_CLS) -> int:
    accept = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"))
    licence = ctypes.create_string_buffer(b"GPL")
    place, words = ctypes.addressof(accept), ctypes.addressof(licence)
    return bpf(PROG_LOAD, struct.pack("<IIQQ", kind, 2, place, words))[0]


def make_link(interface_index: int) -> int:
    """Attach a program: by a tcx link, or by an XDP link where there is no tcx (before 6.6)."""

    def link(kind: int, where: int) -> int:
        program = make_program(kind)
        return bpf(LINK_CREATE, struct.pack("<IIII", program, interface_index, where, 0))[0]

    try:
        return link(SCHED_CLS, TCX_INGRESS)
    except OSError:
        return link(XDP, XDP_ATTACH)


# --- the run: everything that a testbed can make ------------------------------------------------


def shell(text: str) -> str:
    done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{text}: {done.stderr}")
    return done.stdout


def populate(sandbox: Sandbox, net: Network) -> dict[str, int]:
    """Make one of each in the run: rules, qdiscs, daemons, files, pinned BPF objects."""
    vm1 = net.node("vm1")
    vm1.popen(["sleep", "1000"])
    vm1.run(["setsid", "-f", "sh", "-c", "exec >&- 2>&-; sleep 1000"])
    vm1.run(
        ["nft", "add table ip ours; add chain ip ours in { type filter hook input priority 0; }"]
    )
    vm1.run(["iptables", "-A", "INPUT", "-j", "ACCEPT"])
    shell("ip link add vm1-eth0 type veth peer name vm1-far; ip link add s1 type bridge")
    shell("nft add table ip mine; echo 1 > /proc/sys/net/ipv4/ip_forward")
    mount("tmpfs", Path("/mnt"))
    (sandbox.folder / "some.log").write_text("text")
    made = {"map": make_map(), "program": make_program()}
    with vm1.netns():
        made["link"] = make_link(vm1.interfaces[0].index)
    for kind, descriptor in made.items():
        pin(descriptor, sandbox.bpffs / kind)
    return {kind: object_id(descriptor) for kind, descriptor in made.items()}


def run(how: str) -> int:
    """Be a run; tell the stand-in host the ids of what it made, then end as told."""

    def main(sandbox: Sandbox) -> int:
        with Network(Thesis(rate_mbps=100)) as net:
            sys.stdout.write(json.dumps(populate(sandbox, net)) + "\n")
            sys.stdout.flush()
            if how == "exception":
                raise ZeroDivisionError("a fault of ours")
            if how != "normal":
                time.sleep(1000)
        return 0

    return run_in_sandbox(main, command="test")


# --- the stand-in host --------------------------------------------------------------------------

PLANT = """
for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done
ip link set lo up
ip link add vm1-eth0 type veth peer name vm1-far; ip link add s1 type bridge
ip address add 192.0.2.1/24 dev vm1-eth0; ip link set vm1-eth0 up
ip link add hv-eth0 type veth peer name s1-eth1; ip link set s1-eth1 master s1 up
ip link set hv-eth0 up; ip route add 198.51.100.0/24 dev hv-eth0
ip netns add vm1
ip link add inside type veth peer name outside netns vm1
tc qdisc add dev hv-eth0 root handle 1: tbf rate 10mbit burst 10k limit 10k
tc qdisc add dev vm1-eth0 clsact
nft 'add table ip ours; add chain ip ours c { type filter hook forward priority 0; policy drop; }'
iptables -A FORWARD -s 10.10.9.0/24 -j DROP
echo 0 > /proc/sys/net/ipv4/ip_forward; echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter
mkdir -p /run/nfcbed/20200101-000000-1/bpf /run/bpf
touch /run/nfcbed/20200101-000000-1/run.json
"""
# Values that the kernel itself moves, and those that are not of this network namespace but of
# whatever else the machine does.
MOVING = re.compile(
    r"/(nf_conntrack_count|random/|file-nr|inode-nr|inode-state|dentry-state|aio-nr|ns_last_pid"
    r"|pty/nr|sched|perf_|cad_pid|/proc/sys/user/|bpf_stats|msgmni|shm|sem)"
)


BRIDGE_TIMER = re.compile(r"_timer +[0-9.]+")


def plant() -> list[subprocess.Popen[bytes]]:
    shell(PLANT)
    mount("bpf", PINS)
    for kind, descriptor in (("map", make_map()), ("program", make_program())):
        pin(descriptor, PINS / kind)
    look_alike = ["bash", "-c", "exec -a mininet:vm1 sleep 1000"]
    return [
        subprocess.Popen(look_alike),
        subprocess.Popen(["ip", "netns", "exec", "vm1", *look_alike]),
    ]


def tree(*folders: Path) -> dict[str, Any]:
    found = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            details = path.lstat()
            content = None
            same_mount = details.st_dev == folder.lstat().st_dev  # pins and netns cannot be read
            if path.is_file() and same_mount and details.st_size < 100_000:
                content = path.read_bytes()
            found[str(path)] = (details.st_mode, details.st_uid, details.st_ino, content)
    return found


def sysctls() -> dict[str, str]:
    found = {}
    for path in Path("/proc/sys").rglob("*"):
        if path.is_file() and not MOVING.search(str(path)) and path.stat().st_mode & 0o444:
            try:
                found[str(path)] = path.read_text()
            except (OSError, UnicodeDecodeError):
                continue
    return found


def processes() -> dict[str, tuple[str, str, str]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text()
            spaces = (str((path / "ns/net").readlink()), str((path / "ns/mnt").readlink()))
        except OSError:
            continue
        found[path.name] = (words, *spaces)
    return found


def snapshot() -> dict[str, Any]:
    """All that a run might change here."""
    facts: dict[str, Any] = {"sysctls": sysctls(), "processes": processes()}
    for command in (
        "ip -d address",
        "ip route show table all",
        "tc qdisc",
        "ip rule",
        "bridge fdb",
    ):
        for place, prefix in (("here", ""), ("in vm1", "ip netns exec vm1 ")):
            facts[f"{command} {place}"] = BRIDGE_TIMER.sub("", shell(prefix + command)).splitlines()
    facts["nft"] = re.sub(r"packets \d+ bytes \d+", "", shell("nft list ruleset")).splitlines()
    facts["iptables"] = re.sub(
        r"^#.*|\[.*\]", "", shell("iptables-save"), flags=re.MULTILINE
    ).splitlines()
    facts["mounts"] = sorted(Path("/proc/self/mountinfo").read_text().splitlines())
    facts["files"] = tree(Path("/run"), *([Path("/tmp")] if os.path.ismount("/tmp") else []))
    return facts


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    for key, old in before.items():
        new = after[key]
        if isinstance(old, dict):
            yield from (f"{key}: {k}: {v!r} is gone" for k, v in old.items() if k not in new)
            yield from (f"{key}: {k}: {v!r} is left" for k, v in new.items() if k not in old)
            yield from (
                f"{key}: {k}: {old[k]!r} -> {new[k]!r}" for k in old if new.get(k, old[k]) != old[k]
            )
        else:
            yield from (f"{key}: {line}" for line in difflib.ndiff(old, new) if line[0] in "+-")


def start(how: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
    child = subprocess.Popen(
        [sys.executable, __file__, "run", how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(child.communicate()[1])
    return child, json.loads(line)


def stop(child: subprocess.Popen[str], how: str) -> None:
    """End a run in the way named: a signal to its group, or SIGKILL of one of its processes."""
    if how in ("normal", "exception"):
        child.wait(20)
        return
    if how.startswith("kill-"):
        (record,) = [
            record
            for path in Path("/run/nfcbed").glob("*/run.json")
            if path.stat().st_size
            and (record := json.loads(path.read_text()))["process"]["pid"] == child.pid
        ]
        pids = {"outer": child.pid, "init": record["init_pid"], "worker": record["worker_pid"]}
        os.kill(pids[how.removeprefix("kill-")], signal.SIGKILL)
    else:
        os.killpg(child.pid, signal.Signals[how])
    child.wait(20)


def host(how: str) -> int:
    """Plant, run, compare; returns 0 if all is as it was."""
    # As on a usual host: what is mounted in a namespace below would show here as well.
    shell("mount --make-rshared /")
    mount("tmpfs", Path("/run"))
    for name, folder in (("HOME", "/run/home"), ("TMPDIR", "/run/tmp")):
        os.environ[name] = folder
        Path(folder).mkdir()
    if not any(place.startswith("/tmp/") for place in (sys.prefix, __file__)):
        mount("tmpfs", Path("/tmp"))  # others write there, which must not be taken for ours
    planted = plant()
    before = snapshot()
    children = [(each, *start(each)) for each in how.split("+")]
    while_running = (
        list(differences(before, snapshot())) if how not in ("normal", "exception") else [""]
    )
    if not while_running:
        sys.stderr.write("the snapshot sees nothing of a run: it shows nothing")
        return 1
    for each, child, _ in children:
        stop(child, each)
    if "kill-outer" in how:  # its folder goes with the next start
        child, _ = start("normal")
        child.communicate(timeout=20)
    made = [(kind, number) for _, _, ids in children for kind, number in ids.items()]
    deadline = time.monotonic() + 10
    while True:  # the kernel frees BPF objects and namespaces a little later
        left = list(differences(before, snapshot()))
        left += [f"BPF {kind} {number} is left" for kind, number in made if number in all_ids(kind)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for process in planted:
        process.kill()
    sys.stderr.write("\n".join(left))
    return bool(left)


if __name__ == "__main__":
    sys.exit({"host": host, "run": run}[sys.argv[1]](sys.argv[2]))
