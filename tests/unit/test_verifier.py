# SPDX-License-Identifier: MIT
"""Reading the verifier's words, from recorded logs of other kernels."""

from __future__ import annotations

from pathlib import Path

from testbed.verifier import explain_rejection

LINUX_6_1 = """libbpf: prog 'nf': BPF program load failed: Permission denied
libbpf: prog 'nf': -- BEGIN PROG LOAD LOG --
0: R1=ctx(off=0,imm=0) R10=fp0
; struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
0: (61) r1 = *(u32 *)(r1 +76)         ; R1_w=pkt(off=0,r=0,imm=0)
; return ip->ttl;
1: (71) r0 = *(u8 *)(r1 +22)
invalid access to packet, off=22 size=1, R1(id=0,off=22,r=0)
R1 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'nf': failed to load: -13
libbpf: failed to load object 'short.bpf.o'
"""


def test_line_is_found_where_the_kernel_names_no_file(tmp_path: Path) -> None:
    """Older kernels give the source line without file and number: it is looked for."""
    (tmp_path / "short.h").write_text("/* */\nint f;\n\treturn ip->ttl;\n")
    rejection = explain_rejection(LINUX_6_1, sources=tmp_path)
    assert (rejection.program, rejection.where) == ("nf", "short.h:3")
    assert rejection.code == "return ip->ttl;"
    assert rejection.said.startswith("invalid access to packet, off=22")
    assert rejection.instructions[-1] == "1: (71) r0 = *(u8 *)(r1 +22)"
    assert rejection.rule is not None
    assert rejection.rule.name == "packet bounds"


def test_line_that_stands_twice_is_not_guessed(tmp_path: Path) -> None:
    """Where two places have the line, none is named."""
    for name in ("a.h", "b.h"):
        (tmp_path / name).write_text("return ip->ttl;\n")
    assert explain_rejection(LINUX_6_1, sources=tmp_path).where == ""


def test_unknown_reason_is_told_as_it_is() -> None:
    """A reason that nobody has written about is given in the verifier's words."""
    log = LINUX_6_1.replace("invalid access to packet, off", "the moon is full")
    log = log.replace("R1 offset is outside of the packet\n", "")
    rejection = explain_rejection(log)
    assert rejection.rule is None
    assert rejection.lines()[0].startswith("the verifier rejects nf: the moon is full")


def test_no_log_at_all() -> None:
    """Nothing said is said so."""
    assert explain_rejection("").said == "no reason was given"
