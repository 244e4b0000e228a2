"""*** Start here. *** One run: data, model, the epoch loop of the paper's Box 1, and its record."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from set_cli.config import Backend, Config, identity, scientific
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import ConfigError, DivergedError, OutOfMemory
from set_cli.interrupts import StopSignals
from set_cli.models.counts import count_connections, sparse_layers
from set_cli.models.mlp import LayerPlan, build_mlp, plan_mlp
from set_cli.progress import View, epoch_line, result_line, start_line
from set_cli.recording import (
    describe_layers,
    describe_parameters,
    finish_parameters,
    layer_degrees,
    model_arrays,
    restore_model,
    topology_arrays,
)
from set_cli.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from set_cli.runs.degrees import PART, append_degrees, finish_degrees
from set_cli.runs.environment import describe_environment
from set_cli.runs.files import make_folder, read_json, remove, write_arrays
from set_cli.runs.folder import RunFolder, locate, read_status, snapshot_epochs, snapshot_path
from set_cli.runs.summary import SUMMARY, write_summary
from set_cli.training.evolution import Change, evolve_model
from set_cli.training.optimizer import build_optimizer
from set_cli.training.supervised import Inputs, Score, evaluate, is_finite, train_epoch

APPENDED = ("metrics.jsonl", "timing.jsonl", PART)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended for one configuration; summary is that of the finished run."""

    path: Path
    skipped: bool
    summary: Mapping[str, Any]


def run(config: Config, settings: Mapping[str, Any], command: list[str], view: View, stop: StopSignals) -> Outcome:
    """Train what the configuration says, or go on with it, or skip it where it is done.

    settings  what differs from the defaults of this data set and model, for the record
    command   the command line, for the record
    stop      asks the run to end between two steps
    Raises the errors of set_cli.errors; whatever happens, status.json says how the run stands.
    """
    path, status = locate(config)
    if status == "done":
        return Outcome(path, True, read_json(path / SUMMARY))
    with _memory_errors():
        device = choose_device(config.backend)
        torch.set_num_threads(config.backend.threads or available_cores())
        data = load_data(config.dataset.name, config.data)
        network = build_network(config, data)
        stop.check("nothing was begun")
        with RunFolder(path) as folder:
            if read_status(path) == "done":  # another process finished it in the meantime
                return Outcome(path, True, read_json(path / SUMMARY))
            start = describe_start(config, command, data, network, device)
            return Outcome(path, False, _Run(config, settings, data, network, device, folder, stop).train(start, view))


