"""*** Start here. *** One run: data, model, the epoch loop of the paper's Box 1, and its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from set_cli import native
from set_cli.config import Config
from set_cli.data.account import data_lines, data_record, parts_of
from set_cli.data.files import data_folder
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import ConfigError, OutOfMemory
from set_cli.models.counts import count_connections
from set_cli.runs.environment import describe_environment
from set_cli.runs.folder import RunFolder, locate, read_status
from set_cli.runs.summary import SUMMARY
from set_cli.system.files import check_writable, read_json
from set_cli.system.machine import available_cores, started_together
from set_cli.system.progress import View, make_bar, note
from set_cli.system.signals import NOT_STARTED, StopSignals
from set_cli.training.architectures import ARCHITECTURES, make_trainer
from set_cli.training.contents import describe_inputs, describe_layers, model_arrays, restore_model
from set_cli.training.devices import choose_device, describe_device, prepare
from set_cli.training.divergence import Divergence
from set_cli.training.doubts import doubts_at_end, doubts_at_start, network_lines
from set_cli.training.evolution import Change, evolve_model
from set_cli.training.group import Group, joined
from set_cli.training.network import Network, build_network, in_words
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_card
from set_cli.training.passes import FRESH, LOSS, ROWS, State
from set_cli.training.record import Record
from set_cli.training.trainers import Scores, Trainer

NOWHERE = (-1, -1)  # no epoch and row to resume from: the run is done


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended for one configuration.

    summary  of the finished run; empty in all but the first of several processes
    """

    path: Path
    skipped: bool
    summary: Mapping[str, Any]


