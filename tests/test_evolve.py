"""The algorithm against a slow oracle: Erdős-Rényi, prune, regrow, evolve (paper, Eq. 1 and Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from set_cli import native
from set_cli.sparse.evolve import EvolutionResult, splice
from set_cli.sparse.evolve import evolve as evolve_view
from set_cli.sparse.pattern import Csr, check_pattern, full_pattern
from set_cli.sparse.rules import connection_probability, erdos_renyi, signed_magnitude
from set_cli.sparse.sampling import sample_distinct
from tests.builders import layers
from tests.oracles import cells_of, pruned_by_hand, random_pattern, view_of


@pytest.fixture(scope="module", params=["compiled", "torch"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test with the compiled kernels and without."""
    with nullcontext() if request.param == "compiled" else native.without_kernels():
        yield


def evolve(
    pattern: Csr, weights: np.ndarray[Any, Any], zeta: float, rng: np.random.Generator, *, refill: bool = True
) -> EvolutionResult:
    return evolve_view(view_of(pattern, weights), zeta, rng, refill=refill)


# A drawn truth table: weights, zeta, and which connections stay (o) or go (.).
NOTHING = view_of(Csr(np.zeros(2, np.int32), np.empty(0, np.int32), (1, 1)), np.empty(0, np.float32))
PRUNE_TABLE = [
    ([0.1, 0.2, 0.3, 0.4], 0.5, "..oo"),
    ([-0.1, -0.2, -0.3, -0.4], 0.5, "..oo"),
    ([0.4, -0.4, 0.1, -0.1], 0.5, "oo.."),
    ([0.01, 0.02, -5, -6], 0.5, ".o.o"),  # each sign gives its share: -5 goes although 0.02 is smaller
    ([0.3, 0.2, 0.1], 0.3, "ooo"),  # floor(0.9) = 0
    ([0.3, 0.2, 0.1, 0.4], 0.3, "oo.o"),  # floor(1.2) = 1
    ([0.0, 0.5, -0.5], 0.0, ".oo"),  # a zero is on neither side and always goes
    ([0.0, 0.0, -0.0], 0.5, "..."),
    ([0.0, 0.1, 0.2, 0.3, 0.4], 0.5, "...oo"),  # the zero does not count as one of the two
    ([0.2, 0.2, 0.2, 0.2], 0.5, "..oo"),  # among equals the first go
    ([0.7], 0.99, "o"),
    ([], 0.5, ""),
]


@pytest.mark.parametrize(("weights", "zeta", "stays"), PRUNE_TABLE)
def test_prune_table(weights: list[float], zeta: float, stays: str) -> None:
    view = view_of(full_pattern(1, len(weights)), np.array(weights, np.float32)) if weights else NOTHING
    kept = signed_magnitude(view, zeta, np.random.default_rng(0))
    assert "".join("o" if keep else "." for keep in kept.tolist()) == stays


@given(layers())
def test_evolve_agrees_with_the_oracle(
    layer: tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int],
) -> None:
    pattern, weights, zeta, seed = layer
    evolution = evolve(pattern, weights, zeta, np.random.default_rng(seed))
    gone = pruned_by_hand(weights.tolist(), zeta)
    before, after = sorted(cells_of(pattern)), sorted(cells_of(evolution.pattern))

    check_pattern(evolution.pattern)  # sorted, in range, never a duplicate
    assert len(after) == len(before) == evolution.pattern.nnz
    assert (evolution.pruned, evolution.regrown) == (len(gone), len(gone))
    assert evolution.zeros == np.count_nonzero(weights == 0)
    # Every survivor is where it was, and its source says so; every other connection is new.
    survivors = {cell: i for i, cell in enumerate(before) if i not in gone}
    found = {cell: int(source) for cell, source in zip(after, evolution.source.tolist(), strict=True) if source >= 0}
    assert found == survivors
    assert not (set(after) - found.keys()) & survivors.keys()


