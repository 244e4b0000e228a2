"""An exponential moving average of the weights, which follows the connections and starts at a new one's weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.models.normalization import BatchNorm

AVERAGE = "average"  # the optimiser's state of a parameter: beside the momentum, so it is saved and moved with it


def share_of_step(decay: float, step: int) -> float:
    """The share of the newest weights in the average after a step, counted from 0.

    1 - min(decay, (1 + step) / (10 + step)): an average over the steps so far, until there are enough of them for the
    decay that was asked for. As in TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


class Averaging:
    """Keeps the average of a model's weights up to date while it is trained; of normalised layers, of their means too.

    decay  by how much the average shrinks in a step, 0 < decay < 1; None: nothing is averaged
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, decay: float | None) -> None:
        self._averaged = [] if decay is None else _averaged_tensors(model)
        self._optimizer, self._decay = optimizer, decay
        device = next(model.parameters()).device
        # A step that is recorded on a GPU would keep a plain number.
        self._share = torch.zeros((), device=device) if device.type == "cuda" else None
        self._plain_share = 0.0

    def begin_step(self, step: int) -> None:
        """Say which step comes next, counted from 0 at the start of the run."""
        if self._decay is not None:
            self._plain_share = share_of_step(self._decay, step)
            if self._share is not None:
                self._share.fill_(self._plain_share)

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the weights after the optimiser's step."""
        if not self._averaged:
            return
        averages = [self._average(*one) for one in self._averaged]
        newest = [tensor for tensor, _, _ in self._averaged]
        if self._share is None:
            with native.as_many_threads(sum(tensor.numel() for tensor in newest)):
                torch._foreach_lerp_(averages, newest, self._plain_share)
            return
        apart = torch._foreach_sub(newest, averages)
        torch._foreach_mul_(apart, self._share)
        torch._foreach_add_(averages, apart)

    def _average(self, tensor: Tensor, holder: Tensor, key: str) -> Tensor:
        # Made after the first step: an optimiser of torch's takes a state with anything in it for one that has started.
        state = self._optimizer.state[holder]
        if key not in state:
            state[key] = tensor.detach().clone()
        average: Tensor = state[key]
        return average


def _averaged_tensors(model: nn.Module) -> list[tuple[Tensor, Tensor, str]]:
    """Every tensor that has an average, the parameter whose state holds it, and its name there."""
    found: list[tuple[Tensor, Tensor, str]] = [(parameter, parameter, AVERAGE) for parameter in model.parameters()]
    for module in model.modules():
        if isinstance(module, BatchNorm):
            found += [(buffer, module.weight, f"{AVERAGE}_{name}") for name, buffer in module.named_buffers()]
    return found


def start_averages(optimizer: torch.optim.Optimizer, weight: Tensor, source: Tensor) -> None:
    """Start the averages of connections that have just grown at their weights.

    source  (nnz,) -1 for a new connection, as in an EvolutionResult
    """
    state = optimizer.state.get(weight, {})
    if AVERAGE in state:
        state[AVERAGE] = torch.where(source < 0, weight.detach(), state[AVERAGE])


@contextmanager
def averaged(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The model with the averages in place of its weights, which are put back bit for bit afterwards."""
    there = [one for one in _averaged_tensors(model) if one[2] in optimizer.state.get(one[1], {})]
    own = [tensor.detach().clone() for tensor, _, _ in there]
    with torch.no_grad():
        for tensor, holder, key in there:
            tensor.copy_(optimizer.state[holder][key])
    try:
        yield
    finally:
        with torch.no_grad():
            for (tensor, _, _), before in zip(there, own, strict=True):
                tensor.copy_(before)


@torch.no_grad()
def restore_averages(model: nn.Module, states: Mapping[str, Tensor]) -> None:
    """Put averages in place of the weights, from the optimiser's states by '<parameter>/<state>'.

    ValueError where there are none: the run was trained without train.ema.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for tensor, holder, key in _averaged_tensors(model):
        average = states.get(f"{names[holder]}/{key}")
        if average is None:
            raise ValueError("expected averages of the weights, which a run with train.ema keeps, found none")
        tensor.copy_(average)
