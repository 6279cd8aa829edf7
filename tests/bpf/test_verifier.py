# SPDX-License-Identifier: MIT
"""Rejections by the kernel's verifier, each of a real program with one planted error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbed.bpf import BpfError, BpfObject
from testbed.nf import load_descriptions
from testbed.nfbuild import RejectedError, load_object
from testbed.paths import BUILD
from testbed.verifier import REJECTIONS

pytestmark = pytest.mark.needs("root", "sched_cls", "clang", "objects")

NETFILTER = pytest.mark.needs("netfilter_link")

HEAD = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");
__u64 table[4];
char LICENSE[] SEC("license") = "GPL";
"""
START = 'SEC("tc") int nf(struct __sk_buff *skb)\n{\n'
# Rule, line at fault, and the lines around it.
PLANTED = {
    "packet bounds": (
        "return ip->ttl;",
        "struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;\n@",
    ),
    "null check": (
        "*n += 1;",
        "__u32 zero = 0;\n__u64 *n = bpf_map_lookup_elem(&counts, &zero);\n@\nreturn 0;",
    ),
    "no pointer": ("return *p;", "__u8 *p = (void *)(long)skb->mark;\n@"),
    "loop without end": (
        "while (bpf_get_prandom_u32() != 5)",
        "__u32 n = 0;\n@\n\tn += skb->len;\nreturn n;",
    ),
    "too complex": (
        "",
        "__u64 n = 0, i;\nfor (i = 0; i < 4000000; i++) {\n"
        "\tif (bpf_get_prandom_u32() & 1)\n\t\tn += i ^ skb->len;\n}\nreturn n > 5;",
    ),
    "reference": (
        "",
        "struct bpf_sock_tuple tuple = {};\n"
        "return bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), -1, 0) != 0;",
    ),
    "memory bounds": ("return table[skb->len];", "@"),
    "context": ("skb->len = 5;", "@\nreturn 0;"),
}
OTHERS = {
    "stack": (
        "",
        "static __noinline int inner(struct __sk_buff *skb, __u32 at)\n{\n"
        "volatile char big[300] = {};\nbig[at & 127] = skb->len;\n"
        "return big[skb->mark & 127];\n}\n"
        + START
        + "volatile char big[300] = {};\nbig[skb->len & 127] = 1;\n"
        "return inner(skb, big[skb->mark & 127]);\n}\n",
    ),
    "helper": (
        "return bpf_skb_load_bytes((void *)xdp, 0, &(__u32){ 0 }, 4);",
        'SEC("xdp") int nf(struct xdp_md *xdp)\n{\n@\n}\n',
    ),
    "return value": (
        "return skb->len;",
        'SEC("cgroup_skb/ingress") int nf(struct __sk_buff *skb)\n{\n@\n}\n',
    ),
    "kernel function": (
        "",
        "extern void bpf_no_such_function(void) __ksym;\n"
        + START
        + "bpf_no_such_function();\nreturn 0;\n}\n",
    ),
}
CASES = {
    **{rule: (line, START + text + "\n}\n") for rule, (line, text) in PLANTED.items()},
    **OTHERS,
}


def build(text: str, folder: Path) -> Path:
    """Compile a program; its object."""
    source, target = folder / "planted.bpf.c", folder / "planted.bpf.o"
    source.write_text(HEAD + text)
    flags = ["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-idirafter"]
    triple = subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True, check=True)
    include = f"/usr/include/{triple.stdout.strip()}"
    subprocess.run(["clang", *flags, include, "-c", source, "-o", target], check=True)
    return target


@pytest.mark.parametrize("rule", CASES)
def test_planted_error_is_explained(rule: str, tmp_path: Path) -> None:
    """The explanation names what the verifier wanted, how to give it, and the line at fault."""
    line, text = CASES[rule]
    with pytest.raises(RejectedError) as caught:
        load_object(build(text.replace("@", line), tmp_path))
    rejection = caught.value.rejection
    assert rejection.rule is not None, rejection.said
    assert rejection.rule.name == rule
    if line:
        number = (tmp_path / "planted.bpf.c").read_text().splitlines().index(line) + 1
        assert rejection.code == line
        assert rejection.where in ("", f"planted.bpf.c:{number}")
        assert rejection.instructions
    assert rejection.rule.wanted in str(caught.value)


def test_every_planted_error_was_one(tmp_path: Path) -> None:
    """The same program without an error loads: it is the error that is rejected."""
    (size,) = load_object(build(START + "return skb->len > 5;\n}\n", tmp_path))
    assert size.name == "nf"
    assert 2 <= size.instructions < 20


def test_rules_are_tried() -> None:
    """Most of what the table explains was seen; the rest are older or rarer wordings."""
    known = {rule.name for rule in REJECTIONS}
    assert set(CASES) <= known
    assert len(known - set(CASES)) <= 4


@pytest.mark.parametrize("datapath", ["tc", pytest.param("netfilter", marks=NETFILTER)])
@pytest.mark.parametrize("name", ["dad", "dnat", "pass"])
def test_library_loads(name: str, datapath: str) -> None:
    """The library's NFs load with full tables and with each choice of their parameters."""
    sizes = load_object(BUILD / "nfs" / f"{name}.{datapath}.bpf.o", load_descriptions()[name])
    assert "nf" in [size.name for size in sizes]


def test_no_verifier_no_explanation(tmp_path: Path) -> None:
    """What is no object at all is no rejection: the error says so in its own words."""
    path = tmp_path / "no.bpf.o"
    path.write_bytes(b"no object")
    with pytest.raises(BpfError, match="open"):
        BpfObject(path)
