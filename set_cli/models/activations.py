"""The hidden layers' activations, each with its dropout: one pass over the values instead of ten."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from set_cli import native

LARGEST_SEED = 2**63


class Activation(nn.Module):
    """An elementwise function with inverted dropout behind it; (n_batch, n) to (n_batch, n).

    dropout  in training each value is 0 with this probability, else divided by 1 - dropout
    fused    with the compiled kernels where the input's batch is contiguous (as the sparse layers return it)

    `reseed` before every epoch makes the dropout masks a function of the seed given, whatever was drawn before.
    """

    def __init__(self, dropout: float = 0.0, *, fused: bool = False) -> None:
        super().__init__()
        self.dropout, self.fused = dropout, fused
        self.reseed(int(torch.randint(LARGEST_SEED - 1, ())), torch.device("cpu"))

    def reseed(self, seed: int, device: torch.device) -> None:
        self._seed, self._step = seed, 0
        self._generator = torch.Generator(device).manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        parameters = self.parameters_by_row()
        if self.fused and x.ndim == 2 and native.takes(x, *parameters):
            self._step += 1
            draws = (dropout, self._seed, self._step)
            y: Tensor = FusedActivation.apply(x, draws, *parameters)  # type: ignore[no-untyped-call]
            return y
        y = self.function(x)
        if dropout:
            kept = torch.empty_like(y).uniform_(generator=self._generator).ge_(dropout)
            y = y * kept.div_(1 - dropout)
        return y

    def parameters_by_row(self) -> tuple[Tensor, ...]:
        """SReLU's four parameters in the order of the kernels, none for ReLU."""
        return ()

    def function(self, x: Tensor) -> Tensor:
        """The activation without dropout, in torch's operations."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


class ReLU(Activation):
    """max(x, 0), then dropout."""

    def function(self, x: Tensor) -> Tensor:
        return x.relu()


class SReLU(Activation):
    """S-shaped rectified linear unit with four trainable parameters per neuron, then dropout.

    f(x) = t_left + a_left (x - t_left)      below t_left
           x                                 between
           t_right + a_right (x - t_right)   above t_right = t_left + |right_width|

    Jin et al., AAAI 2016; starting values as the keras-contrib layer that the SET authors used: t_left 0, a_left
    uniform in [0, 1], right_width uniform in [0, 5], a_right 1.
    """

    def __init__(self, neurons: int, rng: np.random.Generator, dropout: float = 0.0, *, fused: bool = False) -> None:
        super().__init__(dropout, fused=fused)
        self.t_left = nn.Parameter(torch.zeros(neurons))
        self.a_left = nn.Parameter(torch.from_numpy(rng.random(neurons, dtype=np.float32)))
        self.right_width = nn.Parameter(torch.from_numpy(5 * rng.random(neurons, dtype=np.float32)))
        self.a_right = nn.Parameter(torch.ones(neurons))

    def parameters_by_row(self) -> tuple[Tensor, ...]:
        return self.t_left, self.a_left, self.right_width, self.a_right

    def function(self, x: Tensor) -> Tensor:
        below = (x - self.t_left).clamp(max=0)
        above = (x - (self.t_left + self.right_width.abs())).clamp(min=0)
        # x is its middle part plus what lies below and above it, so only the excess slopes need adding.
        return x.addcmul(self.a_left - 1, below).addcmul(self.a_right - 1, above)


class FusedActivation(torch.autograd.Function):
    """ReLU (no parameters) or SReLU (its four) and dropout in the compiled kernels.

    draws  (probability, seed, step) of the dropout: the mask is a function of seed, step, neuron and row of the batch
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, draws: tuple[float, int, int], *parameters: Tensor) -> Tensor:
        n_batch, neurons = x.shape
        if any(len(parameter) != neurons for parameter in parameters):
            raise ValueError(f"expected {len(parameters[0])} neurons, got a tensor of shape {tuple(x.shape)}")
        z = native.to_columns(x)
        parameters = tuple(parameter.contiguous() for parameter in parameters)
        probability = draws[0]
        kept = torch.empty(neurons * -(-n_batch // 16) if probability else 0, dtype=torch.int16)
        ctx.save_for_backward(z, kept, *parameters)
        ctx.settings = (int(bool(parameters)), probability, *draws[1:])
        y = native.new_columns(n_batch, neurons)
        native.core.activate(  # type: ignore[union-attr]
            *_common(ctx.settings, kept, parameters, ()),
            z.data_ptr(), z.stride(1), y.data_ptr(), y.stride(1), neurons, n_batch, native.threads(),
        )  # fmt: skip
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, kept, *parameters = ctx.saved_tensors
        n_batch, neurons = z.shape
        dy, dz = native.to_columns(dy), native.new_columns(n_batch, neurons)
        gradients = [torch.empty_like(parameter) for parameter in parameters]
        native.core.activate_backward(  # type: ignore[union-attr]
            *_common(ctx.settings, kept, parameters, gradients or [None] * 4),
            z.data_ptr(), z.stride(1), dy.data_ptr(), dy.stride(1), dz.data_ptr(), dz.stride(1),
            neurons, n_batch, native.threads(),
        )  # fmt: skip
        return dz, None, *gradients


def _common(
    settings: tuple[int, float, int, int], kept: Tensor, parameters: Any, gradients: Any
) -> tuple[int | float, ...]:
    """The kernels' first arguments: shape, parameters, their gradients where there are any, dropout."""
    shape, probability, seed, step = settings
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in (*(parameters or [None] * 4), *gradients)]
    threshold = min(round(probability * 2**32), 2**32 - 1)
    return shape, *addresses, kept.data_ptr() if probability else 0, threshold, 1 / (1 - probability), seed, step
