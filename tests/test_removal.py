"""Rules that remove connections: each against a list that is sorted by hand, or the law of what is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr, from_positions
from set_cli.sparse.rules import REMOVAL, Options, View
from set_cli.sparse.sampling import sample_distinct
from tests.oracles import cells_of, full_view_of, gradient_of, inclusion, random_pattern, view_of


@st.composite
def views(draw: st.DrawFn) -> tuple[View, float]:
    """A layer whose weights are whole eighths, so that sums of them are exact and many are equal; a zeta."""
    n_in, n_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    nnz, seed = draw(st.integers(0, n_in * n_out)), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    weights = (rng.integers(-9, 10, nnz) / 8).astype(np.float32)
    options = Options(sensitivity=0.5, threshold=draw(st.integers(0, 10)) / 8)
    view = full_view_of(random_pattern(n_in, n_out, nnz, rng), weights, seed, options=options)
    return view, draw(st.integers(0, 99)) / 100


def relative_by_hand(view: View) -> list[float]:
    pattern = Csr(view.indptr.numpy(), view.indices.numpy(), view.shape)
    size = dict(zip(sorted(cells_of(pattern)), view.weights.abs().double().tolist(), strict=True))
    shares = []
    for (i, j), own in size.items():
        into = sum(other for (_, b), other in size.items() if b == j)
        out_of = sum(other for (a, _), other in size.items() if a == i)
        shares.append(own / into + own / out_of if own else 0.0)
    return shares


def gradients(view: View) -> list[float]:
    dense = gradient_of(view)
    return [dense[i, j] for i, j in sorted(cells_of(Csr(view.indptr.numpy(), view.indices.numpy(), view.shape)))]


SCORES: dict[str, Callable[[View], list[float]]] = {
    "magnitude": lambda view: view.weights.abs().tolist(),
    "largest": lambda view: (-view.weights.abs()).tolist(),
    "sensitivity": lambda view: [
        abs(w) + abs(g) / 2 for w, g in zip(view.weights.tolist(), gradients(view), strict=True)
    ],
    "movement": lambda view: [abs(w * g) for w, g in zip(view.weights.tolist(), gradients(view), strict=True)],
    "relative": relative_by_hand,
    "threshold": lambda view: view.weights.abs().tolist(),
}


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40)
@given(drawn=views())
def test_the_smallest_scores_go_and_the_first_of_equals(name: str, drawn: tuple[View, float]) -> None:
    view, zeta = drawn
    scores = SCORES[name](view)
    count = math.floor(zeta * view.nnz)
    if name == "threshold":
        count = min(count, sum(score < view.options.threshold for score in scores))
    gone = set(sorted(range(view.nnz), key=lambda k: (scores[k], k))[:count])
    kept = REMOVAL[name](view, zeta, np.random.default_rng(0))
    assert kept.dtype == torch.bool
    assert set(torch.nonzero(~kept).flatten().tolist()) == gone


def row_of(weights: list[float], progress: float = 0.0) -> View:
    """One input, so that the relative importance of a weight is 1 and its share of the row."""
    pattern = Csr(np.array([0, len(weights)], np.int32), np.arange(len(weights), dtype=np.int32), (1, len(weights)))
    return replace(view_of(pattern, np.array(weights, np.float32)), progress=progress)


DRAWS = 2000


def shares_kept(name: str, view: View, zeta: float) -> NDArray[np.float64]:
    """How often each connection stays."""
    rng = np.random.default_rng(5)
    kept: NDArray[np.float64] = np.mean([REMOVAL[name](view, zeta, rng).numpy() for _ in range(DRAWS)], axis=0)
    return kept


@pytest.mark.parametrize(
    ("name", "progress", "stay"),
    [("soft", 0, 3), ("soft", 0.5, 1), ("soft", 1, 2), ("relative_soft", 1, 1), ("random", 0.5, 2)],
)
def test_what_stays_is_drawn_in_proportion_to_a_power(name: str, progress: float, stay: int) -> None:
    weights = [0.1, -0.2, 0.4, -0.1, 0.3]
    sums = sum(map(abs, weights))
    importances = {
        "soft": [abs(w) for w in weights],
        "relative_soft": [1 + abs(w) / sums for w in weights],
        "random": [1.0] * len(weights),
    }[name]
    kept = shares_kept(name, row_of(weights, progress), 1 - stay / 5 + 0.01)
    expected = inclusion([importance ** (1 + 2 * progress) for importance in importances], stay)
    assert kept.sum() == pytest.approx(stay)
    assert np.abs(kept - expected).max() < 4 * 0.5 / math.sqrt(DRAWS)


def test_relative_importance_is_drawn_by_both_neurons() -> None:
    pattern = Csr(np.array([0, 2, 3], np.int32), np.array([0, 1, 0], np.int32), (2, 2))
    view = replace(view_of(pattern, np.array([1, 3, 3], np.float32)), progress=0.5)
    expected = inclusion([(1 / 4 + 1 / 4) ** 2, (3 / 4 + 1) ** 2, (3 / 4 + 1) ** 2], 1)
    assert np.abs(shares_kept("relative_soft", view, 0.7) - expected).max() < 0.045


@pytest.mark.parametrize("name", ["soft", "relative_soft"])
def test_zeros_go_first_and_no_weight_is_too_small_to_be_drawn(name: str) -> None:
    for seed in range(50):
        kept = REMOVAL[name](row_of([0, 1e-30, 0, 2e-38, 0], 1), 0.6, np.random.default_rng(seed))
        assert kept.tolist() == [False, True, False, True, False]
        kept = REMOVAL[name](row_of([0, 1e-30, 0, 2e-38, 0], 1), 0.2, np.random.default_rng(seed))
        assert kept.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("name", ["sensitivity", "movement"])
def test_gradients_have_to_be_there_and_finite(name: str) -> None:
    view = full_view_of(random_pattern(4, 4, 9, np.random.default_rng(0)), np.ones(9, np.float32))
    with pytest.raises(ValueError, match="keep them with LastStep"):
        REMOVAL[name](replace(view, inputs=None), 0.3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected finite gradients"):
        REMOVAL[name](replace(view, inputs=torch.full((5, 4), torch.nan)), 0.3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def of_a_million_neurons() -> View:
    rng = np.random.default_rng(0)
    pattern = from_positions(sample_distinct(10**12, 10**5, rng), (10**6, 10**6))
    return full_view_of(pattern, rng.standard_normal(10**5).astype(np.float32), rows=2)


@pytest.mark.parametrize("name", REMOVAL)
def test_a_layer_of_a_million_neurons(name: str, of_a_million_neurons: View) -> None:
    kept = REMOVAL[name](of_a_million_neurons, 0.3, np.random.default_rng(1))
    gone = 90 if name == "threshold" else 30_000
    assert abs(int((~kept).sum()) - gone) <= {"signed": 1, "threshold": 40}.get(name, 0)


@pytest.mark.parametrize("name", REMOVAL)
def test_a_seed_gives_the_same_removal(name: str) -> None:
    weights = np.random.default_rng(3).standard_normal(300).astype(np.float32)
    view = full_view_of(random_pattern(30, 20, 300, np.random.default_rng(2)), weights)
    first, again = (REMOVAL[name](view, 0.3, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(first, again)
