"""*** Start here. *** One run: data, model, the epoch loop of the paper's Box 1, and its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from set_cli import native
from set_cli.config import Config
from set_cli.data.account import data_lines, data_record
from set_cli.data.files import data_folder
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import ConfigError, OutOfMemory
from set_cli.runs.environment import describe_environment
from set_cli.runs.extend import extend, shorter_run
from set_cli.runs.folder import RunFolder, locate
from set_cli.runs.summary import read_summary
from set_cli.system.files import check_writable
from set_cli.system.machine import available_cores, started_together
from set_cli.system.progress import NoView, View, make_bar, note
from set_cli.system.signals import NOT_STARTED, StopSignals
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.class_weights import check_weighted_rows
from set_cli.training.contents import describe_inputs, describe_layers
from set_cli.training.devices import choose_device, describe_device, prepare
from set_cli.training.doubts import doubts_at_end, doubts_at_start, network_lines
from set_cli.training.group import Group, joined
from set_cli.training.network import Network, build_network, in_words
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_card
from set_cli.training.record import Record
from set_cli.training.recorder import Following, Recorder
from set_cli.training.session import Learner, Session

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
    if started_together():
        _check_shareable(config)
    shorter = shorter_run(config) if config.resume == "extend" and status is None else None
    device, why = choose_device(config.backend)
    with _memory_errors(), joined(device) as group:
        if group.said_by_first(status == "done"):
            return Outcome(path, True, read_summary(path) if group.is_first else {})
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
                check=partial(check_card, config),
                bar=make_bar(config.progress),
                say=note,
            )
        check_weighted_rows(config, data.train)
        told = _tell(data_lines(data), group)
        network = build_network(config, data, device)
        _tell_what_is_slower(config, device, why, network)
        stop.check(NOT_STARTED)
        doubts = doubts_at_start(config, network.plans, network.model, len(data.train))
        told += _tell(network_lines(config, network.plans, doubts), group)
        network.model.to(device)
        learner = Learner(config, data, network.model, build_optimizer(network.model, config.train), group)
        if not group.is_first:
            done, rows = group.said_by_first(NOWHERE)
            if (done, rows) != NOWHERE:
                following = Following(path, config.train.epochs, done, rows)
                _train(Session(learner, following, NoView(), stop), following, NoView())
            return Outcome(path, False, {})
        with RunFolder(path) as folder, _memory_errors(network.memory.expected):
            if folder.is_done():  # another process finished it in the meantime
                group.said_by_first(NOWHERE)
                return Outcome(path, True, read_summary(path))
            if shorter is not None:
                extend(path, shorter, config)
                told += _tell([shorter.line], group)
            record = Record(config, folder, network.plans, network.model, learner.optimizer)
            with view:
                inputs = describe_inputs(data, with_mean=config.model.facts.needs_probabilities)
                start = describe_start(config, command, data, network, device, why, group)
                extends = {} if shorter is None else {"extends": str(shorter.path)}
                record.begin(start | extends, inputs)
                for line in told:
                    folder.log(line)
                group.said_by_first((record.epoch, record.rows_done))
                session = Session(learner, record, view, stop)
                view.start(record.title, config.train.epochs, record.epoch)
                _train(session, record, view)
                scores = session.final_scores()
            found = doubts_at_end(config, data, record.rows()[-1])
            for line in _tell([f"warning: {sentence}" for sentence in found], group):
                folder.log(line)
            doubts = [*data.doubts, *doubts, *found]
            return Outcome(path, False, record.finish(settings, data.tested_on, scores, doubts, session.ended))


def _train(session: Session, record: Recorder, view: View) -> None:
    """Box 1 of the paper, from the newest checkpoint on; an epoch's batches are the trainer's (training/supervised.py).

    An epoch is measured before its removal, which would cost accuracy that the next epoch wins back.
    """
    for epoch in session.remaining_epochs():
        loss = session.train(epoch)
        scores = session.measure(epoch)
        change = session.evolve(epoch)  # prune and regrow; the final removal is not refilled
        row = record.add(epoch, loss, scores, change, ends=session.ends)
        record.checkpoint()  # atomic: a resume starts here
        view.epoch(row, record.line)


def _check_shareable(config: Config) -> None:
    """ConfigError for what several processes cannot train together."""
    if not ARCHITECTURES[config.model.name].can_be_shared:
        shared = [name for name, architecture in ARCHITECTURES.items() if architecture.can_be_shared]
        raise ConfigError(
            f"torchrun is for model={' and '.join(shared)}; expected one process for model={config.model.name}"
        )
    if config.model.norm == "batch":
        raise ConfigError(
            "model.norm=batch: expected one process, since several would each normalise with the mean of their own "
            "rows; use model.norm=layer with torchrun"
        )


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
        note(f"note: backend.engine={reasons[0]}. Training uses torch's sparse products, several times slower.")


@contextmanager
def _memory_errors(expected: int | None = None) -> Iterator[None]:
    """OutOfMemory for the several ways in which numpy and torch say it; expected: bytes that training takes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cpu_allocator = "not enough memory" in str(error) or "can't allocate memory" in str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or cpu_allocator:
            first_line = str(error).partition("\n")[0]
            why = f" ({first_line})" if first_line else ""  # Python's own MemoryError says nothing
            estimate = "" if expected is None else f"; training this network takes about {in_words(expected)}"
            raise OutOfMemory(f"out of memory{why}{estimate}; take a smaller model or batch") from error
        raise


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
