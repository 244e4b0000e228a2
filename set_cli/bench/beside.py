"""Busy processes beside what is measured, as a browser or another user's training would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Ends when the process that started it is gone, however that ended.
BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(1_000_000): pass"


class Neighbours:
    """Processes that compute, each in one thread, whenever they are let."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Let them compute meanwhile."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)


@contextmanager
def neighbours(number: int) -> Iterator[Neighbours]:
    """A context with so many busy processes, which stand still until they are let compute."""
    command = [sys.executable, "-I", "-S", "-c", BUSY, str(os.getpid())]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(number)]
    found = Neighbours(processes)
    found._signal(signal.SIGSTOP)
    try:
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()
