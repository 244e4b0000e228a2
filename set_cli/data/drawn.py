"""Rows that an epoch has as often as their weights say, and the weights of classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.data.augment import Changes
from set_cli.data.inputs import Batches, InOrder


class Drawn:
    """The rows of an epoch, for the training loop: each as often as its weight says.

    rows     their numbers, a row of weight 2 twice
    weights  (rows,) beside that, which no repetition expresses: they are drawn in proportion; None: all alike
    """

    def __init__(self, source: Batches, rows: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        self._source, self._rows, self._weights = source, rows, weights
        self.device, self.home, self.shape = source.device, source.home, source.shape
        self.is_resident = source.is_resident
        self._order = torch.from_numpy(rows).to(self.home)

    def __len__(self) -> int:
        return len(self._order)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw an epoch's rows: systematic sampling, a row's number differs from its expectation by less than 1."""
        if self._weights is not None:
            upto = np.cumsum(self._weights)
            ends = np.floor(upto / upto[-1] * len(self._rows) + rng.random()).astype(np.int64)
            self._order = torch.from_numpy(np.repeat(self._rows, np.diff(ends, prepend=0))).to(self.home)

    def batch(self, rows: Tensor, changes: Changes | None = None) -> tuple[Tensor, Tensor]:
        return self._source.batch(self._order[rows], changes)

    def in_order(self, rows: Tensor, changes: Changes | None = None) -> InOrder | None:
        return self._source.in_order(self._order[rows], changes)


def balanced(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(classes,) weights that make all classes alike, given the rows of each: n / (classes * rows), 0 without rows."""
    present = totals > 0
    factors = np.zeros(len(totals))
    factors[present] = totals.sum() / (present.sum() * totals[present])
    return factors
