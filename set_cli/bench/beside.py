"""Busy processes beside what is measured, as a browser or another user's training would be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

# Computes after a 1, waits after a 0, and ends when the process that started it is gone, however that ended.
BUSY = """
import os, select
computes = False
while True:
    if select.select([0], [], [], 0 if computes else None)[0]:
        said = os.read(0, 1)
        if not said:
            break
        computes = said == b"1"
    for _ in range(1_000_000 if computes else 0):
        pass
"""


class Neighbours:
    """Processes that compute, each in one thread, whenever they are let."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Let them compute meanwhile."""
        self._say(b"1")
        try:
            yield
        finally:
            self._say(b"0")

    def _say(self, word: bytes) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(word)
            process.stdin.flush()


@contextmanager
def neighbours(number: int) -> Iterator[Neighbours]:
    """A context with so many busy processes, which wait until they are let compute."""
    command = [sys.executable, "-I", "-S", "-c", BUSY]
    with ExitStack() as stack:
        processes = []
        for _ in range(number):
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            processes.append(process)
        yield Neighbours(processes)
