"""Contrastive divergence: an epoch of an RBM, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version

from set_cli import native
from set_cli.config import Config, Train
from set_cli.data.inputs import InOrder, Inputs
from set_cli.models.rbm import RBM
from set_cli.native import records, units
from set_cli.system import streams
from set_cli.training.graphs import Step, recorded
from set_cli.training.native_steps import descent, update
from set_cli.training.optimizer import (
    MomentumSGD,
    add_l1_gradient,
    clip_gradients,
    connection_weights,
    drop_gradients,
)
from set_cli.training.pace import Pace
from set_cli.training.passes import FRESH, AfterStep, Pass, State
from set_cli.training.sampling import Sampler
from set_cli.training.schedules import follow_schedule
from set_cli.training.together import Together, can_train

EVALUATION_ROWS = 1000  # per batch


@torch.no_grad()
def train_epoch(
    model: RBM,
    inputs: Inputs,
    optimizer: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    after_step: AfterStep,
    resume_from: State = FRESH,
    pace: Pace | None = None,
) -> float:
    """One pass of CD-k or persistent CD; mean reconstruction cross-entropy (nats per row), every row used once.

    Values between 0 and 1 are probabilities: each batch draws its visible units anew.
    resume_from  state of an interrupted epoch, from a checkpoint; empty at the start
    pace         of calls that do several steps, as the epochs before have found it
    """
    assert config.model.cd_steps is not None
    seed = streams.torch_seed(config.seed, "rbm", epoch)
    one_pass = Pass(
        len(inputs), config.train.batch_size, config.seed, epoch, inputs.device, resume_from, home=inputs.home
    )
    divergence = Divergence(model, config.model.cd_steps, seed, one_pass.steps_done)
    if resume_from:
        divergence.sampler.stream.restore(resume_from["units"])
    weights = connection_weights(model)

    def state() -> dict[str, NDArray[Any]]:
        return one_pass.state() | {"units": divergence.sampler.stream.state()}

    def step(rows: Tensor) -> None:
        x, _ = inputs.batch(rows)
        drop_gradients(optimizer)
        loss = divergence.differentiate(x if inputs.is_binary else divergence.sampler.values(x))
        clip_gradients(optimizer, config.train.clip)
        if config.train.l1:
            add_l1_gradient(weights, config.train.l1)
        optimizer.step()
        one_pass.add(loss)

    def prepared() -> Step:
        wanted = config.backend.cuda_graphs and inputs.is_resident
        return recorded(step, model, optimizer, [divergence.sampler.stream], wanted=wanted)

    learn = prepared()
    follow_schedule(optimizer, config.train, epoch, one_pass)  # where no step is left, for the record
    is_possible = inputs.is_binary and can_train(model, optimizer, config, one_pass)
    in_order = inputs.in_order(one_pass.order) if is_possible else None
    pace = pace or Pace(torch.get_num_threads(), tried=config.backend.threads is None)

    def steps() -> ContrastSteps | None:
        return divergence.steps(optimizer, config.train, config.train.batch_size)

    together = Together(config, epoch, one_pass, in_order, steps, optimizer, pace)
    for rows in one_pass.batches():
        follow_schedule(optimizer, config.train, epoch, one_pass)
        if not together.learn():
            learn(rows)
            one_pass.count(len(rows))
        if after_step(one_pass.done, len(one_pass), state):
            divergence.follow()
            learn = prepared()
            together.follow()
    return one_pass.mean_loss


class Divergence:
    """CD-k of batch after batch, or persistent CD where the RBM has chains; a function of the seed and their order.

    The model's phase starts at the data's hidden units or at the chains. Its last hidden units are probabilities, all
    others draws (Hinton's practical guide, 3). Hinton 2002; Tieleman 2008.

    batches  that were differentiated before, of a pass that is resumed
    """

    def __init__(self, model: RBM, steps: int, seed: int, batches: int = 0) -> None:
        self._model, self._steps, self._seed = model, steps, seed
        self.sampler = Sampler(seed, model.visible.bias.device)
        self._kernels = model.compiled()
        self._batches = batches

    def follow(self) -> None:
        """Compute with the connections that the model has now."""
        self._kernels = self._model.compiled()

    @torch.no_grad()
    def differentiate(self, v: Tensor) -> Tensor | float:
        """Set the gradients of a batch v (n, n_visible) of 0s and 1s; its reconstruction's cross-entropy, summed."""
        if self._kernels is not None:
            return self._in_one_call(self._kernels, native.to_columns(v))
        model, sampler = self._model, self.sampler
        h, h0 = sampler.units_and_probabilities(model.hidden_input(v))
        a = model.visible_input(h)
        loss = _cross_entropy(a, v)
        if model.chains is not None:
            a = model.visible_input(model.chains)
        v1 = sampler.units(a)
        for _ in range(self._steps - 1):
            h = sampler.units(model.hidden_input(v1))
            v1 = sampler.units(model.visible_input(h))
        h, h1 = sampler.units_and_probabilities(model.hidden_input(v1))
        if model.chains is not None:
            model.chains.copy_(h)
        model.set_gradients(v, h0, v1, h1)
        return loss

    def steps(self, optimizer: torch.optim.Optimizer, train: Train, n_batch: int) -> ContrastSteps | None:
        """Whole steps on batches of n_batch rows in one call; None where the kernels do not do them."""
        if self._kernels is None or not isinstance(optimizer, MomentumSGD):
            return None
        v = native.new_columns(n_batch, self._model.n_visible)
        self._check(v)
        call = units.new_contrast(self._kernels, v, self._model.chains, self._steps, self._seed, 0)
        return ContrastSteps(self._model, optimizer, train, call, self._next_random)

    def _next_random(self, batches: int) -> int:
        """The first of the random steps of so many batches."""
        step = self._batches * (2 * self._steps + 1)
        self._batches += batches
        return step

    def _check(self, v: Tensor) -> None:
        model = self._model
        model.check_units(v, model.n_visible)  # the kernels see addresses only
        if model.chains is not None:
            model.check_units(model.chains, model.n_hidden)
        if model.chains is not None and not native.is_columns(model.chains):  # as one chain may lie
            model.chains = native.to_columns(model.chains)

    def _in_one_call(self, kernels: units.Connections, v: Tensor) -> float:
        """Differentiate in one call of the kernels, with random numbers of their own."""
        model = self._model
        self._check(v)
        found = units.contrast(kernels, v, model.chains, self._steps, self._seed, self._next_random(1))
        assert model.layer1.bias is not None
        model.layer1.weight.grad = found.weight
        model.layer1.bias.grad = found.hidden_bias
        model.visible.bias.grad = found.visible_bias
        return found.loss


class ContrastSteps:
    """Whole steps of an RBM with its optimiser, for the time between two evolutions.

    call         of one step, on v (n_batch, n_visible), where a step gathers its rows
    next_random  the first of the random steps of so many batches, which are then taken
    """

    def __init__(
        self, model: RBM, optimizer: MomentumSGD, train: Train, call: units.Contrast, next_random: Callable[[int], int]
    ) -> None:
        assert model.layer1.bias is not None
        self._call, self._next_random, self._optimizer, self._l1 = call, next_random, optimizer, train.l1
        decays = {id(p): float(g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
        self._parameters = [model.layer1.weight, model.layer1.bias, model.visible.bias]
        self._descents = [
            descent(parameter, gradient, optimizer.momentum_of(parameter), decays[id(parameter)])
            for parameter, gradient in zip(
                self._parameters, (call.weight, call.hidden_bias, call.visible_bias), strict=True
            )
        ]

    @property
    def v(self) -> Tensor:
        """The batch (n_batch, n_visible) that a step is done on, columns."""
        return self._call.memory[0]

    def train(self, rates: Sequence[float], threads: int, rows: InOrder, first: int) -> Tensor:
        """Do a step for each of these learning rates, on the rows from `first` on; the loss of each, summed."""
        return self.run(rates, threads, records.Feed(gather=rows.gathering(first, self.v), clip=rows.clip))

    @torch.no_grad()
    def run(self, rates: Sequence[float], threads: int, feed: records.Feed | None = None) -> Tensor:
        """Do a step for each of these learning rates; their losses (steps,), nats, summed over the batch.

        feed  what gathers the rows of each step into v; None: they are there
        """
        record, steps = self._call.record, len(rates)
        losses, rate = native.empty(steps, torch.float64), torch.tensor(rates, dtype=torch.float32)
        values, hidden_bias, visible_bias = self._descents
        drop_gradients(self._optimizer)
        assert native.core is not None
        native.core.train_rbm(
            records.ContrastSteps(
                feed=feed or records.no_feed(len(self.v)),
                contrast=record._replace(random=record.random._replace(step=self._next_random(steps))),
                values=values,
                hidden_bias=hidden_bias,
                visible_bias=visible_bias,
                losses=losses.data_ptr(),
                update=update(self._optimizer, rate, self._l1),
                steps=steps,
            ),
            threads,
        )
        increment_version(self._parameters)
        return losses


@torch.no_grad()
def monitor(model: RBM, inputs: Inputs, seed: int) -> dict[str, float]:
    """What is measured of an RBM over all rows, means per row in nats.

    reconstruction_loss     cross-entropy of the mean-field reconstruction
    pseudo_log_likelihood   one unit per row flipped (stochastic; Hyvarinen 2006): cheap, biased
    free_energy             the log-probability is minus this minus log Z
    """
    sampler = Sampler(streams.torch_seed(seed, "rbm", 0), inputs.device)
    generator = torch.Generator(inputs.device).manual_seed(streams.torch_seed(seed, "rbm", 0, 1))
    reconstruction = pseudo = energy = 0.0
    for start in range(0, len(inputs), EVALUATION_ROWS):
        x, _ = inputs.batch(torch.arange(start, min(start + EVALUATION_ROWS, len(inputs))))
        v = x if inputs.is_binary else sampler.values(x)  # the same draws in every epoch
        rows = torch.arange(len(v), device=v.device)
        unit = torch.randint(model.n_visible, (len(v),), generator=generator, device=v.device)
        flipped = v.clone()
        flipped[rows, unit] = 1 - flipped[rows, unit]
        free = model.free_energy(v)
        pseudo += model.n_visible * float(F.logsigmoid(model.free_energy(flipped) - free).double().sum())
        reconstruction += float(_cross_entropy(model.visible_input(model(v)), v))
        energy += float(free.double().sum())
    return {
        "reconstruction_loss": reconstruction / len(inputs),
        "pseudo_log_likelihood": pseudo / len(inputs),
        "free_energy": energy / len(inputs),
    }


def _cross_entropy(a: Tensor, v: Tensor) -> Tensor:
    """Cross-entropy of v (n, units) under sigmoid(a), summed by rows so that threads do not matter."""
    return F.binary_cross_entropy_with_logits(a, v, reduction="none").sum(dim=1).double().sum()