@given(layers())
def test_last_evolution_only_prunes(
    layer: tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int],
) -> None:
    pattern, weights, zeta, seed = layer
    evolution = evolve(pattern, weights, zeta, np.random.default_rng(seed), refill=False)
    gone = pruned_by_hand(weights.tolist(), zeta)
    before = sorted(cells_of(pattern))
    assert evolution.regrown == 0
    assert sorted(cells_of(evolution.pattern)) == [cell for i, cell in enumerate(before) if i not in gone]
    assert evolution.source.tolist() == [i for i in range(len(before)) if i not in gone]


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 2**32))
def test_sample_is_distinct_ascending_and_in_range(population: int, count: int, seed: int) -> None:
    count = min(count, population)
    sample = sample_distinct(population, count, np.random.default_rng(seed))
    assert sample.dtype == np.int64
    assert len(sample) == count
    assert np.all(np.diff(sample) > 0)
    assert count == 0 or (sample[0] >= 0 and sample[-1] < population)


@pytest.mark.parametrize(("population", "count"), [(10, 3), (10, 7), (40, 20)])
def test_sample_is_uniform(population: int, count: int) -> None:
    rng = np.random.default_rng(0)
    draws = 20_000
    hits = np.zeros(population)
    for _ in range(draws):
        hits[sample_distinct(population, count, rng)] += 1
    share = count / population
    # Five standard deviations of a binomial count.
    assert np.abs(hits - draws * share).max() < 5 * math.sqrt(draws * share * (1 - share))


def test_sample_refuses_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="expected 0 to 3 integers to sample, got 4"):
        sample_distinct(3, 4, np.random.default_rng(0))


def test_regrow_is_uniform_over_the_empty_cells() -> None:
    rng = np.random.default_rng(1)
    pattern = random_pattern(4, 5, 8, rng)
    view = view_of(pattern, np.ones(8, np.float32))
    empty = sorted(set(range(20)) - set(pattern.positions().tolist()))
    draws = 20_000
    hits = np.zeros(20)
    for _ in range(draws):
        ranks = sample_distinct(12, 3, rng)
        indptr, indices, source = splice(view, torch.ones(8, dtype=torch.bool), torch.from_numpy(ranks))
        after = Csr(indptr.numpy(), indices.numpy(), (4, 5))
        hits[after.positions()[source.numpy() < 0]] += 1
    assert hits[pattern.positions()].sum() == 0
    share = 3 / len(empty)
    assert np.abs(hits[empty] - draws * share).max() < 5 * math.sqrt(draws * share * (1 - share))


@pytest.mark.parametrize("missing", [0, 1])
def test_evolve_of_an_almost_full_layer_ends_with_the_exact_count(missing: int) -> None:
    rng = np.random.default_rng(2)
    pattern = random_pattern(200, 300, 60_000 - missing, rng)
    evolution = evolve(pattern, rng.standard_normal(pattern.nnz), 0.3, rng)
    assert check_pattern(evolution.pattern).nnz == pattern.nnz
    assert evolution.pruned == evolution.regrown > 17_000


def test_erdos_renyi_count_is_binomial_around_equation_1() -> None:
    counts = [erdos_renyi(300, 200, 5, np.random.default_rng(seed)).nnz for seed in range(200)]
    probability = connection_probability(300, 200, 5)
    deviation = math.sqrt(60_000 * probability * (1 - probability))
    assert probability == 5 * 500 / 60_000
    assert abs(np.mean(counts) - 2500) < 5 * deviation / math.sqrt(200)
    assert 0.8 * deviation < np.std(counts) < 1.2 * deviation  # a fixed count would have none


def test_erdos_renyi_connects_every_pair_equally_often() -> None:
    hits = np.zeros((6, 9))
    draws = 20_000
    rng = np.random.default_rng(3)
    for _ in range(draws):
        pattern = erdos_renyi(6, 9, 1.2, rng)
        np.add.at(hits.reshape(-1), pattern.positions(), 1)
    share = connection_probability(6, 9, 1.2)
    assert np.abs(hits - draws * share).max() < 5 * math.sqrt(draws * share * (1 - share))


def test_probability_of_one_or_more_is_the_full_pattern() -> None:
    assert connection_probability(1000, 10, 20) == 2.02
    pattern = erdos_renyi(1000, 10, 20, np.random.default_rng(0))
    assert check_pattern(pattern).is_full
    assert np.array_equal(pattern.indices, full_pattern(1000, 10).indices)


def test_erdos_renyi_of_two_hundred_fifty_billion_cells() -> None:
    pattern = erdos_renyi(500_000, 500_000, 1, np.random.default_rng(4))
    assert abs(pattern.nnz - 1_000_000) < 5 * math.sqrt(1_000_000)
    assert check_pattern(pattern).indptr.dtype == np.int32


