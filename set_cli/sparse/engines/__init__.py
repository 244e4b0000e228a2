"""The engines: how the three sparse products are computed. They share these three operations and nothing else.

spmm(x, values, pattern)    forward                  y  = x @ W
spmm_t(dy, values, pattern) gradient of the input    dx = dy @ W.T
sddmm(x, dy, pattern)       gradient of the weights  (x.T @ dy) at the connections only

x       (n_batch, n_in)   any strides; fastest where the batch is contiguous, as the products return it
dy      (n_batch, n_out)  likewise
values  (nnz,)            the weights in the pattern's input-major order, the dtype of x
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from set_cli.sparse.engines import masked, torch_csr
from set_cli.sparse.engines.device_pattern import DevicePattern


class Product(Protocol):
    def __call__(self, rows: Tensor, values: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class SampledProduct(Protocol):
    def __call__(self, x: Tensor, dy: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class Engine(NamedTuple):
    """Three functions with the contract in this module's docstring."""

    name: str
    spmm: Product
    spmm_t: Product
    sddmm: SampledProduct


ENGINES = {
    "torch": Engine("torch", torch_csr.spmm, torch_csr.spmm_t, torch_csr.sddmm),
    "masked": Engine("masked", masked.spmm, masked.spmm_t, masked.sddmm),
}


def find_engine(name: str) -> Engine:
    """The engine of that name; ValueError lists the names there are."""
    if name not in ENGINES:
        raise ValueError(f"expected an engine out of {', '.join(ENGINES)}, got {name!r}")
    return ENGINES[name]
