"""The loss: cross-entropy of the softmax of the logits, with labels that may be smoothed or mixed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from set_cli import native
from set_cli.data.mixup import MixedLabels
from set_cli.native import records


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0, mixed: MixedLabels | None = None) -> Tensor:
    """Mean over the rows, in nats; logits (n_batch, classes), y (n_batch,) int64 class numbers.

    smoothing  the part of the target that all classes share evenly (Szegedy et al. 2016)
    mixed      other labels of the rows; the loss is that of both, each by its share

    Where the compiled kernels gave the logits they take the loss too: torch starts its threads three times for it,
    however small the batch. Raises ValueError or IndexError for a label that is no class.
    """
    if native.takes(logits) and native.is_columns(logits) and y.dtype == torch.int64 and y.is_cpu and len(y):
        loss: Tensor = CrossEntropy.apply(logits, y, smoothing, mixed)  # type: ignore[no-untyped-call]
        return loss
    if mixed is None:
        return F.cross_entropy(logits, y, label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none") for labels in (y, mixed.others)
    )
    return other.lerp(own, mixed.shares).mean()


class CrossEntropy(torch.autograd.Function):
    """The loss, its gradient computed along with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, y: Tensor, smoothing: float, mixed: MixedLabels | None) -> Tensor:
        n_batch, classes = logits.shape
        if y.shape != (n_batch,):
            raise ValueError(f"expected {n_batch} labels, got shape {tuple(y.shape)}")
        gradient, y = native.new_columns(n_batch, classes), y.contiguous()
        others = None if mixed is None else mixed.others.contiguous()
        shares = None if mixed is None else mixed.shares.contiguous()
        if mixed is not None and not mixed.others.shape == mixed.shares.shape == y.shape:
            raise ValueError(f"expected other labels and shares of {n_batch} rows, got {len(mixed.others)}")
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
        y = y if others is None else torch.cat([y, others])
        if total != total and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise ValueError(f"expected labels 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}")
        ctx.save_for_backward(gradient)
        return torch.tensor(total / n_batch, dtype=torch.float32, device="cpu")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient if scale.item() == 1 else gradient * scale), None, None, None
