"""MixUp (Zhang et al. 2018): rows of a batch mixed with others of it, in a proportion that the batch draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from set_cli import native
from set_cli.native import records


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """How n rows are mixed, each with a partner of its batch.

    places  (n,) int64: where in the batch the partner is
    rows    (n,) int64: the partner's row number
    shares  (n,) float32: the row's own part of the mixture
    """

    places: Tensor
    rows: Tensor
    shares: Tensor

    def of(self, rows: Tensor) -> Mixing:
        """The mixing of some rows."""
        return Mixing(self.places[rows], self.rows[rows], self.shares[rows])


@dataclass(frozen=True, slots=True, eq=False)
class MixedLabels:
    """The labels of partners (n,) int64, and the shares (n,) float32 of the rows' own labels."""

    others: Tensor
    shares: Tensor


def draw_mixing(alpha: float, order: Tensor, batch_size: int, rng: np.random.Generator) -> Mixing:
    """An epoch's mixing, by row number.

    order  (n,) int64 row numbers as the epoch has them, batch after batch

    One share for each batch, drawn from Beta(alpha, alpha), and one permutation of each batch, as the authors' code.
    """
    n, numbers = len(order), order.cpu().numpy()
    keys, places, rows, shares = rng.random(n), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float32)
    for start in range(0, n, batch_size):
        batch = numbers[start : start + batch_size]
        permutation = keys[start : start + batch_size].argsort()
        places[batch], rows[batch], shares[batch] = permutation, batch[permutation], rng.beta(alpha, alpha)
    return Mixing(*(torch.from_numpy(values).to(order.device) for values in (places, rows, shares)))


def mix(x: Tensor, places: Tensor, shares: Tensor) -> Tensor:
    """The mixtures of x (n, features) float32 with its rows at these places, which the kernels make in place."""
    if not (native.takes(x, shares) and native.is_columns(x)):
        return blend(x, x[places], shares)
    n, features = x.shape
    if places.shape != (n,) or shares.shape != (n,) or not 0 <= int(places.min()) <= int(places.max()) < n:
        raise ValueError(f"expected places in a batch of {n} rows and as many shares, got others")
    assert native.core is not None
    places, shares = places.contiguous(), shares.contiguous()
    native.core.mix(
        records.Mix(
            x=records.columns(x),
            partners=places.data_ptr(),
            shares=shares.data_ptr(),
            features=features,
            n_batch=n,
        ),
        native.threads(x.numel() * native.ELEMENTWISE),
    )
    return x


def blend(own: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """Row after row, its share of `own` (n, features) and the rest of `other`."""
    return own.lerp(other, 1 - shares[:, None])
