"""How much a topology has moved: connections that two patterns share, beside what chance would make them share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of two patterns of one shape.

    first, second  their connections
    common         those that both have
    expected       how many two random patterns with as many connections would share (hypergeometric mean)
    deviation      the standard deviation of that number
    """

    first: int
    second: int
    common: int
    expected: float
    deviation: float

    @property
    def kept(self) -> float | None:
        """The share of the first pattern's connections that the second has; None for a first one without any."""
        return self.common / self.first if self.first else None


def measure_overlap(first: Csr, second: Csr) -> Overlap:
    """ValueError for patterns of different shapes."""
    if first.shape != second.shape:
        raise ValueError(f"expected two patterns of one shape, got {first.shape} and {second.shape}")
    common = np.intersect1d(first.positions(), second.positions(), assume_unique=True)
    cells = float(first.cells)
    share = first.nnz / cells
    expected = second.nnz * share
    variance = expected * (1 - share) * (cells - second.nnz) / max(cells - 1, 1)
    return Overlap(first.nnz, second.nnz, len(common), expected, math.sqrt(max(variance, 0.0)))


def count_explored(patterns: Iterable[Csr]) -> int:
    """Connections that at least one of these patterns has: how much of the possible was ever tried."""
    seen: NDArray[np.int64] | None = None
    for pattern in patterns:
        positions = pattern.positions()
        seen = positions if seen is None else np.union1d(seen, positions)
    return 0 if seen is None else len(seen)


def correlate_degrees(first: NDArray[np.integer], second: NDArray[np.integer]) -> float | None:
    """Spearman's correlation of two runs' degrees of the same inputs; None where one has the same degree everywhere.

    Hidden neurons have no names, so two runs that found the same structure need not share connections; their inputs
    are the same ones.
    """
    from scipy.stats import spearmanr

    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)
