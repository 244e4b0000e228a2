"""Normalisation between a layer and its activation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM, EPS = 0.1, 1e-5  # torch's defaults


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

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


NORMALIZATIONS: dict[str, type[nn.Module]] = {"batch": BatchNorm, "layer": LayerNorm}
