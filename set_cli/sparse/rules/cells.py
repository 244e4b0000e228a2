"""The cells of a layer: which are connected, which are empty, and the best of them under a score.

A cell is a pair of neurons, as one number: input * n_out + output. A rank is the number of an empty cell among the
empty ones, counted from 0. Everything is int64 on the CPU and ascending.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.sparse.engines.device_pattern import positions
from set_cli.sparse.pattern import Positions
from set_cli.sparse.rules.sampled import CELLS_IN_BLOCK
from set_cli.sparse.rules.view import View
from set_cli.sparse.sampling import sample_distinct

SMALL_LAYER = 2**22  # cells: all of them are looked at together in a layer of at most so many


def connected_cells(view: View) -> Tensor:
    """(nnz,) the cells of the connections."""
    return positions(view.shape, view.indptr, view.indices).cpu()


def kept_cells(view: View, keep: Tensor) -> Tensor:
    """(kept,) the cells of the connections that stay."""
    return positions(view.shape, view.indptr, view.indices)[keep].cpu()


def cells_of_ranks(ranks: Tensor, kept: Tensor) -> Tensor:
    """The empty cells of these ranks, where the cells `kept` have a connection."""
    empty_before = kept - torch.arange(len(kept))
    return ranks + _places(empty_before, ranks, "right")


def ranks_of_cells(cells: Tensor, kept: Tensor) -> Tensor:
    """The ranks of these empty cells, where the cells `kept` have a connection."""
    return cells - _places(kept, cells, "left")


def _places(among: Tensor, numbers: Tensor, side: Literal["left", "right"]) -> Tensor:
    """NumPy's searchsorted: a third of the time of torch's where the numbers ascend."""
    return torch.from_numpy(np.searchsorted(among.numpy(), numbers.numpy(), side))


def is_among(cells: Tensor, others: Tensor) -> Tensor:
    """Which of these cells are among the others, which are ascending: bool of the cells' shape."""
    if not len(others):
        return torch.zeros_like(cells, dtype=torch.bool)
    at = _places(others, cells, "left").clamp_(max=len(others) - 1)
    return others[at] == cells


def empty_cells(shape: tuple[int, int], kept: Tensor) -> Iterator[Tensor]:
    """All cells without a connection, in blocks of rows: all at once in a small layer, else some CELLS_IN_BLOCK."""
    n_in, n_out = shape
    rows = n_in if n_in * n_out <= SMALL_LAYER else max(1, CELLS_IN_BLOCK // n_out)
    for first in range(0, n_in, rows):
        begin, end = first * n_out, min(first + rows, n_in) * n_out
        from_, to = torch.searchsorted(kept, torch.tensor([begin, end])).tolist()
        is_empty = torch.ones(end - begin, dtype=torch.bool)
        is_empty[kept[from_:to] - begin] = False
        yield torch.nonzero(is_empty).squeeze(1).add_(begin)


def filled_at_random(chosen: Tensor, empty: int, count: int, rng: np.random.Generator) -> Tensor:
    """(count,) these ranks, and as many others of range(empty) as are missing, every set of them equally likely."""
    missing = count - len(chosen)
    if not missing:
        return chosen
    others = torch.from_numpy(sample_distinct(empty - len(chosen), missing, rng))
    return torch.cat([chosen, cells_of_ranks(others, chosen)]).sort().values


class Best:
    """The cells with the largest scores of all that were added, at most `count`, in O(count) memory beside a block.

    Cells are added in ascending order, all together or in blocks. Only scores above 0 count; among equals the first
    cells win.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._cells: list[Positions] = []
        self._scores: list[NDArray[np.float64]] = []
        self._waiting = 0  # how many were added since the last choice
        self._least = 0.0  # only scores above it can still be among the best

    def add(self, cells: Tensor, scores: Tensor) -> None:
        """cells, scores: (n,) each, the cells on the CPU; the scores on any device, in any type of numbers."""
        wins = torch.nonzero(scores > self._least).squeeze(1)
        if not len(wins) or not self.count:
            return
        self._cells.append(cells[wins.cpu()].numpy())
        self._scores.append(scores[wins].to("cpu", torch.float64).numpy())
        self._waiting += len(wins)
        if self._waiting > self.count:
            self._choose()

    def cells(self) -> Tensor:
        """The best, ascending."""
        self._choose()
        return torch.from_numpy(self._cells[0])

    def _choose(self) -> None:
        cells = np.concatenate([np.empty(0, np.int64), *self._cells])
        scores = np.concatenate([np.empty(0), *self._scores])
        if self.count and len(cells) >= self.count:
            at = len(cells) - self.count
            self._least = float(np.partition(scores, at)[at])
            wins = scores > self._least
            ties = np.flatnonzero(scores == self._least)  # in the order of the cells, over blocks too
            wins[ties[: self.count - int(wins.sum())]] = True
            cells, scores = cells[wins], scores[wins]
        self._cells, self._scores, self._waiting = [cells], [scores], 0
