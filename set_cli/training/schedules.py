"""The learning rate and zeta as functions of how far a training is, so that a resumed one needs no other state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from set_cli.config import Config, Evolve, Train
from set_cli.training.passes import Pass

LR_STEPS, LR_FACTOR = (0.5, 0.75), 0.1  # of schedule=step, where nothing else is asked
EXPONENTIAL_END = 0.01  # of train.lr


def rate_of(train: Train, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    step  counted from 0 at the start of the run

    It grows in equal parts to train.lr during the warm-up, whose last step has train.lr, and then follows the schedule
    to the end of the run, where it would be train.lr_end (cosine: Loshchilov and Hutter 2017, Eq. 5, without restarts).
    """
    steps, warmup = train.epochs * steps_per_epoch, round(train.warmup * steps_per_epoch)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    end = 0.0 if train.lr_end is None else train.lr_end
    match train.schedule:
        case "constant":
            return train.lr
        case "cosine":
            return end + (train.lr - end) * falling_cosine(progress)
        case "linear":
            return train.lr + (end - train.lr) * progress
        case "exponential":
            end = EXPONENTIAL_END * train.lr if train.lr_end is None else train.lr_end
            return float(train.lr * (end / train.lr) ** progress)
        case "step":
            lowered = sum(step >= at * steps for at in train.lr_steps or LR_STEPS)
            return float(train.lr * (train.lr_factor or LR_FACTOR) ** lowered)


def follow_schedule(optimizer: torch.optim.Optimizer, train: Train, epoch: int, one_pass: Pass) -> None:
    """Give the optimiser the learning rate of the pass's next step, after the last one that one's.

    A recorded step reads it from where it lies.
    """
    if train.has_one_rate:
        return
    step = min(one_pass.steps_done, one_pass.steps - 1)
    rate = rate_of(train, (epoch - 1) * one_pass.steps + step, one_pass.steps)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@dataclass(frozen=True, slots=True)
class Due:
    """An evolution that is due.

    zeta      the fraction of connections that it removes
    refill    whether it regrows them
    progress  the part of the run that is over
    """

    zeta: float
    refill: bool
    progress: float


def evolution_due(config: Config, epoch: int, step: int = 1, steps: int = 1, *, ends: bool = False) -> Due | None:
    """The evolution after this step of an epoch; None where none is due.

    step   counted from 1; after the last one the epoch is over
    steps  of an epoch
    ends   whether the run ends after this epoch, maybe before train.epochs
    """
    evolve, epochs = config.evolve, config.train.epochs
    if not config.method.evolves:
        return None
    done, last = (epoch - 1) * steps + step, evolve.last_epoch(epochs) * steps
    every = evolve.every * steps if evolve.every_steps is None else evolve.every_steps
    final = last if evolve.final == "until" else epochs * steps
    is_final = done == final or (ends and step == steps and done < final)
    if is_final and evolve.final == "none":  # what would grow here is never trained
        return None
    if not is_final and (done > last or done % every):
        return None
    before = done - (steps if evolve.every_steps is None else evolve.every_steps)
    zeta = config.zeta * _share_of_zeta(evolve, min(1.0, before / last))
    return Due(zeta, not is_final, done / (epochs * steps))


def _share_of_zeta(evolve: Evolve, progress: float) -> float:
    match evolve.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return falling_cosine(progress)
        case "linear":
            return 1 - progress


def scheduled_values(config: Config, optimizer: torch.optim.Optimizer, zeta: float | None) -> dict[str, float]:
    """What a row of metrics.jsonl says of them where they change: the rate of the epoch's last step, and zeta.

    zeta  of the epoch's last evolution; None where there was none
    """
    values = {} if config.train.has_one_rate else {"lr": float(optimizer.param_groups[0]["lr"])}
    is_scheduled = config.method.evolves and config.evolve.schedule != "constant"
    return values | ({"zeta": zeta} if is_scheduled and zeta is not None else {})


def falling_cosine(progress: float) -> float:
    """Half a period of a cosine: 1 at 0, 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2
