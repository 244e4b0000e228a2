"""What rules look at before an evolution, against autograd on dense layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from set_cli.data.inputs import Inputs
from set_cli.models.counts import sparse_layers
from set_cli.models.rbm import RBM
from set_cli.training import samples as module
from set_cli.training.network import build_network
from set_cli.training.samples import batches_of_rows, contrastive_samples, supervised_samples
from tests.builders import TINY, digits
from tests.conftest import Compose

CPU = torch.device("cpu")
RULES = {"gradient": 1, "momentum": 10}


@pytest.mark.parametrize("regrowth", RULES)
@pytest.mark.parametrize("model", [("model=mlp", "model.dropout=0.4"), ("model=cnn", "model.sparse_convolutions=true")])
def test_gradients_are_those_of_the_loss(model: tuple[str, ...], regrowth: str, compose: Compose) -> None:
    config = compose("dataset=digits", *TINY, *model, f"method.regrowth={regrowth}", "model.activation=relu")
    data = digits(config)
    network, inputs = build_network(config, data, CPU).model, Inputs(data.train, data, CPU)
    found = supervised_samples(network, inputs, config, 3, 7)
    most = module.MOST_IMAGES if "model=cnn" in model else 40
    rows = batches_of_rows(inputs, config, 3, 7, most)
    assert len(rows) == RULES[regrowth]
    assert all(p.grad is None for p in network.parameters())
    assert network.training
    network.eval()
    means = {name: torch.zeros(layer.nnz) for name, layer in sparse_layers(network).items()}
    weights = [0.9 ** (len(rows) - 1 - i) for i in range(len(rows))]
    for batch, weight in zip(rows, weights, strict=True):
        network.zero_grad()
        x, y = inputs.batch(batch)
        F.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        for name, layer in sparse_layers(network).items():
            assert layer.weight.grad is not None
            means[name] += weight / sum(weights) * layer.weight.grad
    assert means.keys() == found.keys()
    for name, layer in sparse_layers(network).items():
        view = layer.view(found[name])
        torch.testing.assert_close(view.gradients_at(view.positions), means[name], rtol=1e-4, atol=1e-6)
        outputs = found[name].outputs
        assert outputs is not None
        assert outputs.min() >= 0  # behind the ReLU


def test_rows_are_drawn_once_and_depend_on_the_place_in_the_run(compose: Compose) -> None:
    config = compose("dataset=digits", *TINY, "method.regrowth=cosine")
    data = digits(config)
    inputs = Inputs(data.train, data, CPU)
    rows = torch.cat(batches_of_rows(inputs, config, 1, 3, len(inputs)))
    assert len(rows) == 400  # ten batches of 40, of 120 rows
    assert torch.equal(rows[:120].sort().values, torch.arange(120))
    assert torch.equal(rows, torch.cat(batches_of_rows(inputs, config, 1, 3, len(inputs))))
    assert not torch.equal(rows, torch.cat(batches_of_rows(inputs, config, 2, 3, len(inputs))))


def test_an_rbms_samples_are_its_gradient(compose: Compose) -> None:
    config = compose("dataset=digits", "model=rbm", *TINY, "method.regrowth=gradient", "epsilon=4")
    data = digits(config)
    network, inputs = build_network(config, data, CPU).model, Inputs(data.train, data, CPU)
    assert isinstance(network, RBM)
    sample = contrastive_samples(network, inputs, config, 1, 1)["layer1"]
    assert sample.inputs is not None
    assert sample.output_gradients is not None
    n = len(sample.inputs) // 2
    h = -n * sample.output_gradients[:n], n * sample.output_gradients[n:]
    network.set_gradients(sample.inputs[:n], h[0], sample.inputs[n:], h[1])
    (layer,) = sparse_layers(network).values()
    view = layer.view(sample)
    assert layer.weight.grad is not None
    torch.testing.assert_close(view.gradients_at(view.positions), layer.weight.grad, rtol=1e-4, atol=1e-6)
