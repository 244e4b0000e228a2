"""The hidden layers' activations, each with its dropout: one pass over the values instead of ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from set_cli import native
from set_cli.models.random_stream import RandomStream
from set_cli.native.elementwise import Draws, activate, activate_backward
from set_cli.sparse.operators import is_read

LARGEST_SEED = 2**63
LEAKY_SLOPE = 0.01  # torch's
ALL_RELU_SLOPE = 0.6  # within the range that Curci et al. found best


class Activation(nn.Module):
    """An elementwise function with inverted dropout behind it; (n_batch, n) to (n_batch, n).

    dropout  in training each value is 0 with this probability, else divided by 1 - dropout
    fused    with the compiled kernels where the input's batch is contiguous (as the sparse layers return it)

    `reseed` before every epoch makes the dropout masks a function of the seed given, whatever was drawn before.
    """

    def __init__(self, dropout: float = 0.0, *, fused: bool = False) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, got {dropout}")
        self.dropout, self.fused = dropout, fused
        self.reseed(int(torch.randint(LARGEST_SEED - 1, (), device="cpu")), torch.device("cpu"))

    def reseed(self, seed: int, device: torch.device) -> None:
        self.stream = RandomStream(seed, device)

    def forward(self, x: Tensor) -> Tensor:
        is_drawn = self.training and self.dropout
        is_fused = self.fused and (is_drawn or not is_read())
        if is_fused and x.ndim == 4 and native.takes(x) and not self.row_parameters:
            return self._images(x)
        if is_fused and x.ndim == 2 and native.takes(x, *self.row_parameters):
            y: Tensor = FusedActivation.apply(  # type: ignore[no-untyped-call]
                self.check_width(x), self.draw(), *self.row_parameters
            )
            return y
        y = self.function(x)
        if is_drawn:
            kept = torch.empty_like(y).uniform_(generator=self.stream.generator).ge_(self.dropout)
            y = y * kept.div_(1 - self.dropout)
        return y

    def _images(self, x: Tensor) -> Tensor:
        """Images as one row of values each, in the order in which they lie in memory."""
        rows = x.permute(0, 2, 3, 1).flatten(1)
        y: Tensor = FusedActivation.apply(rows.t(), self.draw())  # type: ignore[no-untyped-call]
        return y.t().view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)

    def draw(self, steps: int = 1) -> Draws:
        """The dropout of the next forward in the compiled kernels, the first of so many steps."""
        if not self.training or not self.dropout:
            return Draws(0.0, 0, 0)
        return Draws(self.dropout, self.stream.seed, self.stream.next_step(steps))

    def check_width(self, x: Tensor) -> Tensor:
        """x itself; ValueError where it does not have the neurons that the parameters have."""
        for parameter in self.row_parameters:
            if parameter.shape != (x.shape[1],) or not parameter.is_contiguous():
                raise ValueError(f"expected {parameter.shape[0]} neurons, got a tensor of shape {tuple(x.shape)}")
        return x

    @property
    def row_parameters(self) -> tuple[Tensor, ...]:
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

    @property
    def row_parameters(self) -> tuple[Tensor, ...]:
        return self.t_left, self.a_left, self.right_width, self.a_right

    def function(self, x: Tensor) -> Tensor:
        return srelu(x, *self.row_parameters)


class LeakyReLU(Activation):
    """x above 0, slope * x below, then dropout; a negative slope is All-ReLU's in every second layer.

    Maas et al. 2013; All-ReLU: Curci, Mocanu and Pechenizkiy, "Truly Sparse Neural Networks at Scale", 2021, Eq. 3. The
    kernels compute it as an SReLU whose parameters are not trained.
    """

    t_left: Tensor
    a_left: Tensor
    right_width: Tensor
    a_right: Tensor

    def __init__(self, neurons: int, slope: float, dropout: float = 0.0, *, fused: bool = False) -> None:
        super().__init__(dropout, fused=fused)
        self.slope = slope
        for name, value in {"t_left": 0.0, "a_left": slope, "right_width": 0.0, "a_right": 1.0}.items():
            self.register_buffer(name, torch.full((neurons,), value), persistent=False)

    @property
    def row_parameters(self) -> tuple[Tensor, ...]:
        return self.t_left, self.a_left, self.right_width, self.a_right

    def function(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)

    def extra_repr(self) -> str:
        return f"slope={self.slope}, {super().extra_repr()}"


class GELU(LeakyReLU):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016), then dropout.

    The kernels do no more than the dropout.
    """

    def __init__(self, neurons: int, dropout: float = 0.0, *, fused: bool = False) -> None:
        super().__init__(neurons, 1.0, dropout, fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.gelu(x)) if self.training and self.dropout else F.gelu(x)

    def function(self, x: Tensor) -> Tensor:
        return x

    def extra_repr(self) -> str:
        return Activation.extra_repr(self)


def srelu(x: Tensor, t_left: Tensor, a_left: Tensor, right_width: Tensor, a_right: Tensor) -> Tensor:
    """SReLU in torch's operations, x (n_batch, neurons)."""
    below = (x - t_left).clamp(max=0)
    above = (x - (t_left + right_width.abs())).clamp(min=0)
    # x is its middle part plus what lies below and above it, so only the excess slopes need adding.
    return x.addcmul(a_left - 1, below).addcmul(a_right - 1, above)


def unfused(x: Tensor, draws: Draws, parameters: Sequence[Tensor]) -> Tensor:
    """What the kernels compute of x (n_batch, neurons), in torch's operations and with the kernels' dropout mask."""
    y = srelu(x, *parameters) if parameters else x.relu()
    if not draws.probability:
        return y
    kept, _ = activate(native.to_columns(torch.ones_like(x)), draws, ())  # 0, or 1 / (1 - p)
    return y * kept


def differentiable_gradients(y: Tensor, dy: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients of y's inputs that can be differentiated in their turn; None for what needs none."""
    needed = [i for i, tensor in enumerate(inputs) if tensor.requires_grad]
    found = torch.autograd.grad(y, [inputs[i] for i in needed], dy, create_graph=True, allow_unused=True)
    gradients: list[Tensor | None] = [None] * len(inputs)
    for i, gradient in zip(needed, found, strict=True):
        gradients[i] = gradient
    return gradients


class FusedActivation(torch.autograd.Function):
    """ReLU (no parameters) or SReLU (its four) and dropout in the compiled kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, draws: Draws, *parameters: Tensor) -> Tensor:
        z = native.to_columns(x)
        y, kept = activate(z, draws, parameters)
        ctx.save_for_backward(x, kept, *parameters)
        ctx.draws, ctx.z = draws, None if z is x else z
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():
            y = unfused(x, ctx.draws, parameters)
            dx, *others = differentiable_gradients(y, dy, [x, *parameters])
            return dx, None, *others
        z = x if ctx.z is None else ctx.z
        dz, gradients = activate_backward(z, native.to_columns(dy), ctx.draws, kept, parameters)
        return dz, None, *gradients
