"""Rows of a data set, with their labels where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """x (rows, features) as the source stores them; y (rows,) class numbers from 0, or None.

    groups  (rows,) numbers: rows with the same one belong together, and no split parts them; None where there are none
    """

    x: Values
    y: Labels | None
    groups: Labels | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> Labels:
        """y where the data has labels; AssertionError where it has none."""
        assert self.y is not None
        return self.y

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Part:
        y, groups = (None if column is None else column[rows] for column in (self.y, self.groups))
        return Part(self.x[rows], y, groups)


def no_rows(features: int, labels: bool) -> Part:
    """A part without rows."""
    return Part(np.empty((0, features), np.uint8), np.empty(0, np.int64) if labels else None)
