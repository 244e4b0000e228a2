"""Cannistraci-Hebb regrowth: paths counted by hand and with sets, the law of the draws, the kernels beside NumPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from set_cli import native
from set_cli.sparse.pattern import Csr, from_positions
from set_cli.sparse.rules import REGROWTH, View, cannistraci_hebb, cannistraci_hebb_soft
from set_cli.sparse.rules.paths import MOST_STEPS, Graph
from tests.builders import layers
from tests.oracles import cells_of, philox_words, random_pattern, view_of

Cells = set[tuple[int, int]]
BOTH = ("cannistraci_hebb", "cannistraci_hebb_soft")


def layer_of(cells: Cells, shape: tuple[int, int]) -> tuple[View, torch.Tensor]:
    """A layer with these connections, and that all of them stay."""
    positions = np.array(sorted(i * shape[1] + j for i, j in cells), np.int64)
    return view_of(from_positions(positions, shape), np.ones(len(cells), np.float32)), torch.ones(len(cells)).bool()


def scores_of(view: View, keep: torch.Tensor) -> dict[tuple[int, int], float]:
    """The scores that NumPy computes, by cell of the layer."""
    graph = Graph.of(view, keep)
    found: dict[tuple[int, int], float] = {}
    for cells, scores in graph.scores():
        for position, score in zip(graph.positions_of(cells).tolist(), scores.tolist(), strict=True):
            found[divmod(position, view.shape[1])] = score
    return found


def grown(view: View, keep: torch.Tensor, ranks: torch.Tensor) -> list[tuple[int, int]]:
    """The cells of these ranks."""
    kept = {cell for cell, stays in zip(sorted(cells_of(pattern_of(view))), keep.tolist(), strict=True) if stays}
    empty = [cell for cell in itertools.product(*map(range, view.shape)) if cell not in kept]
    return [empty[rank] for rank in ranks.tolist()]


def pattern_of(view: View) -> Csr:
    return Csr(view.indptr.numpy(), view.indices.numpy(), view.shape)


def scores_by_sets(kept: Cells, shape: tuple[int, int]) -> dict[tuple[int, int], float]:
    """The definition, path by path."""
    outputs = {i: {v for u, v in kept if u == i} for i in range(shape[0])}
    inputs = {j: {u for u, v in kept if v == j} for j in range(shape[1])}
    scores = {}
    for u, v in set(itertools.product(*map(range, shape))) - kept:
        terms = []
        for z1 in outputs[u]:
            for z2 in inputs[z1] - {u}:
                if v in outputs[z2]:
                    external1 = len(inputs[z1] - inputs[v] - {u})
                    external2 = len(outputs[z2] - outputs[u] - {v})
                    terms.append(1 / math.sqrt((1 + external1) * (1 + external2)))
        if terms:
            scores[u, v] = sum(terms)
    return scores


# u0 - o0 - u1 - o1 is the only path. Of the neighbours of z1 = o0 the other, u1, is in N(o1): none is external.
ONE_PATH = {(0, 0), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("cells", "shape", "scores"),
    [
        pytest.param(ONE_PATH, (2, 2), {(0, 1): 1}, id="a path that exists once"),
        # u0 - o0 - u1 - o2 and u0 - o1 - u1 - o2: o0 and o1 have only u0 and u1, u1 only o0, o1 and o2.
        pytest.param(
            {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)}, (2, 3), {(0, 2): 2}, id="two paths that share the neuron u1"
        ),
        # u0 - {o1, o2} - {u1, u2} - o0: four paths, everything else is within the community.
        pytest.param(
            set(itertools.product(range(3), range(3))) - {(0, 0)}, (3, 3), {(0, 0): 4}, id="full but for one cell"
        ),
        # Inputs 0 to 3 at o0, and u3 at o1. u0 - o0 - u3 - o1: of o0's four neighbours u1 and u2 are external.
        pytest.param(
            {(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)},
            (4, 2),
            {(0, 1): 3**-0.5, (1, 1): 3**-0.5, (2, 1): 3**-0.5},
            id="a star with a tail",
        ),
        # Twice the first graph: no path leads from one to the other.
        pytest.param(
            ONE_PATH | {(i + 2, j + 2) for i, j in ONE_PATH}, (4, 4), {(0, 1): 1, (2, 3): 1}, id="two components"
        ),
        # u0 - o0 - u1 - o1: u1 also has o2, external; o0 also has u2, external. To o2 likewise. u2 as u0.
        pytest.param(
            {(0, 0), (1, 0), (2, 0), (1, 1), (1, 2)},
            (3, 3),
            {(0, 1): 0.5, (0, 2): 0.5, (2, 1): 0.5, (2, 2): 0.5},
            id="both ends of a path's middle have others",
        ),
    ],
)
def test_scores_are_those_counted_by_hand(cells: Cells, shape: tuple[int, int], scores: dict[object, float]) -> None:
    view, keep = layer_of(cells, shape)
    assert scores_of(view, keep) == pytest.approx(scores, rel=1e-15)
    assert scores_by_sets(cells, shape) == pytest.approx(scores, rel=1e-15)
    ranks = cannistraci_hebb(view, keep, len(scores), np.random.default_rng(0))
    assert grown(view, keep, ranks) == sorted(scores)  # type: ignore[type-var]


def test_among_equals_the_first_cells_grow() -> None:
    view, keep = layer_of({(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)}, (4, 2))
    assert grown(view, keep, cannistraci_hebb(view, keep, 2, np.random.default_rng(0))) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("rule", BOTH)
def test_cells_with_paths_come_first_and_the_rest_is_random(rule: str) -> None:
    view, keep = layer_of(ONE_PATH, (3, 4))
    drawn = set()
    for seed in range(60):
        cells = grown(view, keep, REGROWTH[rule](view, keep, 3, np.random.default_rng(seed)))
        assert len(set(cells)) == 3
        assert cells == sorted(cells)
        assert (0, 1) in cells
        drawn |= set(cells)
    assert drawn == set(itertools.product(range(3), range(4))) - ONE_PATH


@given(layer=layers())
def test_the_highest_scores_grow(layer: tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int]) -> None:
    pattern, weights, zeta, seed = layer
    rng = np.random.default_rng(seed)
    view, keep = view_of(pattern, weights), torch.from_numpy(rng.random(pattern.nnz) >= zeta)
    kept = {cell for cell, stays in zip(sorted(cells_of(pattern)), keep.tolist(), strict=True) if stays}
    scores = scores_by_sets(kept, pattern.shape)
    assert scores_of(view, keep) == pytest.approx(scores, rel=1e-12)
    count = int(rng.integers(0, pattern.shape[0] * pattern.shape[1] - len(kept) + 1))
    cells = grown(view, keep, cannistraci_hebb(view, keep, count, rng))
    assert len(set(cells)) == count
    assert cells == sorted(cells)
    left_out = [score for cell, score in scores.items() if cell not in cells]
    chosen = [scores.get(cell, 0) for cell in cells]
    if left_out:
        assert min(chosen, default=math.inf) >= max(left_out) * (1 - 1e-12)


@settings(max_examples=60)
@given(layer=layers())
@pytest.mark.parametrize("is_soft", [False, True])
def test_the_kernels_find_the_cells_that_numpy_finds(
    is_soft: bool, layer: tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int]
) -> None:
    pattern, weights, _, seed = layer
    graph = Graph.of(view_of(pattern, weights), torch.ones(pattern.nnz).bool())
    for count in {0, 1, pattern.cells // 7, pattern.cells}:
        np.testing.assert_array_equal(
            graph.best_compiled(count, is_soft, seed), graph.best(count, is_soft, seed), strict=True
        )


@pytest.mark.parametrize("is_soft", [False, True])
def test_a_larger_layer_is_the_same_in_any_number_of_threads_and_without_the_kernels(is_soft: bool) -> None:
    assert native.core is not None
    rng = np.random.default_rng(1)
    graph = Graph.of(view_of(random_pattern(400, 300, 6000, rng), np.ones(6000, np.float32)), torch.ones(6000).bool())
    pattern = native.core.Pattern(*graph.pattern.shape, graph.pattern.indptr, graph.pattern.indices)
    for count in (5, 900, 20_000):
        expected = graph.best(count, is_soft, 12345)
        assert len(expected) == count
        for threads in (1, 2, 5):
            cells = np.empty(count, np.int64)
            assert native.core.grow_by_paths(pattern, is_soft, 12345, cells, threads) == count
            np.testing.assert_array_equal(cells, expected)


def test_soft_draws_in_proportion_to_the_scores_without_replacement() -> None:
    # Input 0 has o0; o1 is behind u1 and u2, o2 behind u1, o3 behind u3 which has many others.
    view, keep = layer_of({(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (3, 3), (3, 4), (3, 5)}, (4, 6))
    scores = scores_of(view, keep)
    total = sum(scores.values())
    assert max(scores.values()) > 2.5 * min(scores.values())
    draws, rng = 3000, np.random.default_rng(0)
    ones = {cell: 0 for cell in scores}
    pairs = dict.fromkeys(itertools.combinations(sorted(scores), 2), 0)
    for _ in range(draws):
        ones[grown(view, keep, cannistraci_hebb_soft(view, keep, 1, rng))[0]] += 1
        a, b = grown(view, keep, cannistraci_hebb_soft(view, keep, 2, rng))
        pairs[a, b] += 1
    for cell, score in scores.items():
        p = score / total
        assert abs(ones[cell] / draws - p) < 4.5 * math.sqrt(p * (1 - p) / draws)
    for (a, b), seen in pairs.items():
        p = scores[a] * scores[b] / total * (1 / (total - scores[a]) + 1 / (total - scores[b]))
        assert abs(seen / draws - p) < 4.5 * math.sqrt(p * (1 - p) / draws)


def test_the_numbers_behind_soft_are_philoxs() -> None:
    """The first of the order E / score, from numbers of the published generator and the library's logarithm."""
    rng = np.random.default_rng(5)
    view = view_of(random_pattern(30, 20, 90, rng), np.ones(90, np.float32))
    graph = Graph.of(view, torch.ones(90).bool())
    seed = 0xFEDCBA9876543210
    keys = {}
    for cells, scores in graph.scores():
        for cell, score in zip(cells.tolist(), scores.tolist(), strict=True):
            row, column = divmod(cell, len(graph.outputs))
            words = philox_words((column, row, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))
            keys[cell] = -math.log(((words[1] << 20 | words[0] >> 12) + 0.5) / 2**52) / score
    assert len(keys) > 100
    expected = sorted(sorted(keys, key=lambda cell: keys[cell])[:40])
    assert graph.best(40, True, seed).tolist() == expected
    assert graph.best_compiled(40, True, seed).tolist() == expected


