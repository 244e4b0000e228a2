"""What the training loop needs of a run's record, and what stands in for it where another process writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from set_cli.training.clock import Clock
from set_cli.training.cost import EvolutionCost
from set_cli.training.evolution import Change
from set_cli.training.passes import FRESH, LOSS, ROWS, State
from set_cli.training.trainers import Scores


class Recorder(Protocol):
    """What the loop needs of a record.

    path         the run's folder
    title        which run it is, and from where it resumes
    epoch        completed epochs
    resume_from  state of the epoch in progress, where a checkpoint within it is resumed; empty elsewhere
    clock        of the epoch in progress
    cost         of the evolutions in it, beside their time
    threads      that the epoch's training took, where their number was chosen meanwhile
    paused       whether the process was stopped in it (Ctrl-Z): its times are then none of ours
    line         the epoch added last, in words
    is_due       whether it is time for a checkpoint within the epoch
    """

    path: Path
    title: str
    resume_from: State
    clock: Clock
    cost: EvolutionCost
    threads: int | None
    paused: bool
    line: str

    @property
    def epoch(self) -> int: ...

    @property
    def is_due(self) -> bool: ...

    def rows(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, of the epochs so far."""

    def remaining_epochs(self) -> range:
        """Numbers of the epochs that are still to be trained, the one in progress first."""

    def where(self) -> str:
        """The place at which the newest checkpoint resumes, in words."""

    def keep(self, state: State) -> None:
        """Save a checkpoint within an epoch: the state of its pass over the rows."""

    def add(self, epoch: int, loss: float, scores: Scores, change: Change, *, ends: bool = False) -> Mapping[str, Any]:
        """Record an epoch, and return its row of metrics.jsonl; ends: whether the run ends after it before its time."""

    def checkpoint(self) -> None:
        """Save the state after the epoch added last; a resume starts here."""


class Following:
    """Stands in for the record where another process of the group writes: knows how the run stands.

    epochs      in all
    done, rows  completed epochs, and rows of the one in progress that are trained on
    """

    is_due = False
    line = ""

    def __init__(self, path: Path, epochs: int, done: int, rows: int) -> None:
        self.path, self.title, self.epoch, self._epochs = path, str(path), done, epochs
        self.resume_from: State = {ROWS: np.array(rows), LOSS: np.array(0.0)} if rows else FRESH
        self.clock, self.cost, self.paused = Clock(), EvolutionCost(), False
        self.threads: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        return []

    def remaining_epochs(self) -> range:
        return range(self.epoch + 1, self._epochs + 1)

    def where(self) -> str:
        return f"after epoch {self.epoch}"

    def keep(self, state: State) -> None:
        pass

    def add(self, epoch: int, loss: float, scores: Scores, change: Change, *, ends: bool = False) -> Mapping[str, Any]:
        return {}

    def checkpoint(self) -> None:
        self.epoch += 1
