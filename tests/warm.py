"""Programs in forks of a process that has imported the large packages: a new one takes 1.5 s of the processor for them.

What a program prints, its exit code, its folder and its environment are those of a new process of Python; the runs of
a sweep that it starts are such forks too. Tests of what happens before or while the packages are imported, of signals
and of the memory start a process of their own.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any, ClassVar, Self

LARGE = ["torch", "hydra", "omegaconf", "pandas", "scipy.sparse", "scipy.special", "rich.progress", "rich.table"]
SECONDS = 300.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LARGE)


def run_warm(
    program: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]
) -> CompletedProcess[str]:
    """What `python -P -c program arguments…` does in this folder, with its output as text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        paths = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        child = _context.Process(target=_run, args=(program, arguments, str(folder), environment, *paths))
        child.start()
        child.join(SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise TimeoutExpired([program, *arguments], SECONDS)
        shown = [Path(path).read_text() for path in paths]
        return CompletedProcess([program, *arguments], child.exitcode, *shown)


def _run(
    program: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str
) -> None:
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    _enter(folder, environment)
    subprocess.Popen = Popen  # type: ignore[assignment, misc]
    sys.argv = ["-c", *arguments]
    names = {"__name__": "__main__"}
    try:
        exec(compile(program, "<string>", "exec"), names)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def _enter(folder: str, environment: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


class Popen(subprocess.Popen[Any]):
    """As ever, but `python -P -m set_cli…` is a fork; it executes the file `instead`, where a test has one."""

    instead: ClassVar[str | None] = None

    def __new__(cls, command: Sequence[str], *arguments: Any, **options: Any) -> Any:
        if command[:3] == [sys.executable, "-P", "-m"] and "pass_fds" in options and command[3].startswith("set_cli."):
            return _Fork(cls.instead or command[3], options["env"], options["pass_fds"])
        return super().__new__(cls)


class _Fork:
    """A module or file that is executed in a session of its own, with what a sweep uses of Popen."""

    def __init__(self, program: str, environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        theirs, ours = os.pipe()
        self.stdin = os.fdopen(ours, "w")
        handed = {number: Connection(os.dup(number)) for number in (1, 2, *descriptors)} | {0: Connection(theirs)}
        self._process = _context.Process(target=_be, args=(program, os.getcwd(), dict(environment), handed))
        self._process.start()
        for connection in handed.values():
            connection.close()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise TimeoutExpired([], timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stdin.close()
        self.wait()


def _be(program: str, folder: str, environment: dict[str, str], handed: dict[int, Connection]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # as its parent has them while it starts
    os.setsid()
    # First out of the way of each other: one may have come in under the number that another is to get.
    free = {
        number: fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD, 1 + max(handed))
        for number, connection in handed.items()
    }
    for connection in handed.values():
        connection.close()
    for number, descriptor in free.items():
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    _enter(folder, environment)
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
