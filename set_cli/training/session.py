"""One process's part in a run: it trains, measures and evolves the network, alone or in a group.

All processes of a group call the same methods in the same order. The first one measures, evolves and records; the
others receive the evolved network from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from set_cli.config import Config
from set_cli.data.account import parts_of
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import DataSet
from set_cli.errors import StorageError
from set_cli.system.peak import PROCESS
from set_cli.system.progress import View
from set_cli.system.signals import StopSignals
from set_cli.training.architectures import make_trainer
from set_cli.training.averaging import averaged
from set_cli.training.contents import model_arrays, restore_model
from set_cli.training.divergence import Divergence
from set_cli.training.evolution import Change, evolve_model
from set_cli.training.group import Group
from set_cli.training.passes import State
from set_cli.training.patience import Patience
from set_cli.training.recorder import Recorder
from set_cli.training.schedules import evolution_due
from set_cli.training.trainers import Scores
from set_cli.training.wiring import reads_images

EVOLVED = "evolved"  # in a checkpoint within an epoch: what its evolutions so far did


@dataclass(frozen=True, slots=True)
class Learner:
    """What is trained, on what and by whom."""

    config: Config
    data: DataSet
    model: nn.Module
    optimizer: torch.optim.Optimizer
    group: Group

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def share_state(self) -> None:
        """Give all processes the first one's connections, weights and momenta."""
        if self.group.size > 1:
            arrays = self.group.arrays_of_first(model_arrays(self.model, self.optimizer), self.device)
            if not self.group.is_first:
                restore_model(self.model, self.optimizer, arrays)


