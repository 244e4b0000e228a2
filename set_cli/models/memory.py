"""How much memory training a network takes at least, from its plan: known before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from set_cli.config import Config
from set_cli.models.cnn import POOL, image_shape
from set_cli.models.mlp import LayerPlan

FLOAT = INDEX = 4  # bytes
PER_CONNECTION = 3 * INDEX  # where it is, in rows of inputs and of outputs


def training_bytes(
    plans: Sequence[LayerPlan],
    engines: Mapping[str, str],
    config: Config,
    rows: int,
    shape: Sequence[int] | None,
) -> int:
    """A lower bound for a step: weights, gradients, momenta, indices, and what each layer puts out.

    engines  of the sparse layers, by name
    rows     of the data; a batch has no more
    shape    of an image, for the convolutions
    """
    per_weight = (3 if config.train.momentum else 2) * FLOAT
    weights, masked = 0.0, 0
    for plan in plans:
        if not plan.sparse:
            weights += plan.n_in * plan.n_out * per_weight
            continue
        weights += plan.connections_asked * (per_weight + PER_CONNECTION)
        if engines.get(plan.name) == "masked":  # the dense weights of one product at a time
            masked = max(masked, plan.n_in * plan.n_out * FLOAT)
    per_value = FLOAT if config.backend.precision == "float32" else FLOAT // 2
    values = min(rows, config.train.batch_size) * _values(plans, shape)
    return round(weights) + masked + values * per_value


def _values(plans: Sequence[LayerPlan], shape: Sequence[int] | None) -> int:
    """Values that a step keeps of one row: what each layer puts out, and a sparse convolution's patches."""
    total = 0
    for i, plan in enumerate(plans):
        pixels = 1
        if plan.convolution and shape is not None:
            _, height, width = image_shape(shape)
            smaller = POOL ** (i // 2)
            pixels = (height // smaller) * (width // smaller)
        total += pixels * (plan.n_out + (plan.n_in if plan.convolution and plan.sparse else 0))
    return total
