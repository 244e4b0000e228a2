"""What is done with one configuration: trained here, trained in a child as one run of a sweep, or only looked at."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from set_cli.config import Config
from set_cli.errors import NOT_APPLICABLE, TIME_IS_UP, DivergedError, NotApplicable, SetError, ended_by_signal
from set_cli.runs.extend import shorter_run
from set_cli.runs.folder import Status, already_done, locate, mark_failed, read_epoch, read_reason, tries_again
from set_cli.runs.summary import read_summary
from set_cli.sweeps.child import Ending, Hung, how_it_was_killed, run_in_child
from set_cli.sweeps.folder import SweepFolder
from set_cli.sweeps.pace import LOST, pace_line
from set_cli.sweeps.process import train_and_tell
from set_cli.system.live import measured_text
from set_cli.system.machine import VISIBLE, available_cores, prepare_for_torch, started_together, visible_gpus
from set_cli.system.progress import note, say
from set_cli.system.signals import StopSignals

SLURM_MOVES = 90.0  # seconds in which Slurm ends a job that it has told to end (KillWait is 30 by default)
NOTHING_HEARD = {"outcome": LOST, "why": "its process ended and left no result", "exit_code": 1}
Kind = Literal["basic", "side_by_side", "submitit_local", "submitit_slurm"]
Checked = tuple[Config, Mapping[str, Any]]


class StopSweep(BaseException):
    """Ends the whole sweep. A BaseException, since Hydra catches Exception and counts it as one failed run."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """What starts the runs of a sweep.

    n_jobs     of side_by_side, as joblib counts: -1 is as many runs at once as there are cores
    runs       of the sweep, where they could be counted
    elsewhere  whether this run is in a process that the launcher started
    """

    kind: Kind
    n_jobs: int
    runs: int | None
    elsewhere: bool

    @property
    def at_once(self) -> int:
        """Runs that share this machine."""
        cores = available_cores()
        if self.kind == "submitit_local":
            return self.runs or cores
        if self.kind != "side_by_side":
            return 1
        wanted = self.n_jobs if self.n_jobs > 0 else max(1, cores + 1 + self.n_jobs)
        return min(wanted, self.runs or wanted)

    @property
    def at_once_anywhere(self) -> int | None:
        """Runs that are trained at the same time; of a cluster's queue nobody knows."""
        return None if self.kind == "submitit_slurm" else self.at_once


def single_run(config: Config, settings: Mapping[str, Any], command: list[str], stop: StopSignals) -> None:
    """Train in this process, or report that the run is already done: at once, without torch, whatever the backend."""
    path, status = locate(config)
    if status == "done" and not started_together():  # of several processes the first decides, for all
        say(already_done(path))
    else:
        train_and_tell(config, settings, command, stop)


def sweep_run(
    number: int, overrides: str, check: Callable[[], Checked], command: list[str], launcher: Launcher
) -> None:
    """Train in a child process and note how it ended; whatever goes wrong costs this run only."""
    sweep = SweepFolder.of_this_process()
    with sweep.alive(number):
        if sweep.asked_to_stop() is None:
            sweep.note(number, {"overrides": overrides, **NOTHING_HEARD})
            sweep.note(number, {"overrides": overrides, **_ending(sweep, number, check, command, launcher)})
        else:
            sweep.note(number, {"overrides": overrides, "outcome": "not started", "exit_code": 0})


def _ending(
    sweep: SweepFolder, number: int, check: Callable[[], Checked], command: list[str], launcher: Launcher
) -> dict[str, Any]:
    """Run what was asked and return its outcome; no error leaves this function."""
    try:
        config, settings = check()
        path, _ = locate(config)
        waiting = f"{path}: the same run is under way in this sweep; waiting for it"
        with sweep.only_one(str(path), lambda: note(waiting)):
            return _outcome(sweep, number, config, settings, command, launcher)
    except NotApplicable as error:
        return {"outcome": "skipped", "why": str(error), "exit_code": 0}
    except SetError as error:
        return {"outcome": _word(error.exit_code), "why": str(error), "exit_code": error.exit_code}
    except Exception as error:
        if type(error).__name__ == "UncompletedJobError":  # submitit's, when a signal says that the job's time is up
            return {"outcome": "interrupted", "why": f"{error} (hydra.launcher.max_num_timeout)", "exit_code": 1}
        traceback.print_exc()
        return {"outcome": _word(1), "why": f"a bug ({type(error).__name__})", "exit_code": 1}


