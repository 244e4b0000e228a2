"""Rules that grow connections: each against every cell looked at by hand, or the law of what is drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from set_cli import native
from set_cli.sparse import SparseLinear
from set_cli.sparse.evolve import LastStep, evolve
from set_cli.sparse.pattern import check_pattern, from_positions
from set_cli.sparse.rules import REGROWTH, REMOVAL, Options, Removed, View, regrowth, sampled
from set_cli.sparse.rules.cells import cells_of_ranks, kept_cells
from set_cli.sparse.sampling import sample_distinct
from tests.oracles import cells_of, full_view_of, gradient_of, inclusion, random_pattern, view_of

EVERY_CELL = Options(candidates=None)
Drawn = tuple[View, torch.Tensor, int]

GROWING = [name for name in REGROWTH if name != "none"]


@st.composite
def views(draw: st.DrawFn) -> Drawn:
    """A layer, which connections stay, and how many grow: any number that has room."""
    n_in, n_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    nnz, seed = draw(st.integers(0, n_in * n_out)), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    view = full_view_of(random_pattern(n_in, n_out, nnz, rng), np.ones(nnz, np.float32), seed, rows=3)
    keep = torch.from_numpy(rng.random(nnz) < 0.7)
    return view, keep, draw(st.integers(0, view.cells - int(keep.sum())))


def grown(name: str, view: View, keep: torch.Tensor, count: int, seed: int = 0) -> list[int]:
    """The cells in which a rule grows connections, after a look at what every rule promises."""
    ranks = REGROWTH[name](view, keep, count, np.random.default_rng(seed))
    kept = kept_cells(view, keep)
    assert ranks.dtype == torch.int64
    assert len(ranks) == count
    cells: list[int] = cells_of_ranks(ranks, kept).tolist()
    assert sorted(set(cells)) == cells
    assert not set(cells) & set(kept.tolist())
    assert all(0 <= cell < view.cells for cell in cells)
    return cells


def empty_of(view: View, keep: torch.Tensor) -> list[int]:
    return sorted(set(range(view.cells)) - set(kept_cells(view, keep).tolist()))


@pytest.mark.parametrize("name", ["gradient", "momentum"])
@pytest.mark.parametrize("block", [sampled.CELLS_IN_BLOCK, 13])
@settings(max_examples=40)
@given(drawn=views())
def test_all_candidates_give_the_largest_gradients(name: str, block: int, drawn: Drawn) -> None:
    view, keep, count = drawn
    scores = np.abs(gradient_of(view)).ravel()
    empty = [cell for cell in empty_of(view, keep) if scores[cell] > 0]
    best = sorted(empty, key=lambda cell: (-scores[cell], cell))[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled, "CELLS_IN_BLOCK", block)
        cells = grown(name, replace(view, options=EVERY_CELL), keep, count)
    assert set(best) <= set(cells)
    assert all(scores[cell] == 0 for cell in set(cells) - set(best))
    if count:  # so many candidates that all are drawn
        assert grown(name, replace(view, options=Options(candidates=1000.0)), keep, count) == cells or len(best) < count


def test_rigl_grows_where_autograd_says() -> None:
    torch.manual_seed(0)
    layer = SparseLinear(40, 30, epsilon=3, seed=3)
    kept = torch.from_numpy(layer.pattern.positions())
    dense = torch.zeros(40, 30, requires_grad=True)
    with torch.no_grad():
        dense.view(-1)[kept] = layer.weight.detach()
    step = LastStep(layer)
    x = torch.randn(20, 40)
    layer(x).square().sum().backward()
    (x @ dense).square().sum().backward()  # type: ignore[no-untyped-call]
    view = replace(view_of(layer.pattern, layer.weight.detach().numpy()), options=EVERY_CELL)
    view = replace(view, inputs=step.inputs, output_gradients=step.output_gradients)
    assert dense.grad is not None
    scores = dense.grad.abs().flatten()
    scores[kept] = 0
    cells = grown("gradient", view, torch.ones(layer.nnz, dtype=torch.bool), 50)
    assert cells == scores.topk(50).indices.sort().values.tolist()


def test_candidates_are_drawn_uniformly_and_the_best_of_them_grow() -> None:
    pattern = random_pattern(10, 6, 20, np.random.default_rng(1))
    gradients = torch.arange(1, 61, dtype=torch.float32)  # of cell 0, 1, ...: one row for each input
    view = full_view_of(pattern, np.ones(20, np.float32), options=Options(candidates=2.4))
    view = replace(view, inputs=torch.eye(10), output_gradients=gradients.view(10, 6))
    keep, found = torch.ones(20, dtype=torch.bool), np.zeros(60)
    for seed in range(700):
        found[grown("gradient", view, keep, 5, seed)] += 1 / 700
    # 12 of 40 cells are drawn; the r-th best grows where at most 4 of those before it are among them.
    ranked = empty_of(view, keep)[::-1]
    for r, cell in enumerate(ranked):
        before = sum(math.comb(r, k) * math.comb(39 - r, 11 - k) for k in range(min(5, r + 1)) if 11 - k <= 39 - r)
        assert abs(found[cell] - before / math.comb(40, 12)) < 0.075
    assert not found[kept_cells(view, keep).numpy()].any()


def test_momentum_takes_the_mean_of_batches() -> None:
    rng = np.random.default_rng(4)
    pattern = random_pattern(8, 9, 20, rng)
    batches = [full_view_of(pattern, np.ones(20, np.float32), seed) for seed in range(3)]
    powers = [0.25, 0.5, 1.0]
    inputs = torch.cat([view.last_step[0] for view in batches])
    dy = torch.cat([view.last_step[1] * power for view, power in zip(batches, powers, strict=True)])
    view = replace(batches[0], inputs=inputs, output_gradients=dy, options=EVERY_CELL)
    mean = sum(power * gradient_of(view) for view, power in zip(batches, powers, strict=True))
    scores = np.abs(mean).ravel()
    keep = torch.ones(20, dtype=torch.bool)
    best = sorted(empty_of(view, keep), key=lambda cell: (-scores[cell], cell))[:12]
    assert grown("momentum", view, keep, 12) == sorted(best)


def test_cosine_grows_between_neurons_that_are_active_together() -> None:
    rng = np.random.default_rng(2)
    view = full_view_of(random_pattern(9, 8, 20, rng), np.ones(20, np.float32), options=EVERY_CELL)
    x, y = rng.standard_normal((6, 9)), rng.standard_normal((6, 8))
    x[:, 2], y[:, 5] = 0, 0
    x[:, 3] *= 1e-25  # the cosine does not change, squares of these would be 0
    y[:, 1] *= -1e25
    view = replace(view, inputs=torch.from_numpy(x).float(), outputs=torch.from_numpy(y).float())
    keep = torch.ones(20, dtype=torch.bool)
    empty = empty_of(view, keep)

    def score(cell: int) -> float:
        a, b = x[:, cell // 8], y[:, cell % 8]
        return abs(float(a @ b)) / math.sqrt(float(a @ a) * float(b @ b)) if a.any() and b.any() else 0.0

    best = sorted(empty, key=score, reverse=True)
    assert set(grown("cosine", view, keep, 10)) == set(best[:10])
    alive = [cell for cell in empty if score(cell)]
    assert len(alive) < 45 < len(empty)
    assert set(alive) <= set(grown("cosine", view, keep, 45))
    assert set(grown("cosine", replace(view, options=Options()), keep, 10)) == set(best[:10])  # 100 candidates: all
    with pytest.raises(ValueError, match="expected the inputs and outputs"):
        grown("cosine", replace(view, outputs=None), keep, 10)


@settings(max_examples=60)
@given(drawn=views())
def test_unfired_grows_where_there_never_was_a_connection(drawn: Drawn) -> None:
    view, keep, count = drawn
    assert view.removed is not None
    fired = {*view.removed.cells.tolist(), *kept_cells(view, torch.ones_like(keep)).tolist()}
    fresh = set(empty_of(view, keep)) - fired
    cells = set(grown("unfired", view, keep, count))
    assert len(cells & fresh) == min(count, len(fresh))


def test_unfired_draws_uniformly_and_needs_a_memory() -> None:
    view = view_of(random_pattern(4, 5, 6, np.random.default_rng(0)), np.ones(6, np.float32))
    keep = torch.ones(6, dtype=torch.bool)
    with pytest.raises(ValueError, match="expected the cells that were connected before"):
        grown("unfired", view, keep, 2)
    gone = torch.tensor(empty_of(view, keep)[3:9])
    view = replace(view, removed=Removed(gone, torch.zeros(6)))
    found = np.zeros(20)
    for seed in range(800):
        found[grown("unfired", view, keep, 2, seed)] += 1 / 800
    fresh = sorted(set(empty_of(view, keep)) - set(gone.tolist()))
    assert len(fresh) == 8
    assert np.abs(found[fresh] - 2 / 8).max() < 0.07


@pytest.mark.parametrize("enumerates", [True, False])
def test_preferential_draws_by_degree(enumerates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not enumerates:
        monkeypatch.setattr(regrowth, "SMALL_LAYER", 0)
        monkeypatch.setattr(regrowth, "FULL", 0)
        monkeypatch.setattr(regrowth, "LARGEST_SEARCH", 0)
    cells = {(0, 0), (0, 1), (0, 2), (1, 0), (3, 0)}
    pattern = from_positions(np.array(sorted(4 * i + j for i, j in cells)), (4, 4))
    view = view_of(pattern, np.ones(5, np.float32))
    keep = torch.tensor([True, True, True, True, False])
    of_inputs, of_outputs = [4, 2, 1, 1], [3, 2, 2, 1]
    empty = empty_of(view, keep)
    expected = inclusion([of_inputs[cell // 4] * of_outputs[cell % 4] for cell in empty], 2)
    found = np.zeros(16)
    for seed in range(1000):
        found[grown("preferential", view, keep, 2, seed)] += 1 / 1000
    assert np.abs(found[empty] - expected).max() < 4 * 0.5 / math.sqrt(1000)


@settings(max_examples=60)
@given(drawn=views(), search=st.sampled_from([0, 2**28]))
def test_preferential_is_exact_also_in_a_full_layer(drawn: Drawn, search: int) -> None:
    view, keep, count = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regrowth, "SMALL_LAYER", 0)
        patch.setattr(regrowth, "FULL", 0)
        patch.setattr(regrowth, "LARGEST_SEARCH", search)  # with 2**28 the rest is enumerated after one round
        grown("preferential", view, keep, count)


@pytest.mark.parametrize("name", GROWING)
def test_a_layer_of_a_million_neurons(name: str) -> None:
    rng = np.random.default_rng(0)
    pattern = from_positions(sample_distinct(10**12, 10**5, rng), (10**6, 10**6))
    view = full_view_of(pattern, np.ones(10**5, np.float32), rows=2)
    grown(name, view, torch.from_numpy(rng.random(10**5) < 0.7), 30_000)
    if name in ("gradient", "momentum", "cosine"):
        with pytest.raises(ValueError, match="give a number of candidates"):
            grown(name, replace(view, options=EVERY_CELL), torch.ones(10**5, dtype=torch.bool), 3)


@pytest.mark.parametrize("name", GROWING)
def test_where_nothing_grows_nothing_has_to_be_known(name: str) -> None:
    view = view_of(random_pattern(4, 3, 5, np.random.default_rng(0)), np.ones(5, np.float32))
    assert grown(name, view, torch.ones(5, dtype=torch.bool), 0) == []


@pytest.mark.parametrize("name", GROWING)
@settings(max_examples=20)
@given(drawn=views())
def test_every_rule_grows_exactly_as_many(name: str, drawn: Drawn) -> None:
    view, keep, count = drawn
    cells = grown(name, view, keep, count)
    assert grown(name, view, keep, count) == cells
    with native.without_kernels():  # whole numbers are summed exactly in any order
        assert name == "cosine" or grown(name, view, keep, count) == cells


@pytest.mark.parametrize("name", ["gradient", "cosine"])
@pytest.mark.parametrize("rows", ["inputs", "output_gradients", "outputs"])
def test_what_is_not_finite_is_refused(name: str, rows: str) -> None:
    view = full_view_of(random_pattern(4, 3, 5, np.random.default_rng(0)), np.ones(5, np.float32))
    nothing: dict[str, Any] = {rows: torch.full_like(getattr(view, rows), math.inf)}
    broken = replace(view, **nothing)
    if rows == {"gradient": "outputs", "cosine": "output_gradients"}[name]:  # which it does not read
        grown(name, broken, torch.ones(5, dtype=torch.bool), 2)
        return
    with pytest.raises(ValueError, match="expected finite"):
        grown(name, broken, torch.ones(5, dtype=torch.bool), 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rows_may_have_another_type(dtype: torch.dtype) -> None:
    pattern = random_pattern(7, 8, 20, np.random.default_rng(1))
    for options in (EVERY_CELL, Options(candidates=2.0)):
        view = full_view_of(pattern, np.ones(20, np.float32), options=options)
        x, dy = view.last_step
        for other in (
            replace(view, inputs=x.to(dtype), output_gradients=dy.to(dtype)),
            replace(view, inputs=x.to(dtype)),
        ):
            keep = torch.ones(20, dtype=torch.bool)
            assert grown("gradient", other, keep, 9) == grown("gradient", view, keep, 9)


@pytest.mark.parametrize("kernels", [True, False])
def test_gradients_at_any_cells_in_any_order(kernels: bool) -> None:
    view = full_view_of(random_pattern(9, 7, 20, np.random.default_rng(1)), np.ones(20, np.float32))
    dense = torch.from_numpy(gradient_of(view).ravel()).float()
    rng = np.random.default_rng(3)
    some = [np.sort(rng.choice(63, 30, replace=False)), rng.permutation(63), rng.integers(63, size=100), [62], [17, 18]]
    for cells in (torch.tensor(np.asarray(each, np.int64)) for each in [*some, []]):
        if kernels:
            assert torch.equal(view.gradients_at(cells), dense[cells])
            continue
        with native.without_kernels():
            assert torch.equal(view.gradients_at(cells), dense[cells])


def test_a_layer_evolves_by_rules_of_two_methods() -> None:
    rng = np.random.default_rng(0)
    pattern = random_pattern(30, 20, 150, rng)
    view = full_view_of(pattern, rng.standard_normal(150).astype(np.float32))
    found = evolve(view, 0.3, rng, removal=REMOVAL["sensitivity"], regrowth=REGROWTH["gradient"])
    assert check_pattern(found.pattern).nnz == 150
    assert len(cells_of(found.pattern) & cells_of(pattern)) >= 105
