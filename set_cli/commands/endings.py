"""How a click command ends: one sentence on stderr and an exit code, whatever went wrong."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from set_cli.errors import OutOfMemory, SetError
from set_cli.system.standard_streams import code_of_output, secure_streams
from set_cli.system.terminal import printable


class Command(click.Command):
    """A command whose standard streams may be closed, full or without a reader."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        with _output_counts():
            return super().main(*arguments, **named)


class Group(click.Group):
    """Commands of which the same holds."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        with _output_counts():
            return super().main(*arguments, **named)


@contextmanager
def _output_counts() -> Iterator[None]:
    """Exit with the code that says so, where what was printed was not written."""
    secure_streams()
    try:
        yield
    except SystemExit as end:
        sys.exit(end.code or code_of_output())


@contextmanager
def one_sentence(program: str, *, interrupted: str = "", out_of_memory: str = "") -> Iterator[None]:
    """Turn every ending into its exit code and one sentence; a bug keeps its traceback.

    interrupted, out_of_memory  what the sentence says after that word: what is left behind, what to do
    """
    try:
        yield
    except SetError as error:
        _end(program, str(error), "", error.exit_code)
    except MemoryError:
        _end(program, "out of memory", out_of_memory, OutOfMemory.exit_code)
    except KeyboardInterrupt:
        click.echo(err=True)  # the terminal shows ^C on this line
        _end(program, "interrupted", interrupted, 128 + signal.SIGINT)


def _end(program: str, what: str, more: str, exit_code: int) -> None:
    click.echo(printable(f"{program}: {what}{'; ' * bool(more)}{more}"), err=True)
    sys.exit(exit_code)
