"""SET's algorithm as pure functions over arrays and a generator: Erdős-Rényi, prune, regrow, evolve.

Mocanu et al., Nature Communications 9:2383 (2018), Eq. 1 and Algorithm 1 (Box 1). Nothing here allocates the
n_in x n_out matrix: time and memory grow with the connections. Where the compiled kernels are they do the walking over
connections; random numbers are always numpy's, so a seed gives the same topology with and without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from set_cli import native
from set_cli.sparse.pattern import Csr, Indices, Positions, check_size, from_positions, full_pattern

LARGEST_FOR_SPACINGS = 2**45  # above, double precision would not reach every integer equally often

Weights = NDArray[np.floating]


def connection_probability(n_in: int, n_out: int, epsilon: float) -> float:
    """epsilon * (n_in + n_out) / (n_in * n_out), Eq. 1; 1 or more means a dense layer."""
    return epsilon * (n_in + n_out) / (n_in * n_out)


def erdos_renyi(n_in: int, n_out: int, epsilon: float, rng: np.random.Generator) -> Csr:
    """A random pattern in which every pair is connected independently with the probability of Eq. 1.

    The number of connections is binomial with mean epsilon * (n_in + n_out); a probability of 1 or more gives the
    full pattern. ValueError where a width or the count does not fit int32.
    """
    check_size(n_in, n_out)
    probability = connection_probability(n_in, n_out, epsilon)
    if probability >= 1:
        return full_pattern(n_in, n_out)
    check_size(n_in, n_out, round(epsilon * (n_in + n_out)))
    # A binomial count, then that many distinct cells: in law the same as one coin per cell, without the cells.
    count = int(rng.binomial(n_in * n_out, probability))
    return from_positions(sample_distinct(n_in * n_out, count, rng), (n_in, n_out))


def sample_distinct(population: int, count: int, rng: np.random.Generator) -> Positions:
    """`count` distinct integers of range(population), ascending, every subset equally likely.

    O(count) memory whatever the population (numpy's `choice` may allocate fifty times the count, or the population).
    """
    if not 0 <= count <= population:
        raise ValueError(f"expected 0 to {population} integers to sample, got {count}")
    if count > population // 2:
        left_out = sample_distinct(population, population - count, rng)
        kept = np.ones(population, dtype=bool)
        kept[left_out] = False
        return np.flatnonzero(kept).astype(np.int64, copy=False)
    sample = np.empty(0, dtype=np.int64)
    while len(sample) < count:
        # As many draws as leave the missing number after collisions, on average, and a few more.
        expected = -population * (math.log1p(-count / population) - math.log1p(-len(sample) / population))
        draws = _sorted_integers(population, math.ceil(expected + 4 * math.sqrt(expected)) + 4, rng)
        if len(sample):
            draws = np.concatenate([sample, draws])
            draws.sort()
        is_first = np.ones(len(draws), dtype=bool)
        np.not_equal(draws[1:], draws[:-1], out=is_first[1:])
        sample = draws[is_first]
    return np.delete(sample, rng.choice(len(sample), len(sample) - count, replace=False, shuffle=False))


def _sorted_integers(population: int, count: int, rng: np.random.Generator) -> Positions:
    """`count` independent uniform integers of range(population), ascending, in linear time."""
    if population > LARGEST_FOR_SPACINGS:
        return np.sort(rng.integers(population, size=count, dtype=np.int64))
    # The order statistics of uniform numbers are the partial sums of exponential ones over their total.
    sums = np.cumsum(rng.standard_exponential(count + 1))
    sums *= population / sums[-1]
    return np.minimum(sums[:-1].astype(np.int64), population - 1)


def prune(weights: Weights, zeta: float) -> NDArray[np.bool_]:
    """Which connections stay, (nnz,) bool: SET's removal, Algorithm 1.

    Of the n positive weights floor(zeta * n) go (the product in double precision), those closest to zero; likewise of
    the negative ones; among equal weights the first go. A weight that is exactly 0 is on neither side and always goes,
    as in the authors' code.
    """
    if native.core is not None and weights.dtype == np.float32:
        kept = np.empty(len(weights), dtype=bool)
        native.core.prune(np.ascontiguousarray(weights), zeta, kept)
        return kept
    keep: NDArray[np.bool_] = weights != 0
    for side in (weights > 0, weights < 0):
        candidates = np.flatnonzero(side)
        count = math.floor(zeta * len(candidates))
        if count:
            keep[candidates[_smallest(np.abs(weights[candidates]), count)]] = False
    return keep


def _smallest(values: Weights, count: int) -> NDArray[np.bool_]:
    """Exactly `count` True, at the smallest values; among equals the first. Linear time."""
    threshold = np.partition(values, count - 1)[count - 1]
    chosen: NDArray[np.bool_] = values < threshold
    ties = np.flatnonzero(values == threshold)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen


def regrow(pattern: Csr, keep: NDArray[np.bool_], ranks: Positions) -> tuple[Csr, Indices]:
    """The kept connections and new ones, and where each lay before (-1 for a new one).

    ranks  ascending, distinct: counting the cells without a kept connection row by row, a new connection comes into
           these. Drawn uniformly, every set of empty cells is equally likely.
    """
    if native.core is not None:
        n_in, n_out = pattern.shape
        nnz = int(np.count_nonzero(keep)) + len(ranks)
        after = Csr(np.empty(n_in + 1, np.int32), np.empty(nnz, np.int32), pattern.shape)
        source = np.empty(nnz, np.int32)
        arguments = (pattern.indptr, pattern.indices, keep, ranks, after.indptr, after.indices, source)
        native.core.refill(n_in, n_out, *arguments)
        return after, source
    survivors = np.flatnonzero(keep).astype(np.int32)
    kept = pattern.positions()[survivors]
    # The r-th empty cell lies at r plus the connections before it; `empty_before` counts the empty cells before each
    # connection. No rejection, so an almost full layer takes no longer than an empty one.
    empty_before = kept - np.arange(len(kept))
    new = ranks + np.searchsorted(empty_before, ranks, side="right")
    is_new = np.zeros(len(kept) + len(new), dtype=bool)
    is_new[np.searchsorted(kept, new) + np.arange(len(new))] = True
    merged = np.empty(len(is_new), dtype=np.int64)
    source = np.full(len(is_new), -1, dtype=np.int32)
    merged[is_new], merged[~is_new] = new, kept
    source[~is_new] = survivors
    return from_positions(merged, pattern.shape), source


@dataclass(frozen=True, slots=True, eq=False)
class Evolution:
    """What one evolution did to a layer.

    pattern  the connections afterwards
    source   (pattern.nnz,) int32: where each connection lay before, -1 for a new one. Whatever is stored per
             connection (weight, momentum) follows with one gather.
    pruned   connections removed, those of weight 0 included
    zeros    of these, the ones whose weight was exactly 0
    regrown  connections added
    """

    pattern: Csr
    source: Indices = field(repr=False)
    pruned: int
    zeros: int
    regrown: int


def evolve(pattern: Csr, weights: Weights, zeta: float, rng: np.random.Generator, *, refill: bool = True) -> Evolution:
    """Prune, then regrow exactly as many; with refill=False (after the last epoch) prune only. Algorithm 1.

    weights  (pattern.nnz,) in the pattern's order, finite
    A cell that was just emptied may be filled again, as in the authors' code.
    """
    if weights.shape != (pattern.nnz,):
        raise ValueError(f"expected {pattern.nnz} weights, one per connection, got shape {weights.shape}")
    keep = prune(weights, zeta)
    pruned = pattern.nnz - int(np.count_nonzero(keep))
    zeros = pattern.nnz - int(np.count_nonzero(weights))
    ranks = sample_distinct(pattern.cells - pattern.nnz + pruned, pruned if refill else 0, rng)
    after, source = regrow(pattern, keep, ranks)
    return Evolution(after, source, pruned, zeros, len(ranks))
