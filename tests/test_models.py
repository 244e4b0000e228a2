"""The MLP: the paper's connection counts, SReLU, dropout, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from set_cli.config import Dataset
from set_cli.data.prepare import load_data
from set_cli.models.activations import ReLU, SReLU
from set_cli.models.counts import count_connections, count_layers, count_totals, sparse_layers
from set_cli.models.mlp import LayerPlan, build_mlp, plan_mlp
from set_cli.models.stack import PartwiseProduct
from set_cli.system import streams
from set_cli.training.network import build_network
from tests.conftest import Compose

CPU = torch.device("cpu")


def on_torch(plans: list[LayerPlan]) -> dict[str, str]:
    return {plan.name: "torch" for plan in plans}


@pytest.mark.parametrize(
    ("dataset", "features", "asked", "dense"),
    [("cifar10", 3072, 381_440, 20_328_000), ("mnist", 784, 125_680, 2_794_000)],
)
def test_connections_are_the_papers(dataset: str, features: int, asked: int, dense: int, compose: Compose) -> None:
    config = compose(f"dataset={dataset}")
    plans = plan_mlp(config.model, config.epsilon, features, 10)
    model = build_mlp(plans, config.model, on_torch(plans), 0)
    totals = count_totals(count_layers(model, 1))
    deviation = math.sqrt(sum(p.connections_asked * (1 - p.probability) for p in plans if p.sparse))
    assert round(sum(plan.connections_asked for plan in plans)) == asked
    assert abs(totals["connections"] - asked) < 5 * deviation
    assert totals["dense_equivalent"] == dense
    neurons = sum(config.model.hidden)
    assert totals["biases"] == neurons + 10
    assert totals["activation_parameters"] == 4 * neurons
    assert totals["parameters"] == sum(p.numel() for p in model.parameters())
    assert totals["dense_parameters"] == dense + 5 * neurons + 10


def test_a_probability_of_one_makes_a_dense_layer_that_says_so(compose: Compose) -> None:
    config = compose("model.hidden=[1000,10,50]", "epsilon=20")
    plans = plan_mlp(config.model, config.epsilon, 784, 10)
    assert [plan.sparse for plan in plans] == [True, False, False, False]
    assert "connection probability 2.02 is 1 or more: dense, does not evolve" in plans[1].reason
    assert list(sparse_layers(build_mlp(plans, config.model, on_torch(plans), 0))) == ["layer1"]


def test_set_and_fixprob_start_from_the_same_network(compose: Compose) -> None:
    configs = [compose("method=set", "seed=3"), compose("method=fixprob", "seed=3"), compose("method=set", "seed=4")]
    states = [
        build_network(config, load_data(Dataset(name="digits"), config.data), CPU).model.state_dict()
        for config in configs
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["output.weight"], states[2]["output.weight"])


def test_dense_has_every_connection(compose: Compose) -> None:
    config = compose()
    model = build_mlp(plan_mlp(config.model, None, 64, 10), config.model, {}, 0)
    assert not sparse_layers(model)
    assert count_connections(model) == 64 * 300 + 300 * 300 + 300 * 10
    limit = math.sqrt(6 / 364)
    weight = model.get_submodule("layer1").weight
    assert isinstance(weight, torch.Tensor)
    assert 0.99 * limit < weight.abs().max().item() <= limit


def srelu_by_hand(x: float, t_left: float, a_left: float, width: float, a_right: float) -> float:
    t_right = t_left + abs(width)
    if x < t_left:
        return t_left + a_left * (x - t_left)
    return x if x <= t_right else t_right + a_right * (x - t_right)


def test_srelu_is_its_definition_with_the_right_gradients() -> None:
    layer = SReLU(6, np.random.default_rng(0)).double()
    with torch.no_grad():
        layer.t_left.copy_(torch.tensor([-1.0, 0.5, 0.0, 2.0, -3.0, 0.1]))
        layer.right_width.copy_(torch.tensor([2.0, -1.0, 0.3, 4.0, 0.5, -0.2]))
        layer.a_right.copy_(torch.tensor([1.0, 0.5, 2.0, -1.0, 0.0, 1.5]))
    x = torch.linspace(-6, 6, 60, dtype=torch.double).view(10, 6) + 0.013
    parameters = [p.detach().tolist() for p in (layer.t_left, layer.a_left, layer.right_width, layer.a_right)]
    expected = [[srelu_by_hand(x[i, j].item(), *(p[j] for p in parameters)) for j in range(6)] for i in range(10)]
    torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.double))
    inputs = (x.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(
        lambda x, *p: torch.func.functional_call(
            layer, dict(zip(dict(layer.named_parameters()), p, strict=True)), (x,)
        ),
        inputs,
    )


def test_srelu_starts_as_the_authors_layer() -> None:
    layer = SReLU(10_000, np.random.default_rng(0))
    assert torch.all(layer.t_left == 0)
    assert torch.all(layer.a_right == 1)
    assert 0 <= layer.a_left.min() < 0.01 < 0.99 < layer.a_left.max() <= 1
    assert 0 <= layer.right_width.min() < 0.05 < 4.95 < layer.right_width.max() <= 5


def test_dropout_is_a_function_of_its_seed() -> None:
    dropout, x = ReLU(0.3), torch.ones(1000, 50)
    masks = []
    for seed in (1, 1, 2):
        dropout.reseed(seed, x.device)
        masks.append(dropout(x))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert set(masks[0].unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}
    assert abs((masks[0] == 0).float().mean().item() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 50_000)
    assert torch.equal(dropout.eval()(x), x)


def test_streams_are_independent_and_repeatable() -> None:
    draws = {
        (seed, name, key): tuple(streams.generator(seed, name, *key).integers(2**62, size=3))
        for seed in (0, 1)
        for name in streams.NUMBERS
        for key in ((), (1,), (2,), (1, 1))
    }
    assert len(set(draws.values())) == len(draws)
    assert streams.torch_seed(0, "dropout", 1, 2) == streams.torch_seed(0, "dropout", 1, 2)


@pytest.mark.parametrize(("n_in", "parts"), [(12, 3), (12, 1), (35, 5)])
def test_a_product_in_parts_is_the_product(n_in: int, parts: int) -> None:
    generator = torch.Generator().manual_seed(n_in)
    x, weight = (torch.randn(n, n_in, generator=generator, dtype=torch.float64) for n in (4, 3))
    x = x.t().contiguous().t()  # the batch contiguous
    arguments = (x.requires_grad_(), weight.requires_grad_())
    product: Callable[..., torch.Tensor] = PartwiseProduct.apply
    torch.testing.assert_close(product(*arguments, parts), x @ weight.t())
    assert torch.autograd.gradcheck(lambda x, weight: product(x, weight, parts), arguments)
