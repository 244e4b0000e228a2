"""What a run would take, from its configuration alone: connections, memory, room on the disk, time."""

from __future__ import annotations

from typing import Any

from set_cli.config import Config
from set_cli.data.card import Card
from set_cli.data.catalog import CATALOG
from set_cli.data.custom import read_custom
from set_cli.data.split import check_split
from set_cli.models.mlp import LayerPlan
from set_cli.sweeps.durations import Size, duration
from set_cli.training.devices import choose_device
from set_cli.training.network import estimate_memory, plan_network

PROGRAM = 300e6  # bytes of Python and torch
ON_DISK = 4  # bytes of a number of a checkpoint: a weight, its index, what the optimiser keeps of it
PER_CONNECTION = 2.5  # bytes of a snapshot's compressed indices


def forecast(config: Config, done: int | None = 0) -> dict[str, Any]:
    """Connections, megabytes of memory and disk, training rows, epochs and seconds of this run.

    done  epochs of it that are over; None: nothing is to be trained, so no time is asked for
    Reads custom files, for only they say how many features there are. Errors of set_cli.errors as the run itself.
    """
    card, rows, tested = _data(config)
    plans = plan_network(config, card)
    device, _ = choose_device(config.backend)
    memory = estimate_memory(config, plans, device, rows, tested, card.shape)
    of_data = card.rows * card.features * (4 if card.kind == "real" else 1)
    return {
        "connections": round(sum(plan.connections_asked for plan in plans)),
        "memory_mb": round((memory.expected + (PROGRAM + of_data) * (device.type == "cpu")) / 1e6),
        "disk_mb": round(_disk_bytes(config, plans) / 1e6, 1),
        "rows": rows,
        "epochs": config.train.epochs,
        **({} if done is None else duration(config, Size(card, rows, tested + config.data.valid), done)),
    }


def _data(config: Config) -> tuple[Card, int, int]:
    """Card, training rows and test rows."""
    data = config.data
    if config.dataset.path is not None:
        labels = config.model.facts.needs_labels
        card, parts = read_custom(config.dataset, missing=data.missing, labels=labels)
        train, valid, test = len(parts["train"]), len(parts["valid"]), len(parts["test"])
    else:
        card = CATALOG[config.dataset.name]
        train, valid, test = card.train, card.valid, card.test
    rows = train - data.holdout - check_split(config.dataset.name, data, train, valid)
    tested = data.holdout or test
    return card, min(rows, data.train_limit or rows), min(tested, data.test_limit or tested)


def _disk_bytes(config: Config, plans: list[LayerPlan]) -> float:
    """Two checkpoints, the snapshots, and the degrees of every epoch."""
    sparse = sum(plan.connections_asked for plan in plans if plan.sparse)
    full = sum(plan.n_in * plan.n_out for plan in plans if not plan.sparse)
    epochs = config.train.epochs if config.method.evolves else 0
    snapshots = 1 + epochs // config.snapshots.epochs_between(config.train.epochs)
    per_connection = PER_CONNECTION + (4 if config.snapshots.weights else 0)
    degrees = 4 * (1 + epochs) * sum(plan.n_in + plan.n_out for plan in plans if plan.sparse)
    copies = config.train.optimizer_copies
    checkpoint = ON_DISK * ((2 + copies + config.train.has_ages) * sparse + (1 + copies) * full)
    return 2 * checkpoint + snapshots * per_connection * sparse + degrees
