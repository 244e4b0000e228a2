"""Activation and dropout in one pass each way, on columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from set_cli import native
from set_cli.native import records


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
        records.Activation(
            shape=shape(parameters),
            slopes=slopes(parameters),
            dropout=dropout(draws, kept),
            z=records.columns(z),
            y=records.columns(y),
            neurons=neurons,
            n_batch=n_batch,
        ),
        _threads(z),
    )
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
        records.ActivationBackward(
            shape=shape(parameters),
            slopes=slopes(parameters),
            dropout=dropout(draws, kept),
            slope_gradients=slopes(gradients),
            z=records.columns(z),
            dy=records.columns(dy),
            dz=records.columns(dz),
            neurons=neurons,
            n_batch=n_batch,
        ),
        _threads(z),
    )
    return dz, gradients


def _threads(z: Tensor) -> int:
    return native.threads(z.numel() * native.ELEMENTWISE)


def shape(parameters: Sequence[Tensor]) -> int:
    """Kind of the activation with these parameters."""
    return records.SRELU if parameters else records.RELU


def slopes(tensors: Sequence[Tensor]) -> records.Slopes:
    """Addresses of SReLU's four parameters or of their gradients, in the order of `activate`; null for ReLU."""
    if not tensors:
        return records.NO_SLOPES
    t_left, a_left, right_width, a_right = tensors
    return records.Slopes(
        t_left=t_left.data_ptr(),
        a_left=a_left.data_ptr(),
        right_width=right_width.data_ptr(),
        a_right=a_right.data_ptr(),
    )


def dropout(draws: Draws, kept: Tensor) -> records.Dropout:
    """The dropout of one forward, whose mask is `kept`."""
    if not draws.probability:
        return records.NO_DROPOUT
    return records.Dropout(
        kept=kept.data_ptr(),
        threshold=min(round(draws.probability * 2**32), 2**32 - 1),
        scale=1 / (1 - draws.probability),
        random=records.Random(seed=draws.seed, step=draws.step),
    )
