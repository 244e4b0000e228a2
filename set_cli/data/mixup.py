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
    """How n rows are mixed: the partner of each, and its own share of the mixture.

    partners  (n,) int64: the partner's place in the batch
    shares    (n,) float32
    """

    partners: Tensor
    shares: Tensor

    def of(self, rows: Tensor) -> Mixing:
        """The mixing of the rows of a batch."""
        return Mixing(self.partners[rows], self.shares[rows])

    def to(self, device: torch.device) -> Mixing:
        return Mixing(self.partners.to(device), self.shares.to(device))


def draw_mixing(alpha: float, order: Tensor, batch_size: int, processes: int, rng: np.random.Generator) -> Mixing:
    """An epoch's mixing, by row number.

    order      (n,) int64 row numbers as the epoch has them, batch after batch
    processes  that share each batch: a row's partner is among those of its process

    One share for each batch, drawn from Beta(alpha, alpha), and one permutation of each batch, as the authors' code.
    """
    n = len(order)
    keys, partners, shares = rng.random(n), np.empty(n, np.int64), np.empty(n, np.float32)
    for start in range(0, n, batch_size):
        shares[start : start + batch_size] = rng.beta(alpha, alpha)
        for part in np.array_split(np.arange(start, min(start + batch_size, n)), processes):
            partners[part] = keys[part].argsort()
    by_row = order.cpu().argsort()
    return Mixing(*(torch.from_numpy(values)[by_row].to(order.device) for values in (partners, shares)))


def mix(x: Tensor, mixing: Mixing) -> Tensor:
    """The mixtures of x (n, features) float32, which the compiled kernels make in place."""
    partners, shares = mixing.partners, mixing.shares
    if not (native.takes(x, shares) and native.is_columns(x)):
        return x.lerp(x[partners], 1 - shares[:, None])
    n, features = x.shape
    if partners.shape != (n,) or shares.shape != (n,) or not 0 <= int(partners.min()) <= int(partners.max()) < n:
        raise ValueError(f"expected partners and shares of {n} rows of this batch, got others")
    assert native.core is not None
    partners, shares = partners.contiguous(), shares.contiguous()
    native.core.mix(
        records.Mix(
            x=records.columns(x),
            partners=partners.data_ptr(),
            shares=shares.data_ptr(),
            features=features,
            n_batch=n,
        ),
        native.threads(x.numel() * native.ELEMENTWISE),
    )
    return x
