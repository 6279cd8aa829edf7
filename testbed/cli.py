# SPDX-License-Identifier: MIT
"""The command ``nfcbed``: finds the command that was asked for, and turns faults into exit codes.

The commands live in :mod:`testbed.commands`, one module each, and are imported when they run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from testbed.commands import COMMANDS, Command, Section
from testbed.errors import NfcbedError
from testbed.printable import printable_text
from testbed.tool_path import tool_path

__all__ = ["EXIT_CODES", "LazyGroup", "main"]

EXIT_CODES: tuple[tuple[str, str], ...] = (
    ("0", "done"),
    ("1", "a run was tried and failed, or a check did not pass"),
    ("2", "something to mend in the command, a file or the privileges"),
    ("3", "this machine lacks something: see nfcbed doctor"),
    ("130", "stopped with Ctrl-C"),
)

_COMPLETION = ("install_completion", "show_completion")
_DEBUG = "NFCBED_DEBUG"
_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
_INTERRUPTED = 130


class LazyGroup(TyperGroup):
    """The top of the command line: knows every command's name, imports the one that runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names in the register's order."""
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return the command, or None if there is none of this name."""
        for command in COMMANDS:
            if command.name == cmd_name:
                return _load(command)
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in the base class; the names to suggest for a mistyped one come from here."""
        self.commands = {command.name: TyperCommand(command.name) for command in COMMANDS}
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the register alone."""
        typer.echo(_help_text(), nl=False)


def _load(command: Command) -> Any:
    loaded = typer.main.get_command(import_module(command.module).app)
    loaded.name = command.name
    loaded.help = loaded.help or command.summary + "."
    # Each command is a Typer of its own, and each would offer shell completion for itself.
    loaded.params = [p for p in loaded.params if p.name not in _COMPLETION]
    return loaded


app = typer.Typer(cls=LazyGroup, add_completion=False)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"nfcbed {version('nfcbed')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar=_DEBUG)] = False,
) -> None:
    if debug:
        os.environ[_DEBUG] = "1"


def _heading(text: str) -> str:
    return typer.style(text, bold=True)


def _columns(rows: Iterable[tuple[str, str]], *, width: int) -> Iterable[str]:
    for left, right in rows:
        yield f"  {typer.style(left.ljust(width), fg='cyan')}  {right}"


def _help_text() -> str:
    lines = [
        "Network function chaining in the Linux kernel: a testbed of real packets.",
        "",
        f"{_heading('Usage:')} nfcbed [--debug] COMMAND [OPTIONS]",
    ]
    width = max(len(command.name) for command in COMMANDS)
    for section in Section:
        rows = [(c.name, c.summary) for c in COMMANDS if c.section is section]
        if rows:
            lines += ["", _heading(section), *_columns(rows, width=max(width, 9))]
    examples = [example for command in COMMANDS for example in command.examples]
    if examples:
        width = max(len(line) for line, _ in examples)
        lines += ["", _heading("Examples"), *_columns(examples, width=width)]
    options = (
        ("--help", "show this text; nfcbed COMMAND --help tells about one command"),
        ("--version", "show the version"),
        ("--debug", f"show the traceback of a failure (or set {_DEBUG}=1)"),
    )
    lines += ["", _heading("Options"), *_columns(options, width=9)]
    lines += ["", _heading("Exit codes"), *_columns(EXIT_CODES, width=9), ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nfcbed`` and return its exit code.

    :param argv: arguments after the command's name; those of this process if None.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    os.environ["PATH"] = tool_path()
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more; the flush at the end of the process must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except (NfcbedError, typer.TyperException) as error:
        return _report(error)
    except Exception as error:
        return _report_unexpected(error, args)
    return code


def _run(args: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("nfcbed", args or ["--help"]) as context:
            result = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else 0


def _debugging() -> bool:
    return os.environ.get(_DEBUG, "") not in ("", "0")


def _report(error: NfcbedError | typer.TyperException) -> int:
    """Say in one message what went wrong."""
    if _debugging():
        sys.excepthook(type(error), error, error.__traceback__)
    format_message = getattr(error, "format_message", error.__str__)
    text = printable_text(format_message().rstrip("."))
    context = getattr(error, "ctx", None)
    if context is not None:
        text += f" (see {context.command_path} --help)"
    typer.echo(f"nfcbed: {typer.style('error:', fg='red', bold=True)} {text}", err=True)
    return int(getattr(error, "exit_code", 1))


def _report_unexpected(error: Exception, args: Sequence[str]) -> int:
    if _debugging():
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    again = " ".join(["nfcbed --debug", *args])
    typer.echo(
        f"nfcbed: {typer.style('error:', fg='red', bold=True)} unexpected "
        f"{type(error).__name__}: {error} (`{again}` shows the traceback)",
        err=True,
    )
    return 1
