"""The record of one training: what is written when, so that every instant leaves a state to resume from."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from set_cli.config import Config, identity, scientific
from set_cli.errors import DataError
from set_cli.models.counts import sparse_layers
from set_cli.models.mlp import LayerPlan
from set_cli.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from set_cli.runs.degrees import PART, append_degrees, finish_degrees
from set_cli.runs.environment import differences
from set_cli.runs.folder import RunFolder, snapshot_epochs, snapshot_path
from set_cli.runs.inputs import INPUTS, RunInputs, read_inputs, write_inputs
from set_cli.runs.lines import epoch_line, result_lines, start_line
from set_cli.runs.summary import metric_of, read_rows, write_summary
from set_cli.system.files import make_folder, read_json, remove, write_arrays
from set_cli.system.progress import note
from set_cli.training.clock import Clock
from set_cli.training.contents import (
    describe_parameters,
    finish_parameters,
    layer_degrees,
    model_arrays,
    restore_model,
    topology_arrays,
)
from set_cli.training.evolution import Change
from set_cli.training.passes import FRESH, ROWS, State
from set_cli.training.trainers import Scores

APPENDED = ("metrics.jsonl", "timing.jsonl", PART)
# In a checkpoint: how far the epoch after its own had come, in what time, and whether the process was stopped in it.
WITHIN, SECONDS, PAUSED = "within/", "seconds", "paused"


class Record:
    """Writes a run folder while model and optimiser are trained, and restores them from it: a `Recorder`."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        plans: list[LayerPlan],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._config, self._folder, self._plans = config, folder, plans
        self._model, self._optimizer = model, optimizer
        self.path = folder.path
        self.title = str(folder.path)
        self.line = ""
        self.resume_from: State = FRESH
        self.clock, self.paused = Clock(), False
        self._saved_at, self._within = time.monotonic(), False

    @property
    def epoch(self) -> int:
        return self._folder.epoch

    def begin(self, start: Mapping[str, Any], inputs: RunInputs) -> None:
        """Start the record with this entry of run.json, or restore the newest checkpoint.

        inputs  how the network gets its rows; DataError where a run that resumes got them otherwise
        """
        folder = self._folder
        checkpoint = load_checkpoint(folder.path, identity(self._config))
        changed: list[str] = []
        if checkpoint is not None:
            before = read_json(folder.path / "run.json")[-1]
            _check_same_data(folder.path, before["checksums"], start["checksums"])
            _check_same_inputs(folder.path, inputs)
            changed = differences(before, start)
            self._take_up(checkpoint.arrays)
        folder.epoch = checkpoint.epoch if checkpoint else 0
        folder.write_config(scientific(self._config))
        resumed = {"resumed_after_epoch": folder.epoch, "resumed_after_rows": self.rows_done} if checkpoint else {}
        folder.add_start({**start, "resumed_after_epoch": None, "differences": changed, **resumed})
        write_inputs(folder.path, inputs)  # at every start: older runs have none, and it is this start's that is tested
        if checkpoint is None:
            folder.cut(dict.fromkeys(APPENDED, 0))
            self._drop_snapshots_after(-1)
            folder.write_json("params.json", describe_parameters(self._plans, self._model, self._config.train))
            self._add_topology(0)
            self._checkpoint(0)
        else:
            folder.cut(checkpoint.lengths)
            self._drop_snapshots_after(checkpoint.epoch)
            restore_model(self._model, self._optimizer, checkpoint.arrays)
        folder.set_status("running")
        self.title = start_line(folder.path, self.epoch, self.rows_done)
        folder.log(self.title)
        for difference in changed:
            note(f"note: {difference}: the run may not end with the bits of one that was never interrupted")

    def _take_up(self, arrays: Mapping[str, Any]) -> None:
        within = {name.removeprefix(WITHIN): value for name, value in arrays.items() if name.startswith(WITHIN)}
        self.clock.begin_with("train", float(within.pop(SECONDS, 0.0)))
        self.paused = bool(within.pop(PAUSED, False))
        self.resume_from, self._within = within, bool(within)

    @property
    def rows_done(self) -> int:
        """Rows of the epoch in progress that the checkpoint has seen."""
        return int(self.resume_from[ROWS]) if self.resume_from else 0

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint within the epoch."""
        minutes = self._config.checkpoints.minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def keep(self, state: State) -> None:
        """A checkpoint within an epoch: the state of its pass over the rows, and the seconds it has taken so far."""
        within = {**state, SECONDS: np.array(self.clock.so_far("train")), PAUSED: np.array(self.paused)}
        self._checkpoint(self.epoch, {WITHIN + name: value for name, value in within.items()})

    def where(self) -> str:
        """The place at which the newest checkpoint resumes."""
        return f"in epoch {self.epoch + 1}" if self._within else f"after epoch {self.epoch}"

    def rows(self) -> list[dict[str, Any]]:
        """The epochs recorded so far."""
        path = self.path / "metrics.jsonl"
        return read_rows(path) if self.epoch else []

    def remaining_epochs(self) -> range:
        return range(self.epoch + 1, self._config.train.epochs + 1)

    def add(self, epoch: int, loss: float, scores: Scores, change: Change) -> Mapping[str, Any]:
        """Record an epoch, and return its row of metrics.jsonl.

        Topology, rows, then `checkpoint`, which vouches for them: every instant between leaves a whole state.
        """
        folder, row = self._folder, metrics_row(epoch, loss, scores, change)
        if self._config.method.evolves:
            self._add_topology(epoch)
        folder.append_row("metrics.jsonl", row)
        seconds = self.clock.take()
        marked = {"paused": True} if self.paused else {}
        times = {f"{part}_seconds": round(value, 6) for part, value in seconds.items()}
        folder.append_row("timing.jsonl", {"epoch": epoch} | times | {"peak_memory_mb": peak_memory_mb()} | marked)
        self.line, self.paused = epoch_line(row, self._config.train.epochs, sum(seconds.values())), False
        return row

    def checkpoint(self) -> None:
        """Save the state after the epoch added last; atomic, and a resume starts here."""
        epoch = self.epoch + 1
        self._checkpoint(epoch)
        self._folder.epoch = epoch
        self._folder.set_status("running")
        self._folder.log(self.line)

    def finish(
        self, settings: Mapping[str, Any], tested_on: str, scores: Scores, doubts: Sequence[str]
    ) -> dict[str, Any]:
        """Count what is left after the last removal, write the summary, then 'done'.

        scores  of the network that is left
        doubts  what was said of the run's figures
        """
        folder = self._folder
        params = finish_parameters(read_json(folder.path / "params.json"), self._model)
        folder.write_json("params.json", params)
        degrees = layer_degrees(sparse_layers(self._model))
        finish_degrees(folder.path, {name: len(values) for name, values in degrees.items()})
        left = {part: score[metric_of(score)] for part, score in scores.items()}
        error = scores["test"].get("log_z_error")
        starts = read_json(folder.path / "run.json")
        figures = {
            "tested_on": tested_on,
            "after_last_removal": left,
            "after_last_removal_error": error,
            "doubts": list(doubts),
            "differences": [difference for start in starts for difference in start.get("differences", [])],
        }
        summary = write_summary(folder.path, scientific(self._config), settings, figures)
        for line in result_lines(summary, folder.path, self._config.runs_dir):
            folder.log(line)
        folder.set_status("done")
        remove(folder.path / PART)  # not before: until the run is done the checkpoint vouches for it
        return summary

    def _add_topology(self, epoch: int) -> None:
        every = self._config.snapshots.epochs_between(self._config.train.epochs)
        layers = sparse_layers(self._model)
        if layers:
            append_degrees(self._folder.path, layer_degrees(layers))
        if epoch % every == 0 or epoch == self._config.train.epochs:
            path = snapshot_path(self._folder.path, epoch)
            make_folder(path.parent)
            write_arrays(path, topology_arrays(layers, self._config.snapshots.weights), compress=True)

    def _drop_snapshots_after(self, epoch: int) -> None:
        for other in snapshot_epochs(self._folder.path):
            if other > epoch:
                remove(snapshot_path(self._folder.path, other))

    def _checkpoint(self, epoch: int, within: State = FRESH) -> None:
        arrays = {**model_arrays(self._model, self._optimizer), **within}
        lengths = self._folder.lengths(*APPENDED)
        save_checkpoint(self._folder.path, Checkpoint(identity(self._config), epoch, arrays, lengths))
        self._saved_at, self._within = time.monotonic(), bool(within)


def _check_same_data(path: Path, before: Mapping[str, str], checksums: Mapping[str, str]) -> None:
    """DataError where the run that is to be resumed was trained on other data."""
    if before != checksums:
        changed = ", ".join(
            sorted(name for name in before.keys() | checksums if before.get(name) != checksums.get(name))
        )
        raise DataError(
            f"{path}: {changed} changed since this run started; put it back, or start again with resume=never"
        )


def _check_same_inputs(path: Path, inputs: RunInputs) -> None:
    """DataError where the network would get other values of the same rows than before the run was interrupted."""
    before = None
    with suppress(DataError):  # missing in older runs; a damaged one is written anew
        before = read_inputs(path)
    if before is not None and not before.agrees_with(inputs):
        raise DataError(
            f"{path / INPUTS}: rows were scaled or named otherwise when this run started; resume it with the version "
            "of set_cli that started it, or train it again with resume=never"
        )


def metrics_row(epoch: int, loss: float, scores: Scores, change: Change) -> dict[str, Any]:
    """One row of metrics.jsonl, before the epoch's evolution: accuracies in percent, all else in nats per row."""
    row: dict[str, Any] = {"epoch": epoch, "train_loss": loss}
    for part, score in scores.items():
        row |= {f"{part}_{name}": value for name, value in score.items()}
    counts = {"pruned": change.pruned, "pruned_zeros": change.zeros, "regrown": change.regrown}
    return row | {"connections": change.connections} | counts


def peak_memory_mb() -> float:
    """The process's peak resident memory so far, in MB (10^6 bytes)."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1e6, 1)
    # On Linux this would begin with the memory of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
