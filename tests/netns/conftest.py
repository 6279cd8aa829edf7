# SPDX-License-Identifier: MIT
"""What several modules of tests look at and that takes long to make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.cli import main


@dataclass(frozen=True)
class QuickBench:
    """A quick run of all parts of the bench, experiments among them.

    :ivar code: the exit code.
    """

    folder: Path
    code: int


@pytest.fixture(scope="session")
def quick_bench(tmp_path_factory: pytest.TempPathFactory) -> QuickBench:
    """One for all tests."""
    folder = tmp_path_factory.mktemp("bench")
    return QuickBench(folder, main(["bench", "--quick", "--out", str(folder)]))
