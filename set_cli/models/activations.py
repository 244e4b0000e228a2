"""Activation functions that torch does not have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class SReLU(nn.Module):
    """S-shaped rectified linear unit with four trainable parameters per neuron; (n_batch, n) to (n_batch, n).

    f(x) = t_left + a_left (x - t_left)      below t_left
           x                                 between
           t_right + a_right (x - t_right)   above t_right = t_left + |right_width|

    Jin et al., AAAI 2016; starting values as the keras-contrib layer that the SET authors used: t_left 0, a_left
    uniform in [0, 1], right_width uniform in [0, 5], a_right 1.
    """

    def __init__(self, neurons: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.t_left = nn.Parameter(torch.zeros(neurons))
        self.a_left = nn.Parameter(torch.from_numpy(rng.random(neurons, dtype=np.float32)))
        self.right_width = nn.Parameter(torch.from_numpy(5 * rng.random(neurons, dtype=np.float32)))
        self.a_right = nn.Parameter(torch.ones(neurons))

    def forward(self, x: Tensor) -> Tensor:
        below = (x - self.t_left).clamp(max=0)
        above = (x - (self.t_left + self.right_width.abs())).clamp(min=0)
        # x is its middle part plus what lies below and above it, so only the excess slopes need adding.
        return x.addcmul(self.a_left - 1, below).addcmul(self.a_right - 1, above)
