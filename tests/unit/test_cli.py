# SPDX-License-Identifier: MIT
"""The command line: its help, and how every kind of fault ends."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from testbed import cli
from testbed.commands import COMMANDS, Command, Section
from testbed.errors import PolicyError, RunError, UnsupportedError, UserError

NFCBED = Path(sys.executable).with_name("nfcbed")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Put a command named ``probe`` that runs the given function into the register."""
    monkeypatch.delenv("NFCBED_DEBUG", raising=False)

    def put(function: Callable[[], object]) -> None:
        app = typer.Typer()
        app.command()(function)
        module = types.ModuleType("testbed.commands.probe")
        module.app = app  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = Command("probe", Section.START, "Do nothing")
        monkeypatch.setattr(cli, "COMMANDS", (entry,))

    return put


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_registered_command_has_its_module_and_help(
    entry: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name in the register leads to a module whose help can be shown."""
    assert cli.main([entry.name, "--help"]) == 0
    assert "Usage: nfcbed " + entry.name in capsys.readouterr().out


def test_help_lists_commands_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every command with its summary, every example and every exit code."""
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for entry in COMMANDS:
        assert entry.summary in text
        assert all(line in text for line, _ in entry.examples)
    assert all(f"  {code} " in text for code, _ in cli.EXIT_CODES)


def test_help_fits_a_screen_of_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """No line of the help is wider than 100 columns."""
    cli.main(["--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_help_is_quick_and_imports_no_command() -> None:
    """The help comes within 0.4 s and imports neither a command nor a heavy library."""
    heavy = "[m for m in sys.modules if m.startswith(('testbed.commands.', 'numpy', 'pydantic'))]"
    program = f"import sys; from testbed.cli import main; main(['--help']); assert not {heavy}"
    durations_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        durations_s.append(time.perf_counter() - start_s)
    assert min(durations_s) < 0.4


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the name and a version and ends with 0."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nfcbed 0.")


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (UserError("no such file"), 2, "nfcbed: error: no such file\n"),
        (
            PolicyError("must be ≥ 0", path=Path("p.yaml"), line=3, field="chains[0].id"),
            2,
            "nfcbed: error: p.yaml:3: chains[0].id: must be ≥ 0\n",
        ),
        (RunError("iperf3 ended"), 1, "nfcbed: error: iperf3 ended\n"),
        (UnsupportedError("no tcx"), 3, "nfcbed: error: no tcx\n"),
    ],
)
def test_faults_on_purpose_give_one_message_and_their_code(
    command: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    code: int,
    message: str,
) -> None:
    """Each error of the tree ends with its own code and one line on stderr, nothing on stdout."""

    def fail() -> None:
        raise fault

    command(fail)
    assert cli.main(["probe"]) == code
    assert capsys.readouterr() == ("", message)


def test_unexpected_exception_gives_one_line_and_the_way_to_more(
    command: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault of ours ends with 1 and one line; --debug adds the traceback."""

    def fail() -> None:
        raise KeyError("flow")

    command(fail)
    assert cli.main(["probe"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert "nfcbed --debug probe" in said


def test_debug_shows_the_traceback(
    command: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --debug an unexpected exception shows where it came from."""
    monkeypatch.setenv("NFCBED_DEBUG", "0")  # so that the variable is put back afterwards

    def fail() -> None:
        raise KeyError("flow")

    command(fail)
    assert cli.main(["--debug", "probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_quiet(
    command: Callable[[Callable[[], object]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """KeyboardInterrupt ends with 130 and says nothing."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    command(interrupted)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_may_return_its_exit_code(
    command: Callable[[Callable[[], object]], None], result: int | None, code: int
) -> None:
    """What a command returns is the exit code; None is 0."""
    command(lambda: result)
    assert cli.main(["probe"]) == code


def test_wrong_command_is_suggested_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped command ends with 2 and names the nearest one."""
    assert cli.main(["doctr"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nfcbed: error: ")
    assert "'doctor'" in said


def test_wrong_option_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option ends with 2 and points at the command's own help."""
    assert cli.main(["doctor", "--jsn"]) == 2
    assert "nfcbed doctor --help" in capsys.readouterr().err


def test_closed_pipe_is_quiet() -> None:
    """A reader that goes away makes no noise."""
    with subprocess.Popen(
        [NFCBED, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=10) == 141
