"""Which connections of a layer are removed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.engines.device_pattern import positions
from set_cli.sparse.rules.view import View
from set_cli.sparse.sampling import sample_distinct


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
    return _without_smallest(view, view.weights.abs(), zeta)


def largest(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the floor(zeta * nnz) weights farthest from zero, whatever their sign; among equals the first go.

    The negative control of Mocanu et al. (2018): what it removes is what the others keep. O(nnz log nnz).
    """
    return _without_smallest(view, -view.weights.abs(), zeta)


def random_removal(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove floor(zeta * nnz) connections, every set of them equally likely, whatever they weigh. O(nnz)."""
    gone = sample_distinct(view.nnz, math.floor(zeta * view.nnz), rng)
    keep = torch.ones(view.nnz, dtype=torch.bool)
    keep[torch.from_numpy(gone)] = False
    return keep.to(view.weights.device)


def threshold(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove every weight with |w| < options.threshold, but at most floor(zeta * nnz), those closest to zero first.

    One threshold for all layers, so each loses what became small in it: dynamic sparse reparameterization, Mostafa and
    Wang, ICML 2019, who also adapt the threshold to how many it removes; here it stands still. A zeta below 1 leaves
    at least one connection of every layer. O(nnz log nnz).
    """
    magnitudes = view.weights.abs()
    return _without_smallest(view, magnitudes, zeta, most=int((magnitudes < view.options.threshold).sum()))


def sensitivity(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the floor(zeta * nnz) connections of the smallest |w| + lambda |dL/dw|, lambda = options.sensitivity.

    MEST: Yuan et al., NeurIPS 2021: a small weight whose gradient is large is about to grow, so it stays. The code of
    CHTs, which also has this rule, takes lambda = 0.01. Among equals the first go.
    O(nnz log nnz + n_batch nnz); ValueError where the view has no gradients, or some that are not finite.
    """
    return _without_smallest(view, view.weights.abs() + view.options.sensitivity * _gradients(view).abs(), zeta)


def movement(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the floor(zeta * nnz) connections of the smallest |w dL/dw|; among equals the first go.

    The first-order Taylor importance of Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR
    2019, of which this is the root: what the loss would change by if the weight were 0. Movement pruning, Sanh
    et al., NeurIPS 2020, adds up -w dL/dw with its sign over the steps; this is the magnitude at the batches that the
    view has. A weight of 0 has importance 0 and goes first. O(nnz log nnz + n_batch nnz); ValueError as `sensitivity`.
    """
    return _without_smallest(view, (view.weights * _gradients(view)).abs(), zeta)


def relative(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Remove the floor(zeta * nnz) connections of the smallest relative importance; among equals the first go.

    Of a connection from i to j: |w_ij| / (sum of |w| into j) + |w_ij| / (sum of |w| out of i), so that the last
    connections of a weak neuron stay. RIA: Zhang et al., "Plug-and-Play", ICLR 2024; `ri` in the code of CHTs,
    which also adds 1e-5 for every cell, empty or not, to the sums. O(nnz log nnz).
    """
    return _without_smallest(view, _relative_importance(view).to(view.weights.device), zeta)


def soft(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Keep nnz - floor(zeta * nnz) connections, drawn without replacement with probability proportional to |w|**T.

    T = 1 + 2 * progress: removal is lenient at first and close to `magnitude` at the end. CHTs: Zhang et al., NeurIPS
    2025 (arXiv 2501.19107), where T = delta / (1 - delta) with delta from 0.5 to 0.75; `weight_magnitude_soft` in
    their code, which draws in float32, so that its smallest weights have probability 0. Here they do not, except
    those that are exactly 0: they go first, the first of them before the others. O(nnz log nnz).
    """
    return _drawn(view, view.weights.abs().cpu().double(), zeta, rng)


def relative_soft(view: View, zeta: float, rng: np.random.Generator) -> Tensor:
    """Keep nnz - floor(zeta * nnz) connections, drawn as `soft` does by the importance of `relative`.

    `ri_soft` in the code of CHTs: Zhang et al., NeurIPS 2025 (arXiv 2501.19107). O(nnz log nnz).
    """
    return _drawn(view, _relative_importance(view), zeta, rng)


def _drawn(view: View, importances: Tensor, zeta: float, rng: np.random.Generator) -> Tensor:
    """Which connections stay where those that do are drawn with probability proportional to importance**T.

    The largest of T log(importance) + Gumbel noise are such a draw without replacement (Efraimidis and Spirakis,
    2006): no power can underflow, and the order of the draws does not matter.
    """
    temperature = 1 + 2 * view.progress
    noise = -np.log(rng.standard_exponential(view.nnz))
    keys = temperature * torch.log(importances) + torch.from_numpy(noise)
    return _without_smallest(view, keys.to(view.weights.device), zeta)


def _relative_importance(view: View) -> Tensor:
    """(nnz,) float64 on the CPU, where sums have one order; 0 for a weight of 0."""
    magnitudes = view.weights.abs().cpu().double().numpy()
    outputs = view.indices.cpu().numpy()
    inputs = np.repeat(np.arange(view.shape[0]), view.indptr.cpu().diff().numpy())
    shares = np.zeros(view.nnz)
    for neurons, n in ((outputs, view.shape[1]), (inputs, view.shape[0])):
        sums = np.bincount(neurons, magnitudes, minlength=n)[neurons]
        shares += np.divide(magnitudes, sums, out=np.zeros(view.nnz), where=magnitudes > 0)
    return torch.from_numpy(shares)


def _gradients(view: View) -> Tensor:
    """(nnz,) at the connections; ValueError where they are not there, or not finite."""
    found = view.gradients_at(positions(view.shape, view.indptr, view.indices)).to(view.weights.device)
    if not bool(torch.isfinite(found).all()):
        raise ValueError("removal: expected finite gradients, got NaN or infinity; take a smaller learning rate")
    return found


def _without_smallest(view: View, scores: Tensor, zeta: float, most: int | None = None) -> Tensor:
    """Which connections stay where the floor(zeta * nnz) smallest scores go, but at most so many."""
    device = view.weights.device
    keep = torch.ones(view.nnz, dtype=torch.bool, device=device)
    count = math.floor(zeta * view.nnz)
    _drop_smallest(keep, torch.arange(view.nnz, device=device), scores, count if most is None else min(count, most))
    return keep


def _drop_smallest(keep: Tensor, candidates: Tensor, magnitudes: Tensor, count: int) -> None:
    """Set `keep` to False at exactly `count` candidates, those of the smallest magnitudes; among equals the first."""
    if not count:
        return
    # The sort takes ten times as long, but kthvalue does not repeat on a GPU.
    threshold = magnitudes.kthvalue(count).values if magnitudes.is_cpu else magnitudes.sort().values[count - 1]
    is_below = magnitudes < threshold
    keep[candidates[is_below]] = False
    ties = candidates[magnitudes == threshold]  # candidates are ascending
    keep[ties[: count - int(is_below.sum())]] = False