@contextmanager
def _memory_errors() -> Iterator[None]:
    """OutOfMemory for the several ways in which numpy and torch say it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cpu_allocator = "not enough memory" in str(error) or "can't allocate memory" in str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or cpu_allocator:
            first_line = str(error).partition("\n")[0]
            raise OutOfMemory(f"out of memory ({first_line}); take a smaller model or batch") from error
        raise


class _Run:
    """The state of one training: what the loop below reads and writes."""

    def __init__(
        self,
        config: Config,
        settings: Mapping[str, Any],
        data: DataSet,
        network: Network,
        device: torch.device,
        folder: RunFolder,
        stop: StopSignals,
    ) -> None:
        self.config, self.settings, self.folder, self.stop = config, settings, folder, stop
        self.plans, self.model = network.plans, network.model.to(device)
        self.optimizer = build_optimizer(self.model, config.train)
        self.data = {part: Inputs(rows, data, device) for part, rows in _parts(data).items()}
        self.tested_on = data.tested_on

    def train(self, start: Mapping[str, Any], view: View) -> dict[str, Any]:
        """Box 1 of the paper, from the newest checkpoint on; the summary of the finished run."""
        config, model, optimizer = self.config, self.model, self.optimizer
        with view:
            done = self._begin(start)
            title = start_line(self.folder.path, done)
            self.folder.log(title)
            view.start(title, config.train.epochs, done)
            for epoch in range(done + 1, config.train.epochs + 1):
                began = time.perf_counter()
                loss = train_epoch(
                    model,
                    self.data["train"],
                    optimizer,
                    config.train,
                    config.data.augment,
                    config.seed,
                    epoch,
                    lambda rows, of, epoch=epoch: self._after_step(view, epoch, rows, of),  # type: ignore[misc]
                )
                trained = time.perf_counter()
                scores = self._evaluate()
                self._check_finite(epoch, loss, scores)
                evaluated = time.perf_counter()
                connections = count_connections(model)
                change = evolve_model(model, optimizer, config, epoch)  # the last removal is not refilled
                evolved = time.perf_counter()
                row = metrics_row(epoch, loss, scores, connections, change)
                seconds = {"train": trained - began, "evaluate": evaluated - trained, "evolve": evolved - evaluated}
                self._record(row, seconds)
                line = epoch_line(row, config.train.epochs, sum(seconds.values()))
                self.folder.log(line)
                view.epoch(row, line)
        return self._finish()

    def _begin(self, start: Mapping[str, Any]) -> int:
        """Start the record, or restore the newest checkpoint; the epochs already done."""
        checkpoint = load_checkpoint(self.folder.path, identity(self.config))
        self.folder.epoch = checkpoint.epoch if checkpoint else 0
        self.folder.write_config(scientific(self.config))
        self.folder.add_start({**start, "resumed_after_epoch": checkpoint.epoch if checkpoint else None})
        if checkpoint is None:
            self.folder.cut(dict.fromkeys(APPENDED, 0))
            self._drop_snapshots_after(-1)
            self.folder.write_json("params.json", describe_parameters(self.plans, self.model, self.config.train))
            self._record_topology(0)
            self._checkpoint(0)
        else:
            self.folder.cut(checkpoint.lengths)
            self._drop_snapshots_after(checkpoint.epoch)
            restore_model(self.model, self.optimizer, checkpoint.arrays)
        self.folder.set_status("running")
        return self.folder.epoch

    def _after_step(self, view: View, epoch: int, rows: int, of: int) -> None:
        view.step(epoch, rows, of)
        same = "the same command with resume=auto" if self.config.resume == "never" else "the same command"
        self.stop.check(f"{same} goes on after epoch {epoch - 1}")

    def _check_finite(self, epoch: int, loss: float, scores: Mapping[str, Score]) -> None:
        if not is_finite(self.model, [loss, *(score.loss for score in scores.values())]):
            raise DivergedError(
                f"{self.folder.path}: loss or weights are no longer finite in epoch {epoch}; try a smaller train.lr "
                f"than {self.config.train.lr:g}"
            )

    def _evaluate(self) -> dict[str, Score]:
        return {part: evaluate(self.model, inputs) for part, inputs in self.data.items() if part != "train"}

    def _record(self, row: dict[str, Any], seconds: Mapping[str, float]) -> None:
        """Topology, rows, then the checkpoint that vouches for them: every instant between leaves a whole state."""
        epoch = row["epoch"]
        if self.config.method.name == "set":
            self._record_topology(epoch)
        self.folder.append_row("metrics.jsonl", row)
        times = {f"{name}_seconds": round(value, 6) for name, value in seconds.items()}
        self.folder.append_row("timing.jsonl", {"epoch": epoch} | times | {"peak_memory_mb": peak_memory_mb()})
        self._checkpoint(epoch)
        self.folder.epoch = epoch
        self.folder.set_status("running")

    def _record_topology(self, epoch: int) -> None:
        every = self.config.snapshots.epochs_between(self.config.train.epochs)
        layers = sparse_layers(self.model)
        if layers:
            append_degrees(self.folder.path, layer_degrees(layers))
        if epoch % every == 0 or epoch == self.config.train.epochs:
            path = snapshot_path(self.folder.path, epoch)
            make_folder(path.parent)
            write_arrays(path, topology_arrays(layers, self.config.snapshots.weights), compress=True)

    def _drop_snapshots_after(self, epoch: int) -> None:
        for other in snapshot_epochs(self.folder.path):
            if other > epoch:
                remove(snapshot_path(self.folder.path, other))

    def _checkpoint(self, epoch: int) -> None:
        arrays = model_arrays(self.model, self.optimizer)
        lengths = self.folder.lengths(*APPENDED)
        save_checkpoint(self.folder.path, Checkpoint(identity(self.config), epoch, arrays, lengths))

    def _finish(self) -> dict[str, Any]:
        """Count what is left after the last removal, test that network once more, write the summary, then 'done'."""
        path = self.folder.path
        self.folder.write_json("params.json", finish_parameters(read_json(path / "params.json"), self.model))
        lengths = {name: len(degrees) for name, degrees in layer_degrees(sparse_layers(self.model)).items()}
        finish_degrees(path, lengths)
        figures = {
            "tested_on": self.tested_on,
            "after_last_removal": {part: score.accuracy for part, score in self._evaluate().items()},
        }
        summary = write_summary(path, scientific(self.config), self.settings, figures)
        self.folder.set_status("done")
        remove(path / PART)  # not before: until the run is done the checkpoint vouches for it
        self.folder.log(result_line(summary, path))
        return summary


def metrics_row(
    epoch: int, loss: float, scores: Mapping[str, Score], connections: int, change: Change
) -> dict[str, Any]:
    """One row of metrics.jsonl: losses in nats per row, accuracies in percent, before the epoch's evolution."""
    row: dict[str, Any] = {"epoch": epoch, "train_loss": loss}
    for part, score in scores.items():
        row |= {f"{part}_loss": score.loss, f"{part}_accuracy": score.accuracy}
    counts = {"pruned": change.pruned, "pruned_zeros": change.zeros, "regrown": change.regrown}
    return row | {"connections": connections} | counts


