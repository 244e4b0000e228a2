"""One pass over the training rows, which can be left between two steps and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.system import streams
from set_cli.training.group import ALONE, Group

State = Mapping[str, NDArray[Any]]
# Called with (rows done, rows in all, how to get the pass's state) after every step; may raise to stop. True: the model
# was given other connections.
AfterStep = Callable[[int, int, Callable[[], State]], bool | None]
ROWS, LOSS = "rows", "loss"
FRESH: State = {}
CPU = torch.device("cpu")


class Pass:
    """Batches of an epoch's rows in an order that seed and epoch decide, and the loss so far.

    device       on which the loss is
    resume_from  the `state` of an interrupted pass; empty for a new one
    group        of processes that share each batch
    home         where the row numbers are: with the rows

    order  (rows,) int64 row numbers
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        epoch: int,
        device: torch.device,
        resume_from: State = FRESH,
        group: Group = ALONE,
        home: torch.device = CPU,
    ) -> None:
        self.order = torch.from_numpy(streams.generator(seed, "data", epoch).permutation(rows)).to(home)
        self.batch_size, self._group = batch_size, group
        self.done = int(resume_from[ROWS]) if resume_from else 0
        self._loss = torch.tensor(float(resume_from[LOSS]) if resume_from else 0.0, dtype=torch.float64, device=device)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def is_alone(self) -> bool:
        """Whether no other process has a part of the batches."""
        return self._group.size == 1

    @property
    def steps(self) -> int:
        """Steps of a whole pass."""
        return -(-len(self) // self.batch_size)

    @property
    def whole_batches(self) -> int:
        """Steps that are left and have as many rows as the others."""
        return (len(self) - self.done) // self.batch_size

    @property
    def steps_done(self) -> int:
        return -(-self.done // self.batch_size)

    def batches(self) -> Iterator[Tensor]:
        """Row numbers (n_batch,) of the steps that are left; the last batch may be smaller."""
        while self.done < len(self):
            yield self.order[self.done : self.done + self.batch_size]

    def add(self, loss: Tensor | float) -> None:
        """Count a step's loss: the sum of the losses of the rows that are this process's."""
        self._loss += loss

    def add_steps(self, losses: Tensor) -> None:
        """Count several steps' losses (steps,), one after the other, as `add` would."""
        total = self._loss.item()
        for loss in losses.tolist():
            total += loss
        self._loss.fill_(total)

    def count(self, rows: int) -> None:
        """Count a step's rows."""
        self.done += rows

    @property
    def mean_loss(self) -> float:
        return self._group.total(self._loss).item() / len(self)

    def state(self) -> dict[str, NDArray[Any]]:
        return {ROWS: np.array(self.done), LOSS: self._loss.cpu().numpy()}
