"""Draws of Bernoulli units, from the compiled kernels where they can and from torch elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from set_cli import native
from set_cli.models.random_stream import RandomStream
from set_cli.native import units


class Sampler:
    """Draws in one order, a function of the seed; results do not depend on the number of threads."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.stream = RandomStream(seed, device)

    def values(self, p: Tensor) -> Tensor:
        """1 with probability p, else 0."""
        return (torch.empty_like(p).uniform_(generator=self.stream.generator) < p).to(p.dtype)

    def units(self, a: Tensor) -> Tensor:
        """1 with probability sigmoid(a), else 0."""
        if not native.takes(a):
            return self.values(a.sigmoid())
        return self._compiled(a, probabilities=False)[0]

    def units_and_probabilities(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The same with sigmoid(a)."""
        if not native.takes(a):
            p = a.sigmoid()
            return self.values(p), p
        drawn, probabilities = self._compiled(a, probabilities=True)
        assert probabilities is not None
        return drawn, probabilities

    def _compiled(self, a: Tensor, *, probabilities: bool) -> tuple[Tensor, Tensor | None]:
        return units.draw(a, self.stream.seed, self.stream.next_step(), probabilities=probabilities)
