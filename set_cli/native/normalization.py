"""How the compiled kernels normalise columns: by the batch, by moving averages, or by the layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from set_cli import native
from set_cli.native import records

MOMENTUM, EPS = 0.1, 1e-5  # torch's defaults


class Norm(NamedTuple):
    """What one forward normalises by.

    kind      of records: NO_NORM, BY_BATCH, BY_AVERAGES or BY_LAYER
    averages  mean and variance (neurons,) of a batch norm: updated by BY_BATCH, read by BY_AVERAGES
    """

    kind: int
    averages: tuple[Tensor, ...] = ()


NO_NORM = Norm(records.NO_NORM)


def new_moments(norm: Norm, neurons: int, n_batch: int) -> Tensor:
    """Memory for what the forward finds, or for the backward's sums; see Normalization in src/kernels.hpp."""
    if norm.kind != records.BY_LAYER:
        return native.empty(neurons if norm.kind else 0)
    assert native.core is not None
    blocks = -(-neurons // native.core.SUM_BLOCK)
    return native.empty((blocks + 1) * 2 * native.row_stride(n_batch))


def normalization(norm: Norm, scaling: Sequence[Tensor], moments: Tensor) -> records.Normalization:
    """The norm with its scale and shift, (neurons,) each; `moments` from `new_moments`."""
    if not norm.kind:
        return records.NO_NORMALIZATION
    scale, shift = scaling
    mean, variance = norm.averages or (None, None)
    return records.Normalization(
        kind=norm.kind,
        scale=scale.data_ptr(),
        shift=shift.data_ptr(),
        mean=records.address(mean),
        variance=records.address(variance),
        moments=moments.data_ptr(),
        momentum=MOMENTUM,
        eps=EPS,
    )


def norm_gradients(scaling: Sequence[Tensor]) -> records.NormGradients:
    """Addresses of the gradients of scale and shift; null where there is no norm."""
    if not scaling:
        return records.NO_NORM_GRADIENTS
    scale, shift = scaling
    return records.NormGradients(scale=scale.data_ptr(), shift=shift.data_ptr())
