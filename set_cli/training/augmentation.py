"""What happens to the rows of an epoch on their way to the network: images changed, rows and labels mixed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from set_cli.config import Config
from set_cli.data.augment import Changes, draw_changes
from set_cli.data.inputs import Batches, InOrder
from set_cli.data.mixup import MixedLabels, Mixing, blend, draw_mixing, mix
from set_cli.system import streams

MIXING = 3  # of the streams of an epoch's augmentation; data/augment.py has the others
ROUNDING = 1e-9  # 0.29 of 100 epochs is 29 epochs


class Augmented:
    """The training rows of an epoch, augmented as the configuration says. All draws are functions of seed and epoch.

    order  (n,) int64 row numbers as the epoch has them
    """

    def __init__(self, config: Config, inputs: Batches, epoch: int, order: Tensor) -> None:
        self._inputs = inputs
        self._changes: Changes | None = None
        self._mixing: Mixing | None = None
        augment, seed = config.data.augment, config.seed
        if epoch > last_augmented(augment.until, config.train.epochs):
            return
        if augment.changes_images:
            self._changes = draw_changes(augment, len(inputs), inputs.shape, seed, epoch).to(inputs.home)
        if augment.mixup:
            rng = streams.generator(seed, "augment", epoch, MIXING)
            self._mixing = draw_mixing(augment.mixup, order, config.train.batch_size, rng)

    def batch(self, rows: Tensor, *, is_whole: bool) -> tuple[Tensor, Tensor, MixedLabels | None]:
        """x and y of these rows, and what their labels are mixed with.

        is_whole  whether they are a whole batch, not a process's part of one
        """
        if self._mixing is None:
            return *self._as_they_are(rows), None
        mixing, device = self._mixing.of(rows), self._inputs.device
        places, shares = mixing.places.to(device), mixing.shares.to(device)
        if is_whole:
            x, y = self._as_they_are(rows)
            return mix(x, places, shares), y, MixedLabels(y[places], shares)
        x, y = self._as_they_are(torch.cat([rows, mixing.rows]))
        n = len(rows)
        return blend(x[:n], x[n:], shares), y[:n], MixedLabels(y[n:], shares)

    def in_order(self, rows: Tensor) -> InOrder | None:
        """These rows for the compiled kernels; None where they do not take them, as where rows are mixed."""
        if self._mixing is not None:
            return None
        return self._inputs.in_order(rows, None if self._changes is None else self._changes.of(rows))

    def _as_they_are(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of rows that are not mixed."""
        return self._inputs.batch(rows, None if self._changes is None else self._changes.of(rows))


def last_augmented(until: float, epochs: int) -> int:
    """The last epoch whose rows are augmented."""
    return max(1, math.floor(until * epochs + ROUNDING))
