"""A command that gets so many seconds and not one more, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Budget:
    """Seconds that are left of all; a clock that starts when this is made."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def run_limited(
    command: Sequence[str], seconds: float, log: Path, environment: Mapping[str, str], folder: Path
) -> int | None:
    """The exit code of the command, its output in `log`; None where its time was up.

    It runs in a process group of its own, which is killed wholly in the end, whatever happens here.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        try:
            return child.wait(timeout=max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