def run(config: Config, settings: Mapping[str, Any], command: list[str], view: View, stop: StopSignals) -> Outcome:
    """Train what the configuration says, resume it, or skip it where it is done.

    settings  what differs from the defaults of this data set and model, for the record
    command   the command line, for the record
    stop      asks the run to end between two steps
    Raises the errors of set_cli.errors; whatever happens, status.json says how the run stands.
    """
    stop.limit(config.time_limit)
    path, status = locate(config)
    if started_together() and not ARCHITECTURES[config.model.name].can_be_shared:
        shared = [name for name, architecture in ARCHITECTURES.items() if architecture.can_be_shared]
        raise ConfigError(
            f"torchrun is for model={' and '.join(shared)}; expected one process for model={config.model.name}"
        )
    device, why = choose_device(config.backend)
    with _memory_errors(), joined(device) as group:
        if group.said_by_first(status == "done"):
            return Outcome(path, True, read_json(path / SUMMARY) if group.is_first else {})
        if group.is_first:
            check_writable(path)  # before hours of loading or training
        prepare(device, deterministic=config.backend.deterministic)
        torch.set_num_threads(config.backend.threads or max(1, available_cores() // group.local_size))
        torch.set_flush_denormal(True)  # before the threads start, which take it over; why: native/src/team.hpp
        labels = config.model.facts.needs_labels
        with stop.at_once(NOT_STARTED):
            data = load_data(
                config.dataset,
                config.data,
                labels=labels,
                check=partial(check_card, config.model),
                bar=make_bar(config.progress),
                say=note,
            )
        told = _tell(data_lines(data), group)
        network = build_network(config, data, device)
        _tell_what_is_slower(config, device, why, network)
        stop.check(NOT_STARTED)
        doubts = doubts_at_start(config, network.plans, network.model, len(data.train))
        told += _tell(network_lines(config, network.plans, doubts), group)
        network.model.to(device)
        optimizer = build_optimizer(network.model, config.train)
        if not group.is_first:
            _follow(config, data, network.model, optimizer, group)
            return Outcome(path, False, {})
        with RunFolder(path) as folder, _memory_errors(network.memory.expected):
            if read_status(path) == "done":  # another process finished it in the meantime
                group.said_by_first(NOWHERE)
                return Outcome(path, True, read_json(path / SUMMARY))
            record = Record(config, folder, network.plans, network.model, optimizer)
            with view:
                inputs = describe_inputs(data, with_mean=config.model.facts.needs_probabilities)
                record.begin(describe_start(config, command, data, network, device, why, group), inputs)
                for line in told:
                    folder.log(line)
                group.said_by_first((record.epoch, record.rows_done))
                share_state(network.model, optimizer, group)
                trainer = make_trainer(config, data, network.model, record.rows(), group)
                scores = _train(config, data, network.model, trainer, optimizer, record, view, stop, group)
            found = doubts_at_end(config, data, record.rows()[-1])
            for line in _tell([f"warning: {sentence}" for sentence in found], group):
                folder.log(line)
            doubts = [*data.doubts, *doubts, *found]
            return Outcome(path, False, record.finish(settings, data.tested_on, scores, doubts))


def _train(
    config: Config,
    data: DataSet,
    model: nn.Module,
    trainer: Trainer,
    optimizer: torch.optim.Optimizer,
    record: Record,
    view: View,
    stop: StopSignals,
    group: Group,
) -> Scores:
    """Box 1 of the paper, from the newest checkpoint on; the scores of what is left after the last removal."""
    inputs = {name: Inputs(part, data, next(model.parameters()).device) for name, part in parts_of(data).items()}
    same = "the same command with resume=auto" if config.resume == "never" else "the same command"

    def check() -> None:
        stop.check(f"{same} goes on {record.where()}")

    def after_step(rows: int, of: int, state: Callable[[], State]) -> None:
        view.step(record.epoch + 1, rows, of)
        # After the last step the checkpoint of the whole epoch is next. Dropout state of other processes is not saved,
        # so only a single process checkpoints within an epoch.
        if record.is_due and rows < of and group.size == 1:
            divergence.check(record.epoch + 1)
            record.paused |= stop.was_paused()
            record.keep(state(), time.perf_counter() - times[0])
        check()

    tested = {name: part for name, part in inputs.items() if name != "train"}
    view.start(record.title, config.train.epochs, record.epoch)
    final, resume_from, seconds = None, record.resume_from, record.seconds
    divergence = Divergence(config, data.card, model, record.path)
    for epoch in range(record.epoch + 1, config.train.epochs + 1):
        times = [time.perf_counter() - seconds]
        loss = trainer.train(inputs["train"], optimizer, epoch, after_step, resume_from)
        resume_from, seconds = FRESH, 0.0
        times.append(time.perf_counter())
        divergence.check(epoch, loss)
        found = trainer.measure(tested, epoch, check)
        divergence.check(epoch, loss, found)
        times.append(time.perf_counter())
        connections = count_connections(model)
        change = evolve_model(model, optimizer, config, epoch)  # the last removal is not refilled
        share_state(model, optimizer, group)
        times.append(time.perf_counter())
        row = metrics_row(epoch, loss, found, connections, change)
        view.epoch(row, record.add(row, times, paused=record.paused or stop.was_paused()))  # atomic; resume starts here
        record.paused = False
        final = None if change.pruned else found
    return final or trainer.measure(tested, config.train.epochs, check)


def _follow(config: Config, data: DataSet, model: nn.Module, optimizer: torch.optim.Optimizer, group: Group) -> None:
    """The loop of every process but the first: train on its share of each batch, then receive the evolved network."""
    stands = group.said_by_first(NOWHERE)
    if stands == NOWHERE:
        return
    done, rows = stands
    resume_from: State = {ROWS: np.array(rows), LOSS: np.array(0.0)} if rows else FRESH
    share_state(model, optimizer, group)
    trainer = make_trainer(config, data, model, [], group)
    inputs = Inputs(data.train, data, next(model.parameters()).device)
    for epoch in range(done + 1, config.train.epochs + 1):
        trainer.train(inputs, optimizer, epoch, lambda *_: None, resume_from)
        resume_from = FRESH
        share_state(model, optimizer, group)


def share_state(model: nn.Module, optimizer: torch.optim.Optimizer, group: Group) -> None:
    """Give all processes the first one's connections, weights and momenta."""
    if group.size > 1:
        arrays = group.arrays_of_first(model_arrays(model, optimizer), next(model.parameters()).device)
        if not group.is_first:
            restore_model(model, optimizer, arrays)


def _tell(lines: list[str], group: Group) -> list[str]:
    """Print these lines beside the results, in the first process only; the lines, for the log."""
    for line in lines if group.is_first else []:
        note(line)
    return lines


def _tell_what_is_slower(config: Config, device: torch.device, why: str, network: Network) -> None:
    """Print a note where `auto` uses less than a machine like this could offer."""
    if config.backend.name == "auto" and device.type == "cpu" and torch.version.cuda:
        note(f"note: backend={why}; training on the CPU")
    reasons = [choice.why for choice in network.choices.values() if choice.engine.name == "torch"]
    if config.backend.engine == "auto" and reasons:
        note(f"note: backend.engine={reasons[0]}. Training goes on with torch's sparse products, several times slower.")


@contextmanager
def _memory_errors(expected: int | None = None) -> Iterator[None]:
    """OutOfMemory for the several ways in which numpy and torch say it; expected: bytes that training takes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cpu_allocator = "not enough memory" in str(error) or "can't allocate memory" in str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or cpu_allocator:
            first_line = str(error).partition("\n")[0]
            estimate = "" if expected is None else f"; training this network takes about {in_words(expected)}"
            raise OutOfMemory(f"out of memory ({first_line}){estimate}; take a smaller model or batch") from error
        raise


def metrics_row(epoch: int, loss: float, scores: Scores, connections: int, change: Change) -> dict[str, Any]:
    """One row of metrics.jsonl, before the epoch's evolution: accuracies in percent, all else in nats per row."""
    row: dict[str, Any] = {"epoch": epoch, "train_loss": loss}
    for part, score in scores.items():
        row |= {f"{part}_{name}": value for name, value in score.items()}
    counts = {"pruned": change.pruned, "pruned_zeros": change.zeros, "regrown": change.regrown}
    return row | {"connections": connections} | counts


def describe_start(
    config: Config, command: list[str], data: DataSet, network: Network, device: torch.device, why: str, group: Group
) -> dict[str, Any]:
    """One entry of run.json: the environment, what was chosen in it, and what does not decide the numbers."""
    return describe_environment(command) | {
        "threads": torch.get_num_threads(),
        "processes": group.size,
        "kernels": native.describe(),
        "device": describe_device(device),
        "device_why": why,
        "expected_memory_bytes": network.memory.expected,
        "options": {
            "runs_dir": config.runs_dir,
            "resume": config.resume,
            "dataset.path": config.dataset.path,
            "dataset.test_path": config.dataset.test_path,
            "data.dir": str(data_folder(config.data.dir)),
            "backend.threads": config.backend.threads,
            "backend.deterministic": config.backend.deterministic,
            "snapshots": config.snapshots.model_dump(),
        },
        "data": data_record(data),
        "checksums": data.checksums,
        "layers": describe_layers(network.plans, network.choices),
    }
