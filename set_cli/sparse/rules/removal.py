"""Which connections of a layer are removed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.rules.view import View


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