@pytest.mark.parametrize("rule", BOTH)
def test_too_many_steps_are_refused(rule: str) -> None:
    n = math.isqrt(MOST_STEPS) + 1  # one input and one output with every connection
    indptr = np.concatenate([[0], np.arange(n, 2 * n)]).astype(np.int32)
    indices = np.concatenate([np.arange(n), np.zeros(n - 1)]).astype(np.int32)
    view = View((n, n), torch.from_numpy(indptr), torch.from_numpy(indices), torch.ones(2 * n - 1))
    with pytest.raises(ValueError, match=r"expected at most 34,359,738,368 steps .* take a smaller density"):
        REGROWTH[rule](view, torch.ones(2 * n - 1).bool(), 1, np.random.default_rng(0))


@pytest.mark.parametrize("rule", BOTH)
def test_time_and_memory_are_those_of_the_connections(rule: str) -> None:
    n = 1_000_000
    rng = np.random.default_rng(0)
    cells = np.sort(rng.choice(n * n // 1000, 100_000, replace=False)).astype(np.int64)  # in a thousandth of the rows
    pattern = from_positions(cells, (n, n))
    view = view_of(pattern, np.ones(100_000, np.float32))
    ranks = REGROWTH[rule](view, torch.rand(100_000) > 0.3, 30_000, rng)
    assert len(ranks) == 30_000
    assert bool((ranks.diff() > 0).all())