class Session:
    """Trains, measures and evolves a learner, epoch after epoch, from where its record stands.

    record  of the run in the first process, one that writes nothing in the others
    view    told of every step
    stop    asks the run to end between two steps
    ends    whether train.patience ends the training after the epoch measured last
    """

    def __init__(self, learner: Learner, record: Recorder, view: View, stop: StopSignals) -> None:
        self._learner, self._record, self._view, self._stop = learner, record, view, stop
        config, data, group = learner.config, learner.data, learner.group
        learner.share_state()
        self._trainer = make_trainer(config, data, learner.model, record.rows(), group)
        self._patience = Patience(config.train.patience, config.train.epochs, record.rows())
        self._divergence = Divergence(config, data.card, learner.model, record.path)
        parts = parts_of(data) if group.is_first else {"train": data.train}
        self._inputs = {name: Inputs(part, data, learner.device) for name, part in parts.items()}
        self._tested = {name: part for name, part in self._inputs.items() if name != "train"}
        self._resume_from = record.resume_from
        self._change = Change.of_numbers(record.resume_from[EVOLVED]) if EVOLVED in record.resume_from else Change()
        self._image = reads_images(config, data.card)
        self._steps = -(-len(data.train) // config.train.batch_size)  # of an epoch
        self.ends = False
        self._scores: Scores | None = None  # of the network as it is
        self._state: Callable[[], State] | None = None  # of the pass over the rows, where no checkpoint has it yet

    def remaining_epochs(self) -> Iterator[int]:
        """Numbers of the epochs that are still to be trained, until train.patience ends the training."""
        for epoch in self._record.remaining_epochs():
            if self._has_run_out():
                return
            yield epoch

    @property
    def ended(self) -> str | None:
        """Why the training ended before its last epoch; None where it did not."""
        return self._patience.ended

    def _has_run_out(self) -> bool:
        if self._learner.config.train.patience is None:
            return False
        return self._learner.group.said_by_first(self._patience.has_run_out)

    def train(self, epoch: int) -> float:
        """Train an epoch, or what is left of it, and return the mean loss; DivergedError where that makes no sense."""
        learner = self._learner
        with self._record.clock.part("train"):
            loss = self._trainer.train(
                self._inputs["train"], learner.optimizer, epoch, self._after_step, self._resume_from
            )
        self._resume_from, self._record.threads = {}, self._trainer.threads
        if learner.group.is_first:
            self._divergence.check(epoch, loss)
        return loss

    def measure(self, epoch: int) -> Scores:
        """Measure the parts that are due after this epoch, in the first process; DivergedError as `train`."""
        scores: Scores = {}
        if self._learner.group.is_first:
            with self._record.clock.part("evaluate"):
                scores = self._measured(epoch, is_last=self._patience.is_due(epoch))
                self._divergence.check(epoch, 0.0, scores)
            self._patience.add(epoch, scores)
            self._scores = scores
        self.ends = self._has_run_out()
        return scores

    def evolve(self, epoch: int) -> Change:
        """Prune and regrow (Algorithm 1); after the last epoch what is removed is not refilled."""
        self._evolve(epoch, self._steps)
        change, self._change = self._change, Change()
        self._record.paused |= self._stop.was_paused()
        self._state = None
        if change.pruned:
            self._scores = None
        return change

    def _evolve(self, epoch: int, step: int) -> None:
        """Evolve after this step of an epoch, in the first process, and count it with the epoch's other evolutions."""
        learner = self._learner
        with self._record.clock.part("evolve"):
            if learner.group.is_first:
                with PROCESS.rise() as rise:
                    change = self._evolved(epoch, step)
                if change.pruned:
                    self._record.cost.add(rise.mb)
                self._change = self._change.then(change) if self._change.connections else change
            learner.share_state()

    def _evolved(self, epoch: int, step: int) -> Change:
        learner = self._learner
        return evolve_model(
            learner.model,
            learner.optimizer,
            learner.config,
            epoch,
            step,
            self._steps,
            ends=self.ends and step == self._steps,
            look=lambda: self._trainer.look(self._inputs["train"], epoch, step),
            image=self._image,
        )

    def _evolve_within(self, rows: int, of: int) -> bool:
        """Evolve after a step within an epoch, where that is due; whether it was."""
        epoch, step = self._record.epoch + 1, -(-rows // self._learner.config.train.batch_size)
        if rows >= of or evolution_due(self._learner.config, epoch, step, self._steps) is None:
            return False
        self._evolve(epoch, step)
        return True

    def final_scores(self) -> Scores:
        """The scores of what is left after the last removal."""
        return self._scores or self._measured(self._learner.config.train.epochs, is_last=True)

    def _measured(self, epoch: int, *, is_last: bool) -> Scores:
        """The scores of the weights, and as 'ema_...' beside them those of the averaged ones, where there are some."""
        learner = self._learner
        scores = self._trainer.measure(self._tested, epoch, self._check, is_last=is_last)
        if learner.config.train.ema is None:
            return scores
        with averaged(learner.model, learner.optimizer):
            found = self._trainer.measure(self._tested, epoch, self._check, is_last=is_last)
        return {
            part: score | {f"ema_{name}": value for name, value in found[part].items()}
            for part, score in scores.items()
        }

    def _after_step(self, rows: int, of: int, state: Callable[[], State]) -> bool:
        record, group = self._record, self._learner.group
        has_evolved = self._evolve_within(rows, of)
        if not group.is_first:  # the first one says when all stop
            return has_evolved
        self._view.step(record.epoch + 1, rows, of)
        # Dropout state of other processes is not saved, so only a single process checkpoints within an epoch.
        self._state = state if group.size == 1 else None
        if record.is_due and rows < of:  # after the last step the checkpoint of the whole epoch is next
            self._keep()
        self._check()
        return has_evolved

    def _keep(self) -> None:
        """Save a checkpoint of the state after the newest step, unless one has it."""
        record = self._record
        if self._state is not None:
            self._divergence.check(record.epoch + 1)
            record.paused |= self._stop.was_paused()
            record.keep({**self._state(), EVOLVED: self._change.numbers})
            self._state = None

    def _check(self) -> None:
        """End the run where it is asked to; the newest step is then kept, if that is possible."""
        if self._stop.is_asked:
            with suppress(StorageError, MemoryError):  # the last checkpoint stands
                self._keep()
        is_new = self._learner.config.resume == "never"
        same = "the same command with resume=auto" if is_new else "the same command"
        self._stop.check(f"{same} resumes {self._record.where()}")
