"""Normalisation between a layer and its activation, in torch's operations; models/stack.py has the kernels'."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from set_cli.native import records
from set_cli.native.normalization import EPS, MOMENTUM, Norm


class BatchNorm(nn.Module):
    """Batch normalisation of (n_batch, n) or of images (n_batch, n, height, width), with a trained scale and shift.

    Ioffe and Szegedy 2015. In training with the mean and the variance of the batch, afterwards with moving averages of
    them; so is a batch of a single value, which has no variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(neurons))
        self.bias = nn.Parameter(torch.zeros(neurons))
        self.register_buffer("running_mean", torch.zeros(neurons))
        self.register_buffer("running_var", torch.ones(neurons))

    def forward(self, x: Tensor) -> Tensor:
        by_batch = self.training and x.numel() > len(self.weight)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, by_batch, MOMENTUM, EPS)

    def norm(self, n_batch: int) -> Norm:
        """What (n_batch, n) is normalised by."""
        kind = records.BY_BATCH if self.training and n_batch > 1 else records.BY_AVERAGES
        return Norm(kind, self.averages)

    @property
    def averages(self) -> tuple[Tensor, ...]:
        return self.running_mean, self.running_var

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class LayerNorm(nn.Module):
    """Layer normalisation of (n_batch, n) or of images (n_batch, n, height, width), with a trained scale and shift.

    Ba, Kiros and Hinton 2016: the mean and the variance are those of a row's neurons, of images of all their values.
    """

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(neurons))
        self.bias = nn.Parameter(torch.zeros(neurons))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.weight, self.bias, EPS)

    def norm(self, n_batch: int) -> Norm:
        """What (n_batch, n) is normalised by."""
        return Norm(records.BY_LAYER)

    @property
    def averages(self) -> tuple[Tensor, ...]:
        return ()

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


def normalized(x: Tensor, norm: Norm, scaling: Sequence[Tensor]) -> Tensor:
    """What the kernels compute of x (n_batch, n), in torch's operations; moving averages are not updated."""
    scale, shift = scaling
    if norm.kind == records.BY_LAYER:
        return F.group_norm(x, 1, scale, shift, EPS)
    if norm.kind == records.BY_BATCH:
        return F.batch_norm(x, None, None, scale, shift, True, MOMENTUM, EPS)
    mean, variance = norm.averages
    return F.batch_norm(x, mean, variance, scale, shift, False, MOMENTUM, EPS)


NORMALIZATIONS: dict[str, type[nn.Module]] = {"batch": BatchNorm, "layer": LayerNorm}
