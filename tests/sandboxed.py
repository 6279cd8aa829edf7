# SPDX-License-Identifier: MIT
"""Tests that run in a sandbox: namespaces of their own, which the kernel takes down with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from testbed.sandbox import current, run_in_sandbox

__all__ = ["bpffs", "in_sandbox"]

P = ParamSpec("P")


def in_sandbox(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test function in a sandbox; what it raises is the test's own."""

    @functools.wraps(test)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True

        def main(_: object) -> int:
            test(*args, **kwargs)
            return 0

        assert run_in_sandbox(main, command="test") == 0

    return wrapped


def bpffs() -> Path:
    """BPF file system of the sandbox that this test runs in."""
    sandbox = current()
    assert sandbox is not None, "decorate the test with @in_sandbox"
    return sandbox.bpffs
