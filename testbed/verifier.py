# SPDX-License-Identifier: MIT
"""Explain why the kernel's verifier rejected a program: where, what it wanted, how to give it.

The verifier writes down each instruction that it follows, before it the source line that the
instruction was compiled from, and at the end why it stopped. What is known of the reason is a
table (:data:`REJECTIONS`); a reason that is not in it is told in the verifier's own words.

Source: kernel/bpf/verifier.c; its texts differ a little from release to release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REJECTIONS", "Rejection", "Rule", "explain_rejection"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way to be rejected.

    :ivar pattern: of the verifier's last words.
    :ivar wanted: what it asks for.
    :ivar give: how to give it.
    """

    name: str
    pattern: str
    wanted: str
    give: str


REJECTIONS = (
    Rule(
        name="packet bounds",
        pattern=r"invalid access to packet|offset is outside of the packet",
        wanted="proof that these bytes are inside of the packet, right before they are touched",
        give=(
            "Use packet_read(), which checks, or compare against data_end first:"
            " `if ((void *)(header + 1) > data_end) return ...;`. A packet that was changed or"
            " pulled has new bounds: compute the pointers anew. An offset read from the packet"
            " has to be limited before it is added, `offset & 0xff` for one."
        ),
    ),
    Rule(
        name="variable offset",
        pattern=r"math between pkt pointer and register with unbounded|unbounded min value",
        wanted="a largest and a smallest value of what is added to a pointer",
        give="Make it unsigned and limit it: `offset &= 0xff`, or `if (offset > 60) return ...;`.",
    ),
    Rule(
        name="null check",
        pattern=r"_or_null'|possibly NULL pointer|Possibly NULL pointer",
        wanted="a check for NULL: a look-up, an allocation or a cast can fail",
        give="`if (!value) return ...;` before the pointer is used, in every way that leads there.",
    ),
    Rule(
        name="no pointer",
        pattern=r"invalid mem access '(?:scalar|inv)'",
        wanted="a pointer that it knows; this is a plain number to it",
        give=(
            "Keep the pointer that the look-up, or the context, gave. A pointer that was stored"
            " as a number, or computed with & or >>, is one no more. Reading the kernel's own"
            " structures needs bpf_core_read(), or bpf_rdonly_cast()."
        ),
    ),
    Rule(
        name="loop without end",
        pattern=r"infinite loop detected|back-edge from insn",
        wanted="a bound: each round has to bring the loop nearer to an end that it can see",
        give=(
            "Count: `for (i = 0; i < n && i < MAX; i++)` with a constant MAX, or bpf_loop()."
            " A loop that waits for something is not possible."
        ),
    ),
    Rule(
        name="too complex",
        pattern=r"too large\. Processed|jumps is too complex|processed 1000001 insn",
        wanted="a program whose ways it can follow within a million instructions",
        give=(
            "Let loops have fewer rounds; let what a loop does be a function of its own, marked"
            " __noinline, which is verified once; use bpf_loop() for long loops; decide early, so"
            " that fewer ways meet."
        ),
    ),
    Rule(
        name="stack",
        pattern=r"combined stack size|stack limit of 512 bytes|invalid write to stack R10",
        wanted="at most 512 bytes of local variables, all functions on the way added up",
        give=(
            "Keep large things in a map: a per-CPU array with one entry is the usual scratch"
            " space. Inlined functions share the room that is not used at the same time."
        ),
    ),
    Rule(
        name="reference",
        pattern=r"Unreleased reference|reference leak",
        wanted="that what was taken is given back in every way out",
        give=(
            "Call the release function (bpf_sk_release(), bpf_ct_release(), ...) before each"
            " return that follows, also where something else went wrong."
        ),
    ),
    Rule(
        name="helper",
        pattern=r"cannot use helper|unknown func|calling kernel function \S+ is not allowed",
        wanted="only functions that a program at this hook may call",
        give=(
            "Go through the packet API (nfs/include/packet.h), which has the function for each"
            " hook. Where the NF needs it, it cannot run at this hook: leave the thin file and the"
            " datapath in nf.yaml out."
        ),
    ),
    Rule(
        name="kernel function",
        pattern=r"extern \(func ksym\)",
        wanted="a kernel function of this name and of these arguments",
        give=(
            "Declare it as the kernel has it and `__ksym __weak`, and ask with"
            " bpf_ksym_exists() before it is called: kernels differ in what they have."
        ),
    ),
    Rule(
        name="memory bounds",
        pattern=(
            r"unbounded memory access|invalid access to (?:map value|memory)"
            r"|value is outside of the (?:allowed memory|array) range"
        ),
        wanted="proof that the index or the length stays inside of the array, struct or map value",
        give=(
            "`if (index >= SIZE) return ...;` right before the access, or `index & (SIZE - 1)`"
            " where SIZE is a power of two; the check has to be on the very variable that is used."
        ),
    ),
    Rule(
        name="read-only",
        pattern=r"cannot write into|write into (?:rdonly|packet) prohibited|rdonly_mem",
        wanted="that nothing is written here: this hook, or this memory, can only be read",
        give=(
            "At netfilter a packet cannot be changed. Leave that datapath out of nf.yaml, or copy"
            " the bytes to a local variable and change those."
        ),
    ),
    Rule(
        name="context",
        pattern=r"invalid bpf_context access",
        wanted="only fields of the context that this hook shows, and writes only where it lets",
        give=(
            "See `struct __sk_buff` or `struct xdp_md` in <linux/bpf.h>; the packet API has"
            " packet_length(), wire_bytes() and the like for each hook."
        ),
    ),
    Rule(
        name="uninitialised",
        pattern=r"!read_ok|invalid (?:indirect )?read from stack",
        wanted="a value in each variable before it is read, in every way that leads there",
        give="Give it one where it is declared: `struct my_key key = {};` also clears its holes.",
    ),
    Rule(
        name="return value",
        pattern=r"At program exit the register R0|R0 has unknown scalar value",
        wanted="a verdict that this hook knows, on every way out",
        give="An NF returns ACCEPT or drop(pkt, reason); the hook makes its verdict of that.",
    ),
    Rule(
        name="privilege",
        pattern=r"Operation not permitted",
        wanted="root",
        give="Run it with sudo.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a program was rejected.

    :ivar said: the verifier's last words.
    :ivar code: source line that the last instruction comes from, as it stands there; may be "".
    :ivar where: ``file:line`` of it; "" where the kernel does not say and it is not found.
    :ivar instructions: the last ones that were followed.
    :ivar rule: what is known of it, or None.
    """

    program: str
    said: str
    code: str
    where: str
    instructions: tuple[str, ...]
    rule: Rule | None

    def lines(self) -> list[str]:
        """The explanation, for people."""
        found = [f"the verifier rejects {self.program or 'the program'}: {self.said}"]
        if self.code:
            found.append(f"  at      {self.where or '(line not told)'}: {self.code}")
        found += [f"          {text}" for text in self.instructions]
        if self.rule is not None:
            found += [f"  wanted  {self.rule.wanted}", f"  how     {self.rule.give}"]
        return found


_PROGRAM = re.compile(r"prog '([^']+)': BPF program load failed")
_BEGIN, _END = "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --"
_SOURCE = re.compile(r"; (.*?)(?: @ (\S+):(\d+))?$")
_INSTRUCTION = re.compile(r"(?:from \d+ to )?\d+: \(")
_TRAILER = re.compile(
    r"processed \d+ insns|verification time|stack depth|mark_precise|(?:cur|old) state"
)
_SHOWN = 3


def explain_rejection(log: str, *, sources: Path | None = None) -> Rejection:
    """Read what libbpf and the verifier said about a program that was not loaded.

    :param sources: folder in whose files a source line is looked for, where the kernel does not
        say whose it is (before Linux 6.10).
    """
    program = _PROGRAM.search(log)
    verifier = log.rpartition(_BEGIN)[2].partition(_END)[0] if _BEGIN in log else ""
    instructions: list[str] = []
    said: list[str] = []
    code = where = ""
    for line in verifier.splitlines():
        source = _SOURCE.match(line)
        if source and (source[2] is None or source[3] != "0"):
            code, where = source[1].strip(), f"{source[2]}:{source[3]}" if source[2] else ""
            said = []
        elif _INSTRUCTION.match(line):
            instructions.append(_short(line))
            said = []
        elif line.strip() and not source and not _TRAILER.match(line):
            said.append(line.strip())
    if not said:
        said = [line for line in log.splitlines() if line.startswith("libbpf: ")][:1]
    if code and not where and sources is not None:
        where = _find(code, sources)
    text = "; ".join(part.removeprefix("libbpf: ").rstrip(".") for part in said)
    return Rejection(
        program=program[1] if program else "",
        said=text or "no reason was given",
        code=code,
        where=where,
        instructions=tuple(instructions[-_SHOWN:]),
        rule=next((rule for rule in REJECTIONS if re.search(rule.pattern, text)), None),
    )


def _short(line: str) -> str:
    """An instruction without the registers' states behind it."""
    return line.partition(" ; ")[0].rstrip()


def _find(code: str, sources: Path) -> str:
    """The one place among the C files of a folder where a line stands; "" if there are others."""
    found = [
        f"{path.name}:{number}"
        for path in sorted([*sources.rglob("*.h"), *sources.rglob("*.c")])
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip() == code
    ]
    return found[0] if len(found) == 1 else ""
