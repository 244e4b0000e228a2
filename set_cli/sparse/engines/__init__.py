"""The engines: how the three sparse products are computed. They share these operations and nothing else.

spmm(x, values, bias, pattern)  forward                  y  = x @ W + bias
spmm_t(dy, values, pattern)     gradient of the input    dx = dy @ W.T
sddmm(x, dy, pattern)           gradient of the weights  (x.T @ dy) at the connections only
gradients(...)                  the last two and the bias's in one pass, where an engine gains by that
arrange(x)                      x itself, or a copy in the memory layout that the engine reads fastest

x       (n_batch, n_in)   any strides; fastest where the batch is contiguous, as the products return it
dy      (n_batch, n_out)  likewise
values  (nnz,)            the weights in the pattern's input-major order, the dtype of x
bias    (n_out,) or None

`choose` says which engine a layer gets.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.engines import compiled, masked, torch_csr
from set_cli.sparse.engines.device_pattern import DevicePattern

# A layer denser than this is faster as a dense product (docs/benchmarks.md, "Crossover").
CROSSOVER = {"native": 0.6, "torch": 0.2}


class Forward(Protocol):
    def __call__(self, x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern, /) -> Tensor: ...


class Product(Protocol):
    def __call__(self, dy: Tensor, values: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class SampledProduct(Protocol):
    def __call__(self, x: Tensor, dy: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class Gradients(Protocol):
    """(dx, dw, db) in one pass."""

    def __call__(
        self, x: Tensor, dy: Tensor, values: Tensor, pattern: DevicePattern, /
    ) -> tuple[Tensor | None, ...]: ...


class Arrange(Protocol):
    def __call__(self, x: Tensor, /) -> Tensor: ...


class Engine(NamedTuple):
    """Functions with the contract in this module's docstring."""

    name: str
    spmm: Forward
    spmm_t: Product
    sddmm: SampledProduct
    arrange: Arrange
    gradients: Gradients | None = None


ENGINES = {
    "native": Engine("native", compiled.spmm, compiled.spmm_t, compiled.sddmm, native.to_columns, compiled.gradients),
    "torch": Engine("torch", torch_csr.spmm, torch_csr.spmm_t, torch_csr.sddmm, torch_csr.arrange),
    "masked": Engine("masked", masked.spmm, masked.spmm_t, masked.sddmm, masked.arrange),
}


class Choice(NamedTuple):
    """An engine and why that one."""

    engine: Engine
    why: str


def find_engine(name: str) -> Engine:
    """The engine of that name; ValueError lists the names there are, or says what is missing."""
    if name not in ENGINES:
        raise ValueError(f"expected an engine out of auto, {', '.join(ENGINES)}, got {name!r}")
    if name == "native" and native.core is None:
        raise ValueError(f"engine native: {native.missing}; engine torch works without them")
    return ENGINES[name]


def choose(name: str, density: float, dtype: torch.dtype, device: torch.device) -> Choice:
    """The engine for a layer of this density (connections / (n_in * n_out)), and why.

    A name is taken at its word (ValueError where it cannot be). `auto`: native where the compiled kernels are, for
    float32 on the CPU; else torch; and either way masked, dense products, for a layer denser than the crossover.
    """
    if name != "auto":
        return Choice(find_engine(name), "asked for")
    if native.core is None:
        sparse, why = "torch", native.missing
    elif device.type != "cpu" or dtype != torch.float32:
        sparse, why = "torch", f"the compiled kernels take float32 on the CPU, this is {dtype} on {device.type}"
    else:
        sparse, why = "native", "compiled kernels"
    crossover = CROSSOVER[sparse]
    if density > crossover:
        return Choice(
            ENGINES["masked"], f"auto: density {density:.3g} is above {crossover:g}, dense products are faster"
        )
    return Choice(ENGINES[sparse], f"auto: {why}; density {density:.3g} is not above {crossover:g}")
