"""When a training ends because its validation score has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from set_cli.runs.summary import METRICS
from set_cli.training.trainers import Scores


class Patience:
    """Ends a training after so many epochs without a better validation score: a function of the epochs so far.

    allowed  that many epochs; None: it never ends the training
    epochs   of the whole training
    rows     of metrics.jsonl, of a training that is resumed
    """

    def __init__(self, allowed: int | None, epochs: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self._allowed, self._epochs = allowed, epochs
        self._best, self._best_epoch, self._epoch = -math.inf, 0, 0
        for row in rows:
            self._count(row["epoch"], {key.removeprefix("valid_"): value for key, value in row.items()})

    def is_due(self, epoch: int) -> bool:
        """Whether this epoch is the last one unless its score is the best: it has to be measured as the last one is."""
        return self._allowed is not None and epoch - self._best_epoch >= self._allowed

    def add(self, epoch: int, scores: Scores) -> None:
        """Count an epoch with its scores; none where it was not measured."""
        self._count(epoch, scores.get("valid", {}))

    @property
    def has_run_out(self) -> bool:
        """Whether the epoch counted last ends the training."""
        return self.is_due(self._epoch)

    @property
    def ended(self) -> str | None:
        """Why the training ended before its last epoch; None where it did not."""
        if not self.has_run_out or self._epoch == self._epochs:
            return None
        return (
            f"ended after epoch {self._epoch} of {self._epochs}: the validation score has not been better than after "
            f"epoch {self._best_epoch} for train.patience={self._allowed}"
        )

    def _count(self, epoch: int, values: Mapping[str, float]) -> None:
        self._epoch = epoch
        score = next((values[metric] for metric in METRICS if metric in values), -math.inf)
        if score > self._best:
            self._best, self._best_epoch = score, epoch
