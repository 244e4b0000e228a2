"""Weights of classes: rows are drawn in proportion to them, as SETClassifier draws them by theirs."""

from __future__ import annotations

from typing import Literal

import numpy as np

from set_cli.config import Config
from set_cli.config.reference import shown
from set_cli.data.drawn import Drawn, balanced
from set_cli.data.inputs import Batches, Inputs
from set_cli.data.parts import Part
from set_cli.errors import ConfigError
from set_cli.system import streams

Weights = tuple[float, ...] | Literal["balanced"]


def check_weighted_rows(config: Config, train: Part) -> None:
    """ConfigError where no class that has a weight has training rows."""
    weights = config.train.class_weights
    if weights is None or weights == "balanced" or np.array(weights)[train.labels].any():
        return
    raise ConfigError(
        f"train.class_weights: expected a weight above 0 for a class that has training rows, found {shown(weights)}"
    )


def by_class(inputs: Inputs, weights: Weights | None, seed: int, epoch: int) -> Batches:
    """The rows of an epoch: as many as there are, drawn by the weights of their classes."""
    if weights is None:
        return inputs
    labels = inputs.y.cpu().numpy()
    totals = np.bincount(labels).astype(np.float64)
    factors = balanced(totals) if weights == "balanced" else np.array(weights)
    rng = streams.generator(seed, "data", epoch, 1)
    order = rng.permutation(len(labels))  # else neighbours in the file would never be drawn together
    drawn = Drawn(inputs, order, factors[labels[order]])
    drawn.draw(rng)
    return drawn
