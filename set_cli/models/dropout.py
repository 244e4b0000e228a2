"""Dropout that draws from its own generator, so that a run is a function of its seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout: in training each value is 0 with probability p, else divided by 1 - p.

    `reseed` before every epoch makes the masks a function of the seed given, whatever was drawn before.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator = torch.Generator()

    def reseed(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        scale = torch.empty_like(x).uniform_(generator=self.generator).ge_(self.p).div_(1 - self.p)
        return x * scale

    def extra_repr(self) -> str:
        return f"p={self.p}"
