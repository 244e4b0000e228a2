"""SparseLinear as anyone's torch module: products and gradients of every engine, optimisers, state_dict, evolve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli.sparse import SparseLinear
from set_cli.sparse import pattern as patterns
from set_cli.sparse.engines import find_engine
from tests.oracles import INSTALLED_ENGINES, dense_weight, tolerance


def sparse_layer(n_in: int, n_out: int, engine: str = "torch", epsilon: float = 1.5, seed: int = 0) -> SparseLinear:
    layer = SparseLinear(n_in, n_out, epsilon=epsilon, engine=engine, seed=seed)
    nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    return layer


@pytest.mark.parametrize("engine", INSTALLED_ENGINES)
@pytest.mark.parametrize(("n_in", "n_out", "n_batch"), [(1, 1, 1), (7, 5, 1), (5, 9, 13), (40, 30, 100), (30, 2, 17)])
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 1e6])
def test_every_engine_matches_the_dense_float64_oracle(
    engine: str, n_in: int, n_out: int, n_batch: int, epsilon: float
) -> None:
    layer = sparse_layer(n_in, n_out, engine, epsilon)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_batch, n_in, generator=generator).requires_grad_()
    dy = torch.randn(n_batch, n_out, generator=generator)
    y = layer(x)
    y.backward(dy)

    pattern = layer.pattern
    weight = dense_weight(pattern, layer.weight.detach().numpy())
    x64, dy64 = x.detach().double().numpy(), dy.double().numpy()
    bias = layer.bias.detach().double().numpy()  # type: ignore[union-attr]
    expected_dw = (x64.T @ dy64).reshape(-1)[pattern.positions()]
    largest = 16.0  # of a product of two values here
    assert y.shape == (n_batch, n_out)
    for found, expected, terms in (
        (y, x64 @ weight + bias, n_in),
        (x.grad, dy64 @ weight.T, n_out),
        (layer.weight.grad, expected_dw, n_batch),
        (layer.bias.grad, dy64.sum(0), n_batch),  # type: ignore[union-attr]
    ):
        assert found is not None
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=tolerance(terms, largest))


@pytest.mark.parametrize("engine", ["auto", "torch", "masked"])
def test_gradients_are_those_of_finite_differences(engine: str) -> None:
    layer = sparse_layer(7, 5, engine).double()
    x = torch.randn(4, 7, dtype=torch.double, requires_grad=True)

    def product(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x,))
        return out

    assert torch.autograd.gradcheck(product, (x, layer.weight))


@pytest.mark.parametrize("engine", INSTALLED_ENGINES)
def test_only_the_gradients_asked_for_are_computed(engine: str) -> None:
    layer = sparse_layer(6, 4, engine)
    layer.weight.requires_grad_(False)
    x = torch.randn(3, 6, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


def test_leading_dimensions_are_kept() -> None:
    layer = sparse_layer(6, 4)
    x = torch.randn(2, 3, 6)
    assert layer(x).shape == (2, 3, 4)
    torch.testing.assert_close(layer(x)[1], layer(x[1]))
    assert layer(torch.randn(6)).shape == (4,)
    assert layer(torch.randn(0, 6)).shape == (0, 4)


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 6 features, got a tensor of shape \(3, 5\)"):
        sparse_layer(6, 4)(torch.randn(3, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0}, "epsilon: expected a finite number above 0, got 0"),
        ({"epsilon": float("nan")}, "epsilon: expected a finite number above 0, got nan"),
        ({"init": "he"}, "init: expected 'glorot', 'sparse_fan_in' or 'normal', got 'he'"),
        ({"engine": "cuda"}, "expected an engine out of auto, native, torch, triton, masked, got 'cuda'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseLinear(6, 4, **arguments)  # type: ignore[arg-type]


def test_the_seed_decides_topology_and_weights() -> None:
    one, same, other = (SparseLinear(30, 20, epsilon=3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one.indices, same.indices)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.indices[:50], other.indices[:50])
    torch.manual_seed(1)
    from_global = SparseLinear(30, 20, epsilon=3)
    torch.manual_seed(1)
    assert torch.equal(from_global.weight, SparseLinear(30, 20, epsilon=3).weight)


def test_initial_weights_have_the_named_limits() -> None:
    glorot = SparseLinear(400, 200, epsilon=10, seed=1, init="glorot")
    limit = (6 / 600) ** 0.5
    assert 0.99 * limit < glorot.weight.abs().max().item() <= limit
    by_fan_in = SparseLinear(400, 200, epsilon=10, seed=1, init="sparse_fan_in")
    scaled = by_fan_in.weight.detach().numpy() / np.sqrt(6 / by_fan_in.pattern.in_degrees()[by_fan_in.indices.numpy()])
    assert 0.99 < np.abs(scaled).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, fused=True),
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
    ],
)
def test_optimizer_state_follows_its_connections(make: object) -> None:
    layer = sparse_layer(20, 15, epsilon=3)
    optimizer: torch.optim.Optimizer = make(layer.parameters())  # type: ignore[operator]
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
    before = {cell: i for i, cell in enumerate(layer.pattern.positions().tolist())}
    weights = layer.weight.detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[layer.weight].items() if v.shape == weights.shape}
    assert state

    evolution = layer.evolve(0.4, optimizer=optimizer, seed=1)

    assert evolution is not None
    assert evolution.regrown == evolution.pruned > 0
    fresh = 0
    for i, (cell, source) in enumerate(zip(layer.pattern.positions().tolist(), evolution.source.tolist(), strict=True)):
        moved = {k: optimizer.state[layer.weight][k][i].item() for k in state}
        if source < 0:
            fresh += 1
            assert layer.weight[i].item() == 0
            assert not any(moved.values())
        else:
            assert before[cell] == source
            assert layer.weight[i].item() == weights[source].item()
            assert moved == {k: v[source].item() for k, v in state.items()}
    assert fresh == evolution.regrown
    # Training goes on, also after the last removal, which leaves fewer connections.
    layer(torch.randn(8, 20)).sum().backward()
    optimizer.step()
    kept = layer(torch.randn(8, 20)).sum()  # an old graph that still lives must not get in the way
    last = layer.evolve(0.4, optimizer=optimizer, seed=2, refill=False)
    assert last is not None
    assert layer.nnz == len(layer.weight) == evolution.pattern.nnz - last.pruned
    layer(torch.randn(8, 20)).sum().backward()
    optimizer.step()
    assert torch.isfinite(kept)


def test_random_regrowth_is_normal_with_a_tenth() -> None:
    layer = SparseLinear(300, 200, epsilon=40, seed=1)
    evolution = layer.evolve(0.5, seed=2, regrow_init="random")
    assert evolution is not None
    new = layer.weight.detach()[evolution.source < 0].numpy()
    assert len(new) > 9000
    assert abs(new.std() - 0.1) < 0.003
    assert abs(new.mean()) < 0.003


def test_backward_after_an_evolution_is_refused() -> None:
    layer = sparse_layer(20, 15, epsilon=3)
    loss = layer(torch.randn(4, 20)).sum()
    layer.evolve(0.3, seed=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_full_layer_does_not_evolve() -> None:
    layer = SparseLinear(10, 5, epsilon=20, seed=1)
    weights = layer.weight.detach().clone()
    assert layer.nnz == 50
    assert layer.evolve(0.3, seed=2) is None
    assert torch.equal(layer.weight, weights)


@pytest.mark.parametrize(
    ("zeta", "arguments", "message"),
    [
        (1.0, {}, "zeta: expected 0 <= zeta < 1, got 1.0"),
        (-0.1, {}, "zeta: expected 0 <= zeta < 1, got -0.1"),
        (float("nan"), {}, "zeta: expected 0 <= zeta < 1, got nan"),
        (0.3, {"regrow_init": "one"}, "regrow_init: expected 'zero', 'random' or 'previous', got 'one'"),
    ],
)
def test_evolve_refuses_bad_arguments(zeta: float, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparse_layer(10, 8).evolve(zeta, **arguments)  # type: ignore[arg-type]


def test_evolve_refuses_weights_that_are_not_finite() -> None:
    layer = sparse_layer(20, 15)
    with torch.no_grad():
        layer.weight[3] = torch.nan
    with pytest.raises(ValueError, match="expected finite weights to evolve"):
        layer.evolve(0.3)


def test_state_dict_carries_the_topology() -> None:
    trained, fresh = sparse_layer(20, 15, seed=1), sparse_layer(20, 15, epsilon=2, seed=2)
    trained.evolve(0.3, seed=3, refill=False)
    assert trained.nnz != fresh.nnz
    fresh.load_state_dict(trained.state_dict())
    x = torch.randn(4, 20)
    assert torch.equal(fresh(x), trained(x))
    fresh(x).sum().backward()  # the transposed structure came along too
    assert fresh.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("indices", lambda t: t + 100, r"expected indices in 0..14"),
        ("indices", lambda t: t.flip(0), "sorted within each row"),
        ("indptr", lambda t: t[:-1], "expected indptr of length 21"),
        ("weight", lambda t: t[:-1], "expected one weight per connection"),
    ],
)
def test_a_state_dict_with_a_broken_topology_is_refused(name: str, damage: object, message: str) -> None:
    layer = sparse_layer(20, 15)
    state = layer.state_dict()
    state[name] = damage(state[name])  # type: ignore[operator]
    with pytest.raises(RuntimeError, match=message):
        sparse_layer(20, 15).load_state_dict(state)


def test_half_a_million_neurons_on_both_sides() -> None:
    layer = SparseLinear(500_000, 500_000, epsilon=0.5, seed=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.randn(2, 500_000)).square().mean().backward()
    optimizer.step()
    evolution = layer.evolve(0.3, optimizer=optimizer, seed=1)
    assert evolution is not None
    assert abs(layer.nnz - 500_000) < 5 * 500_000**0.5
    assert evolution.regrown == evolution.pruned > 0.29 * layer.nnz


def test_it_trains_inside_anyones_module() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SparseLinear(10, 50, epsilon=3, init="sparse_fan_in"), nn.ReLU(), SparseLinear(50, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.randn(64, 10)
    target = x[:, :1] * 2 - x[:, 1:2]
    losses = []
    for step in range(200):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 49:
            for layer in model:
                if isinstance(layer, SparseLinear):
                    layer.evolve(0.2, optimizer=optimizer)
    assert losses[-1] < 0.1 * losses[0]


def test_engines_are_found_by_name() -> None:
    assert find_engine("torch").name == "torch"


@pytest.mark.parametrize(
    ("n_in", "n_out", "epsilon", "asked"),
    [
        (2**31 - 1, 1, 20, "32"),
        (1, 2**31 - 1, 20, "24"),
        (2**31 - 1, 2**31 - 1, 0.1, "25"),
        (46_000, 46_000, 1e9, "23"),
    ],
)
def test_a_layer_that_has_no_room_is_refused_before_it_is_made(
    n_in: int, n_out: int, epsilon: float, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux gives the memory, and kills the process that then writes to it."""
    monkeypatch.setattr(patterns, "left_on_machine", lambda: 3 * 2**30)
    sentence = rf"neurons with [\d,]+ connections: expected {asked}\.\d GiB of free memory, found 3\.0 GiB; take a"
    with pytest.raises(MemoryError, match=sentence):
        SparseLinear(n_in, n_out, epsilon=epsilon)
    assert SparseLinear(3000, 3000, epsilon=1).nnz > 0


def test_where_nobody_says_how_much_memory_there_is_a_layer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "left_on_machine", lambda: None)
    assert SparseLinear(25_000_000, 1, epsilon=0.01, seed=0).nnz > 0
