"""Adam's bias correction by the age of each connection, instead of by the step of the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BORN = "born"  # an optimiser's state: the step at which each connection grew, 0 for those of the start


class BiasCorrectionByAge:
    """Lets every connection start as the first ones did: with Adam's moments corrected by its own number of steps.

    Adam divides its moments by 1 - beta^t, which makes up for their start at 0 (Kingma and Ba 2015, section 3). A
    connection that grows at a large step t starts with moments of 0 as well, but is divided by 1: its first update is
    (1 - beta1) / sqrt(1 - beta2) times the rate, 3.2 with the usual betas, and the next ones are too long as well. Here
    it is divided by 1 - beta^age.

    optimizer  torch's Adam or AdamW, without amsgrad
    weights    whose connections have an age; each gets a state `born` (nnz,) beside Adam's two moments, the step at
               which a connection grew, which `SparseLinear.evolve` keeps up to date

    A hook after the optimiser's step replaces its update of these weights by the corrected one. Raises ValueError for
    another optimiser, and for weights of half precision, whose numbers cannot count steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> None:
        if not isinstance(optimizer, torch.optim.Adam):
            name = type(optimizer).__name__
            raise ValueError(f"bias_correction: expected Adam or AdamW to correct by age, got {name}, which does not")
        if any(group["amsgrad"] for group in optimizer.param_groups):
            raise ValueError("bias_correction: expected Adam or AdamW without amsgrad to correct by age")
        if any(torch.finfo(weight.dtype).bits < 32 for weight in weights):
            raise ValueError("bias_correction: expected weights of float32 or float64 to correct by age")
        self._weights = {id(weight) for weight in weights}
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def detach(self) -> None:
        """Remove the hook: the optimiser corrects by its own step again."""
        self._handle.remove()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if id(weight) in self._weights and weight.grad is not None:
                    _correct(weight, optimizer.state[weight], group)


def _correct(weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Replace the update that Adam has just made by the one that is corrected by age."""
    if BORN not in state:
        state[BORN] = torch.zeros_like(weight)
    m, v, step = state["exp_avg"], state["exp_avg_sq"], state["step"]
    age = step - state[BORN]
    wrong, right = (_update(m, v, steps, group) for steps in (step, age))
    # Where a connection is as old as the training the two are the same numbers: nothing is added.
    difference = torch.where(state[BORN] > 0, wrong - right, 0)
    weight.add_(difference * group["lr"])


def _update(m: Tensor, v: Tensor, steps: Tensor, group: dict[str, Any]) -> Tensor:
    beta1, beta2 = (math.log(beta) if beta else -math.inf for beta in group["betas"])
    first, second = (-torch.expm1(steps * log) for log in (beta1, beta2))
    update: Tensor = m / first / ((v / second).sqrt() + group["eps"])
    return update
