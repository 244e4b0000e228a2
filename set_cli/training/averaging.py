"""An exponential moving average of the weights, which follows the connections and starts at a new one's weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

AVERAGE = "average"  # the optimiser's state of a parameter: beside the momentum, so it is saved and moved with it


def share_of_step(decay: float, step: int) -> float:
    """The share of the newest weights in the average after a step, counted from 0.

    1 - min(decay, (1 + step) / (10 + step)): an average over the steps so far, until there are enough of them for the
    decay that was asked for. As in TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


class Averaging:
    """Keeps the average of a model's parameters up to date while it is trained.

    decay  by how much the average shrinks in a step, 0 < decay < 1; None: nothing is averaged
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, decay: float | None) -> None:
        self._parameters: list[Tensor] = [] if decay is None else list(model.parameters())
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
        if not self._parameters:
            return
        averages = [self._average(parameter) for parameter in self._parameters]
        if self._share is None:
            torch._foreach_lerp_(averages, self._parameters, self._plain_share)
            return
        apart = torch._foreach_sub(self._parameters, averages)
        torch._foreach_mul_(apart, self._share)
        torch._foreach_add_(averages, apart)

    def _average(self, parameter: Tensor) -> Tensor:
        # Made after the first step: an optimiser of torch's takes a state with anything in it for one that has started.
        state = self._optimizer.state[parameter]
        if AVERAGE not in state:
            state[AVERAGE] = parameter.detach().clone()
        average: Tensor = state[AVERAGE]
        return average


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
    parameters: list[Tensor] = [
        parameter for parameter in model.parameters() if AVERAGE in optimizer.state.get(parameter, {})
    ]
    own = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, [optimizer.state[parameter][AVERAGE] for parameter in parameters])
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, own)