@dataclass(frozen=True, slots=True)
class Network:
    """A model with its initial weights, the plans of its layers, the engine of the sparse ones and why that one."""

    plans: list[LayerPlan]
    model: nn.Module
    engine: str
    why: str


def build_network(config: Config, data: DataSet) -> Network:
    """The network that the configuration asks for; ConfigError where a layer is beyond what int32 can index."""
    engine, why = choose_engine(config.backend)
    epsilon = None if config.method.name == "dense" else config.epsilon
    plans = plan_mlp(config.model, config.method.name, epsilon, data.card.features, data.card.classes)
    try:
        return Network(plans, build_mlp(plans, config.model, epsilon, engine, config.seed), engine, why)
    except ValueError as error:
        raise ConfigError(f"model.hidden or epsilon is too large: {error}") from None


def describe_start(
    config: Config, command: list[str], data: DataSet, network: Network, device: torch.device
) -> dict[str, Any]:
    """One entry of run.json: the environment, what was chosen in it, and what does not decide the numbers."""
    return describe_environment(command) | {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "options": {"runs_dir": config.runs_dir, "resume": config.resume, "data.dir": config.data.dir}
        | {"snapshots": config.snapshots.model_dump()},
        "data": {part: len(rows) for part, rows in _parts(data).items()} | {"tested_on": data.tested_on},
        "checksums": data.checksums,
        "layers": describe_layers(network.plans, network.engine, network.why),
    }


def choose_device(backend: Backend) -> torch.device:
    """The device asked for; `auto` is the CPU. ConfigError where there is no such device."""
    if backend.name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("backend=cuda: torch finds no GPU here; use backend=cpu, or install torch built for CUDA")
    return torch.device("cuda" if backend.name == "cuda" else "cpu")


def choose_engine(backend: Backend) -> tuple[str, str]:
    """The engine of the sparse layers and why."""
    if backend.engine == "auto":
        return "torch", "auto: torch's CSR products, the truly sparse engine there is"
    return backend.engine, "asked for"


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """The process's peak resident memory so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def _parts(data: DataSet) -> dict[str, Any]:
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    return {name: part for name, part in parts.items() if part is not None}
