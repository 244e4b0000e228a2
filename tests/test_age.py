"""Adam's bias correction by the age of each connection: a new one starts as those of a new training do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from set_cli.sparse import Evolution, SparseLinear
from set_cli.sparse.age import BORN

STEPS = 400  # so that Adam's own correction of the second moment has mostly worn off


def start(
    make: Callable[..., torch.optim.Optimizer], **words: Any
) -> tuple[SparseLinear, torch.optim.Optimizer, Evolution]:
    layer = SparseLinear(30, 20, density=0.3, seed=0, bias=False)
    optimizer = make([layer.weight])
    return layer, optimizer, Evolution(layer, optimizer, zeta=0.3, seed=1, **words)


def step(parameter: Tensor, gradient: Tensor, optimizer: torch.optim.Optimizer) -> None:
    parameter.grad = gradient.clone()
    optimizer.step()


def gradients(nnz: int, count: int, seed: int) -> Tensor:
    return torch.randn(count, nnz, generator=torch.Generator().manual_seed(seed))


OPTIMISERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "Adam, weight decay, other betas": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, betas=(0.5, 0.99)),
    "AdamW, maximize": lambda p: torch.optim.AdamW(p, lr=0.01, maximize=True),
    "AdamW, foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "a tensor as rate, no momentum": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), betas=(0.0, 0.999)),
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS.keys())
def test_new_connections_move_as_in_a_new_adam_and_old_ones_as_before(make: Any) -> None:
    layer, optimizer, _ = start(make, bias_correction="age")
    for gradient in gradients(layer.nnz, STEPS, 0):
        step(layer.weight, gradient, optimizer)
    change = layer.evolve(0.3, optimizer=optimizer, seed=2)
    assert change is not None
    new = change.source < 0

    fresh = layer.weight.detach()[new].clone().requires_grad_()
    fresh_optimizer = make([fresh])
    old = layer.weight.detach()[~new].clone().requires_grad_()
    old_optimizer = make([old])
    state = copy.deepcopy(optimizer.state[layer.weight])
    old_optimizer.state[old] = {k: v[~new] if v.ndim else v for k, v in state.items() if k != BORN}
    for gradient in gradients(layer.nnz, 30, 1):
        step(layer.weight, gradient, optimizer)
        step(fresh, gradient[new], fresh_optimizer)
        step(old, gradient[~new], old_optimizer)
    torch.testing.assert_close(layer.weight[new], fresh, rtol=1e-4, atol=1e-6)
    assert torch.equal(layer.weight[~new], old)


def test_without_it_a_new_connection_moves_three_times_the_rate() -> None:
    """What is corrected: the first update of Adam's own new connections, (1 - 0.9) / sqrt(1 - 0.999)."""
    moved = {}
    for kind in ("step", "age"):
        layer, optimizer, _ = start(lambda p: torch.optim.Adam(p, lr=0.01), bias_correction=kind)
        for gradient in gradients(layer.nnz, 5000, 0):
            step(layer.weight, gradient, optimizer)
        change = layer.evolve(0.3, optimizer=optimizer, seed=2)
        assert change is not None
        new = change.source < 0
        step(layer.weight, torch.ones(layer.nnz), optimizer)
        moved[kind] = float(layer.weight.detach()[new].abs().max()) / 0.01
    assert moved["step"] == pytest.approx(3.16, abs=0.03)
    assert moved["age"] == pytest.approx(1, abs=0.001)


def test_a_resumed_training_has_the_same_bits() -> None:
    """Ages are in the optimiser's state_dict, and follow their connections through further evolutions."""

    def run(layer: SparseLinear, optimizer: torch.optim.Optimizer, evolution: Evolution, first: int, last: int) -> None:
        for number in range(first, last):
            step(layer.weight, gradients(layer.nnz, 1, number)[0], optimizer)
            evolution.step()

    words = {"bias_correction": "age", "every": 7}
    layer, optimizer, evolution = start(OPTIMISERS["Adam"], **words)
    run(layer, optimizer, evolution, 0, 25)
    states = [copy.deepcopy(part.state_dict()) for part in (layer, optimizer, evolution)]
    run(layer, optimizer, evolution, 25, 60)

    other = start(OPTIMISERS["Adam"], **words)
    for load, state in zip([part.load_state_dict for part in other], states, strict=True):
        load(state)
    run(*other, 25, 60)
    assert torch.equal(layer.weight, other[0].weight)
    born = optimizer.state[layer.weight][BORN]
    assert {int(step) for step in born.unique()} >= {0, 49, 56}


def test_a_detached_evolution_leaves_the_optimiser_as_it_was() -> None:
    layer, optimizer, evolution = start(OPTIMISERS["Adam"], bias_correction="age")
    evolution.detach()
    step(layer.weight, torch.ones(layer.nnz), optimizer)
    assert BORN not in optimizer.state[layer.weight]


REFUSED = {
    "got SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "without amsgrad": lambda p: torch.optim.Adam(p, amsgrad=True),
    "got NAdam": lambda p: torch.optim.NAdam(p),
}


@pytest.mark.parametrize(("sentence", "make"), REFUSED.items(), ids=REFUSED.keys())
def test_optimisers_that_cannot_be_corrected_are_refused(sentence: str, make: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        start(make, bias_correction="age")


def test_half_precision_and_other_words_are_refused() -> None:
    layer = SparseLinear(30, 20, density=0.3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="float32 or float64"):
        Evolution(layer, torch.optim.Adam([layer.weight]), bias_correction="age")
    with pytest.raises(ValueError, match="expected 'step' or 'age', got 'none'"):
        start(OPTIMISERS["Adam"], bias_correction="none")
