"""A sweep: every run in a process of its own, so that one that dies costs one run; the outcomes in one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from set_cli.config import Config
from set_cli.errors import ended_by_signal
from set_cli.interrupts import StopSignals
from set_cli.runs.files import read_json, write_json
from set_cli.runs.folder import already_done, locate

FOLDER_VARIABLE = "SET_SWEEP_FOLDER"  # where the jobs of one sweep leave their outcomes, whatever launches them
NOT_STARTED = "not started"


class Note(Protocol):
    """Notes how one job of the sweep ended."""

    def __call__(self, where: str, outcome: str, exit_code: int, /) -> None: ...


def run_in_child(config: Config, settings: Mapping[str, Any], noted: Note) -> None:
    """Train in a child process and note the outcome; a finished run is skipped without starting one."""
    path, status = locate(config)
    if any(ended_by_signal(outcome["exit_code"]) for outcome in read_outcomes(Path(os.environ[FOLDER_VARIABLE]))):
        noted(str(path), NOT_STARTED, 0)
    elif status == "done":
        print(already_done(path), flush=True)
        noted(str(path), "already done", 0)
    else:
        exit_code = _wait_for_child(config, settings)
        noted(str(path), _word(exit_code), exit_code)


def _wait_for_child(config: Config, settings: Mapping[str, Any]) -> int:
    """The child's exit code, 128 + n where signal n ended it. A signal to us reaches the child, and we outlive it."""
    # -P: a source tree in the current folder must not shadow the installed package.
    command = [sys.executable, "-P", "-m", "set_cli.single"]
    request = json.dumps({"config": config.model_dump(mode="json"), "settings": dict(settings)})
    with StopSignals() as stop, subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        child.stdin.write(request)
        child.stdin.close()
        while (code := _poll(child)) is None:
            if stop.received is not None:
                child.send_signal(stop.received)
                code = child.wait()
                break
    return 128 - code if code < 0 else code


def _poll(child: subprocess.Popen[str]) -> int | None:
    try:
        return child.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        return None


def _word(exit_code: int) -> str:
    if ended_by_signal(exit_code):
        return "interrupted"
    if exit_code > 128:
        return f"failed (killed by {signal.Signals(exit_code - 128).name})"
    return "done" if exit_code == 0 else f"failed (exit code {exit_code})"


def note(number: int, overrides: str, where: str, outcome: str, exit_code: int) -> None:
    """Leave the outcome of job `number` in the sweep's folder; where is its run folder, or why there is none."""
    value = {"number": number, "overrides": overrides, "where": where, "outcome": outcome, "exit_code": exit_code}
    write_json(Path(os.environ[FOLDER_VARIABLE], f"outcome-{number:06d}.json"), value)


def read_outcomes(folder: Path) -> list[dict[str, Any]]:
    """The outcomes noted so far, in the order of the jobs."""
    return [read_json(path) for path in sorted(folder.glob("outcome-*.json"))]


def print_outcomes(folder: str) -> int:
    """Say how many runs ended how, list what did not succeed, and return the sweep's exit code (0 for a single run)."""
    outcomes = read_outcomes(Path(folder))
    if not outcomes:
        return 0
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    print(f"sweep of {len(outcomes)}: " + ", ".join(f"{n} {word}" for word, n in counts.items()), flush=True)
    for outcome in outcomes:
        if outcome["exit_code"] or outcome["outcome"] == NOT_STARTED:
            print(f"  {outcome['outcome']}: {outcome['overrides']}: {outcome['where']}", file=sys.stderr)
    codes = [outcome["exit_code"] for outcome in outcomes]
    stopped = next((code for code in codes if ended_by_signal(code)), None)
    return stopped or (1 if any(codes) else 0)
