"""set-train in a forked child that is watched: what it did that nothing we read may make it do."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import set_cli.commands.hydra_compose
import set_cli.commands.train
import set_cli.training.pairs

assert set_cli.commands.hydra_compose  # imported before the fork, or every child would take a second for it

# What code that came with data or a configuration would need.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")
OURS = ("git", "uname")  # of which a run asks which code and machine it is


@dataclass(frozen=True, slots=True)
class Ending:
    """code: as set-train would exit with; events: forbidden ones, and what was opened for writing outside."""

    code: int
    out: str
    err: str
    events: list[str]
    seconds: float


def command(folder: Path, *arguments: str, before: Callable[[], object] = lambda: None) -> Ending:
    """set-train with these arguments in this folder."""
    torch.set_num_threads(1)
    report = folder.parent / f"{folder.name}-report"
    report.mkdir(exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_set_train(folder, report, arguments, before)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - began
    events = report / "events.json"
    return Ending(
        code,
        (report / "out").read_text(errors="replace"),
        (report / "err").read_text(errors="replace"),
        json.loads(events.read_text()) if events.exists() else ["the child did not come to its end"],
        seconds,
    )


def _be_set_train(folder: Path, report: Path, arguments: tuple[str, ...], before: Callable[[], object]) -> None:
    events: list[str] = []
    code = 1
    try:
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(report / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        allowed = (str(folder), "/dev/null", "/proc/self", "/tmp/.set-sweep-", "/dev/tty")

        def audit(event: str, details: tuple[Any, ...]) -> None:
            if event in FORBIDDEN and not (event == "subprocess.Popen" and details[0] in OURS):
                events.append(f"{event} {details!r:.200}")
            if event == "open" and isinstance(details[0], str) and writes(details):
                path = os.path.abspath(details[0])
                # Whoever imports a module first writes its bytecode, and pytest has one of its own.
                is_bytecode = os.path.basename(os.path.dirname(path)) == "__pycache__" and "-pytest-" in path
                if not path.startswith(allowed) and not is_bytecode:
                    events.append(f"open {path}")

        sys.addaudithook(audit)
        sys.argv = ["set-train", *arguments]
        before()
        try:
            set_cli.commands.train.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        found = list(events)
        (report / "events.json").write_text(json.dumps(found))
    finally:
        os._exit(code)


def writes(details: tuple[Any, ...]) -> bool:
    mode, flags = details[1], details[2]
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
