"""What a layer starts with: its random weights, and the seed where none is given, for all processes of a group."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch

from set_cli.sparse.pattern import Csr

T = TypeVar("T")

INITIAL_DEVIATION = 0.05  # of `init=normal`: N(0, 1) / 20 as the authors' SciPy RBM


def new_seed() -> int:
    """A seed of torch's global generator on the CPU, whatever the default device: the meta device has no numbers."""
    return int(torch.randint(2**62, (), device="cpu"))


def common_seed() -> int:
    """A new seed, in a process group the first process's."""
    return agreed(new_seed())


def agreed(value: T) -> T:
    """The value, in a process group the first process's; every process has to call this."""
    values = [value]
    if is_in_group():
        torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def is_in_group() -> bool:
    """Whether this process is one of a process group of torch's."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def initial_weights(pattern: Csr, init: str, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(nnz,) float32 weights; see SparseLinear for the rules. ValueError for another name."""
    if init == "normal":
        return np.float32(INITIAL_DEVIATION) * rng.standard_normal(pattern.nnz, dtype=np.float32)
    draws = 2 * rng.random(pattern.nnz, dtype=np.float32) - 1
    match init:
        case "glorot":
            return draws * np.float32(math.sqrt(6 / sum(pattern.shape)))
        case "sparse_fan_in":
            return draws * np.sqrt(6 / pattern.in_degrees()[pattern.indices]).astype(np.float32)
        case _:
            raise ValueError(f"init: expected 'glorot', 'sparse_fan_in' or 'normal', got {init!r}")
