"""What an evolution does with several layers together: neurons without a way through, and connections that move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.sparse.rules import View

SMALLEST_SCORE = float(np.finfo(np.float64).tiny)


def without_unreached(views: Sequence[View], keeps: Sequence[Tensor], is_read_by_next: Sequence[bool]) -> list[Tensor]:
    """Remove, beside what is removed already, the connections of neurons that have none on one of their sides.

    views            of layers in the order of the network
    keeps            (nnz,) bool of each: which connections stay
    is_read_by_next  of each layer but the last, whether its outputs are the next one's inputs

    A neuron that nothing reaches says nothing, and one that reaches nothing does not matter: from the last layer to the
    first, then from the first to the last (the "chain removal" of Cannistraci-Hebb training, Zhang et al., ICLR 2024).
    The first layer's inputs and the last one's outputs stay. A layer that would lose all its connections keeps them.
    """
    found = [keep.cpu().numpy().copy() for keep in keeps]
    ends = [_ends(view) for view in views]
    for at in reversed(range(len(views) - 1)):
        if is_read_by_next[at]:
            _keep_only(found[at], ends[at][1], ends[at + 1][0][found[at + 1]], views[at].shape[1])
    for at in range(1, len(views)):
        if is_read_by_next[at - 1]:
            _keep_only(found[at], ends[at][0], ends[at - 1][1][found[at - 1]], views[at].shape[0])
    return [torch.from_numpy(kept).to(keep.device) for kept, keep in zip(found, keeps, strict=True)]


def _ends(view: View) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The input and the output neuron of each connection."""
    cells = view.positions.cpu().numpy()
    return cells // view.shape[1], cells % view.shape[1]


def _keep_only(kept: NDArray[np.bool_], own: NDArray[np.int64], others: NDArray[np.int64], neurons: int) -> None:
    """Remove the kept connections whose neuron (own) is none of the others', unless that were all of them."""
    is_connected = np.zeros(neurons, bool)
    is_connected[others] = True
    left = kept & is_connected[own]
    if left.any():
        kept[:] = left


def shared_out(total: int, scores: Sequence[float], room: Sequence[int]) -> list[int]:
    """How many of `total` connections grow in each layer: in proportion to its score, no more than it has room for.

    The counts add up to `total` exactly (largest remainders), which must not be more than all room together. Layers
    share alike where no score is above 0. As sparse momentum does it (Dettmers and Zettlemoyer 2019, Algorithm 1).
    """
    counts, left, space = np.zeros(len(scores), np.int64), total, np.asarray(room, np.int64)
    weights = np.asarray(scores, np.float64)
    while left:
        is_open = counts < space
        share = np.where(is_open, weights, 0.0)
        largest = float(share.max())
        with np.errstate(under="ignore"):  # of scores that are next to nothing beside the largest
            share = share / largest if largest > SMALLEST_SCORE else is_open.astype(float)
            wanted = left * share / share.sum()
        more = np.minimum(np.floor(wanted).astype(np.int64), space - counts)
        rest = min(left - int(more.sum()), int((is_open & (more < space - counts)).sum()))
        if not more.any() or rest:  # the largest remainders, the first of equal ones
            order = np.argsort(-np.where(is_open & (more < space - counts), wanted - more, -1.0), kind="stable")
            more[order[:rest]] += 1
        counts += more
        left -= int(more.sum())
    return [int(count) for count in counts]
