"""The learning rate and zeta as functions of how far a training is, so that a resumed one needs no other state."""

from __future__ import annotations

import math

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


def last_evolution(evolve: Evolve, epochs: int) -> int:
    """The epoch after which nothing is regrown any more."""
    return max(1, math.floor(evolve.until * epochs))


def zeta_after(config: Config, epoch: int, *, ends: bool = False) -> float | None:
    """The fraction of connections that is removed after this epoch; None where nothing is.

    ends  whether the run ends after it, maybe before train.epochs
    """
    evolve, epochs = config.evolve, config.train.epochs
    last = last_evolution(evolve, epochs)
    is_final = is_final_removal(config, epoch, ends=ends)
    if not is_final and (epoch > last or epoch % evolve.every):
        return None
    progress = min(1.0, (epoch - 1) / last)
    match evolve.schedule:
        case "constant":
            return config.zeta
        case "cosine":
            return config.zeta * falling_cosine(progress)
        case "linear":
            return config.zeta * (1 - progress)


def is_final_removal(config: Config, epoch: int, *, ends: bool = False) -> bool:
    """Whether what is removed after this epoch is not regrown.

    ends  whether the run ends after it, maybe before train.epochs
    """
    epochs = config.train.epochs
    final = last_evolution(config.evolve, epochs) if config.evolve.final == "until" else epochs
    return epoch == final or (ends and epoch < final)


def scheduled_values(
    config: Config, epoch: int, optimizer: torch.optim.Optimizer, *, ends: bool = False
) -> dict[str, float]:
    """What a row of metrics.jsonl says of them where they change: the rate of the epoch's last step, and zeta."""
    values = {} if config.train.has_one_rate else {"lr": float(optimizer.param_groups[0]["lr"])}
    zeta = zeta_after(config, epoch, ends=ends)
    is_scheduled = config.method.evolves and config.evolve.schedule != "constant"
    return values | ({"zeta": zeta} if is_scheduled and zeta is not None else {})


def falling_cosine(progress: float) -> float:
    """Half a period of a cosine: 1 at 0, 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2
