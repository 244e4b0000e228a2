"""What is drawn anew for every seed, epoch and layer; the rows that are measured are never changed at random."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli.config import Config
from set_cli.data.augment import transform
from set_cli.data.inputs import Inputs
from set_cli.models.activations import Activation
from set_cli.models.counts import sparse_layers
from set_cli.training.architectures import make_trainer
from set_cli.training.evolution import Change, evolve_model
from set_cli.training.group import ALONE
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from set_cli.training.passes import Pass
from set_cli.training.supervised import train_epoch
from tests.builders import digits
from tests.conftest import Compose

CPU = torch.device("cpu")
TWINS = ("model.hidden=[64,64]", "epsilon=3")  # two layers of 64 x 64 behind the pixels


def twins(config: Config) -> nn.Module:
    """A network whose two sparse layers of equal size have equal connections and weights."""
    model = build_network(config, digits(config), CPU).model
    first, second = (layer for layer in sparse_layers(model).values() if layer.out_features == 64)
    second.load_state_dict(first.state_dict())
    return model


def evolved(config: Config, epoch: int) -> list[Tensor]:
    """The connections of both layers after an evolution."""
    model = twins(config)
    evolve_model(model, build_optimizer(model, config.train), config, epoch)
    return [layer.indices for layer in sparse_layers(model).values() if layer.out_features == 64]


def test_connections_grow_elsewhere_in_every_layer_epoch_and_seed(compose: Compose) -> None:
    config = compose(*TWINS)
    first = evolved(config, 1)
    assert all(map(torch.equal, first, evolved(config, 1)))
    assert not torch.equal(*first)  # of the two layers
    assert not any(map(torch.equal, first, evolved(config, 2)))
    # The same network, evolved as in a run with another seed.
    assert not any(map(torch.equal, first, evolved_with_seed(config, 1)))


def evolved_with_seed(config: Config, seed: int) -> list[Tensor]:
    model = twins(config)
    evolve_model(model, build_optimizer(model, config.train), config.model_copy(update={"seed": seed}), 1)
    return [layer.indices for layer in sparse_layers(model).values() if layer.out_features == 64]


def change_of(config: Config, weights: Tensor) -> Change:
    """What an evolution does where the first layer's weights begin with these."""
    model = twins(config)
    layer = next(iter(sparse_layers(model).values()))
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[: len(weights)] = weights
    return evolve_model(model, build_optimizer(model, config.train), config, 1)


def test_weights_of_zero_are_counted(compose: Compose) -> None:
    config = compose(*TWINS)
    without, three = change_of(config, torch.ones(5)), change_of(config, torch.tensor([0.0, 1, 0, 1, 0]))
    assert three.zeros - without.zeros == 3


def test_the_rule_that_removes_is_the_configurations(compose: Compose) -> None:
    """SET takes its fraction of the negative weights too, though they are far from zero here; `magnitude` does not."""
    far = torch.full((20,), -9.0)
    gone = []
    for removal in ("signed", "magnitude"):
        config = compose(*TWINS, f"method.removal={removal}")
        model = twins(config)
        layer = next(iter(sparse_layers(model).values()))
        with torch.no_grad():
            layer.weight.fill_(1.0)
            layer.weight[:20] = far
        evolve_model(model, build_optimizer(model, config.train), config, 1)
        gone.append(20 - int((layer.weight == -9).sum()))
    assert gone == [6, 0]


def test_dropout_masks_differ_between_layers_and_epochs(compose: Compose) -> None:
    config = compose(*TWINS, "model.dropout=0.5")
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    seeds = []
    for epoch in (1, 2):
        train_epoch(model, Inputs(data.train, data, CPU), optimizer, config, epoch, lambda *_: None)
        seeds += [module.stream.seed for module in model.modules() if isinstance(module, Activation)]
    assert len(seeds) == 4
    assert len(set(seeds)) == 4


def order(seed: int, epoch: int) -> list[int]:
    one_pass = Pass(100, 30, seed, epoch, CPU)
    rows = []
    for batch in one_pass.batches():
        rows += batch.tolist()
        one_pass.count(len(batch))
    return rows


def test_rows_come_in_another_order_in_every_epoch_and_seed() -> None:
    orders = [order(0, 1), order(0, 2), order(1, 1)]
    assert all(sorted(rows) == list(range(100)) for rows in orders)
    assert all(a != b for a, b in itertools.combinations([list(range(100)), *orders], 2))
    assert order(0, 1) == orders[0]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_rows_are_measured_as_they_are(model: str, compose: Compose) -> None:
    """Augmentation and dropout change training rows only."""
    moved = ("data.augment.rotation=20", "data.augment.shift=0.2", "data.augment.flip=true")
    config = compose(f"model={model}", *moved, "model.dropout=0.5")
    data = digits(config)
    network = build_network(config, data, CPU).model
    with torch.no_grad():
        network.get_parameter("output.weight").mul_(30)  # so that it tells images apart as a trained one does
    trainer = make_trainer(config, data, network, [], ALONE)
    measured = trainer.measure({"test": Inputs(data.test, data, CPU)}, 1, lambda: None)["test"]
    rows = torch.from_numpy(np.ascontiguousarray(data.scaling(data.test.x)))
    labels = torch.from_numpy(data.test.labels)
    network.eval()
    with torch.no_grad():
        logits = network(rows)
        assert measured["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
        assert measured["accuracy"] == pytest.approx(100 * float((logits.argmax(dim=1) == labels).double().mean()))
        flipped = transform(rows, torch.tensor([[[-1.0, 0, 0], [0, 1.0, 0]]]).expand(len(rows), 2, 3), (8, 8))
        assert float(nn.functional.cross_entropy(network(flipped), labels)) != pytest.approx(measured["loss"], rel=1e-3)
