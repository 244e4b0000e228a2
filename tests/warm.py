"""Programs in forks of a process that has imported the large packages: a new one takes 1.5 s of the processor for them.

What a program prints, its exit code, its folder and its environment are those of a new process of Python. Tests of
what happens before or while the packages are imported, of signals and of the memory start a process of their own.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

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
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    names = {"__name__": "__main__"}
    try:
        exec(compile(program, "<string>", "exec"), names)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
