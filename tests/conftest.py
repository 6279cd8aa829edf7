# SPDX-License-Identifier: MIT
"""What every test may rely on: tools on the path, and one policy for skipping.

A test that needs something of the machine says so with ``@pytest.mark.needs("tcx", "nft")``; the
words are the keys of ``nfcbed doctor --json``. Where the thing is missing the test is skipped with
doctor's reason. Where it should have been there – the kernel is new enough, or ``make deps``
installs it – the test fails instead: a skip must not hide a fault of ours.
"""

from __future__ import annotations

import os
import platform
import re

import pytest
from hypothesis import settings

from testbed.doctor import Presence, Row, check
from testbed.doctor_needs import TOOLS
from testbed.probe import PROBES, needs_root
from testbed.tool_path import tool_path

os.environ["PATH"] = tool_path()

# A shared machine is slow at times, and a test that failed once must fail again.
settings.register_profile("nfcbed", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("nfcbed")

INSTALLED = {tool.key for tool in TOOLS if tool.key != "bpftool"} | {"libbpf", "mininet", "objects"}


def kernel_version(release: str) -> tuple[int, int]:
    """Give major and minor number of a kernel release such as 6.1.0-18-amd64."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def is_surprising(row: Row, *, release: str, root: bool) -> bool:
    """Tell whether a thing that is not there should have been there."""
    if row.key in INSTALLED:
        return True
    since = PROBES[row.key].since if row.key in PROBES else None
    return root and since is not None and kernel_version(release) >= since


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose machine lacks what the test needs."""
    for marker in item.iter_markers("needs"):
        for key in marker.args:
            row = check(key)
            if row.presence is Presence.PRESENT:
                continue
            reason = f"{row.title}: {row.presence.value}: {row.detail} (nfcbed doctor: {row.get})"
            if is_surprising(row, release=platform.release(), root=not needs_root()):
                pytest.fail(f"should have been here: {reason}", pytrace=False)
            pytest.skip(reason)
