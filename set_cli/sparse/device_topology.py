"""`topology.evolve` in torch's operations, for connections and weights that lie on a GPU.

The same weights and random numbers give the same connections as on the CPU: the ranks of the new ones are drawn by
numpy there, and nothing else is random.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from set_cli.sparse.topology import sample_distinct


class DeviceEvolution(NamedTuple):
    """What one evolution did, as topology.Evolution has it; the tensors int32."""

    indptr: Tensor
    indices: Tensor
    source: Tensor
    pruned: int
    zeros: int
    regrown: int


def evolve(
    shape: tuple[int, int],
    indptr: Tensor,
    indices: Tensor,
    weights: Tensor,
    zeta: float,
    rng: np.random.Generator,
    *,
    refill: bool = True,
) -> DeviceEvolution:
    """Prune, then regrow exactly as many; with refill=False prune only. Algorithm 1; see `topology.evolve`."""
    n_in, n_out = shape
    survivors = torch.nonzero(prune(weights, zeta)).squeeze(1)
    nnz, pruned = len(indices), len(indices) - len(survivors)
    ranks = sample_distinct(n_in * n_out - nnz + pruned, pruned if refill else 0, rng)
    kept = positions(shape, indptr, indices)[survivors]
    new = _empty_cells(kept, torch.from_numpy(ranks).to(weights.device))
    at = torch.searchsorted(kept, new) + torch.arange(len(new), device=new.device)
    is_new = torch.zeros(len(kept) + len(new), dtype=torch.bool, device=weights.device)
    is_new[at] = True
    merged, source = torch.empty_like(is_new, dtype=torch.int64), torch.full_like(is_new, -1, dtype=torch.int64)
    merged[is_new], merged[~is_new] = new, kept
    source[~is_new] = survivors
    starts = torch.arange(n_in + 1, device=weights.device) * n_out
    return DeviceEvolution(
        torch.searchsorted(merged, starts).to(torch.int32),
        (merged % n_out).to(torch.int32),
        source.to(torch.int32),
        pruned,
        int((weights == 0).sum()),
        len(new),
    )


def prune(weights: Tensor, zeta: float) -> Tensor:
    """Which connections stay, (nnz,) bool; see `topology.prune`."""
    keep = weights != 0
    for side in (weights > 0, weights < 0):
        candidates = torch.nonzero(side).squeeze(1)
        count = math.floor(zeta * len(candidates))
        if count:
            magnitudes = weights[candidates].abs()
            threshold = magnitudes.sort().values[count - 1]  # kthvalue does not repeat on a GPU
            keep[candidates[magnitudes < threshold]] = False
            ties = candidates[magnitudes == threshold]  # ascending: among equals the first go
            below = int((magnitudes < threshold).sum())
            keep[ties[: count - below]] = False
    return keep


def transpose(shape: tuple[int, int], indptr: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The connections in rows of outputs: indptr, indices and the order of their values, all int32."""
    n_in, n_out = shape
    sorted_outputs, order = torch.sort(indices, stable=True)
    inputs = _rows(n_in, indptr, indices).to(torch.int32)
    outputs = torch.arange(n_out + 1, dtype=torch.int32, device=indices.device)
    starts = torch.searchsorted(sorted_outputs, outputs)
    return starts.to(torch.int32), inputs[order], order.to(torch.int32)


def positions(shape: tuple[int, int], indptr: Tensor, indices: Tensor) -> Tensor:
    """(nnz,) int64: input * n_out + output of every connection, ascending."""
    n_in, n_out = shape
    return _rows(n_in, indptr, indices) * n_out + indices


def _rows(n_in: int, indptr: Tensor, indices: Tensor) -> Tensor:
    """The input of every connection; how many there are is given, so that nothing waits for the GPU."""
    inputs = torch.arange(n_in, device=indices.device)
    return inputs.repeat_interleave(indptr.diff(), output_size=len(indices))


def _empty_cells(kept: Tensor, ranks: Tensor) -> Tensor:
    """The cells of these ranks among those without a connection; `topology.regrow` says how."""
    empty_before = kept - torch.arange(len(kept), device=kept.device)
    return ranks + torch.searchsorted(empty_before, ranks, right=True)
