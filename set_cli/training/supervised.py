"""The supervised epoch: batches, the training step, evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from set_cli.config import Config
from set_cli.data.inputs import Batches, Inputs
from set_cli.models.activations import Activation
from set_cli.system import streams
from set_cli.training.augmentation import Augmented
from set_cli.training.averaging import Averaging
from set_cli.training.graphs import Step, recorded
from set_cli.training.group import ALONE, Group
from set_cli.training.loss import cross_entropy
from set_cli.training.native_steps import native_steps
from set_cli.training.optimizer import add_l1_gradient, clip_gradients, connection_weights, drop_gradients
from set_cli.training.pace import Pace
from set_cli.training.passes import FRESH, AfterStep, Pass, State
from set_cli.training.schedules import follow_schedule
from set_cli.training.together import Steps, Together, can_train

EVALUATION_ROWS = 1000  # per batch


def train_epoch(
    model: nn.Module,
    inputs: Batches,
    optimizer: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    after_step: AfterStep,
    resume_from: State = FRESH,
    group: Group = ALONE,
    parallel: nn.Module | None = None,
    pace: Pace | None = None,
) -> float:
    """Mean training loss (nats per row) over one pass; every row is used once, the last partial batch too.

    The loss is what is minimised: of rows as they are augmented, of labels as they are smoothed and mixed.

    resume_from  state of an interrupted epoch, from a checkpoint; empty at the start
    group        of processes that share each batch
    parallel     the model as the group trains it
    pace         of calls that do several steps, as the epochs before have found it
    """
    forward = parallel or model
    train, seed = config.train, config.seed
    model.train()
    activations = [module for module in model.modules() if isinstance(module, Activation)]
    for i, activation in enumerate(activations):
        of_process = (group.rank,) if group.rank else ()
        activation.reseed(streams.torch_seed(seed, "dropout", epoch, i, *of_process), inputs.device)
        if f"dropout{i}" in resume_from:  # not of the others of a group, which no checkpoint holds
            activation.stream.restore(resume_from[f"dropout{i}"])
    one_pass = Pass(len(inputs), train.batch_size, seed, epoch, inputs.device, resume_from, group, inputs.home)
    augmented = Augmented(config, inputs, epoch, one_pass.order)
    penalised = connection_weights(model)
    averaging = Averaging(model, optimizer, train.ema)
    is_half = config.backend.precision == "bfloat16"

    def state() -> dict[str, NDArray[Any]]:
        return one_pass.state() | {f"dropout{i}": a.stream.state() for i, a in enumerate(activations)}

    def step(batch: Tensor) -> None:
        rows, share = group.share(batch)
        x, y, mixed = augmented.batch(rows, is_whole=group.size == 1)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=is_half):
            logits = forward(x)
        loss = cross_entropy(logits.float(), y, train.label_smoothing, mixed)
        drop_gradients(optimizer)
        (loss if group.size == 1 else share * loss).backward()  # type: ignore[no-untyped-call]
        clip_gradients(optimizer, train.clip)
        if train.l1:
            add_l1_gradient(penalised, train.l1)
        optimizer.step()
        averaging.update()
        one_pass.add(loss.detach() * (len(rows) if share else 0))

    def prepared() -> Step:
        """The step itself on the CPU; a recording of it on a GPU, which counts the loss but not the rows."""
        wanted = config.backend.cuda_graphs and group.size == 1 and inputs.is_resident
        return recorded(step, model, optimizer, [a.stream for a in activations], wanted=wanted)

    learn = prepared()
    follow_schedule(optimizer, train, epoch, one_pass)  # where no step is left, for the record
    pace = pace or Pace(torch.get_num_threads(), tried=config.backend.threads is None)
    is_possible = can_train(model, optimizer, config, one_pass)
    in_order = augmented.in_order(one_pass.order) if is_possible else None

    def steps() -> Steps | None:
        assert in_order is not None
        found = native_steps(model, optimizer, train, train.batch_size, in_order.features)
        # Where a label is none of the classes, the step alone says which.
        return found if found and in_order.are_labels_below(found.classes) else None

    together = Together(config, epoch, one_pass, in_order, steps, optimizer, pace)
    for batch in one_pass.batches():
        follow_schedule(optimizer, train, epoch, one_pass)
        averaging.begin_step((epoch - 1) * one_pass.steps + one_pass.steps_done)
        if not together.learn():
            learn(batch)
            one_pass.count(len(batch))
        if after_step(one_pass.done, len(one_pass), state):
            learn = prepared()
            together.follow()
    return one_pass.mean_loss


@torch.no_grad()
def evaluate(
    model: nn.Module, inputs: Inputs, check: Callable[[], None] = lambda: None, rows: int = EVALUATION_ROWS
) -> dict[str, float]:
    """Mean cross-entropy ('loss', nats) and 'accuracy' (percent) over all rows, without dropout and augmentation.

    check  called after every batch; may raise to stop
    rows   per batch
    """
    model.eval()
    loss, hits = 0.0, 0
    for start in range(0, len(inputs), rows):
        x, y = inputs.batch(torch.arange(start, min(start + rows, len(inputs))))
        logits = model(x)
        loss += cross_entropy(logits, y).item() * len(y)
        hits += int((logits.argmax(dim=1) == y).sum())
        check()
    return {"loss": loss / len(inputs), "accuracy": 100 * hits / len(inputs)}


def is_finite(model: nn.Module, losses: Iterable[float]) -> bool:
    """Whether losses and parameters are all finite; a NaN weight may hide behind a unit that is never active."""
    return all(map(math.isfinite, losses)) and all(map(_all_finite, model.parameters()))


def _all_finite(values: Tensor) -> bool:
    # torch.isfinite makes copies as large as the weights; the extremes are NaN where any value is.
    return not values.numel() or all(math.isfinite(extreme) for extreme in values.detach().aminmax())
