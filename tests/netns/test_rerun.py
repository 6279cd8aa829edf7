# SPDX-License-Identifier: MIT
"""A run that is repeated from its own folder, which was brought from elsewhere: real flows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.results import read_result

NFCBED = Path(sys.executable).with_name("nfcbed")
THESIS = Path(__file__).resolve().parents[2] / "experiments/policies/thesis.yaml"

pytestmark = pytest.mark.needs(
    "namespaces", "veth", "bridge", "bpffs", "sched_cls", "iperf3", "mnexec", "objects"
)


def nfcbed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NFCBED, *words], capture_output=True, text=True, timeout=60, cwd=cwd)


def test_run_is_repeated_from_a_folder_alone(tmp_path: Path) -> None:
    """Same policy and options, a result of its own, and the two compared; the policy is gone.

    The policy's threshold is not the default one, so that the repeat shows which one it took; its
    windows are scaled once in the first run and once, not twice, in the second.
    """
    mine = tmp_path / "mine.yaml"
    mine.write_text(THESIS.read_text().replace("threshold_mbps: 100", "threshold_mbps: 300"))
    words = ("run", "fig7_2", "--quick", "--forward", "direct", "--policy", str(mine))
    first = nfcbed(*words, "--out", "first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    mine.unlink()
    (elsewhere := tmp_path / "a/new place").mkdir(parents=True)
    shutil.move(tmp_path / "first", elsewhere / "brought")
    again = nfcbed("rerun", "brought", "--out", "again", cwd=elsewhere)
    assert again.returncode == 0, again.stderr
    before, after = (read_result(elsewhere / name) for name in ("brought", "again"))
    assert after.parameters == before.parameters
    assert after.options == before.options
    assert after.parameters["window_s"] == 2.0
    assert {window.verdict for window in after.windows} == {"ACCEPT"}  # 150 is below 300
    for name in ("policy.yaml", "policy-given.yaml"):
        texts = [(elsewhere / folder / name).read_text() for folder in ("brought", "again")]
        assert texts[0] == texts[1]
    environment = json.loads((elsewhere / "again/environment.json").read_text())
    assert environment["command"] == "nfcbed rerun brought"
    text = again.stdout
    assert text.index("A  brought") < text.index("B  again") < text.rindex("phase 3, flow 2 at vm3")
    assert "B / A" in text
