"""A sweep: every run in a process of its own, so that one that dies costs one run; the outcomes in one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from set_cli.config import Config
from set_cli.errors import ended_by_signal
from set_cli.interrupts import StopSignals
from set_cli.progress import say
from set_cli.storage import read_json, write_json

FOLDER_VARIABLE = "SET_SWEEP_FOLDER"  # where the jobs of one sweep leave their outcomes, whatever launches them
NOT_STARTED = "not started"
SKIPPED = "skipped"  # data set and model do not go together


def run_in_child(config: Config, settings: Mapping[str, Any], command: list[str], stop: StopSignals) -> int:
    """Train in a child process; its exit code, 128 + n where signal n ended it.

    A signal to us is handed on to the child, once, and we outlive it: the child has a session of its own, or a Ctrl-C
    would reach it from the terminal as well and count as the second one.
    """
    # -P: a source tree in the current folder must not shadow the installed package.
    program = [sys.executable, "-P", "-m", "set_cli.single"]
    request = {"config": config.model_dump(mode="json"), "settings": dict(settings), "command": command}
    with subprocess.Popen(program, stdin=subprocess.PIPE, text=True, start_new_session=True) as child:
        stop.before_exit = child.kill
        try:
            code = _hand_over(child, json.dumps(request), stop)
        finally:
            stop.before_exit = lambda: None
    return 128 - code if code < 0 else code


def _hand_over(child: subprocess.Popen[str], request: str, stop: StopSignals) -> int:
    """Give the child its request and wait for its end."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it died before it read; its exit code says so
        child.stdin.write(request)
        child.stdin.close()
    while True:
        try:
            return child.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if stop.received is not None:
                child.send_signal(stop.received)
                return child.wait()


def outcome_word(exit_code: int) -> str:
    """How a child with this exit code ended."""
    if ended_by_signal(exit_code):
        return "interrupted"
    if exit_code > 128:
        return f"failed (killed by {signal.Signals(exit_code - 128).name})"
    return "done" if exit_code == 0 else f"failed (exit code {exit_code})"


def note(number: int, overrides: str, where: str, outcome: str, exit_code: int) -> None:
    """Leave the outcome of job `number` in the sweep's folder; where is its run folder, or why there is none."""
    value = {"number": number, "overrides": overrides, "where": where, "outcome": outcome, "exit_code": exit_code}
    write_json(Path(os.environ[FOLDER_VARIABLE], f"outcome-{number:06d}.json"), value)


def print_outcomes(folder: str) -> int:
    """Say how many runs ended how, list what did not succeed, and return 1 for a failure (0 for a single run)."""
    outcomes: list[dict[str, Any]] = [read_json(path) for path in sorted(Path(folder).glob("outcome-*.json"))]
    if not outcomes:
        return 0
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    say(f"sweep of {len(outcomes)}: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    for outcome in outcomes:
        if outcome["exit_code"] or outcome["outcome"] in (NOT_STARTED, SKIPPED):
            print(f"  {outcome['outcome']}: {outcome['overrides']}: {outcome['where']}", file=sys.stderr)
    return 1 if any(outcome["exit_code"] for outcome in outcomes) else 0
