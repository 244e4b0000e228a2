"""The loss: cross-entropy of the softmax of the logits, with labels that may be smoothed or mixed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from set_cli import native
from set_cli.data.mixup import Mixing
from set_cli.native import records


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0, mixing: Mixing | None = None) -> Tensor:
    """Mean over the rows, in nats; logits (n_batch, classes), y (n_batch,) int64 class numbers.

    smoothing  the part of the target that all classes share evenly (Szegedy et al. 2016)
    mixing     of the rows; the loss is that of both labels, each by its share

    Where the compiled kernels gave the logits they take the loss too: torch starts its threads three times for it,
    however small the batch. Raises ValueError or IndexError for a label that is no class.
    """
    if native.takes(logits) and native.is_columns(logits) and y.dtype == torch.int64 and y.is_cpu and len(y):
        loss: Tensor = CrossEntropy.apply(logits, y, smoothing, mixing)  # type: ignore[no-untyped-call]
        return loss
    if mixing is None:
        return F.cross_entropy(logits, y, label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        for labels in (y, y[mixing.partners])
    )
    return other.lerp(own, mixing.shares).mean()


class CrossEntropy(torch.autograd.Function):
    """The loss, its gradient computed along with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, y: Tensor, smoothing: float, mixing: Mixing | None) -> Tensor:
        n_batch, classes = logits.shape
        if y.shape != (n_batch,):
            raise ValueError(f"expected {n_batch} labels, got shape {tuple(y.shape)}")
        gradient, y = native.new_columns(n_batch, classes), y.contiguous()
        others = None if mixing is None else y[mixing.partners]
        shares = None if mixing is None else mixing.shares.contiguous()
        if shares is not None and (shares.shape != y.shape or others is None or others.shape != y.shape):
            raise ValueError(f"expected a mixing of {n_batch} rows, got one of {len(shares)}")
        assert native.core is not None
        total = native.core.cross_entropy(
            records.CrossEntropy(
                logits=records.columns(logits),
                targets=records.Targets(
                    labels=y.data_ptr(),
                    others=records.address(others),
                    shares=records.address(shares),
                    smoothing=smoothing,
                ),
                classes=classes,
                n_batch=n_batch,
                gradient=records.columns(gradient),
                scale=1 / n_batch,
            )
        )
        if total != total and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise ValueError(f"expected labels 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}")
        ctx.save_for_backward(gradient)
        return torch.tensor(total / n_batch, dtype=torch.float32, device="cpu")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient if scale.item() == 1 else gradient * scale), None, None, None
