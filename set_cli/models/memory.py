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
    """A lower bound for a step: weights, gradients, the optimiser's copies, indices, and what each layer puts out.

    engines  of the sparse layers, by name
    rows     of the data; a batch has no more
    shape    of an image, for the convolutions
    """
    per_weight = (2 + config.train.optimizer_copies) * FLOAT
    weights, masked = 0.0, 0
    for plan in plans:
        if not plan.sparse:
            weights += plan.n_in * plan.n_out * per_weight
            continue
        weights += plan.connections_asked * (per_weight + config.train.has_ages * FLOAT + PER_CONNECTION)
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


PADDED = 16  # rows of a batch lie in whole cache lines
PER_NEURON = 5 * INDEX  # where its connections begin, in both orders; the bias has a copy for each of a weight's
SRELU = 4 * FLOAT  # four parameters, with as many copies
# How many copies of a layer's outputs a step has at once, as measured (docs/faults.md, "Memory"): what a hidden layer
# and its activation put out with their gradients; images with what their convolutions need beside; an RBM's units.
COPIES, COPIES_OF_IMAGES, COPIES_OF_UNITS, COPIES_IN_EVALUATION = 4.0, 5.5, 3.5, 3.0
WITH_NORM = 1.25  # where what a layer puts out is normalised
AIS_CHAINS = 120  # rows of hidden units that 100 annealed chains amount to
AGES = 8 * FLOAT  # bytes per connection of the largest layer that Adam's correction by age takes beside
TORCH_PRODUCTS = 160  # bytes per connection of the largest layer that torch's CSR products take beside


def expected_bytes(
    plans: Sequence[LayerPlan],
    engines: Mapping[str, str],
    config: Config,
    rows: int,
    shape: Sequence[int] | None,
    evaluation_rows: int,
    annealed_rows: int,
    step_values: float,
) -> int:
    """What training is expected to take at its peak beyond the program and its data; measured within a fifth.

    evaluation_rows  of a batch of test rows
    annealed_rows    rows of the widest layer's outputs that annealed chains amount to
    step_values      values of one row that a step has in memory at its peak; all else as `training_bytes`
    """
    sparse = [plan for plan in plans if plan.sparse]
    dense = [plan.n_in * plan.n_out * FLOAT for plan in plans if not plan.sparse]
    neurons = sum(plan.n_in + plan.n_out for plan in plans)
    copies = 2 + config.train.optimizer_copies
    per_connection = (copies + config.train.has_ages) * FLOAT + PER_CONNECTION
    kept = sum(plan.connections_asked for plan in sparse) * per_connection
    kept += copies * sum(dense) + neurons * (PER_NEURON + copies * FLOAT)
    if config.model.activation == "srelu":
        kept += sum(config.model.hidden) * copies * SRELU
    building = sum(dense) + 2 * max(dense, default=0)
    products = max((p.n_in * p.n_out * FLOAT for p in sparse if engines.get(p.name) == "masked"), default=0)
    largest = max((p.connections_asked for p in sparse if engines.get(p.name) == "torch"), default=0)
    products += round(largest * TORCH_PRODUCTS)
    if config.train.has_ages:
        products += round(max((p.connections_asked for p in sparse), default=0) * AGES)
    batch = -(-min(rows, config.train.batch_size) // PADDED) * PADDED
    step = batch * step_values * FLOAT * (1 if config.model.norm is None else WITH_NORM)
    widest = max(plan.n_out for plan in plans)
    evaluation = (COPIES_IN_EVALUATION * evaluation_rows + annealed_rows) * widest * FLOAT
    return round(max(building, kept + products + max(step, evaluation)))


def values_of_units(plans: Sequence[LayerPlan], shape: Sequence[int] | None) -> float:
    """Values of one row that a step of contrastive divergence has in memory at its peak."""
    return COPIES_OF_UNITS * (plans[0].n_in + plans[0].n_out)


def values_of_layers(plans: Sequence[LayerPlan], shape: Sequence[int] | None) -> float:
    """Values of one row that a supervised step has in memory at its peak.

    shape  of an image, for the convolutions
    """
    images = [plan for plan in plans if plan.convolution]
    others = [plan for plan in plans if not plan.convolution]
    return COPIES_OF_IMAGES * _values(images, shape) + COPIES * _values(others, None)
