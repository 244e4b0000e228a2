"""How long a run would take: from earlier runs of the same plan on this machine, else from some twenty timed steps."""

from __future__ import annotations

import functools
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from set_cli.config import Config, scientific
from set_cli.data.card import Card
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import Scaling
from set_cli.errors import SetError
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from set_cli.system.machine import available_cores
from set_cli.training.architectures import evaluation_rows, is_measured, make_trainer
from set_cli.training.devices import choose_device, describe_device, free_memory, prepare
from set_cli.training.evolution import evolve_model
from set_cli.training.group import ALONE
from set_cli.training.network import Network, build_network, estimate_memory, plan_network
from set_cli.training.optimizer import build_optimizer

STEPS, WARM_UP = 20, 2
PER_PLAN, IN_ALL = 4.0, 60.0  # seconds: of one plan's steps, and of its measurement; of all that one command asks for
MOST_CONNECTIONS = 3e7  # of a network that is built to be timed: a few seconds, and about a gigabyte
START = 3.0  # seconds in which a process imports torch, reads small data and draws its network
WRITING = 0.05  # seconds in which an epoch's files are written, each of them synced
NEWEST = 200  # earlier runs of a data set and model that are looked at
# What changes how long nothing takes, by section.
TIMELESS = {
    "": ("seed", "zeta"),
    "train": (
        *("epochs", "lr", "weight_decay", "schedule", "warmup", "lr_end", "lr_steps", "lr_factor"),
        *("label_smoothing", "class_weights", "betas", "adam_eps", "patience"),
    ),
    "model": ("init", "ais_every"),
    "method": ("regrow_init",),
    "data": ("scaling", "missing", "clip", "split"),
    "dataset": ("test_checksum",),
}
ON_OR_OFF = ("dropout", "momentum", "l1", "clip", "rotation", "shift", "crop", "cutout", "mixup")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of one epoch (training and evolution), and of one time that the network is measured; where from."""

    epoch: float
    measure: float
    source: str


@dataclass(frozen=True, slots=True)
class Size:
    """What there is to train on: the data set's card, the training rows, and those that are measured."""

    card: Card
    rows: int
    measured: int


class _Enough(Exception):
    """Enough steps were timed."""


_timed: dict[str, Pace | str] = {}
_left = IN_ALL


def duration(config: Config, size: Size, done: int = 0) -> dict[str, Any]:
    """'seconds' that the run takes from after epoch `done` on, and 'seconds_from': what they were derived from.

    seconds is None where nobody can say, and seconds_from is then the reason.
    """
    pace = _earlier(config) or _now(config, size)
    if isinstance(pace, str):
        return {"seconds": None, "seconds_from": pace}
    epochs = config.train.epochs
    model = config.model.model_dump()
    measures = sum(is_measured(model, epochs, epoch) for epoch in range(done + 1, epochs + 1))
    seconds = START + (epochs - done) * (pace.epoch + WRITING) + measures * pace.measure
    return {"seconds": round(seconds, 1), "seconds_from": pace.source}


def forget(seconds: float = IN_ALL) -> None:
    """Start afresh, as a new command does: nothing read, nothing timed, and so many seconds to time runs in."""
    global _left
    _recorded.cache_clear()
    _timed.clear()
    _left = seconds


def plan_key(keys: Mapping[str, Any]) -> str:
    """The part of a scientific configuration that decides how long an epoch takes, as text."""
    plan = json.loads(json.dumps(keys))
    for section, names in TIMELESS.items():
        for name in names:
            (plan if not section else plan.get(section, {})).pop(name, None)
    plan.pop("evolve", None)
    for section in (plan.get("train", {}), plan.get("model", {}), plan.get("data", {}).get("augment", {})):
        section |= {name: bool(section[name]) for name in ON_OR_OFF if name in section}
    plan["backend"] = plan.get("backend", {})
    return json.dumps(plan, sort_keys=True)


def _earlier(config: Config) -> Pace | None:
    """The pace of the runs of the same plan that this machine has finished, or come some way with."""
    device, _ = choose_device(config.backend)
    here = (platform.node(), describe_device(device), config.backend.threads or available_cores())
    folder = Path(config.runs_dir, config.dataset.name, config.model.name)
    paces = [pace for where, pace in _recorded(folder).get(plan_key(scientific(config)), []) if where == here]
    if not paces:
        return None
    epoch, measure = (statistics.median(getattr(pace, name) for pace in paces) for name in ("epoch", "measure"))
    return Pace(epoch, measure, f"{len(paces)} earlier run{'s' if len(paces) > 1 else ''}")


