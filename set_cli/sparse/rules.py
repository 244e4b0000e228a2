"""The rules of which a method is made: how a layer is wired, which connections are removed, and where others grow.

A rule is a pure function of a view of the layer and a random generator. To add one, write the function, name it in its
table, and add that name to its key in config/keys.py. Nothing here allocates the n_in x n_out matrix: time and memory
grow with the connections. Random numbers are always NumPy's, so a seed gives the same topology on every device.

SET's rules are from Mocanu et al., Nature Communications 9:2383 (2018), Eq. 1 and Algorithm 1 (Box 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.pattern import Csr, check_room, check_size, from_positions, full_pattern
from set_cli.sparse.sampling import sample_distinct

CELLS_AT_ONCE = 2**16  # of which gradients are computed together: memory is this times the rows of a batch


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a rule may look at of one layer. Everything in it has the size of the connections or of a batch.

    shape             (n_in, n_out)
    indptr, indices   (n_in + 1,), (nnz,) int32: the connections in rows of inputs, ascending
    weights           (nnz,) finite
    inputs            (n_batch, n_in) of the last step; None unless a `LastStep` kept them
    output_gradients  (n_batch, n_out) of the last step; None unless a `LastStep` kept them
    """

    shape: tuple[int, int]
    indptr: Tensor
    indices: Tensor
    weights: Tensor
    inputs: Tensor | None = None
    output_gradients: Tensor | None = None

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def cells(self) -> int:
        """n_in * n_out: how many connections the layer could have."""
        return self.shape[0] * self.shape[1]

    def gradients_at(self, cells: Tensor) -> Tensor:
        """(len(cells),) gradient of the last step's loss with respect to a weight in each cell, connected or not.

        cells  int64, input * n_out + output
        A product sampled at these cells: O(n_batch * len(cells)) time. ValueError where the last step was not kept.
        """
        if self.inputs is None or self.output_gradients is None:
            raise ValueError("expected the inputs and output gradients of the last step; keep them with LastStep")
        n_out = self.shape[1]
        found = [
            (self.inputs[:, some // n_out] * self.output_gradients[:, some % n_out]).sum(dim=0)
            for some in torch.split(cells, CELLS_AT_ONCE)
        ]
        return torch.cat(found)


Wiring = Callable[[int, int, float, np.random.Generator], Csr]
"""(n_in, n_out, epsilon, rng) -> the pattern of a new layer."""
Removal = Callable[[View, float, np.random.Generator], Tensor]
"""(view, zeta, rng) -> (nnz,) bool: which connections stay."""
Regrowth = Callable[[View, Tensor, int, np.random.Generator], Tensor]
"""(view, keep, count, rng) -> (count,) int64, ascending and distinct: ranks of the cells in which connections grow.

The cells without a kept connection are counted from 0, row by row."""


Rule = TypeVar("Rule", Removal, Regrowth)


def connection_probability(n_in: int, n_out: int, epsilon: float) -> float:
    """epsilon * (n_in + n_out) / (n_in * n_out), Eq. 1; 1 or more means a dense layer."""
    return epsilon * (n_in + n_out) / (n_in * n_out)


def erdos_renyi(n_in: int, n_out: int, epsilon: float, rng: np.random.Generator) -> Csr:
    """A random pattern in which every pair is connected independently with the probability of Eq. 1.

    The number of connections is binomial with mean epsilon * (n_in + n_out); a probability of 1 or more gives the
    full pattern. ValueError where a width or the count does not fit int32, MemoryError where there is no room.
    """
    check_size(n_in, n_out)
    probability = connection_probability(n_in, n_out, epsilon)
    expected = n_in * n_out if probability >= 1 else round(epsilon * (n_in + n_out))
    check_size(n_in, n_out, expected)
    check_room(n_in, n_out, expected)
    if probability >= 1:
        return full_pattern(n_in, n_out)
    # A binomial count, then that many distinct cells: in law the same as one coin per cell, without the cells.
    count = int(rng.binomial(n_in * n_out, probability))
    return from_positions(sample_distinct(n_in * n_out, count, rng), (n_in, n_out))


def signed_magnitude(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the weights closest to zero, a fraction zeta of each sign: SET's removal (Algorithm 1).

    Of the n positive weights floor(zeta * n) go (the product in double precision), those closest to zero; likewise of
    the negative ones; among equal weights the first go. A weight that is exactly 0 is on neither side and always goes,
    as in the authors' code.
    """
    weights = view.weights
    if native.core is not None and weights.is_cpu and weights.dtype == torch.float32:
        kept = torch.empty(len(weights), dtype=torch.bool)
        native.core.prune(weights.contiguous().numpy(), zeta, kept.numpy())
        return kept
    keep = weights != 0
    for side in (weights > 0, weights < 0):
        candidates = torch.nonzero(side).squeeze(1)
        _drop_smallest(keep, candidates, weights[candidates].abs(), math.floor(zeta * len(candidates)))
    return keep


def magnitude(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the floor(zeta * nnz) weights closest to zero, whatever their sign; among equals the first go.

    The removal of most later methods: Evci et al., "Rigging the Lottery", ICML 2020. A weight of 0 is the smallest
    there is, so zeros go first, but never more connections than the fraction says.
    """
    keep = torch.ones(view.nnz, dtype=torch.bool, device=view.weights.device)
    everything = torch.arange(view.nnz, device=view.weights.device)
    _drop_smallest(keep, everything, view.weights.abs(), math.floor(zeta * view.nnz))
    return keep


def _drop_smallest(keep: Tensor, candidates: Tensor, magnitudes: Tensor, count: int) -> None:
    """Set `keep` to False at exactly `count` candidates, those of the smallest magnitudes; among equals the first."""
    if not count:
        return
    threshold = magnitudes.sort().values[count - 1]  # kthvalue does not repeat on a GPU
    is_below = magnitudes < threshold
    keep[candidates[is_below]] = False
    ties = candidates[magnitudes == threshold]  # candidates are ascending
    keep[ties[: count - int(is_below.sum())]] = False


def random_cells(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in cells without a connection, every set of them equally likely: SET's regrowth (Algorithm 1).

    A cell that was just emptied may be filled again, as in the authors' code.
    """
    empty = view.cells - int(keep.sum())
    return torch.from_numpy(sample_distinct(empty, count, rng))


WIRING: dict[str, Wiring] = {"erdos_renyi": erdos_renyi}
REMOVAL: dict[str, Removal] = {"signed": signed_magnitude, "magnitude": magnitude}
REGROWTH: dict[str, Regrowth] = {"random": random_cells}


def find_rule(key: str, rule: str | Rule, table: Mapping[str, Rule]) -> Rule:
    """The rule of this name, or the function itself; ValueError where the table has no such name."""
    if not isinstance(rule, str):
        return rule
    if rule not in table:
        raise ValueError(f"{key}: expected one of {', '.join(table)}, or a function, got {rule!r}")
    return table[rule]
