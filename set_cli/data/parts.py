"""Rows of a data set, with their labels where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """x (rows, features) as the source stores them; y (rows,) class numbers from 0, or None."""

    x: Values
    y: Labels | None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> Labels:
        """y where the data has labels; AssertionError where it has none."""
        assert self.y is not None
        return self.y

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Part:
        return Part(self.x[rows], None if self.y is None else self.y[rows])


def no_rows(features: int, labels: bool) -> Part:
    """A part without rows."""
    return Part(np.empty((0, features), np.uint8), np.empty(0, np.int64) if labels else None)
