"""Random numbers in one order, which can be left in the middle and taken up again."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class RandomStream:
    """A function of the seed: torch's generator on the device, and numbered calls of the compiled kernels."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self._step = seed, 0
        self.generator = torch.Generator(device).manual_seed(seed)

    def next_step(self, steps: int = 1) -> int:
        """The number of the next call of a compiled kernel, from 1 on: with the seed it says which numbers it draws.

        steps  how many calls follow one another, each with the next number
        """
        first = self._step + 1
        self._step += steps
        return first

    def state(self) -> NDArray[np.uint8]:
        """State of the stream, for a checkpoint."""
        step = np.array([self._step], np.int64).view(np.uint8)
        return np.concatenate([step, self.generator.get_state().numpy()])

    def restore(self, state: NDArray[np.uint8]) -> None:
        """Resume where `state` was taken, from the same seed; on another kind of device with other numbers."""
        self._step = int(state[:8].view(np.int64)[0])
        of_generator = torch.from_numpy(state[8:].copy())
        if of_generator.shape == self.generator.get_state().shape:
            self.generator.set_state(of_generator)
