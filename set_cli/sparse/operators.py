"""The sparse product as operators of torch's library, for what reads a program instead of running it.

torch.compile, torch.export, make_fx and torch.jit.trace, and modes such as FlopCounterMode, see these two operators
where the eager call is product.py's autograd function; both compute the same with the same engine. The eager call does
not come here, since an operator that is written in Python takes 220 microseconds more, forward and backward.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, library
from torch.utils.weak import WeakTensorKeyDictionary

from set_cli import native
from set_cli.sparse.engines import Engine, load_engine
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.pattern import check_pattern
from set_cli.sparse.product import compute_gradients, sparse_product

# By the indices: a pattern, and what they were when it was made. It refers to other tensors of the same memory, so that
# it lives as long as they do.
_patterns = WeakTensorKeyDictionary()


def is_read() -> bool:
    """Whether torch reads the program at the moment, or a mode looks at its operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def read_product(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: DevicePattern, engine: Engine) -> Tensor:
    """product.sparse_product by the operators; ValueError where ONNX is to be made of them, which has none such."""
    _refuse_onnx()
    if torch._C._are_functorch_transforms_active():  # which take no operator with a gradient of its own
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break("torch.func transforms of a SparseLinear are not compiled")
        return sparse_product(x, weight, bias, pattern, _as_engine(engine.name))
    if not torch.compiler.is_compiling():
        _count_operations()
    y: Tensor = product(x, weight, bias, pattern.indptr, pattern.indices, pattern.shape[1], engine.name)
    return y


def _refuse_onnx() -> None:
    onnx = sys.modules.get("torch.onnx")
    if onnx is not None and onnx.is_in_onnx_export():
        raise ValueError(
            "ONNX has no sparse products; export set_cli.sparse.to_exportable(model) in place of the model"
        )


def _pattern(indptr: Tensor, indices: Tensor, n_out: int) -> DevicePattern:
    tensors = (indptr, indices)
    known = (n_out, [tensor.data_ptr() for tensor in tensors], native.versions(tensors))
    found, of = _patterns.get(indices, (None, None))  # type: ignore[no-untyped-call]
    if found is None or of != known:
        found = DevicePattern((len(indptr) - 1, n_out), indptr.detach(), indices.detach())
        check_pattern(found.csr)
        _patterns[indices] = found, known
    pattern: DevicePattern = found
    return pattern


def _laid_out(y: Tensor, engine: str) -> Tensor:
    """y without gaps, which a program for any number of rows could not foresee."""
    return y.t().contiguous().t() if engine == "native" else y.contiguous()


def _like(x: Tensor, neurons: int, engine: str) -> Tensor:
    """An empty (n_batch, neurons) tensor that lies in memory as `_laid_out`'s."""
    return x.new_empty(neurons, x.shape[0]).t() if engine == "native" else x.new_empty(x.shape[0], neurons)


