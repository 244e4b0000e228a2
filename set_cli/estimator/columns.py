"""What the columns of all rows so far look like, and how they become the network's inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.preprocessing import StandardScaler

from set_cli.data.scaling import Scaling, rows_at_once

FURTHEST = 10.0  # deviations at which an input is cut off: a value that is far out would make training explode


class Columns:
    """Measures columns, part after part: mean and deviation, or of sparse rows the root of the mean square.

    The latter keeps 0 at 0. A column that does not vary (is all 0) carries nothing: it becomes 0 everywhere.

    x  the first rows; whether they are sparse decides for all
    """

    def __init__(self, x: Any, row: int) -> None:
        self.centres = not issparse(x)
        self._scaler = StandardScaler(with_mean=self.centres)
        # Means and deviations of the distances from a row: values may lie close together far from 0 (Unix seconds).
        self._origin = x[row].astype(np.float64) if self.centres else np.zeros(x.shape[1])

    def add(self, x: Any, rows: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        """Take these rows of x into account."""
        whole = issparse(x) and not self.centres
        at_once = len(rows) if whole else rows_at_once(x.shape[1])
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for i in range(0, len(rows), at_once):
                chunk = x[rows[i : i + at_once]]
                if not whole:
                    chunk = (chunk.toarray() if issparse(chunk) else chunk).astype(np.float64) - self._origin
                self._scaler.partial_fit(chunk, sample_weight=None if weights is None else weights[i : i + at_once])

    @property
    def scaling(self) -> Scaling:
        """The scaling by the rows so far; ValueError where a column's values are too large."""
        mean, variance = (values.astype(np.float64) for values in (self._scaler.mean_, self._scaler.var_))
        with np.errstate(over="ignore", under="ignore"):
            size = np.sqrt(variance if self.centres else variance + mean**2)
        if not np.isfinite(size).all():
            column = int(np.argmin(np.isfinite(size)))
            raise ValueError(f"column {column}: the values are too large for their spread to be a number; scale them")
        scale = np.divide(1, size, out=np.zeros_like(size), where=size > np.finfo(np.float64).tiny)
        return Scaling(mean + self._origin if self.centres else self._origin, scale, clip=FURTHEST)
