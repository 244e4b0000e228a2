"""Activation and dropout in one pass each way, on columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from set_cli import native


class Draws(NamedTuple):
    """Dropout of one forward: the mask is a function of seed, step, neuron and row of the batch."""

    probability: float
    seed: int
    step: int


def activate(z: Tensor, draws: Draws, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """y, and which values were kept (one bit each, for `activate_backward`).

    z           (n_batch, neurons) columns
    parameters  none for ReLU; SReLU's t_left, a_left, right_width, a_right (neurons,), contiguous
    """
    n_batch, neurons = z.shape
    kept = native.empty(neurons * -(-n_batch // 16) if draws.probability else 0, torch.int16)
    y = native.new_columns(n_batch, neurons)
    assert native.core is not None
    native.core.activate(
        *_settings(draws, kept, parameters),
        z.data_ptr(), z.stride(1), y.data_ptr(), y.stride(1), neurons, n_batch, _threads(z),
    )  # fmt: skip
    return y, kept


def activate_backward(
    z: Tensor, dy: Tensor, draws: Draws, kept: Tensor, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """dz and the gradients of the parameters; z, kept and draws as in the forward, dy columns."""
    n_batch, neurons = z.shape
    dz = native.new_columns(n_batch, neurons)
    gradients = [torch.empty_like(parameter) for parameter in parameters]
    assert native.core is not None
    native.core.activate_backward(
        *_settings(draws, kept, parameters, gradients),
        z.data_ptr(), z.stride(1), dy.data_ptr(), dy.stride(1), dz.data_ptr(), dz.stride(1),
        neurons, n_batch, _threads(z),
    )  # fmt: skip
    return dz, gradients


def _threads(z: Tensor) -> int:
    return native.threads(z.numel() * native.ELEMENTWISE)


NO_PARAMETERS = (0, 0, 0, 0)


def _settings(draws: Draws, kept: Tensor, *parameter_lists: Sequence[Tensor]) -> list[int | float]:
    """The kernels' first arguments: shape, addresses of parameters and gradients, dropout."""
    settings: list[int | float] = [int(bool(parameter_lists[0]))]
    for tensors in parameter_lists:
        settings += [tensor.data_ptr() for tensor in tensors] if tensors else NO_PARAMETERS
    return [*settings, *dropout_arguments(draws, kept)]


def dropout_arguments(draws: Draws, kept: Tensor) -> tuple[int, int, float, int, int]:
    """Address of the mask (0: no dropout), threshold of a 32-bit random word, scale, seed, step."""
    threshold = min(round(draws.probability * 2**32), 2**32 - 1)
    address = kept.data_ptr() if draws.probability else 0
    return address, threshold, 1 / (1 - draws.probability), draws.seed, draws.step