@pytest.mark.parametrize(
    ("n_in", "n_out", "epsilon", "message"),
    [
        (0, 5, 1, "n_in: expected 1 to 2147483647 neurons, got 0"),
        (5, 2**31, 1, "n_out: expected 1 to 2147483647 neurons, got 2147483648"),
        (2**30, 2**30, 2, "expected at most 2147483647 connections in one layer, got 4294967296"),
        (10**6, 10**6, 10**6, "expected at most 2147483647 connections in one layer, got 1000000000000"),
    ],
)
def test_sizes_beyond_int32_are_refused_before_allocation(n_in: int, n_out: int, epsilon: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        erdos_renyi(n_in, n_out, epsilon, np.random.default_rng(0))


def test_evolve_refuses_weights_of_another_number() -> None:
    pattern = full_pattern(2, 3)
    with pytest.raises(ValueError, match=r"expected 6 weights, one per connection, got shape \(5,\)"):
        evolve(pattern, np.ones(5), 0.3, np.random.default_rng(0))


GOOD = ([0, 2, 3], [0, 2, 1])


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 2], [0, 2], "expected indptr of length 3"),
        ([1, 2, 3], [0, 2, 1], "expected indptr from 0 to 3, got 1 to 3"),
        ([0, 2, 2], [0, 2, 1], "expected indptr from 0 to 3, got 0 to 2"),
        ([0, 4, 3], [0, 2, 1], "expected a non-decreasing indptr"),
        ([0, 2, 3], [0, 3, 1], r"expected indices in 0..2, got 0..3"),
        ([0, 2, 3], [0, -1, 1], r"expected indices in 0..2, got -1..1"),
        ([0, 2, 3], [2, 0, 1], "sorted within each row, without duplicates"),
        ([0, 2, 3], [1, 1, 1], "sorted within each row, without duplicates"),
    ],
)
def test_check_pattern_names_the_broken_invariant(indptr: list[int], indices: list[int], message: str) -> None:
    check_pattern(Csr(np.array(GOOD[0], np.int32), np.array(GOOD[1], np.int32), (2, 3)))
    with pytest.raises(ValueError, match=message):
        check_pattern(Csr(np.array(indptr, np.int32), np.array(indices, np.int32), (2, 3)))


def test_check_pattern_refuses_other_index_types() -> None:
    with pytest.raises(ValueError, match="expected int32 indptr and indices, got int64 and int32"):
        check_pattern(Csr(np.array(GOOD[0], np.int64), np.array(GOOD[1], np.int32), (2, 3)))


def test_transposed_order_is_the_transpose() -> None:
    pattern = random_pattern(7, 4, 11, np.random.default_rng(5))
    transposed, order = pattern.transposed_order()
    assert check_pattern(transposed).shape == (4, 7)
    assert cells_of(transposed) == {(j, i) for i, j in cells_of(pattern)}
    values = np.arange(11)
    at = dict(zip(sorted(cells_of(pattern)), values, strict=True))
    assert [at[(i, j)] for j, i in sorted(cells_of(transposed))] == values[order].tolist()


def test_degrees_count_connections() -> None:
    pattern = random_pattern(7, 4, 11, np.random.default_rng(6))
    cells = cells_of(pattern)
    assert pattern.out_degrees().tolist() == [sum(i == k for i, _ in cells) for k in range(7)]
    assert pattern.in_degrees().tolist() == [sum(j == k for _, j in cells) for k in range(4)]


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("density", [0.001, 0.05, 0.6, 0.999])
def test_a_seed_gives_the_same_topology_with_and_without_the_kernels(density: float, refill: bool) -> None:
    rng = np.random.default_rng(3)
    pattern = random_pattern(150, 200, round(density * 30_000), rng)
    weights = rng.standard_normal(pattern.nnz).astype(np.float32).round(1)  # many ties, some zeros
    one = evolve(pattern, weights, 0.3, np.random.default_rng(4), refill=refill)
    with native.without_kernels():
        other = evolve(pattern, weights, 0.3, np.random.default_rng(4), refill=refill)
    assert (one.pruned, one.zeros, one.regrown) == (other.pruned, other.zeros, other.regrown)
    for found, expected in (
        (one.pattern.indptr, other.pattern.indptr),
        (one.pattern.indices, other.pattern.indices),
        (one.source, other.source),
    ):
        assert np.array_equal(found, expected)
    check_pattern(one.pattern)
