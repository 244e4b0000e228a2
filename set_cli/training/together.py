"""Steps of an epoch that are done several at a time, in one call of the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from set_cli.config import Config
from set_cli.data.inputs import InOrder
from set_cli.models.stack import has_hooks
from set_cli.training.optimizer import MomentumSGD
from set_cli.training.pace import Pace
from set_cli.training.passes import Pass
from set_cli.training.schedules import rate_of


class Steps(Protocol):
    """Whole steps of a network with its optimiser, for the time between two evolutions."""

    def train(self, rates: Sequence[float], threads: int, rows: InOrder, first: int) -> Tensor:
        """Do a step for each of these learning rates, on the rows from `first` on; what each adds to a pass's loss."""


class Together:
    """The steps of a pass that are done several at a time, where the kernels can do all of them.

    rows   of the pass, in its order; None where the kernels do not take them
    steps  makes the steps for the network as it is; None where the kernels do not do them
    """

    def __init__(
        self,
        config: Config,
        epoch: int,
        one_pass: Pass,
        rows: InOrder | None,
        steps: Callable[[], Steps | None],
        optimizer: torch.optim.Optimizer,
        pace: Pace,
    ) -> None:
        self._config, self._epoch, self._pass, self._rows = config, epoch, one_pass, rows
        self._make, self._optimizer, self._pace = steps, optimizer, pace
        self.follow()

    def follow(self) -> None:
        """Train the connections that the network has now."""
        self._steps: Steps | None = None  # whose memory is free before others take theirs
        if self._rows is not None and self._pass.whole_batches:
            self._steps = self._make()

    def learn(self) -> bool:
        """Do the next steps; False where the next one has to be done alone."""
        one_pass, train = self._pass, self._config.train
        left = one_pass.whole_batches
        if not left:
            self._steps = None  # its memory, which the last step may need
        if self._steps is None or self._rows is None:
            return False
        done = (self._epoch - 1) * one_pass.steps + one_pass.steps_done
        if every := self._config.evolve.every_steps:
            left = min(left, every - done % every)
        steps = self._pace.steps(left)
        if train.has_one_rate:
            rates = [self._optimizer.param_groups[0]["lr"]] * steps
        else:
            rates = [rate_of(train, done + i, one_pass.steps) for i in range(steps)]
        with self._pace.call(steps):
            losses = self._steps.train(rates, self._pace.threads, self._rows, one_pass.done)
        for group in self._optimizer.param_groups:
            group["lr"] = rates[-1]
        one_pass.add_steps(losses)
        one_pass.count(steps * one_pass.batch_size)
        return True


def can_train(model: nn.Module, optimizer: torch.optim.Optimizer, config: Config, one_pass: Pass) -> bool:
    """Whether the kernels may do whole steps: alone on the CPU, with our SGD of all parameters, and nobody looks on.

    A gradient's norm is of all of them, and an average is taken beside the step: these are not theirs.
    """
    train = config.train
    if train.clip is not None or train.ema is not None or config.backend.precision != "float32":
        return False
    return one_pass.is_alone and is_ours(model, optimizer)


def is_ours(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step is our momentum SGD of all parameters on the CPU and nothing else: nobody looks on (hooks)."""
    parameters = list(model.parameters())
    if type(optimizer) is not MomentumSGD or not parameters or not optimizer.is_one_call:
        return False
    looks_on = (
        bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
        or has_hooks(model)
        or any(p._backward_hooks or p._post_accumulate_grad_hooks or not p.requires_grad for p in parameters)
    )
    ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return not looks_on and ours == set(map(id, parameters))
