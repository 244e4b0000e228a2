"""What happens to the rows of an epoch on their way to the network: images changed, rows and labels mixed."""

from __future__ import annotations

import math

from torch import Tensor

from set_cli.config import Config
from set_cli.data.augment import Changes, draw_changes
from set_cli.data.inputs import Batches
from set_cli.data.mixup import Mixing, draw_mixing, mix
from set_cli.system import streams

MIXING = 3  # of the streams of an epoch's augmentation; data/augment.py has the others
ROUNDING = 1e-9  # 0.29 of 100 epochs is 29 epochs


class Augmented:
    """The training rows of an epoch, augmented as the configuration says. All draws are functions of seed and epoch.

    order      (n,) int64 row numbers as the epoch has them
    processes  that share each batch
    """

    def __init__(self, config: Config, inputs: Batches, epoch: int, order: Tensor, processes: int = 1) -> None:
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
            self._mixing = draw_mixing(augment.mixup, order, config.train.batch_size, processes, rng)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Mixing | None]:
        """x, y and how the labels are mixed, of the rows of a batch that are this process's."""
        x, y = self._inputs.batch(rows, None if self._changes is None else self._changes.of(rows))
        if self._mixing is None:
            return x, y, None
        mixing = self._mixing.of(rows).to(self._inputs.device)
        return mix(x, mixing), y, mixing


def last_augmented(until: float, epochs: int) -> int:
    """The last epoch whose rows are augmented."""
    return max(1, math.floor(until * epochs + ROUNDING))
