"""What a researcher should know of a training before its figures are believed, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from set_cli.config import Config
from set_cli.data.prepare import DataSet
from set_cli.models.counts import sparse_layers
from set_cli.models.mlp import LayerPlan
from set_cli.training.wiring import NEEDS_DATA, inside

MOST_UNCONNECTED = 0.5  # of a layer's outputs; the paper's networks have 20 connections and more for each
LARGEST_RATE_OF_ADAM = 0.02
STRONG = 0.01  # of weight decay and L1: fifty times the paper's, from which digits learn nothing


def doubts_at_start(config: Config, plans: Sequence[LayerPlan], model: nn.Module, rows: int) -> list[str]:
    """Sentences about the network and its training that make the result doubtful, before it starts.

    rows  training rows
    """
    sentences = _empty_layers(config, model)
    full = _full_layers(config, plans)
    if full and not any(plan.sparse for plan in plans):
        sentences.append(full)
    train = config.train
    if train.optimizer != "sgd" and train.lr > LARGEST_RATE_OF_ADAM:
        sentences.append(
            f"train.lr={train.lr:g} is a rate for train.optimizer=sgd: {train.optimizer} moves every weight by as "
            "much in each step; take about 0.001"
        )
    steps, every_steps = config.train.epochs * -(-rows // config.train.batch_size), config.evolve.every_steps
    if config.method.evolves and every_steps is not None and every_steps > steps:
        sentences.append(
            f"evolve.every_steps={every_steps:,} is more than the {steps:,} steps of the run: nothing evolves"
        )
    if config.train.batch_size > rows:
        sentences.append(
            f"train.batch_size={config.train.batch_size} is larger than the {rows:,} training rows: every epoch is one "
            f"step, {config.train.epochs:,} in all; take a smaller one"
        )
    return sentences


def _empty_layers(config: Config, model: nn.Module) -> list[str]:
    sentences = []
    for name, layer in sparse_layers(model).items():
        unconnected = float(np.mean(layer.pattern.in_degrees() == 0))
        size = f"{layer.in_features:,} x {layer.out_features:,}"
        if layer.nnz == 0:
            sentences.append(f"{name} ({size}) has no connection at {config.amount}: nothing passes through it")
        elif unconnected > MOST_UNCONNECTED:
            sentences.append(
                f"{name} ({size}) has so few connections ({layer.nnz:,}) at {config.amount} that "
                f"{100 * unconnected:.0f} % of its neurons have none; take a larger one"
            )
    return sentences


def network_lines(config: Config, plans: Sequence[LayerPlan], doubts: Sequence[str]) -> list[str]:
    """Lines to print of the network, `doubts_at_start` among them."""
    full = _full_layers(config, plans)
    notes = [f"note: {full}"] if full and full not in doubts else []
    if config.method.is_sparse and config.method.wiring in NEEDS_DATA and config.model.facts.needs_images:
        notes.append(
            f"note: method.wiring={config.method.wiring} is for a sparse layer that reads the data, which this network "
            f"has none of: its layers are wired by {inside(config)}"
        )
    return notes + [f"warning: {sentence}" for sentence in doubts]


def _full_layers(config: Config, plans: Sequence[LayerPlan]) -> str | None:
    """Layers that Eq. 1 makes dense, although the method is a sparse one; None where there are none."""
    full = [plan for plan in plans if plan.filled]
    if not full:
        return None
    names = " and ".join(f"{plan.name} ({plan.n_in:,} x {plan.n_out:,})" for plan in full)
    are = "is" if len(full) == 1 else "are"
    if any(plan.sparse for plan in plans):
        small = f"{names} {are} too small to be sparse at {config.amount}"
        return f"{small}: trained dense; the other layers are sparse"
    largest = max(plan.n_in * plan.n_out / (plan.n_in + plan.n_out) for plan in full)
    return (
        f"{config.amount} fills {names}: nothing in this network is sparse, and nothing evolves; take an "
        f"epsilon below {largest:.3g}"
    )


def doubts_at_end(config: Config, data: DataSet, row: Mapping[str, float]) -> list[str]:
    """Sentences about a network that has learned nothing, and what may be the cause.

    row  of metrics.jsonl, of the last epoch
    """
    if not config.model.facts.needs_labels:
        found, chance = row["test_log_probability"], independent_log_probability(data)
        what = f"test log-probability {found:.2f} nats is no better than that of independent units ({chance:.2f})"
    else:
        found, chance = row["test_accuracy"], 100 * float(np.bincount(data.test.labels).max()) / len(data.test)
        what = f"test accuracy {found:.2f} % is no better than always giving the most frequent class ({chance:.2f} %)"
    one_class = chance == 100  # of which the data's own doubts tell
    return (
        [f"{what}: {_cause(config, len(data.train), int(row['epoch']))}"] if found <= chance and not one_class else []
    )


def _cause(config: Config, rows: int, epochs: int) -> str:
    train = config.train
    penalties = {"train.weight_decay": train.weight_decay, "train.l1": train.l1}
    strong = [f"{key}={value:g}" for key, value in penalties.items() if value >= STRONG]
    if strong:
        return f"{' and '.join(strong)} may leave nothing of the weights"
    if train.class_weights is not None:
        return "train.class_weights trains on other proportions of the classes than the test rows have"
    steps = epochs * -(-rows // train.batch_size)
    taken = "1 step" if steps == 1 else f"{steps:,} steps"
    return f"{taken} at train.lr={train.lr:g}; more train.epochs or a smaller train.batch_size may help"


def independent_log_probability(data: DataSet) -> float:
    """Mean log-probability (nats) of the test rows under independent units that have the training rows' means."""
    p = (data.train.x.sum(axis=0, dtype=np.float64) / data.card.maximum + 1) / (len(data.train) + 2)
    x = data.test.x.mean(axis=0, dtype=np.float64) / data.card.maximum
    return float((x * np.log(p) + (1 - x) * np.log1p(-p)).sum())
