"""Training steps of a stack in one call of the compiled kernels: of a small network's step, half is otherwise Python.

The numbers are those of the step that `supervised` does with autograd, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from set_cli import native
from set_cli.config import Train
from set_cli.data.inputs import InOrder
from set_cli.models.activations import Activation
from set_cli.models.stack import SparseSequential, Step, backward_calls, by_step, collect, forward_calls
from set_cli.native import records
from set_cli.native.elementwise import dropout
from set_cli.training.optimizer import MomentumSGD, drop_gradients
from set_cli.training.together import is_ours


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
        train: Train,
        steps: Sequence[Step],
        tensors: Sequence[Tensor],
        x: Tensor,
    ) -> None:
        self.x, self._optimizer = x, optimizer
        self._smoothing, self._l1 = train.label_smoothing, train.l1
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
            self._values.append(descent(values, gradient, momentum, decays[id(weight)]))
            for other in (bias, *scaling, *slopes):
                gradient = next(gradients)
                if id(other) in decays:  # the slopes of a leaky ReLU are no parameters
                    momentum = self._optimizer.momentum_of(other)
                    of_other = descent(other, gradient, momentum, decays[id(other)])
                    self._others.append(records.OfOutputs(layer=layer, descent=of_other))

    def train(self, rates: Sequence[float], threads: int, rows: InOrder, first: int) -> Tensor:
        """Do a step for each of these learning rates, on the rows from `first` on; the loss of each, summed."""
        feed = records.Feed(gather=rows.gathering(first, self.x), clip=rows.clip)
        return self.run(rates, rows.labels[first:], threads, feed) * len(self.x)

    @torch.no_grad()
    def run(self, rates: Sequence[float], labels: Tensor, threads: int, feed: records.Feed | None = None) -> Tensor:
        """Do a step for each of these learning rates; their mean losses (steps,) float32, nats per row.

        labels  (at least steps * n_batch,) int64, all of them classes: of the rows one step after the other
        feed    what gathers the rows of each step into x; None: they are there
        """
        n_batch, steps = len(self.x), len(rates)
        losses, rate = native.empty(steps, torch.float64), torch.tensor(rates, dtype=torch.float32)
        record = records.Steps(
            feed=feed or records.no_feed(n_batch),
            loss=records.CrossEntropy(
                logits=records.columns(self._logits),
                targets=records.Targets(labels=labels.data_ptr(), others=0, shares=0, smoothing=self._smoothing),
                classes=self.classes,
                n_batch=n_batch,
                gradient=records.columns(self._dy),
                scale=1 / n_batch,
            ),
            losses=losses.data_ptr(),
            update=update(self._optimizer, rate, self._l1),
            steps=steps,
        )
        drop_gradients(self._optimizer)
        for whole, ours in self._turned:
            ours.view(whole.shape[1], whole.shape[0]).copy_(whole.t())
        assert native.core is not None
        native.core.train(record, self._forward_of(steps), self._backward.calls, self._values, self._others, threads)
        for whole, ours in self._turned:
            whole.copy_(ours.view(whole.shape[1], whole.shape[0]).t())
        increment_version(self._parameters)  # so that a backward through an older forward is refused
        return (losses / n_batch).float()

    def _forward_of(self, steps: int) -> list[records.LayerForward]:
        """The forward of the next steps, whose dropout draws numbers of their own."""
        forward = list(self._forward)
        for number, activation in self._dropouts:
            kept = self._states[number].kept
            assert kept is not None
            layer = forward[number].layer._replace(dropout=dropout(activation.draw(steps), kept))
            forward[number] = forward[number]._replace(layer=layer)
        return forward


def native_steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, train: Train, n_batch: int, features: int
) -> NativeSteps | None:
    """Steps of this model on batches of n_batch rows; None where the kernels do not do all of it.

    They do sparse layers with their normalisation and activation, a narrow dense output, and SGD with momentum, where
    nobody looks on.
    """
    if native.core is None or type(model) is not SparseSequential or not is_ours(model, optimizer):
        return None
    assert isinstance(optimizer, MomentumSGD)
    x = native.new_columns(n_batch, features)
    modules = list(model._modules.values())
    steps, tensors, after = collect(modules, 0, x, forwards=0)
    is_shared = len({id(tensor) for tensor in tensors}) < len(tensors)  # its gradient would be a sum over layers
    if not steps or after < len(modules) or is_shared:
        return None
    return NativeSteps(model, optimizer, train, steps, tensors, x)


def update(optimizer: torch.optim.Optimizer, rates: Tensor, l1: float) -> records.Update:
    """How the kernels update parameters as this optimiser would, with rates (steps,) float32."""
    group = optimizer.param_groups[0]
    return records.Update(rates=rates.data_ptr(), momentum=group["momentum"], nesterov=group["nesterov"], l1=l1)


def descent(parameter: Tensor, gradient: Tensor, momentum: Tensor, decay: float) -> records.Descent:
    """A parameter's part of it."""
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
