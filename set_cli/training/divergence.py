"""When a training has diverged: a loss or a weight that is no longer finite, or a loss beyond any sense."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from set_cli.config import Config
from set_cli.data.card import Card
from set_cli.errors import DivergedError
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.supervised import is_finite

TIMES_CHANCE = 100  # how far above the loss of guessing a training loss may be: in ours that train, it is below 5


class Divergence:
    """Looks at a run's losses and weights.

    card    of its data: the loss of guessing is ln(classes) nats, of an RBM's reconstruction ln(2) a visible unit
    folder  of the run, for the sentence
    """

    def __init__(self, config: Config, card: Card, model: nn.Module, folder: Path) -> None:
        self._config, self._model, self._folder = config, model, folder
        self._largest_loss = TIMES_CHANCE * ARCHITECTURES[config.model.name].chance_loss(card)

    def check(
        self, epoch: int, train_loss: float = 0.0, scores: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """Raise DivergedError where a loss, a score or a weight is NaN or infinite, or the training loss too large.

        A test loss may be: a few odd rows are enough for that, and the accuracy stays what it is.
        """
        numbers = [value for score in (scores or {}).values() for value in score.values()]
        if not is_finite(self._model, [train_loss, *numbers]):
            found = "loss or weights are no longer finite"
        elif train_loss > self._largest_loss:
            found = (
                f"the training loss is {train_loss:.3g} nats, and guessing has {self._largest_loss / TIMES_CHANCE:.3g}"
            )
        else:
            return
        raise DivergedError(f"{self._folder}: {found} in epoch {epoch}; {advice(self._config)}")


def advice(config: Config) -> str:
    """What keeps such a training stable, in the order in which to try it."""
    train, tries = config.train, []
    if config.data.scaling == "standardize":
        tries.append("data.scaling=unit (a value that is rare in the training rows is many deviations large)")
    if train.clip is None:
        tries.append("train.clip=1")
    tries.append(f"a smaller train.lr than {train.lr:g}")
    tries.append(f"a larger train.batch_size than {train.batch_size}")
    return f"try {', '.join(tries[:-1])} or {tries[-1]}"
