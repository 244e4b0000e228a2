"""One run of a sweep as a child process, and how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from io import RawIOBase
from typing import Any, NamedTuple

from set_cli.config import Config
from set_cli.sweeps.folder import SweepFolder
from set_cli.system.signals import SIGNALS

GRACE = 60.0  # seconds that a run gets to start, and to stop by itself
POLL, TOLD = 0.1, 10.0
LONGEST = 4000  # bytes of a sentence: a pipe takes as many while nobody reads


_under_way: set[subprocess.Popen[str]] = set()


class Hung(Exception):
    """The child did not end by itself in its time, and was killed."""


class Ending(NamedTuple):
    """The exit code of a run, 128 + n where signal n ended it, and its sentence: nothing where it was done."""

    code: int
    sentence: str


def run_in_child(
    config: Config,
    settings: Mapping[str, Any],
    command: list[str],
    sweep: SweepFolder,
    variables: Mapping[str, str],
) -> Ending:
    """Train in a child process.

    The child has a session of its own, or a Ctrl-C would reach it from the terminal as well as from us and count as
    the second one; it does not outlive us. Raises Hung where it takes longer than its time limit.

    variables  of its environment, beside ours
    """
    # -P: a source tree in the current folder must not shadow the installed package.
    program = [sys.executable, "-P", "-m", "set_cli.sweeps.process"]
    answer, theirs = os.pipe()  # for its sentence
    request: dict[str, Any] = {"config": config.model_dump(mode="json"), "settings": dict(settings)}
    request |= {"command": command, "answer": theirs}
    environment = {**os.environ, **variables}
    # Blocked until it has handlers: what we hand on while it starts must not be lost, nor end it with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        child = subprocess.Popen(
            program, stdin=subprocess.PIPE, text=True, start_new_session=True, env=environment, pass_fds=(theirs,)
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(theirs)
    with child, os.fdopen(answer, "rb", buffering=0) as heard:
        _under_way.add(child)
        try:
            assert child.stdin is not None
            with suppress(BrokenPipeError):  # it died before it read; its exit code says so
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()  # and left open: its end is ours
            code = _watch(child, config.time_limit, sweep)
        except (
            BaseException
        ):  # whatever ends us, such as a cluster that moves the job: the run stops, and can be resumed
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(TOLD)
            child.kill()
            raise
        finally:
            _under_way.discard(child)
        code = 128 - code if code < 0 else code
        return Ending(code, _sentence(heard) or _in_its_place(code))


def kill_children() -> None:
    """End the runs of this process at once, those that are stopped (Ctrl-Z) too."""
    for child in list(_under_way):
        child.kill()


def _sentence(heard: RawIOBase) -> str:
    """What the child, which has ended, said of its end."""
    os.set_blocking(heard.fileno(), False)  # a process that it left behind may have the other end
    return (heard.read(LONGEST) or b"").decode(errors="replace")


def _in_its_place(exit_code: int) -> str:
    """The sentence for a child that could not say one."""
    if exit_code > 128:
        return how_it_was_killed(exit_code)
    return f"its process ended without a word (exit code {exit_code})" if exit_code else ""


def _watch(child: subprocess.Popen[str], minutes: float | None, sweep: SweepFolder) -> int:
    """Wait for the child's end; hand on, once, what the sweep is asked."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes + GRACE
    told = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=POLL)
        if sweep.asked_to_die():
            child.kill()
        if not told and (number := sweep.asked_to_stop()) is not None:
            child.send_signal(number)
            told = True
        if deadline is not None and time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise Hung(f"time_limit={minutes:g}: the run did not stop by itself and was killed")


def how_it_was_killed(exit_code: int) -> str:
    """Signal of an exit code above 128, and what it may mean."""
    name = signal.Signals(exit_code - 128).name
    return f"killed by {name}" + (" (so the system ends what takes too much memory)" if name == "SIGKILL" else "")