def _outcome(
    sweep: SweepFolder,
    number: int,
    config: Config,
    settings: Mapping[str, Any],
    command: list[str],
    launcher: Launcher,
) -> dict[str, Any]:
    path, status = locate(config)
    run = {"run": str(path)}
    if status == "done":
        say(already_done(path))
        return run | {"outcome": "already done", "why": _result(path), "exit_code": 0}
    if not (config.retry_failed or tries_again(path, status)):
        return run | {"outcome": f"{status} before", "why": read_reason(path), "exit_code": 1}
    start = time.monotonic()
    try:
        ending = _train(sweep, _announced(sweep, number, config, path, launcher), settings, command, launcher)
    except Hung as error:
        mark_failed(path, str(error), again=False)
        return run | {"outcome": _word(TIME_IS_UP), "why": str(error), "exit_code": 1}
    exit_code, why = ending
    if exit_code == NOT_APPLICABLE:
        return {"outcome": "skipped", "why": why, "exit_code": 0}
    if exit_code == 0:
        seconds = time.monotonic() - start
        return run | {"outcome": "done", "why": _result(path), "exit_code": 0, "seconds": seconds}
    if exit_code > 128 and not ended_by_signal(exit_code) and not sweep.asked_to_die():
        mark_failed(path, how_it_was_killed(exit_code), again=exit_code == 128 + signal.SIGKILL)
    return run | {"outcome": _word(exit_code), "why": why, "exit_code": exit_code}


def _announced(sweep: SweepFolder, number: int, config: Config, path: Path, launcher: Launcher) -> Config:
    """Say which run of the sweep comes next: it takes seconds until that says something itself.

    The configuration as it is to be trained: of several runs at once the epochs of one would hide the others'.
    """
    if config.progress == "none":
        return config
    several = launcher.at_once > 1 and launcher.kind == "side_by_side"
    line = pace_line(number, launcher.runs, sweep.outcomes(), launcher.at_once_anywhere)
    say(f"{line}; starting {path}" if several else f"{line}; starting …")
    return config.model_copy(update={"progress": "none"}) if several and config.progress == "auto" else config


def _train(
    sweep: SweepFolder, config: Config, settings: Mapping[str, Any], command: list[str], launcher: Launcher
) -> Ending:
    """Train in a child process with its share of the cores, on a GPU of its own where there are several."""
    at_once = launcher.at_once
    if at_once > 1 and config.backend.threads is None:
        share = max(1, available_cores() // at_once)
        config = config.model_copy(update={"backend": config.backend.model_copy(update={"threads": share})})
    gpus = visible_gpus() if at_once > 1 and config.backend.name != "cpu" else []
    if len(gpus) > 1:
        with sweep.one_of(gpus, at_once) as gpu:
            return run_in_child(config, settings, command, sweep, {VISIBLE: gpu})
    ending = run_in_child(config, settings, command, sweep, {})
    if launcher.kind == "submitit_slurm" and ended_by_signal(ending.code) and sweep.asked_to_stop() is None:
        # Slurm ends or moves this job, and has told the run before us. An outcome now would count as the run's end
        # although Slurm may start it again elsewhere.
        time.sleep(SLURM_MOVES)
    return ending


def _word(exit_code: int) -> str:
    """How a run with this exit code ended."""
    if ended_by_signal(exit_code):
        return "interrupted"
    if exit_code > 128:
        return f"failed ({signal.Signals(exit_code - 128).name})"
    words = {0: "done", DivergedError.exit_code: "diverged", TIME_IS_UP: "failed (time limit)"}
    return words.get(exit_code, f"failed (exit code {exit_code})")


def _result(path: Path) -> str:
    """The metric after the last epoch, as the epoch's line says it."""
    summary = read_summary(path)
    row = {f"test_{summary['metric']}": summary["last"], "test_log_z_error": summary["last_error"]}
    return " ".join(measured_text(row).split())


def dry_run(number: int, overrides: str, check: Callable[[], Config], *, in_sweep: bool) -> None:
    """Record what the command would do with this configuration, and the memory, disk and time it would need."""
    sweep = SweepFolder.of_this_process()
    if sweep.asked_to_stop() is not None:
        raise StopSweep
    outcome: dict[str, Any]
    try:
        config = check()
        prepare_for_torch()
        from set_cli.sweeps.forecast import forecast  # needs torch, which takes a second to import

        path, status = locate(config)
        would = _would(config, path, status, in_sweep)
        done = {"train": 0, "resume": read_epoch(path)}.get(would)
        if would == "extend":
            done = shorter_run(config).trained - 1
        outcome = {"run": str(path), "exit_code": 0, "outcome": would, **forecast(config, done)}
    except NotApplicable as error:
        outcome = {"outcome": "skip", "why": str(error), "exit_code": 0}
    except SetError as error:
        outcome = {"outcome": "fail", "why": str(error), "exit_code": error.exit_code}
    sweep.note(number, {"overrides": overrides, **outcome})


def _would(config: Config, path: Path, status: Status | None, in_sweep: bool) -> str:
    if status is None:
        return "extend" if config.resume == "extend" else "train"
    if status == "done" or (in_sweep and not (config.retry_failed or tries_again(path, status))):
        return f"skip: {status}"
    return "resume"
