"""An object that evolves a model's sparse layers every so many steps of anyone's training loop."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from set_cli.sparse import Evolution, SparseLinear
from set_cli.sparse.rules import View, magnitude


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = SparseLinear(20, 30, density=0.2, seed=0), SparseLinear(30, 10, density=0.3, seed=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.Linear(10, 3))


def sparse(model: nn.Module) -> list[SparseLinear]:
    return [module for module in model.modules() if isinstance(module, SparseLinear)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, evolution: Evolution, first: int, last: int) -> list[int]:
    """The steps after which the layers evolved."""
    evolved = []
    for number in range(first, last + 1):
        generator = torch.Generator().manual_seed(number)
        loss = model(torch.randn(8, 20, generator=generator)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if evolution.step():
            evolved.append(number)
    return evolved


def start(**words: Any) -> tuple[nn.Sequential, torch.optim.Optimizer, Evolution]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return model, optimizer, Evolution(model, optimizer, **{"seed": 3, "every": 4, **words})


def test_layers_evolve_every_so_many_steps_until_the_end() -> None:
    model, optimizer, evolution = start(until=13)
    before = [layer.nnz for layer in sparse(model)]
    assert train(model, optimizer, evolution, 1, 20) == [4, 8, 12]
    assert [layer.nnz for layer in sparse(model)] == before


@pytest.mark.parametrize(
    ("every", "numbers", "expected"),
    [
        (4, [1, 2, 2, 3, 4, 4, 5, 8], [4, 8]),  # gradients that are added up: the number stays
        (1, [0, 1, 1, 2], [1, 2]),
        (4, [6, 7, 8], [8]),  # resumed after the fifth
        (4, [8, 9, 12], [8, 12]),
        (3, [2, 4, 6, 8, 10], [4, 6, 10]),  # two optimisers, each of which counts
    ],
)
def test_steps_that_somebody_else_counts(every: int, numbers: list[int], expected: list[int]) -> None:
    evolution = start(every=every)[2]
    assert [number for number in numbers if evolution.step(number)] == expected


def test_a_counted_training_resumes_without_state() -> None:
    model, _, evolution = start(every=2)
    for number in range(1, 5):
        evolution.step(number)
    other, _, earlier = start(every=2)
    for number in range(1, 4):
        earlier.step(number)
    later = Evolution(other, torch.optim.SGD(other.parameters(), lr=0.1), every=2, seed=3)
    assert later.step(4)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_a_resumed_count_knows_what_was_missed() -> None:
    evolution = start(every=4)[2]
    evolution.load_state_dict({"steps": 3, "seed": 0})
    assert evolution.step(5)


def test_counts_are_those_of_each_layer() -> None:
    model, _, evolution = start(zeta=0.5)
    counts = evolution.evolve()
    assert [count.name for count in counts] == ["0", "2"]
    assert all(count.pruned == count.regrown > 0 for count in counts)
    assert [count.connections for count in counts] == [layer.nnz for layer in sparse(model)]
    last = evolution.evolve(refill=False)
    assert all(count.regrown == 0 for count in last)
    assert sparse(model)[0].nnz == counts[0].connections - last[0].pruned


def test_zeta_is_a_function_of_the_progress() -> None:
    model, optimizer, evolution = start(zeta=lambda t: 0.3 * (1 + math.cos(math.pi * t)) / 2, until=8)
    assert evolution.zeta == 0.3
    pruned = []
    for number in range(1, 9):
        train(model, optimizer, evolution, number, number)
        pruned.append(evolution.zeta)
    assert pruned[3] == pytest.approx(0.15)
    assert pruned[7] == pytest.approx(0)


def test_a_training_resumes_bit_for_bit() -> None:
    model, optimizer, evolution = start()
    train(model, optimizer, evolution, 1, 12)
    other, other_optimizer, other_evolution = start()
    train(other, other_optimizer, other_evolution, 1, 6)
    states = copy.deepcopy([other.state_dict(), other_optimizer.state_dict(), other_evolution.state_dict()])
    resumed, resumed_optimizer, resumed_evolution = start(seed=99)
    for thing, state in zip((resumed, resumed_optimizer, resumed_evolution), states, strict=True):
        thing.load_state_dict(state)  # type: ignore[attr-defined]
    train(resumed, resumed_optimizer, resumed_evolution, 7, 12)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_seeds_layers_and_steps_draw_differently() -> None:
    twins = nn.Sequential(SparseLinear(20, 20, density=0.2, seed=0), SparseLinear(20, 20, density=0.2, seed=0))
    found = []
    for seed, step in ((0, 1), (1, 1), (0, 2)):
        model = copy.deepcopy(twins)
        evolution = Evolution(model, torch.optim.SGD(model.parameters(), lr=0.1), seed=seed)
        evolution.load_state_dict({"steps": step, "seed": seed})
        evolution.evolve()
        found += [tuple(layer.indices.tolist()) for layer in sparse(model)]
    assert len(set(found)) == 6


def test_averages_follow() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    average = AveragedModel(model)
    evolution = Evolution(model, optimizer, every=2, seed=0, followers=[average])
    for number in range(1, 8):
        train(model, optimizer, evolution, number, number)
        average.update_parameters(model)
    for ours, theirs in zip(sparse(model), sparse(average), strict=True):
        assert torch.equal(ours.indices, theirs.indices)
        assert not torch.equal(ours.weight, theirs.weight)
    with pytest.raises(ValueError, match="followers: expected a copy with the sparse layers 0, 2, got 0"):
        Evolution(model, optimizer, followers=[nn.Sequential(model[0])])


def most_negative(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    keep = torch.ones(view.nnz, dtype=torch.bool)
    keep[view.weights.argsort()[: int(zeta * view.nnz)]] = False
    return keep


def largest_gradients(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """RigL's regrowth, of all cells: a small layer's gradient can be looked at as a whole."""
    held = torch.zeros(view.cells, dtype=torch.bool)
    inputs = torch.arange(view.shape[0]).repeat_interleave(view.indptr.long().diff())
    held[(inputs * view.shape[1] + view.indices)[keep]] = True
    empty = torch.nonzero(~held).squeeze(1)
    return view.gradients_at(empty).abs().topk(count).indices.sort().values


def test_rules_of_ones_own() -> None:
    words = {"removal": most_negative, "regrowth": largest_gradients, "keep_last_step": True, "every": 100}
    model, optimizer, evolution = start(**words)
    train(model, optimizer, evolution, 1, 1)
    layer = sparse(model)[0]
    smallest = float(layer.weight.detach().sort().values[int(0.3 * layer.nnz)])
    evolution.evolve()
    assert float(layer.weight.detach().min()) == smallest
    evolution.detach()
    assert not layer._forward_hooks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"removal": lambda view, zeta, rng: view.weights}, r"removal: expected a tensor \(\d+,\) of bool"),
        ({"removal": lambda view, zeta, rng: None}, "which connections stay, got NoneType"),
        ({"regrowth": lambda view, keep, count, rng: torch.arange(count - 1)}, r"regrowth: expected a tensor \(\d+,\)"),
        (
            {"regrowth": lambda view, keep, count, rng: torch.zeros(count, dtype=torch.int64)},
            "expected distinct numbers",
        ),
        ({"regrowth": lambda view, keep, count, rng: 9999 + torch.arange(count)}, "from 0 to"),
    ],
)
def test_what_a_rule_must_return_is_said(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(**words)[2].evolve()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"every": 0}, "every: expected at least 1 step, got 0"),
        ({"zeta": lambda t: 0.3}, "until: expected a number of steps"),
        ({"zeta": 1.5}, "zeta: expected 0 <= zeta < 1, got 1.5"),
        ({"removal": "smallest"}, "removal: expected one of signed, magnitude, soft, random"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(**words)[2].evolve()


def test_a_model_without_sparse_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="expected a model with a SparseLinear, found none"):
        Evolution(model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_named_rule_is_the_function_of_that_name() -> None:
    by_name, by_function = (start(removal=rule)[0:3:2] for rule in ("magnitude", magnitude))
    for _, evolution in (by_name, by_function):
        evolution.evolve()
    assert all(map(torch.equal, by_name[0].state_dict().values(), by_function[0].state_dict().values()))
