"""The sparse product in torch's autograd: y = x @ W + bias and its gradients, differentiable as often as one likes.

The gradients are sparse products again (x, dy and the weights only change places), so two functions are enough for all
derivatives: `SparseProduct` and `SparseGradients`. Nowhere is there a dense gradient of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from set_cli.sparse.engines import Engine
from set_cli.sparse.engines.device_pattern import DevicePattern

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
Wanted = tuple[bool, bool, bool]  # which of dx, dw and db


def sparse_product(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: DevicePattern, engine: Engine) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out), of an x (n_batch, n_in)."""
    function = TransformedProduct if torch._C._are_functorch_transforms_active() else SparseProduct
    y: Tensor = function.apply(x, weight, bias, pattern, engine)  # type: ignore[no-untyped-call]
    return y


class SparseProduct(torch.autograd.Function):
    """y = x @ W + bias with the gradients of x, the stored weights and the bias.

    Layers of an MLP on the CPU do not come here: models/stack.py runs them as one.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pattern: DevicePattern, engine: Engine
    ) -> Tensor:
        arranged = engine.arrange(x)
        _save(ctx, x, weight, pattern, engine)
        ctx.arranged = None if arranged is x else arranged.detach()  # arranging it again takes as long as a small layer
        return engine.spmm(arranged, weight, bias, pattern)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, _, _ = ctx.saved_tensors
        wanted = tuple(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled():  # the gradients are to be differentiated in their turn
            return *SparseGradients.apply(x, dy, weight, ctx.pattern, ctx.engine, wanted), None, None  # type: ignore[no-untyped-call]
        engine, is_copied = ctx.engine, ctx.arranged is not None
        dx, dw, db = compute_gradients(ctx.arranged if is_copied else x, dy, weight, ctx.pattern, engine, wanted)
        if dx is not None and is_copied and engine.restore:
            dx = engine.restore(dx)
        return dx, dw, db, None, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None, *_: None) -> Tensor:
        x, weight, *_ = ctx.saved_tensors
        parts = []
        if x_t is not None:
            parts.append(sparse_product(x_t, weight, None, ctx.pattern, ctx.engine))
        if weight_t is not None:
            parts.append(sparse_product(x, weight_t, None, ctx.pattern, ctx.engine))
        if bias_t is not None:
            parts.append(bias_t.expand(len(x), -1))
        return _sum(parts)


class TransformedProduct(SparseProduct):
    """The same for torch.func's transforms (grad, vmap, jacrev, …), whose tensors have no memory of their own."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: DevicePattern, engine: Engine) -> Tensor:  # type: ignore[override]
        return engine.spmm(engine.arrange(x), weight, bias, pattern)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, pattern, engine = inputs
        _save(ctx, x, weight, pattern, engine)
        ctx.arranged = None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pattern: DevicePattern,
        engine: Engine,
    ) -> tuple[Tensor, int]:
        if in_dims[1] is None and in_dims[2] is None:  # the weights are everybody's: more rows
            rows = x.movedim(in_dims[0] or 0, 0)
            y = TransformedProduct.apply(rows.flatten(0, 1), weight, bias, pattern, engine)  # type: ignore[no-untyped-call]
            return y.unflatten(0, rows.shape[:2]), 0
        each = _one_by_one(TransformedProduct.apply, info.batch_size, in_dims[:3], (x, weight, bias), pattern, engine)
        return torch.stack(each), 0


