"""The supervised epoch: every row is used once, order and masks are functions of the seed, decay acts on weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from set_cli.config import Config
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.models.counts import sparse_layers
from set_cli.training.evolution import evolve_model
from set_cli.training.network import build_network
from set_cli.training.optimizer import add_l1_gradient, build_optimizer, momentum_arrays, restore_momentum
from set_cli.training.supervised import evaluate, is_finite, train_epoch
from tests.builders import digits
from tests.conftest import Compose

CPU = torch.device("cpu")


def fit(config: Config, epochs: int = 1, threads: int = 1) -> tuple[nn.Module, list[float], list[tuple[int, int]]]:
    """The model, losses and progress calls after some epochs."""
    torch.set_num_threads(threads)
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    calls: list[tuple[int, int]] = []
    losses = [
        train_epoch(
            model,
            Inputs(data.train, data, CPU),
            optimizer,
            config,
            epoch,
            lambda rows, of, _: calls.append((rows, of)),
        )
        for epoch in range(1, epochs + 1)
    ]
    return model, losses, calls


def test_last_partial_batch_is_used(compose: Compose) -> None:
    _, _, calls = fit(compose("train.batch_size=1000"))
    assert calls == [(1000, 1438), (1438, 1438)]


def test_a_batch_larger_than_the_data_is_one_step(compose: Compose) -> None:
    _, losses, calls = fit(compose("train.batch_size=100000"))
    assert calls == [(1438, 1438)]
    assert losses[0] > 0


def test_every_row_counts_once_in_the_loss(compose: Compose) -> None:
    config = compose("train.batch_size=1000", "train.lr=1e-30", "model.dropout=0", "data.augment.flip=false")
    model, losses, _ = fit(config)
    data = digits(config)
    assert losses[0] == pytest.approx(evaluate(model, Inputs(data.train, data, CPU))["loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_bits(compose: Compose) -> None:
    config = compose("data.augment.rotation=10", "data.augment.flip=true")
    states = [fit(config, epochs=2)[0].state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = fit(compose("seed=1", "data.augment.rotation=10", "data.augment.flip=true"), epochs=2)[0].state_dict()
    assert not torch.equal(other["output.weight"], states[0]["output.weight"])


def test_evaluation_is_the_share_of_right_answers(compose: Compose) -> None:
    data = digits(compose())

    class Always(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(x),), 3), 10).float()

    threes = float((data.test.labels == 3).mean() * 100)
    assert evaluate(Always(), Inputs(data.test, data, CPU))["accuracy"] == pytest.approx(threes)
    only = replace(data, test=Part(data.test.x[:1], data.test.labels[:1]))
    assert evaluate(Always(), Inputs(only.test, data, CPU)) in (
        {"loss": pytest.approx(1.46, abs=0.01), "accuracy": 100.0},
        {"loss": pytest.approx(2.46, abs=0.01), "accuracy": 0.0},
    )


def test_an_evaluation_can_be_stopped_between_batches(compose: Compose) -> None:
    """A large test set takes many times the two seconds in which a signal must be answered."""
    config = compose()
    data = digits(config)
    model, inputs = build_network(config, data, CPU).model, Inputs(data.test, data, CPU)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, inputs, check, rows=100)
    assert calls == 2


def test_weight_decay_is_on_connection_weights_only(compose: Compose) -> None:
    config = compose("train.weight_decay=0.5", "train.momentum=0", "train.lr=0.1")
    model = build_network(config, digits(config), CPU).model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, config.train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if name.endswith("weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_l1_leaves_a_zero_alone() -> None:
    weight = nn.Parameter(torch.tensor([2.0, -3.0, 0.0]))
    weight.grad = torch.tensor([1.0, 1.0, 1.0])
    add_l1_gradient([weight], 0.25)
    assert weight.grad.tolist() == [1.25, 0.75, 1.0]


def test_optimizer_state_survives_a_round_trip(compose: Compose) -> None:
    config = compose()
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    train_epoch(model, Inputs(data.train, data, CPU), optimizer, config, 1, lambda *_: None)
    arrays = momentum_arrays(model, optimizer)
    assert {name.rpartition("/")[2] for name in arrays} == {"momentum_buffer"}
    other = build_optimizer(model, config.train)
    restore_momentum(model, other, arrays)
    assert all(torch.equal(value, arrays[name]) for name, value in momentum_arrays(model, other).items())


def test_evolution_moves_the_momentum_of_every_layer(compose: Compose) -> None:
    config = compose()
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    train_epoch(model, Inputs(data.train, data, CPU), optimizer, config, 1, lambda *_: None)
    for layer in sparse_layers(model).values():
        optimizer.state[layer.weight]["momentum_buffer"].fill_(1)
    change = evolve_model(model, optimizer, config, 1)
    momenta = torch.cat([optimizer.state[layer.weight]["momentum_buffer"] for layer in sparse_layers(model).values()])
    assert change.regrown == change.pruned == int((momenta == 0).sum()) > 0


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_hidden_bad_weight_is_found(poison: float, compose: Compose) -> None:
    config = compose()
    model = build_network(config, digits(config), CPU).model
    assert is_finite(model, [1.0])
    assert not is_finite(model, [1.0, float("nan")])
    with torch.no_grad():
        next(model.parameters())[0] = poison
    assert not is_finite(model, [1.0])
