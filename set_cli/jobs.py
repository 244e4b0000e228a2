"""What is done with one configuration: trained here, trained in a child as one run of a sweep, or only looked at."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from set_cli.config import Config
from set_cli.errors import NOT_APPLICABLE, DivergedError, NotApplicable, SetError, ended_by_signal
from set_cli.interrupts import StopSignals
from set_cli.machine import VISIBLE, available_cores, visible_gpus
from set_cli.progress import measured_text, say
from set_cli.runs.folder import already_done, locate, mark_failed, read_reason
from set_cli.runs.summary import SUMMARY
from set_cli.single import train_and_tell
from set_cli.storage import read_json
from set_cli.sweeps.child import Hung, how_it_was_killed, run_in_child
from set_cli.sweeps.folder import SweepFolder

SLURM_MOVES = 90.0  # seconds in which Slurm ends a job that it has told to end (KillWait is 30 by default)
Kind = Literal["basic", "joblib", "submitit"]
Checked = tuple[Config, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Launcher:
    """What starts the jobs of a sweep.

    n_jobs     at once; -1: as many as there are cores
    elsewhere  whether this job runs in a process that the launcher started
    """

    kind: Kind
    n_jobs: int
    elsewhere: bool

    @property
    def at_once(self) -> int:
        """Runs at once on this machine."""
        if self.kind != "joblib":
            return 1
        return self.n_jobs if self.n_jobs > 0 else max(1, available_cores() + 1 + self.n_jobs)


def single_run(config: Config, settings: Mapping[str, Any], command: list[str], stop: StopSignals) -> None:
    """Train in this process, or say that it was done before."""
    path, status = locate(config)
    if status == "done":
        say(already_done(path))
    else:
        train_and_tell(config, settings, command, stop)


def sweep_run(
    number: int, overrides: str, check: Callable[[], Checked], command: list[str], launcher: Launcher
) -> None:
    """Train in a child process and note how it ended; whatever goes wrong costs this run only."""
    if launcher.elsewhere and launcher.kind == "joblib":
        # A Ctrl-C in the terminal reaches this process too; what it means, the sweep's own process says.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sweep = SweepFolder.of_this_process()
    try:
        outcome = _outcome(sweep, check, command, launcher)
    except NotApplicable as error:
        outcome = {"outcome": "skipped", "why": str(error), "exit_code": 0}
    except SetError as error:
        outcome = {"outcome": _word(error.exit_code), "why": str(error), "exit_code": error.exit_code}
    except Exception as error:
        if launcher.kind == "submitit" and type(error).__name__ == "UncompletedJobError":  # submitit's, from a signal
            outcome = {"outcome": "interrupted", "why": f"{error} (hydra.launcher.max_num_timeout)", "exit_code": 1}
            sweep.note(number, {"overrides": overrides, **outcome})
            return
        traceback.print_exc()
        outcome = {"outcome": _word(1), "why": f"a bug ({type(error).__name__})", "exit_code": 1}
    sweep.note(number, {"overrides": overrides, **outcome})
    if launcher.kind == "joblib" and sweep.asked_to_die():  # whoever launched this process is no more
        os._exit(outcome["exit_code"])


def _outcome(
    sweep: SweepFolder, check: Callable[[], Checked], command: list[str], launcher: Launcher
) -> dict[str, Any]:
    config, settings = check()
    path, status = locate(config)
    run = {"run": str(path)}
    if sweep.asked_to_stop() is not None:
        return run | {"outcome": "not started", "exit_code": 0}
    if status == "done":
        say(already_done(path))
        return run | {"outcome": "already done", "why": _result(path), "exit_code": 0}
    if status in ("failed", "diverged") and not config.retry_failed:
        return run | {"outcome": f"{status} before", "why": read_reason(path), "exit_code": 1}
    try:
        exit_code = _train(sweep, config, settings, command, launcher)
    except Hung as error:
        mark_failed(path, str(error))
        return run | {"outcome": "failed (time limit)", "why": str(error), "exit_code": 1}
    if exit_code == NOT_APPLICABLE:
        return {"outcome": "skipped", "why": "see above", "exit_code": 0}
    if exit_code == 0:
        return run | {"outcome": "done", "why": _result(path), "exit_code": 0}
    if exit_code > 128 and not ended_by_signal(exit_code) and not sweep.asked_to_die():
        mark_failed(path, how_it_was_killed(exit_code))
    return run | {"outcome": _word(exit_code), "why": read_reason(path), "exit_code": exit_code}


def _train(
    sweep: SweepFolder, config: Config, settings: Mapping[str, Any], command: list[str], launcher: Launcher
) -> int:
    """In a child, with its share of the cores, on a GPU of its own where there are several."""
    at_once = launcher.at_once
    if at_once > 1 and config.backend.threads is None:
        share = max(1, available_cores() // at_once)
        config = config.model_copy(update={"backend": config.backend.model_copy(update={"threads": share})})
    gpus = visible_gpus() if at_once > 1 and config.backend.name != "cpu" else []
    if len(gpus) > 1:
        with sweep.one_of(gpus, at_once) as gpu:
            return run_in_child(config, settings, command, sweep, {VISIBLE: gpu})
    exit_code = run_in_child(config, settings, command, sweep, {})
    if launcher.kind == "submitit" and ended_by_signal(exit_code) and sweep.asked_to_stop() is None:
        # Slurm ends or moves this job, and has told the run before us. An outcome now would count as the job's end
        # although it may begin again elsewhere.
        time.sleep(SLURM_MOVES)
    return exit_code


def _word(exit_code: int) -> str:
    """How a run with this exit code ended."""
    if ended_by_signal(exit_code):
        return "interrupted"
    if exit_code > 128:
        return f"failed ({signal.Signals(exit_code - 128).name})"
    words = {0: "done", DivergedError.exit_code: "diverged"}
    return words.get(exit_code, f"failed (exit code {exit_code})")


def _result(path: Path) -> str:
    """The metric after the last epoch, as the epoch's line says it."""
    summary = read_json(path / SUMMARY)
    row = {f"test_{summary['metric']}": summary["last"], "test_log_z_error": summary["last_error"]}
    return " ".join(measured_text(row).split())


def dry_run(number: int, overrides: str, check: Callable[[], Config], *, in_sweep: bool) -> None:
    """Note what the command would do with this configuration, and what that would take."""
    sweep = SweepFolder.of_this_process()
    outcome: dict[str, Any]
    try:
        config = check()
        from set_cli.forecast import forecast  # needs torch, which takes a second to import

        path, status = locate(config)
        outcome = {"run": str(path), "exit_code": 0, "outcome": _would(config, status, in_sweep), **forecast(config)}
    except NotApplicable as error:
        outcome = {"outcome": "skip", "why": str(error), "exit_code": 0}
    except SetError as error:
        outcome = {"outcome": "fail", "why": str(error), "exit_code": error.exit_code}
    sweep.note(number, {"overrides": overrides, **outcome})


def _would(config: Config, status: str | None, in_sweep: bool) -> str:
    if status is None:
        return "train"
    if status == "done" or (in_sweep and status in ("failed", "diverged") and not config.retry_failed):
        return f"skip: {status}"
    return "go on"
