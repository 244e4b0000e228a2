"""What a rule may look at of one layer, and what the three kinds of rules are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.sparse.engines.device_pattern import positions
from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules.sampled import sampled_product


@dataclass(frozen=True, slots=True)
class Options:
    """Numbers that rules have beside zeta; each rule's docstring says which it uses.

    candidates   how many cells are looked at for each connection that grows, drawn at random; None: every empty cell
    sensitivity  factor of the gradient's magnitude beside the weight's
    threshold    magnitude of a weight below which its connection goes
    """

    candidates: float | None = 10.0
    sensitivity: float = 1.0
    threshold: float = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Removed:
    """The connections of a layer that were removed at some time, whether or not they have grown again.

    cells    (n,) int64 on the CPU, ascending and distinct: input * n_out + output
    weights  (n,) float32: what each weighed when it was last removed
    """

    cells: Tensor
    weights: Tensor

    @classmethod
    def none(cls) -> Removed:
        """The record of a layer that has lost none yet."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0))

    def and_these(self, cells: Tensor, weights: Tensor) -> Removed:
        """These and the ones that are removed now; cells (m,) int64, distinct; of a cell in both the newer weight."""
        cells, weights = cells.cpu(), weights.float().cpu()
        is_older = ~torch.isin(self.cells, cells)
        cells, order = torch.cat([self.cells[is_older], cells]).sort()
        return Removed(cells, torch.cat([self.weights[is_older], weights])[order])

    def weights_at(self, cells: Tensor) -> Tensor:
        """(m,) float32 on the CPU: what the connections in these cells (m,) weighed, 0 where there was none."""
        cells = cells.cpu()
        if not len(self.cells):
            return torch.zeros(len(cells))
        at = torch.searchsorted(self.cells, cells).clamp_(max=len(self.cells) - 1)
        return torch.where(self.cells[at] == cells, self.weights[at], 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What went through a layer on some training rows.

    inputs            (n, n_in)
    output_gradients  (n, n_out) of the loss
    outputs           (n, n_out), behind an activation function that follows
    """

    inputs: Tensor | None
    output_gradients: Tensor | None
    outputs: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A layer that is to be wired, and what surrounds it.

    n_in, n_out  its neurons
    density      the share of the n_in * n_out cells that are connected, on an average; 1 or more: all
    image        (channels, height, width) of its inputs, which are in this order; None where they are no image
    rows         (n_rows, n_in) training rows; None where the layer does not read them or no wiring asked for them
    """

    n_in: int
    n_out: int
    density: float
    image: tuple[int, int, int] | None = None
    rows: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a rule may look at of one layer. Everything in it has the size of the connections or of a batch.

    shape             (n_in, n_out)
    indptr, indices   (n_in + 1,), (nnz,) int32: the connections in rows of inputs, ascending
    weights           (nnz,) finite
    inputs            (n_batch, n_in) of the last step; None unless a `LastStep` kept them
    output_gradients  (n_batch, n_out) of the last step; None unless a `LastStep` kept them
    outputs           (n_batch, n_out) of the last step, behind an activation function that follows; None as above
    progress          the part of the time in which the network evolves that is over, 0 to 1
    options           numbers of the rules
    removed           what was removed before; None where nobody keeps it
    image             (channels, height, width) of the inputs; None where they are no image
    """

    shape: tuple[int, int]
    indptr: Tensor
    indices: Tensor
    weights: Tensor
    inputs: Tensor | None = None
    output_gradients: Tensor | None = None
    outputs: Tensor | None = None
    progress: float = 0.0
    options: Options = Options()
    removed: Removed | None = None
    image: tuple[int, int, int] | None = None

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def positions(self) -> Tensor:
        """(nnz,) int64, ascending: the cells of the connections, input * n_out + output."""
        return positions(self.shape, self.indptr, self.indices)

    @property
    def cells(self) -> int:
        """n_in * n_out: how many connections the layer could have."""
        return self.shape[0] * self.shape[1]

    def gradients_at(self, cells: Tensor) -> Tensor:
        """(len(cells),) gradient of the last step's loss with respect to a weight in each cell, connected or not.

        cells  int64, input * n_out + output
        A product sampled at these cells: O(n_batch * len(cells)) time. ValueError where the last step was not kept.
        """
        return sampled_product(*self.last_step, cells)

    @property
    def last_step(self) -> tuple[Tensor, Tensor]:
        """The inputs and the output gradients; ValueError where the last step was not kept."""
        if self.inputs is None or self.output_gradients is None:
            raise ValueError("expected the inputs and output gradients of the last step; keep them with LastStep")
        return self.inputs, self.output_gradients


Wiring = Callable[[Site, np.random.Generator], Csr]
"""(site, rng) -> the pattern of a new layer."""
Removal = Callable[[View, float, np.random.Generator], Tensor]
"""(view, zeta, rng) -> (nnz,) bool: which connections stay."""
Regrowth = Callable[[View, Tensor, int, np.random.Generator], Tensor]
"""(view, keep, count, rng) -> (count,) int64, ascending and distinct: ranks of the cells in which connections grow.

The cells without a kept connection are counted from 0, row by row."""
