"""SET's algorithm: remove connections of a layer, then grow as many elsewhere.

Mocanu et al., Nature Communications 9:2383 (2018), Algorithm 1 (Box 1). Which connections go and which come is up to
the rules (rules/). The code runs in torch's operations, on any device; on the CPU the compiled kernels take over
SET's removal (in rules/removal.py) and `splice`, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.sparse.engines.device_pattern import positions
from set_cli.sparse.initial import agreed, is_in_group
from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules import (
    REGROWTH,
    REMOVAL,
    Regrowth,
    Removal,
    Removed,
    View,
    no_cells,
    random_cells,
    signed_magnitude,
)

TENSORS = ("indptr", "indices", "source")
LEAST_CONNECTIONS = 2  # that can be asked for: one of each sign, which a removal of any fraction leaves


@dataclass(frozen=True, slots=True, eq=False)
class EvolutionResult:
    """What one evolution did to a layer.

    shape            (n_in, n_out)
    indptr, indices  the connections afterwards, int32, in rows of inputs
    source           (nnz,) int32: where each connection lay before, -1 for a new one. Whatever is stored per connection
                     (weight, momentum) follows with one gather.
    pruned           connections removed, those of weight 0 included
    zeros            of these, the ones whose weight was exactly 0
    regrown          connections added
    removed          what was removed so far, this time included; None where nobody keeps it
    """

    shape: tuple[int, int]
    indptr: Tensor = field(repr=False)
    indices: Tensor = field(repr=False)
    source: Tensor = field(repr=False)
    pruned: int
    zeros: int
    regrown: int
    removed: Removed | None = field(default=None, repr=False)

    @property
    def grown(self) -> Tensor:
        """(regrown,) int64: the cells of the new connections, ascending."""
        return positions(self.shape, self.indptr, self.indices)[self.source < 0]

    @property
    def pattern(self) -> Csr:
        """The connections afterwards as NumPy arrays."""
        return Csr(self.indptr.cpu().numpy(), self.indices.cpu().numpy(), self.shape)


def evolve(
    view: View,
    zeta: float,
    rng: np.random.Generator,
    *,
    removal: Removal = signed_magnitude,
    regrowth: Regrowth = random_cells,
    refill: bool = True,
    connections: int | None = None,
) -> EvolutionResult:
    """Prune, then regrow exactly as many connections (Algorithm 1).

    zeta         fraction to remove, 0 <= zeta < 1
    refill       False prunes only: the paper's rule after the last epoch
    connections  how many there are afterwards, zeta of them new (more are removed then); None: as many as before
    ValueError where there is not one weight for each connection, or where a rule of one's own returns something else
    than the rules do.
    """
    if view.weights.shape != (view.nnz,):
        raise ValueError(f"expected {view.nnz} weights, one per connection, got shape {tuple(view.weights.shape)}")
    grows = refill and regrowth is not no_cells
    share = zeta if connections is None else share_to_remove(view.nnz, zeta, connections, exactly=regrowth is no_cells)
    keep = removal(view, share, rng)
    if removal not in REMOVAL.values():
        check_kept(view, keep)
    pruned = view.nnz - int(keep.sum())
    count = (pruned if connections is None else max(0, connections - view.nnz + pruned)) if grows else 0
    if view.removed is not None:
        view = replace(view, removed=view.removed.and_these(view.positions[~keep], view.weights[~keep]))
    ranks = regrowth(view, keep, count, rng)
    if regrowth not in REGROWTH.values():
        check_grown(ranks, count, view.cells - view.nnz + pruned)
    indptr, indices, source = splice(view, keep, ranks)
    zeros = int((view.weights[~keep] == 0).sum())
    return EvolutionResult(view.shape, indptr, indices, source, pruned, zeros, len(ranks), view.removed)


def share_to_remove(nnz: int, zeta: float, connections: int, *, exactly: bool = False) -> float:
    """The fraction to remove where so many connections are to be left, zeta of them new; zeta where none are lost.

    exactly  remove what is too much and no more, since nothing grows afterwards
    Else two more go than have to, which a removal that rounds on each side of zero may leave.
    """
    if exactly:
        return max(0.0, nnz - connections + 0.5) / nnz if connections < nnz else 0.0
    if connections >= nnz:
        return zeta
    kept = min((1 - zeta) * connections, connections - LEAST_CONNECTIONS)
    return min(1 - kept / nnz, 1 - 1 / nnz)


def agree(change: EvolutionResult, rng: np.random.Generator) -> tuple[EvolutionResult, np.random.Generator]:
    """The first process's, where there is a process group: a rule that looks at gradients sees each one's own rows."""
    if not is_in_group():
        return change, rng
    device = change.indices.device
    first, rng = agreed((replace(change, **{name: getattr(change, name).cpu() for name in TENSORS}), rng))
    return replace(first, **{name: getattr(first, name).to(device) for name in TENSORS}), rng


def check_kept(view: View, keep: Tensor) -> None:
    """ValueError where this is not what a removal returns."""
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool or keep.shape != (view.nnz,):
        found = f"{tuple(keep.shape)} of {keep.dtype}" if isinstance(keep, Tensor) else type(keep).__name__
        raise ValueError(f"removal: expected a tensor ({view.nnz},) of bool, which connections stay, got {found}")


def check_grown(ranks: Tensor, count: int, empty: int) -> None:
    """ValueError where this is not what a regrowth returns."""
    if not isinstance(ranks, Tensor) or ranks.dtype != torch.int64 or ranks.shape != (count,):
        found = f"{tuple(ranks.shape)} of {ranks.dtype}" if isinstance(ranks, Tensor) else type(ranks).__name__
        raise ValueError(f"regrowth: expected a tensor ({count},) of int64, which empty cells are filled, got {found}")
    if count and (bool((ranks.diff() <= 0).any()) or not 0 <= int(ranks[0]) <= int(ranks[-1]) < empty):
        raise ValueError(f"regrowth: expected distinct numbers of empty cells, ascending, from 0 to {empty - 1}")


def splice(view: View, keep: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """indptr, indices and source of the kept connections and new ones, all int32; see EvolutionResult.

    keep   (nnz,) bool
    ranks  (count,) int64, ascending and distinct: which of the cells without a kept connection, counted row by row, are
           filled
    O(nnz) without rejections, so a layer that is almost full takes no longer than one that is empty.
    """
    n_in, n_out = view.shape
    if native.core is not None and view.indices.is_cpu:
        nnz = int(keep.sum()) + len(ranks)
        after = [torch.empty(n, dtype=torch.int32) for n in (n_in + 1, nnz, nnz)]
        tensors = (view.indptr, view.indices, keep, ranks, *after)
        native.core.refill(n_in, n_out, *(tensor.contiguous().numpy() for tensor in tensors))
        return after[0], after[1], after[2]
    device = view.indices.device
    survivors = torch.nonzero(keep).squeeze(1)
    kept = positions(view.shape, view.indptr, view.indices)[survivors]
    # The r-th empty cell lies at r plus the connections before it; `empty_before` counts the empty cells before each
    # connection.
    empty_before = kept - torch.arange(len(kept), device=device)
    ranks = ranks.to(device)
    new = ranks + torch.searchsorted(empty_before, ranks, right=True)
    is_new = torch.zeros(len(kept) + len(new), dtype=torch.bool, device=device)
    is_new[torch.searchsorted(kept, new) + torch.arange(len(new), device=device)] = True
    merged, source = torch.empty_like(is_new, dtype=torch.int64), torch.full_like(is_new, -1, dtype=torch.int64)
    merged[is_new], merged[~is_new] = new, kept
    source[~is_new] = survivors
    starts = torch.arange(n_in + 1, device=device) * n_out
    indptr = torch.searchsorted(merged, starts)
    return indptr.to(torch.int32), (merged % n_out).to(torch.int32), source.to(torch.int32)


class LastStep:
    """Keeps a layer's inputs, outputs and output gradients of the latest step, for rules that look at them.

    While it is attached the layer runs by itself, not as part of a fused stack. `detach` ends it.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.inputs: Tensor | None = None
        self.output_gradients: Tensor | None = None
        self.outputs: Tensor | None = None
        self._handle = layer.register_forward_hook(self._after_forward)

    def detach(self) -> None:
        """Remove the hook and forget the tensors."""
        self._handle.remove()
        self.inputs = self.output_gradients = self.outputs = None

    def _after_forward(self, layer: nn.Module, arguments: tuple[Tensor, ...], y: Tensor) -> None:
        if y.requires_grad:
            self.inputs = arguments[0].detach().flatten(end_dim=-2)
            self.outputs = y.detach().flatten(end_dim=-2)
            y.register_hook(self._after_backward)  # type: ignore[no-untyped-call]

    def _after_backward(self, dy: Tensor) -> None:
        self.output_gradients = dy.detach().flatten(end_dim=-2)
