"""How much a topology has moved: connections that two patterns share, beside what chance would make them share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many connections two patterns of one shape have in common.

    first, second  their connections
    common         those that both have
    expected       how many two random patterns would share in which every input has as many connections (the sum of
                   the inputs' hypergeometric means)
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
    # Two runs on the same data look at the same inputs: that alone makes connections coincide.
    outputs = float(first.shape[1])
    share = first.out_degrees() / outputs
    expected = second.out_degrees() * share
    variance = expected * (1 - share) * (outputs - second.out_degrees()) / max(outputs - 1, 1)
    return Overlap(first.nnz, second.nnz, len(common), float(expected.sum()), math.sqrt(float(variance.sum())))


def join_positions(seen: NDArray[np.int64], more: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions that either has; all three are sorted and name no cell twice.

    NumPy's union does not know that they are sorted: with millions of connections it takes a hundred times as long.
    """
    places = np.searchsorted(seen, more)
    new = np.append(seen, -1)[places] != more  # -1 stands behind the last: no position is that
    return np.insert(seen, places[new], more[new])


def correlate_degrees(first: NDArray[np.integer], second: NDArray[np.integer]) -> float | None:
    """Spearman's correlation of two runs' degrees of the same inputs; None where one has the same degree everywhere.

    Hidden neurons have no names, so two runs that found the same structure need not share connections; their inputs
    are the same ones.
    """
    from scipy.stats import spearmanr

    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)