@functools.cache
def _recorded(folder: Path) -> dict[str, list[tuple[tuple[str, str, int], Pace]]]:
    """Pace of the earlier runs in this folder, by plan."""
    found: dict[str, list[tuple[tuple[str, str, int], Pace]]] = {}
    paths = sorted(folder.glob("*/timing.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths[:NEWEST]:
        with suppress(SetError, KeyError, TypeError, ValueError, statistics.StatisticsError):
            keys, starts = read_json(path.parent / "config.json"), read_json(path.parent / "run.json")
            start = starts[-1]
            if start.get("processes", 1) == 1:
                where = (start["host"], start["device"], start["threads"])
                found.setdefault(plan_key(keys), []).append((where, _pace_of(keys, read_rows(path))))
    return found


def _pace_of(keys: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Pace:
    timed = [row for row in rows if "paused" not in row]
    model, epochs = keys["model"], keys["train"]["epochs"]
    measured = [row for row in timed if is_measured(model, epochs, row["epoch"])]
    epoch = statistics.median(row["train_seconds"] + row["evolve_seconds"] for row in timed)
    return Pace(epoch, statistics.mean(row["evaluate_seconds"] for row in measured), "")


def _now(config: Config, size: Size) -> Pace | str:
    """The pace that some steps have now, on rows drawn at random; or why it is not known."""
    global _left  # of the time that one command may spend on all its runs
    key = plan_key(scientific(config) | {"threads": config.backend.threads, "on": config.backend.name})
    if key not in _timed:
        if _left <= 0:
            return f"unknown: {IN_ALL:g} s of timing were spent on the runs above"
        start = time.perf_counter()
        try:
            _timed[key] = _time_steps(config, size)
        except SetError as error:
            return f"unknown: {error}"
        except (RuntimeError, MemoryError, _Enough):
            _timed[key] = f"unknown: a few steps take more than {PER_PLAN:g} s, or more memory than is free"
        _left -= time.perf_counter() - start
    return _timed[key]


def _time_steps(config: Config, size: Size) -> Pace | str:
    device, _ = choose_device(config.backend)
    plans = plan_network(config, size.card)
    memory = estimate_memory(config, plans, device, size.rows, size.measured, size.card.shape)
    weights = sum(plan.n_in * plan.n_out * min(plan.probability, 1) for plan in plans)
    if weights > MOST_CONNECTIONS or 2 * memory.expected > (free_memory(device) or math.inf):
        return "unknown: the network is too large to be built for this"
    prepare(device, deterministic=config.backend.deterministic)
    torch.set_num_threads(config.backend.threads or available_cores())
    torch.set_flush_denormal(True)
    batch = min(config.train.batch_size, size.rows)
    trained = min(size.rows, batch * (STEPS + WARM_UP))
    measured = min(size.measured, 2 * evaluation_rows(config))
    data = _stand_in(config, size.card, trained, measured)
    network = build_network(config, data, device)
    network.model.to(device)
    epoch, steps = _epoch_seconds(config, data, network, size.rows, _Watch(device))
    measure = _measure_seconds(config, data, network, size.measured / measured, _Watch(device))
    return Pace(epoch, measure, f"{steps} timed steps")


class _Watch:
    """Tells the time once the device has done what it was given, until the time is up."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._end = device, time.perf_counter() + PER_PLAN

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def is_up(self) -> bool:
        return time.perf_counter() > self._end

    def check(self) -> None:
        if self.is_up():
            raise _Enough


def _epoch_seconds(config: Config, data: DataSet, network: Network, rows: int, watch: _Watch) -> tuple[float, int]:
    """Seconds of an epoch over so many rows, with its evolution; and the steps that were timed."""
    optimizer = build_optimizer(network.model, config.train)
    trainer = make_trainer(config, data, network.model, [], ALONE)
    inputs = Inputs(data.train, data, watch.device)
    times: list[float] = []

    def after_step(done: int, of: int, state: Callable[[], object]) -> None:
        times.append(watch.now())
        if len(times) == WARM_UP + STEPS or (len(times) > WARM_UP and watch.is_up()):
            raise _Enough

    start = watch.now()
    with suppress(_Enough):
        while True:  # a set may be smaller than twenty steps
            trainer.train(inputs, optimizer, 1, after_step, {})
    steps = np.diff([start, *times])[WARM_UP:]
    before = watch.now()
    evolve_model(network.model, optimizer, config, 0, look=lambda: trainer.look(inputs, 0, 1))
    every_steps = config.evolve.every_steps
    evolution = (watch.now() - before) * (1 if every_steps is None else rows / config.train.batch_size / every_steps)
    before = watch.now()
    with suppress(_Enough):
        trainer.train(inputs, optimizer, 2, _stop_at_once, {})
    opening = max(0.0, watch.now() - before - float(np.median(steps)))  # the order of the rows, the moves of images
    step = float(np.median(steps)) * rows / min(config.train.batch_size, rows)
    return step + opening * rows / len(data.train) + evolution, len(steps)


def _stop_at_once(done: int, of: int, state: Callable[[], object]) -> None:
    raise _Enough


def _measure_seconds(config: Config, data: DataSet, network: Network, share: float, watch: _Watch) -> float:
    """Seconds in which the network is measured on all rows, `share` times as many as there are in this data."""
    trainer = make_trainer(config, data, network.model, [], ALONE)
    parts = {"test": Inputs(data.test, data, watch.device)}
    return trainer.measuring_seconds(parts, share, lambda work: _seconds(work, watch), watch.check)


def _seconds(work: Callable[[], object], watch: _Watch) -> float:
    """The shorter of two, the first of which may have to wake threads; of one, where that took long."""
    found: list[float] = []
    while len(found) < 2 and not (found and watch.is_up()):
        before = watch.now()
        work()
        found.append(watch.now() - before)
    return min(found)


def _stand_in(config: Config, card: Card, rows: int, measured: int) -> DataSet:
    """Rows of the data set's shape and kind, drawn at random: the real ones may not be here, or take long to read."""
    rng = np.random.default_rng(0)

    def part(n: int) -> Part:
        if card.kind == "real":
            x: Any = rng.standard_normal((n, card.features), dtype=np.float32)
        elif card.kind == "binary":
            x = (rng.random((n, card.features), dtype=np.float32) < (card.mean or 0.5)).astype(np.uint8)
        else:
            x = rng.integers(0, card.maximum + 1, (n, card.features), dtype=np.uint8)
        return Part(x, rng.integers(0, max(card.classes, 1), n))

    scaling = Scaling(np.zeros(card.features), np.full(card.features, 1 / card.maximum), clip=config.data.clip)
    return DataSet(card, part(rows), None, part(measured), scaling, "test", {}, "bundled")
