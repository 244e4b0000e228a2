"""Distinct random integers out of a population that need not fit into memory."""

from __future__ import annotations

import math

import numpy as np

from set_cli.sparse.pattern import Positions

LARGEST_FOR_SPACINGS = 2**45  # above, double precision would not reach every integer equally often


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
