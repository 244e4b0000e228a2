"""Training steps in one call of the compiled kernels: of a small network's step, half is otherwise Python.

The numbers are those of the step that `supervised` does with autograd, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from set_cli import native
from set_cli.config import Config
from set_cli.models.activations import Activation
from set_cli.models.stack import SparseSequential, Step, backward_calls, by_step, collect, forward_calls, has_hooks
from set_cli.native import records
from set_cli.native.elementwise import dropout
from set_cli.training.augmentation import Augmented
from set_cli.training.optimizer import MomentumSGD, drop_gradients
from set_cli.training.pace import Pace
from set_cli.training.passes import Pass
from set_cli.training.schedules import rate_of


class NativeSteps:
    """Steps of a whole model with its optimiser, for the time between two evolutions.

    The memory of activations and gradients is allocated once. Make another one where connections change, or where
    weights and momenta are given other memory.

    steps, tensors  the whole model as `collect` gives it
    x               (n_batch, n_in) columns: what each step reads, and where it is written if a step gathers its inputs

    classes  of the output
    """

    def __init__(
        self,
        model: SparseSequential,
        optimizer: MomentumSGD,
        steps: Sequence[Step],
        tensors: Sequence[Tensor],
        x: Tensor,
    ) -> None:
        self.x, self._optimizer = x, optimizer
        self._forward, self._states = forward_calls(x, steps, tensors, keep=True)
        logits = self._states[-1].y
        self.classes = logits.shape[1]
        self._logits, self._dy = logits, native.new_columns(*logits.shape)
        self._backward = backward_calls(self._states, self._dy, wants_dx=False)
        self._dropouts = [
            (number, activation)
            for number, activation in enumerate(_activations(model, steps))
            if activation is not None and activation.training and activation.dropout
        ]
        self._arrange(steps, tensors)

    def _arrange(self, steps: Sequence[Step], tensors: Sequence[Tensor]) -> None:
        """The parameters with their gradients and momenta, as the kernels update them."""
        group = self._optimizer.param_groups[0]
        self._momentum, self._nesterov = group["momentum"], group["nesterov"]
        self._parameters = [p for g in self._optimizer.param_groups for p in g["params"]]
        decays = {id(p): float(g["weight_decay"]) for g in self._optimizer.param_groups for p in g["params"]}
        self._values: list[records.Descent] = []
        self._others: list[records.OfOutputs] = []
        self._turned: list[tuple[Tensor, Tensor]] = []  # of nn.Linear, whose weight is (n_out, n_in), and our copy
        gradients = iter(self._backward.gradients)
        for layer, (step, weight, bias, scaling, slopes) in enumerate(by_step(steps, tensors)):
            state = self._states[layer]
            values, gradient, momentum = weight, next(gradients), self._optimizer.momentum_of(weight)
            if step.transposed:
                gradient, turned = gradient.t().reshape(-1), torch.empty_like(state.values)
                self._turned += [(weight.detach(), state.values), (momentum, turned)]
                values, momentum = state.values, turned
            self._values.append(_descent(values, gradient, momentum, decays[id(weight)]))
            for other in (bias, *scaling, *slopes):
                gradient = next(gradients)
                if id(other) in decays:  # the slopes of a leaky ReLU are no parameters
                    momentum = self._optimizer.momentum_of(other)
                    descent = _descent(other, gradient, momentum, decays[id(other)])
                    self._others.append(records.OfOutputs(layer=layer, descent=descent))

    @torch.no_grad()
    def run(
        self,
        rates: Sequence[float],
        labels: Tensor,
        threads: int,
        inputs: records.GatherChanged | None = None,
        *,
        clip: float = 0.0,
        smoothing: float = 0.0,
        l1: float = 0.0,
    ) -> Tensor:
        """Train as many steps as there are rates; their mean losses (steps,) float32, nats per row.

        labels  (at least steps * n_batch,) int64, all of them classes: of the rows one step after the other
        inputs  what gathers the rows of the first step into x; None: they are there
        """
        n_batch, steps = len(self.x), len(rates)
        losses, rate = native.empty(steps, torch.float64), torch.tensor(rates, dtype=torch.float32)
        forward = list(self._forward)
        for number, activation in self._dropouts:
            layer = forward[number].layer
            kept = self._states[number].kept
            assert kept is not None
            layer = layer._replace(dropout=dropout(activation.draw(steps), kept))
            forward[number] = forward[number]._replace(layer=layer)
        record = records.Steps(
            inputs=records.NO_GATHERING._replace(n_batch=n_batch) if inputs is None else inputs,
            clip=clip,
            loss=records.CrossEntropy(
                logits=records.columns(self._logits),
                targets=records.Targets(labels=labels.data_ptr(), others=0, shares=0, smoothing=smoothing),
                classes=self.classes,
                n_batch=n_batch,
                gradient=records.columns(self._dy),
                scale=1 / n_batch,
            ),
            losses=losses.data_ptr(),
            rates=rate.data_ptr(),
            momentum=self._momentum,
            nesterov=self._nesterov,
            l1=l1,
            steps=steps,
        )
        drop_gradients(self._optimizer)
        for whole, ours in self._turned:
            ours.view(whole.shape[1], whole.shape[0]).copy_(whole.t())
        assert native.core is not None
        native.core.train(record, forward, self._backward.calls, self._values, self._others, threads)
        for whole, ours in self._turned:
            whole.copy_(ours.view(whole.shape[1], whole.shape[0]).t())
        increment_version(self._parameters)  # so that a backward through an older forward is refused
        return (losses / n_batch).float()


class Together:
    """Steps of an epoch that are done several at a time, where the kernels do all of it.

    augmented  what makes inputs of the pass's rows
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: Config,
        epoch: int,
        one_pass: Pass,
        augmented: Augmented,
        pace: Pace,
    ) -> None:
        self._model, self._optimizer, self._config, self._epoch = model, optimizer, config, epoch
        self._pass, self._pace = one_pass, pace
        train = config.train
        is_plain = train.clip is None and train.ema is None and config.backend.precision == "float32"
        is_possible = is_plain and one_pass.is_alone and one_pass.whole_batches > 0 and can_train(model, optimizer)
        self._rows = augmented.in_order(one_pass.order) if is_possible else None
        self._steps: NativeSteps | None = None
        self.follow()

    def follow(self) -> None:
        """Train the connections that the model has now."""
        self._steps = None
        if self._rows is not None and self._pass.whole_batches:
            found = native_steps(self._model, self._optimizer, self._pass.batch_size, self._rows.features)
            if found is not None and _are_classes(self._rows.labels, found.classes):  # else the step alone says more
                self._steps = found

    def learn(self) -> bool:
        """Do the next steps; False where the next one has to be done alone."""
        one_pass, train = self._pass, self._config.train
        if self._steps is None or self._rows is None or not one_pass.whole_batches:
            return False
        done = (self._epoch - 1) * one_pass.steps + one_pass.steps_done
        left = one_pass.whole_batches
        if every := self._config.evolve.every_steps:
            left = min(left, every - done % every)
        steps, n_batch = self._pace.steps(left), one_pass.batch_size
        rates = [group["lr"] for group in self._optimizer.param_groups[:1]] * steps
        if not train.has_one_rate:
            rates = [rate_of(train, done + i, one_pass.steps) for i in range(steps)]
        with self._pace.call(steps):
            losses = self._steps.run(
                rates,
                self._rows.labels[one_pass.done :],
                self._pace.threads,
                self._rows.gathering(one_pass.done, self._steps.x),
                clip=self._rows.clip,
                smoothing=train.label_smoothing,
                l1=train.l1,
            )
        for group in self._optimizer.param_groups:
            group["lr"] = rates[-1]
        one_pass.add_steps(losses * n_batch)
        one_pass.count(steps * n_batch)
        return True


