"""Rows in memory, dense or CSR, as the training loop takes them: drawn by their weights, scaled batch by batch."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor

from set_cli.data.augment import Changes
from set_cli.data.card import Card
from set_cli.data.inputs import Batches, Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import Scaling

MOST_REPEATED = 10  # times the rows: what whole-number weights may lengthen an epoch to
CPU = torch.device("cpu")


class SparseRows:
    """CSR rows with their class numbers; no more of them than a batch are dense at a time."""

    device = home = CPU
    shape = (1, 1)  # of no image: augmentation is off
    is_resident = True

    def __init__(self, x: Any, y: NDArray[np.int64], scaling: Scaling) -> None:
        self._x, self._y, self._scaling = x, torch.from_numpy(y), scaling

    def __len__(self) -> int:
        return len(self._y)

    def batch(self, rows: Tensor, changes: Changes | None = None) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self._scaling(self._x[rows.numpy()].toarray())), self._y[rows]

    def in_order(self, rows: Tensor, changes: Changes | None = None) -> None:
        """None: the compiled kernels take dense rows only."""


def gathered(x: Any, y: NDArray[np.int64], scaling: Scaling) -> Batches:
    """Batches of these rows."""
    if issparse(x):
        return SparseRows(x, y, scaling)
    (n, features), classes = x.shape, int(y.max()) + 1
    card = Card("rows", "rows", "", "real", features, classes, n, 0, 0, "", "", "")
    part = Part(x, y)
    return Inputs(part, DataSet(card, part, None, part, scaling, "test", {}, "custom"), CPU)


def in_order(x: Any, y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row numbers in an order that depends on what the rows hold, not on where they stand."""
    keys = np.frombuffer(b"".join(_keys(x)), np.uint64).reshape(-1, 2)
    return np.lexsort((y, keys[:, 1], keys[:, 0]))


def _keys(x: Any) -> Iterator[bytes]:
    if issparse(x):
        x = x.sorted_indices()
        parts = ([x.indices[i:j], x.data[i:j]] for i, j in itertools.pairwise(x.indptr))
    else:
        parts = ([np.ascontiguousarray(row)] for row in x)
    for part in parts:
        digest = hashlib.blake2b(digest_size=16)
        for array in part:
            digest.update(array)
        yield digest.digest()


def repeated(
    order: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Row numbers in this order and weights to draw them by; whole-number weights repeat a row, weight 0 drops it."""
    order = order[weights[order] > 0]
    own = weights[order]
    if (own == np.rint(own)).all() and own.sum() <= MOST_REPEATED * len(weights):
        return np.repeat(order, own.astype(np.int64)), None
    return order, own
