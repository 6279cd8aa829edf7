# SPDX-License-Identifier: MIT
"""A run of experiment 2 that plays states of the testbed, and what it knows at any time."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from experiments._carried import Side, total
from experiments._scene import Books, Scene, open_scene
from experiments._way import NFC_NODE, TOPOLOGIES, flows_of
from testbed.chain import Policy
from testbed.experiment.runner import Session
from testbed.experiment.sampler import Sampler
from testbed.results import Phase

__all__ = ["SETTLE_S", "States", "run_tool", "said"]

SETTLE_S = 0.5  # between building and observing
_POLL_S = 0.01

T = TypeVar("T")


class States(Generic[T]):
    """States that were played, and what was observed of each.

    :ivar seen: by the state's name.
    :ivar books: of the states that were loaded.
    :ivar texts: what tools wrote, by file name.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.duration_s: float = session.parameters["duration_s"]
        self.mtu: int = session.parameters["mtu"]
        self.zero_ns = time.monotonic_ns()
        self.seen: dict[str, T] = {}
        self.books: dict[str, Books] = {}
        self.texts: dict[str, Any] = {}
        self._phases: list[Phase] = []
        self._scenes: dict[str, Any] = {}

    @contextlib.contextmanager
    def scene(self, side: Side, *, policy: Policy | None, weigh: bool = False) -> Iterator[Scene]:
        """Build the testbed of one way, meanwhile; see :func:`experiments._scene.open_scene`."""
        flows = flows_of(side, self.mtu)
        with open_scene(
            self.session, TOPOLOGIES[side], flows, mtu=self.mtu, policy=policy, weigh=weigh
        ) as scene:
            yield scene

    def play(
        self,
        scene: Scene,
        name: str,
        *,
        loaded: bool,
        observe: Callable[[Scene, str, float], T],
    ) -> None:
        """Let the testbed settle, play a state, observe its middle, and keep what was seen.

        :raises RunError: iperf3 failed or does not end.
        """
        scene.wait(SETTLE_S)
        with self.kept(scene, name, loaded=loaded):
            self.seen[name] = scene.play(
                name,
                loaded=loaded,
                duration_s=self.duration_s,
                observe=lambda for_s: observe(scene, name, for_s),
            )

    @contextlib.contextmanager
    def kept(self, scene: Scene, name: str, *, loaded: bool) -> Iterator[None]:
        """Keep what a state of this name leaves that is played meanwhile, whatever ends it."""
        try:
            yield
        finally:
            self._phases += [p for p in scene.phases_since(self.zero_ns) if p.name == name]
            self._scenes |= scene.raw()
        if loaded:
            self.books[name] = scene.books(name)

    def raw(self) -> dict[str, Any]:
        """Files for ``raw/``."""
        return {**self.texts, **self._scenes}

    def fields(self) -> dict[str, Any]:
        """Fields of a result that do not hang on what was observed, and facts of the packets."""
        facts: dict[str, Any] = {
            "packets": {name: books.plain() for name, books in self.books.items()}
        }
        if self.books:
            facts["ledger"] = total([books.ledger for books in self.books.values()]).plain()
        return {"clock_start_ns": self.zero_ns, "phases": self._phases, "facts": facts}


def run_tool(scene: Scene, command: Sequence[str], sampler: Sampler[Any]) -> tuple[int, str]:
    """Run a tool at the node with the chain to its end, sampling; its exit code and its words.

    :raises RunError: sampling or the traffic failed meanwhile.
    """
    process = scene.network.node(NFC_NODE).popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with sampler:
        while process.poll() is None:
            sampler.check()
            scene.idle()
            time.sleep(_POLL_S)
    sampler.check()
    return process.returncode, process.communicate()[0]


def said(command: Sequence[str], text: str) -> Mapping[str, Any]:
    """What a tool wrote, as a file of ``raw/`` holds it."""
    return {"command": list(command), "lines": text.splitlines()}