def _are_classes(labels: Tensor, classes: int) -> bool:
    return bool(labels.numel()) and 0 <= int(labels.min()) <= int(labels.max()) < classes


def native_steps(model: nn.Module, optimizer: torch.optim.Optimizer, n_batch: int, features: int) -> NativeSteps | None:
    """Steps of this model on batches of n_batch rows; None where the kernels do not do all of it.

    They do sparse layers with their normalisation and activation, a narrow dense output, and SGD with momentum, where
    nobody looks on.
    """
    if not can_train(model, optimizer):
        return None
    assert isinstance(model, SparseSequential)
    assert isinstance(optimizer, MomentumSGD)
    x = native.new_columns(n_batch, features)
    modules = list(model._modules.values())
    steps, tensors, after = collect(modules, 0, x, forwards=0)
    return NativeSteps(model, optimizer, steps, tensors, x) if steps and after == len(modules) else None


def can_train(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the kernels may do the steps of this model: on the CPU, our optimiser of all its parameters, no hooks."""
    if native.core is None or type(model) is not SparseSequential or type(optimizer) is not MomentumSGD:
        return False
    parameters = list(model.parameters())
    looks_on = (
        bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
        or has_hooks(model)
        or any(p._backward_hooks or p._post_accumulate_grad_hooks or not p.requires_grad for p in parameters)
    )
    ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
    is_all = bool(parameters) and ours == set(map(id, parameters))
    return is_all and not looks_on and native.takes(*parameters) and optimizer.is_one_call


def _descent(parameter: Tensor, gradient: Tensor, momentum: Tensor, decay: float) -> records.Descent:
    return records.Descent(
        parameter=parameter.data_ptr(),
        gradient=gradient.data_ptr(),
        momentum=momentum.data_ptr(),
        elements=parameter.numel(),
        decay=decay,
    )


def _activations(model: SparseSequential, steps: Sequence[Step]) -> list[Activation | None]:
    """The activation of each step."""
    there = iter(module for module in model if isinstance(module, Activation))
    return [None if step.draws is None else next(there) for step in steps]
