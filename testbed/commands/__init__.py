# SPDX-License-Identifier: MIT
"""The register of commands: what ``nfcbed --help`` lists, without importing any of them.

A command is a module ``testbed/commands/<name>.py`` (``-`` in the name becomes ``_``) with a
value ``app``, a :class:`typer.Typer`:

* one function registered with ``@app.command()`` makes a plain command, ``nfcbed <name>``;
* a function registered with ``@app.callback()`` beside it makes a group,
  ``nfcbed <name> <subcommand>``.

The function may return an exit code (None means 0) and raises :mod:`testbed.errors` for all that
can go wrong; the command line turns those into one message. The module is imported only when its
command runs or shows its own help, so it may import what it likes. To add a command, write
the module and add one line to :data:`COMMANDS`, in the order in which the help shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["COMMANDS", "Command", "Section"]


class Section(StrEnum):
    """Headings of the help, in its order."""

    START = "Start here"
    EXPERIMENTS = "Experiments"
    BY_HAND = "Networks and chains by hand"
    UPKEEP = "Upkeep"


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the help.

    :param name: the word typed after ``nfcbed``.
    :param section: heading under which it stands.
    :param summary: one line, no full stop, what it does.
    :param examples: pairs of a command line and what it is good for.
    """

    name: str
    section: Section
    summary: str
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def module(self) -> str:
        """Module that holds the command."""
        return f"testbed.commands.{self.name.replace('-', '_')}"


COMMANDS: tuple[Command, ...] = (
    Command(
        "doctor",
        Section.START,
        "Say what this machine has, what it lacks and how to get it",
        (("sudo nfcbed doctor", "can this machine do it?"),),
    ),
    Command(
        "shell",
        Section.BY_HAND,
        "Open a network with its chains on, and Mininet's prompt",
        (
            (
                "sudo nfcbed shell thesis --policy my.yaml",
                "the thesis's network by hand",
            ),
        ),
    ),
    Command(
        "explain",
        Section.BY_HAND,
        "Say which way a packet goes, from the live objects or a policy file",
        (
            (
                "sudo nfcbed explain --src 10.10.9.1 --dst 10.10.9.5 --proto icmp",
                "which way does it go?",
            ),
        ),
    ),
    Command(
        "chain",
        Section.BY_HAND,
        "Print a policy as rules of nftables or iptables",
        (("nfcbed chain compile my.yaml --to iptables", "the same for iptables-restore"),),
    ),
    Command(
        "nf",
        Section.BY_HAND,
        "List, show and build network functions",
        (("sudo nfcbed nf build dad", "does the kernel take it?"),),
    ),
    Command(
        "run",
        Section.EXPERIMENTS,
        "Run an experiment and keep its result in a folder",
        (
            ("sudo nfcbed run fig7_2 --out results/first", "the data of Figure 7.2"),
            ("sudo nfcbed run fig7_2 --quick", "the same in six seconds"),
        ),
    ),
    Command(
        "plot",
        Section.EXPERIMENTS,
        "Draw the figures of results, from their files alone",
        (("nfcbed plot results/first", "Figure 7.2 as PNG and SVG"),),
    ),
    Command(
        "results",
        Section.EXPERIMENTS,
        "List, show and compare stored results",
        (
            ("nfcbed results list", "which results there are"),
            ("nfcbed results compare A B", "two of them side by side"),
        ),
    ),
    Command(
        "rerun",
        Section.EXPERIMENTS,
        "Repeat a run from its result's folder, and compare",
        (("sudo nfcbed rerun results/first", "the same again, on this machine"),),
    ),
    Command(
        "report",
        Section.EXPERIMENTS,
        "Write one page of all stored results, published beside ours",
        (("nfcbed report", "published beside ours, one page"),),
    ),
    Command(
        "reproduce",
        Section.EXPERIMENTS,
        "Run what the thesis published, draw its figures, and report",
        (("sudo nfcbed reproduce", "what `make reproduce` does"),),
    ),
    Command(
        "bench",
        Section.EXPERIMENTS,
        "Measure what a packet costs on one core, and what a chain holds in memory",
        (("sudo nfcbed bench chain", "what a packet costs"),),
    ),
    Command("clean", Section.UPKEEP, "Remove what runs left that were killed with SIGKILL"),
)
