"""The record of one training: what is written when, so that every instant leaves a state to resume from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from set_cli.config import Config, identity, scientific
from set_cli.errors import DataError
from set_cli.models.counts import sparse_layers
from set_cli.models.mlp import LayerPlan
from set_cli.runs.checkpoint import Checkpoint, drop_damaged, load_checkpoint, save_checkpoint
from set_cli.runs.degrees import append_degrees, finish_degrees
from set_cli.runs.environment import differences
from set_cli.runs.files import CHECKSUMS, METRICS_FILE, PART, TIMING_FILE, snapshot_epochs
from set_cli.runs.folder import RunFolder
from set_cli.runs.inputs import INPUTS, RunInputs, write_inputs
from set_cli.runs.lines import epoch_line, result_lines, start_line
from set_cli.runs.starts import check_same_data, check_same_inputs, read_starts
from set_cli.runs.summary import metric_of, read_rows, write_summary
from set_cli.runs.topology import read_topology
from set_cli.runs.written import params_digest
from set_cli.system.files import canonical_json, remove, sha256
from set_cli.system.peak import PROCESS
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
from set_cli.training.cost import EvolutionCost
from set_cli.training.evolution import Change
from set_cli.training.passes import FRESH, ROWS, State
from set_cli.training.schedules import scheduled_values
from set_cli.training.trainers import Scores

# In a checkpoint: how far the epoch after its own had come, in what time, and whether the process was stopped in it.
WITHIN, SECONDS, EVOLVE_SECONDS, PAUSED = "within/", "seconds", "evolve_seconds", "paused"


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
        self.clock, self.cost, self.paused = Clock(), EvolutionCost(), False
        self.threads: int | None = None
        self._saved_at, self._within = time.monotonic(), False
        self._starts: list[dict[str, Any]] = []
        self._params: dict[str, Any] = {}
        self._inputs_digest = ""
        self._unvouched: list[int] = []

    @property
    def epoch(self) -> int:
        return self._folder.epoch

    def begin(self, start: Mapping[str, Any], inputs: RunInputs) -> None:
        """Start the record with this entry of run.json, or restore the newest checkpoint.

        inputs  how the network gets its rows; DataError where a run that resumes got them otherwise
        """
        folder = self._folder
        checkpoint = load_checkpoint(folder.path, identity(self._config), self._check)
        entry: dict[str, Any] = {**start, "resumed_after_epoch": None, "differences": [], "damage": []}
        if checkpoint is not None:
            entry |= self._compare(checkpoint, start, inputs)
        self._starts.append(entry)
        folder.epoch = checkpoint.epoch if checkpoint else 0
        folder.write_config(scientific(self._config))
        folder.write_starts(self._starts)
        # At every start: what is damaged is mended, and older runs have no inputs.npz.
        write_inputs(folder.path, inputs)
        self._inputs_digest = sha256(folder.path / INPUTS, follow=False)
        self._params = describe_parameters(self._plans, self._model, self._config.train)
        if checkpoint is not None:
            drop_damaged(folder.path, checkpoint)
        folder.written.cut()
        for epoch in self._unvouched:
            folder.written.vouch_for_snapshot(epoch)
        folder.written.drop_other_snapshots()
        folder.write_json("params.json", self._params)
        if checkpoint is None:
            self._add_topology(0)
            self._checkpoint(0)
        else:
            restore_model(self._model, self._optimizer, checkpoint.arrays)
        folder.set_status("running")
        self.title = start_line(folder.path, self.epoch, self.rows_done)
        folder.log(self.title)
        for sentence in entry["damage"]:
            note(f"warning: {sentence}")
            folder.log(f"warning: {sentence}")
        for difference in entry["differences"]:
            note(f"note: {difference}: the run may not end with the bits of one that was never interrupted")

    def _check(self, checkpoint: Checkpoint) -> None:
        """Take up the files that belong to a checkpoint; DataError where they are not those that it was made with."""
        folder = self._folder
        folder.check(checkpoint)
        self._unvouched = []
        if not checkpoint.digests:  # of a version that vouched for no snapshot: they are looked at, and vouched for now
            self._unvouched = [epoch for epoch in snapshot_epochs(folder.path) if epoch <= checkpoint.epoch]
            for epoch in self._unvouched:
                read_topology(folder.path, {}, epoch)

    def _compare(self, checkpoint: Checkpoint, start: Mapping[str, Any], inputs: RunInputs) -> dict[str, Any]:
        """What run.json has to say of a start that resumes; DataError where the data are not those of before."""
        path = self.path
        self._starts, damage = read_starts(path, checkpoint)
        before = self._starts[-1]
        check_same_data(path, before["checksums"], start["checksums"])
        check_same_inputs(path, inputs)
        self._take_up(checkpoint.arrays)
        if checkpoint.damage is not None:
            reason = checkpoint.damage.replace(f"{path}/", "")
            damage.append(
                f"a newer checkpoint could not be used ({reason}): resumed after epoch {checkpoint.epoch} instead"
            )
        return {
            "resumed_after_epoch": checkpoint.epoch,
            "resumed_after_rows": self.rows_done,
            "differences": differences(before, start),
            "damage": damage,
        }

    def _take_up(self, arrays: Mapping[str, Any]) -> None:
        within = {name.removeprefix(WITHIN): value for name, value in arrays.items() if name.startswith(WITHIN)}
        self.clock.begin_with("train", float(within.pop(SECONDS, 0.0)))
        if EVOLVE_SECONDS in within:
            self.clock.begin_with("evolve", float(within.pop(EVOLVE_SECONDS)))
        self.cost = EvolutionCost.of_state(within)
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
        if self.cost.evolutions:
            within |= {EVOLVE_SECONDS: np.array(self.clock.so_far("evolve")), **self.cost.state}
        self._checkpoint(self.epoch, {WITHIN + name: value for name, value in within.items()})

    def where(self) -> str:
        """The place at which the newest checkpoint resumes."""
        return f"in epoch {self.epoch + 1}" if self._within else f"after epoch {self.epoch}"

    def rows(self) -> list[dict[str, Any]]:
        """The epochs recorded so far."""
        return read_rows(self.path / METRICS_FILE) if self.epoch else []

    def remaining_epochs(self) -> range:
        return range(self.epoch + 1, self._config.train.epochs + 1)

    def add(self, epoch: int, loss: float, scores: Scores, change: Change, *, ends: bool = False) -> Mapping[str, Any]:
        """Record an epoch, and return its row of metrics.jsonl; ends: whether the run ends after it before its time.

        Topology, rows, then `checkpoint`, which vouches for them: every instant between leaves a whole state.
        """
        folder, row = self._folder, metrics_row(epoch, loss, scores, change)
        row |= scheduled_values(self._config, self._optimizer, change.zeta)
        if self._config.method.evolves:
            self._add_topology(epoch, is_last=ends or epoch == self._config.train.epochs)
        folder.append_row(METRICS_FILE, row)
        seconds = self.clock.take()
        chosen = {} if self.threads is None else {"threads": self.threads}
        marked = {"paused": True} if self.paused else {}
        times = {f"{part}_seconds": round(value, 6) for part, value in seconds.items()}
        costs = {"peak_memory_mb": PROCESS.so_far()} | self.cost.figures
        folder.append_row(TIMING_FILE, {"epoch": epoch} | times | costs | chosen | marked)
        self.cost = EvolutionCost()
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
        self,
        settings: Mapping[str, Any],
        tested_on: str,
        scores: Scores,
        doubts: Sequence[str],
        ended: str | None = None,
    ) -> dict[str, Any]:
        """Count what is left after the last removal, write the summary, then 'done'.

        scores  of the network that is left
        doubts  what was said of the run's figures
        ended   why it ended before train.epochs
        """
        folder = self._folder
        params = finish_parameters(self._params, self._model)
        folder.write_json("params.json", params)
        checksums = self._checksums(params)
        degrees = layer_degrees(sparse_layers(self._model))
        finish_degrees(folder.path, {name: len(values) for name, values in degrees.items()})
        left = {part: score[metric_of(score)] for part, score in scores.items()}
        error = scores["test"].get("log_z_error")
        figures = {
            "tested_on": tested_on,
            "after_last_removal": left,
            "after_last_removal_error": error,
            "ended": ended,
            "doubts": [*doubts, *self._told("damage")],
            "differences": self._told("differences"),
        }
        summary = write_summary(folder.path, scientific(self._config), settings, figures, checksums)
        for line in result_lines(summary, folder.path, self._config.runs_dir):
            folder.log(line)
        folder.set_status("done")
        for name in (PART, CHECKSUMS):  # not before: until the run is done the checkpoint vouches for them
            remove(folder.path / name)
        return summary

    def _told(self, key: str) -> list[str]:
        """What the entries of run.json say of their starts: 'differences', or 'damage' that was found."""
        return [sentence for start in self._starts for sentence in start.get(key, [])]

    def _checksums(self, params: Mapping[str, Any]) -> dict[str, str]:
        """SHA-256 of all that was written so far, for the summary; DataError where a file is not that any more."""
        written = self._folder.written
        checksums = {
            "config.json": _digest(scientific(self._config)),
            "params.json": _digest(params),
            INPUTS: self._inputs_digest,
            **{name: written.digests[name] for name in (METRICS_FILE, TIMING_FILE, PART, CHECKSUMS)},
            **written.checksums,
        }
        for name, digest in checksums.items():
            is_there = written.lengths.get(name, 1) > 0
            if is_there and sha256(self.path / name, follow=False) != digest:
                raise DataError(
                    f"{self.path / name}: damaged while the run was trained, its SHA-256 is not that of what was "
                    "written; the same command resumes the run from its checkpoint, if one fits to the file"
                )
        del checksums[PART], checksums[CHECKSUMS]
        return checksums

    def _add_topology(self, epoch: int, *, is_last: bool = False) -> None:
        every = self._config.snapshots.epochs_between(self._config.train.epochs)
        layers = sparse_layers(self._model)
        if layers:
            append_degrees(self._folder.written, layer_degrees(layers))
        if epoch % every == 0 or is_last:
            self._folder.written.add_snapshot(epoch, topology_arrays(layers, self._config.snapshots.weights))

    def _checkpoint(self, epoch: int, within: State = FRESH) -> None:
        arrays = {**model_arrays(self._model, self._optimizer), **within}
        start = {**self._starts[-1], "differences": self._told("differences"), "damage": self._told("damage")}
        lengths = self._folder.written.lengths
        digests = {**self._folder.written.digests, "params.json": params_digest(self._params)}
        checkpoint = Checkpoint(identity(self._config), epoch, arrays, lengths, digests, start)
        save_checkpoint(self._folder.path, checkpoint)
        self._saved_at, self._within = time.monotonic(), bool(within)


def _digest(value: object) -> str:
    """SHA-256 of the file that holds this value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def metrics_row(epoch: int, loss: float, scores: Scores, change: Change) -> dict[str, Any]:
    """One row of metrics.jsonl, before the epoch's evolution: accuracies in percent, all else in nats per row."""
    row: dict[str, Any] = {"epoch": epoch, "train_loss": loss}
    for part, score in scores.items():
        row |= {f"{part}_{name}": value for name, value in score.items()}
    counts = {"pruned": change.pruned, "pruned_zeros": change.zeros, "regrown": change.regrown}
    return row | {"connections": change.connections} | counts
