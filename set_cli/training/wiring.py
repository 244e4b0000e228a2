"""The wiring of a network's sparse layers: which rule draws each, and what it may know of the data."""

from __future__ import annotations

import numpy as np

from set_cli.config import Config
from set_cli.data.card import Card
from set_cli.data.prepare import DataSet
from set_cli.models.cnn import image_shape
from set_cli.models.mlp import LayerPlan, Wire
from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules import WIRING, Site
from set_cli.sparse.rules.correlation import MOST_ROWS

NEEDS_DATA = ("local", "csti")  # wirings of a layer that reads the data
READS_DATA = "layer1"  # the layer of an MLP and an RBM; a CNN's is behind its convolutions


def reads_images(config: Config, card: Card) -> tuple[int, int, int] | None:
    """(channels, height, width) where the first sparse layer reads images, pixel by pixel; None where it does not."""
    if card.shape is None or config.model.facts.needs_images:
        return None
    try:
        return image_shape(card.shape)
    except ValueError:  # of some other order, which an MLP does not mind
        return None


def inside(config: Config) -> str:
    """The wiring of layers that do not read the data."""
    method = config.method
    return method.wiring_inside or ("erdos_renyi" if method.wiring in NEEDS_DATA else method.wiring)


def wiring_of(config: Config, data: DataSet) -> Wire:
    """What draws the connections of each layer, by method.wiring and method.wiring_inside."""
    method, card = config.method, data.card

    image = reads_images(config, card)

    def wire(plan: LayerPlan, rng: np.random.Generator) -> Csr:
        reads_data = plan.name == READS_DATA and plan.n_in == card.features and not config.model.facts.needs_images
        if not reads_data:
            return WIRING[inside(config)](Site(plan.n_in, plan.n_out, plan.probability), rng)
        rows = None
        if method.wiring == "csti":
            drawn = rng.choice(len(data.train), min(len(data.train), MOST_ROWS), replace=False)  # a file may be sorted
            rows = data.scaling(data.train.x[np.sort(drawn)])
        return WIRING[method.wiring](Site(plan.n_in, plan.n_out, plan.probability, image, rows), rng)

    return wire