@library.custom_op("set_cli::product", mutates_args=())
def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, indptr: Tensor, indices: Tensor, n_out: int, engine: str
) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out), of an x (n_batch, n_in)."""
    own = load_engine(engine)
    return _laid_out(own.spmm(own.arrange(x), weight, bias, _pattern(indptr, indices, n_out)), engine)


@product.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, indptr: Tensor, indices: Tensor, n_out: int, engine: str
) -> Tensor:
    _refuse_onnx()  # here too, since torch.compile, which the exporter tries next, does not see that it exports
    return _like(x, n_out, engine)


@library.custom_op("set_cli::gradients", mutates_args=())
def gradients(
    x: Tensor, dy: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, engine: str, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """dx = dy @ W.T, dw = (x.T @ dy) at the connections, db = the sum of dy; empty what is not wanted."""
    pattern = _pattern(indptr, indices, dy.shape[1])
    dx, dw, db = compute_gradients(x, dy, weight, pattern, load_engine(engine), wanted)
    none = weight.new_empty(0)
    return (
        x.new_empty(0) if dx is None else _laid_out(dx, engine),
        none if dw is None else dw,
        torch.empty_like(none) if db is None else db,
    )


@gradients.register_fake
def _(
    x: Tensor, dy: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, engine: str, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _like(x, x.shape[1], engine) if wanted[0] else x.new_empty(0),
        torch.empty_like(weight) if wanted[1] else weight.new_empty(0),
        weight.new_empty(dy.shape[1] if wanted[2] else 0),
    )


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, indptr, indices, ctx.n_out, ctx.engine = inputs
    ctx.save_for_backward(x, weight, indptr, indices)


def _product_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, indptr, indices = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])
    found = gradients(x, dy, weight, indptr, indices, ctx.engine, wanted)
    return *(value if is_wanted else None for value, is_wanted in zip(found, wanted, strict=True)), *[None] * 4


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, dy, weight, indptr, indices, ctx.engine, ctx.wanted = inputs
    ctx.save_for_backward(x, dy, weight, indptr, indices)


def _gradients_backward(ctx: Any, of_dx: Tensor, of_dw: Tensor, of_db: Tensor) -> tuple[Tensor | None, ...]:
    """The derivatives of the gradients: the same products, where x, dy and the weights change places."""
    x, dy, weight, indptr, indices = ctx.saved_tensors
    has_dx, has_dw, has_db = ctx.wanted
    rest = (indptr, indices, ctx.engine)
    x_bar = gradients(x, dy, of_dw, *rest, [True, False, False])[0] if has_dw else None
    weight_bar = gradients(of_dx, dy, weight, *rest, [False, True, False])[1] if has_dx else None
    parts = [product(of_dx, weight, None, *rest[:2], dy.shape[1], ctx.engine)] if has_dx else []
    parts += [product(x, of_dw, None, *rest[:2], dy.shape[1], ctx.engine)] if has_dw else []
    parts += [of_db.to(dy.dtype).expand_as(dy)] if has_db else []
    dy_bar = sum(parts[1:], start=parts[0]) if parts else None
    return x_bar, dy_bar, weight_bar, None, None, None, None


product.register_autograd(_product_backward, setup_context=_save_product)
gradients.register_autograd(_gradients_backward, setup_context=_save_gradients)


@product.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    x, weight, bias, *rest = arguments
    if in_dims[1] is None and in_dims[2] is None:  # the weights are everybody's: more rows
        rows = x.movedim(in_dims[0], 0)
        return product(rows.flatten(0, 1), weight, bias, *rest).unflatten(0, rows.shape[:2]), 0
    return torch.stack([product(*each) for each in _one_by_one(info.batch_size, in_dims, arguments)]), 0


@gradients.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    each = [gradients(*one) for one in _one_by_one(info.batch_size, in_dims, arguments)]
    return tuple(torch.stack(values) for values in zip(*each, strict=True)), (0, 0, 0)


def _as_engine(name: str) -> Engine:
    """The engine, by the operators."""

    def spmm(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern) -> Tensor:
        y: Tensor = product(x, values, bias, pattern.indptr, pattern.indices, pattern.shape[1], name)
        return y

    def spmm_t(dy: Tensor, values: Tensor, pattern: DevicePattern) -> Tensor:
        x = dy.new_empty(dy.shape[0], pattern.shape[0])
        dx: Tensor = gradients(x, dy, values, pattern.indptr, pattern.indices, name, [True, False, False])[0]
        return dx

    def sddmm(x: Tensor, dy: Tensor, pattern: DevicePattern) -> Tensor:
        values = x.new_empty(pattern.indices.shape)
        dw: Tensor = gradients(x, dy, values, pattern.indptr, pattern.indices, name, [False, True, False])[1]
        return dw

    return Engine(name, spmm, spmm_t, sddmm, arrange=lambda x: x)


def _one_by_one(count: int, in_dims: Sequence[int | None], arguments: Sequence[Any]) -> list[list[Any]]:
    """The arguments of each of `count` examples, of which some are everybody's."""
    pairs = list(zip(arguments, in_dims, strict=True))
    return [[a.select(dim, i) if isinstance(dim, int) else a for a, dim in pairs] for i in range(count)]


def _count_operations() -> None:
    """Tell FlopCounterMode what the operators do, where it is loaded; its module imports Triton."""
    counter = sys.modules.get("torch.utils.flop_counter")
    if counter is None or torch.ops.set_cli.product in counter.flop_registry:
        return

    def of_product(x: Any, weight: Any, *rest: Any, **keywords: Any) -> int:
        return int(2 * x[0] * weight[0])

    def of_gradients(
        x: Any, dy: Any, weight: Any, indptr: Any, indices: Any, engine: Any, wanted: Any, **_: Any
    ) -> int:
        return int(2 * x[0] * weight[0] * sum(wanted[:2]))

    counter.register_flop_formula(torch.ops.set_cli.product)(of_product)
    counter.register_flop_formula(torch.ops.set_cli.gradients)(of_gradients)