class SparseGradients(torch.autograd.Function):
    """dx = dy @ W.T, dw = (x.T @ dy) at the connections, db = the sum of dy over the batch; None what is not wanted."""

    @staticmethod
    def forward(
        x: Tensor, dy: Tensor, weight: Tensor, pattern: DevicePattern, engine: Engine, wanted: Wanted
    ) -> Gradients:
        return compute_gradients(x, dy, weight, pattern, engine, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Gradients) -> None:
        x, dy, weight, ctx.pattern, ctx.engine, ctx.wanted = inputs
        ctx.save_for_backward(x, dy, weight)
        ctx.save_for_forward(x, dy, weight)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_dx: Tensor | None, of_dw: Tensor | None, of_db: Tensor | None) -> tuple[Any, ...]:
        x, dy, weight = ctx.saved_tensors
        pattern, engine = ctx.pattern, ctx.engine
        gx, gy, gw = ctx.needs_input_grad[:3]
        x_bar = _dx(x, dy, of_dw, pattern, engine) if gx and of_dw is not None else None
        parts = []
        if gy and of_dx is not None:
            parts.append(sparse_product(of_dx, weight, None, pattern, engine))
        if gy and of_dw is not None:
            parts.append(sparse_product(x, of_dw, None, pattern, engine))
        if gy and of_db is not None:
            parts.append(of_db.to(dy.dtype).expand_as(dy))
        weight_bar = _dw(of_dx, dy, weight, pattern, engine) if gw and of_dx is not None else None
        return x_bar, _sum(parts) if parts else None, weight_bar, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, dy_t: Tensor | None, weight_t: Tensor | None, *_: None) -> Gradients:
        x, dy, weight = ctx.saved_tensors
        pattern, engine = ctx.pattern, ctx.engine
        wants_dx, wants_dw, wants_db = ctx.wanted
        dx, dw = [], []
        if dy_t is not None:
            dx.append(_dx(x, dy_t, weight, pattern, engine))
            dw.append(_dw(x, dy_t, weight, pattern, engine))
        if weight_t is not None:
            dx.append(_dx(x, dy, weight_t, pattern, engine))
        if x_t is not None:
            dw.append(_dw(x_t, dy, weight, pattern, engine))
        return (
            (_sum(dx) if dx else torch.zeros_like(x)) if wants_dx else None,
            (_sum(dw) if dw else torch.zeros_like(weight)) if wants_dw else None,
            (weight.new_zeros(dy.shape[1]) if dy_t is None else dy_t.sum(dim=0)) if wants_db else None,
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        dy: Tensor,
        weight: Tensor,
        pattern: DevicePattern,
        engine: Engine,
        wanted: Wanted,
    ) -> tuple[Gradients, tuple[int | None, ...]]:
        tensors = (x, dy, weight)
        each = _one_by_one(SparseGradients.apply, info.batch_size, in_dims[:3], tensors, pattern, engine, wanted)
        dx, dw, db = ([one[i] for one in each] if wanted[i] else None for i in range(3))
        found = tuple(None if values is None else torch.stack(values) for values in (dx, dw, db))
        return found, tuple(None if values is None else 0 for values in found)  # type: ignore[return-value]


def compute_gradients(
    x: Tensor, dy: Tensor, weight: Tensor, pattern: DevicePattern, engine: Engine, wanted: Sequence[bool]
) -> Gradients:
    """dx, dw and db, as far as they are wanted."""
    wants_dx, wants_dw, wants_db = wanted
    # Without dx torch sums the bias's gradient on the CPU: older runs resume with their bits.
    if wants_dw and engine.gradients and (wants_dx or dy.is_cuda):
        dx, dw, db = engine.gradients(x, dy, weight, pattern, wants_dx=wants_dx)
        return dx, dw, db if wants_db else None
    x, dy = engine.arrange(x), engine.arrange(dy)
    dx = engine.spmm_t(dy, weight, pattern) if wants_dx else None
    dw = engine.sddmm(x, dy, pattern).to(weight.dtype) if wants_dw else None
    return dx, dw, dy.sum(dim=0, dtype=weight.dtype) if wants_db else None


def _save(ctx: Any, x: Tensor, weight: Tensor, pattern: DevicePattern, engine: Engine) -> None:
    # The indices are saved like tensors of the graph, so that a backward after a change of them is refused.
    ctx.save_for_backward(x, weight, pattern.indptr, pattern.indices)
    ctx.save_for_forward(x, weight)
    ctx.pattern, ctx.engine = pattern, engine


def _dx(x: Tensor, dy: Tensor, weight: Tensor, pattern: DevicePattern, engine: Engine) -> Tensor:
    """dy @ W.T, differentiable."""
    dx: Tensor = SparseGradients.apply(x, dy, weight, pattern, engine, (True, False, False))[0]  # type: ignore[no-untyped-call]
    return dx


def _dw(x: Tensor, dy: Tensor, weight: Tensor, pattern: DevicePattern, engine: Engine) -> Tensor:
    """(x.T @ dy) at the connections, differentiable."""
    dw: Tensor = SparseGradients.apply(x, dy, weight, pattern, engine, (False, True, False))[1]  # type: ignore[no-untyped-call]
    return dw


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _one_by_one(
    function: Callable[..., Any],
    count: int,
    in_dims: Sequence[int | None],
    tensors: Sequence[Tensor | None],
    *others: Any,
) -> list[Any]:
    """The results for each of `count` examples, of which some tensors are everybody's."""
    pairs = list(zip(tensors, in_dims, strict=True))
    return [
        function(*(t if dim is None or t is None else t.select(dim, i) for t, dim in pairs), *others)
        for i in range(count)
    ]
