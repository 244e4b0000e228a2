"""The engines: how the three sparse products are computed. They share these operations and nothing else.

spmm(x, values, bias, pattern)  forward                  y  = x @ W + bias
spmm_t(dy, values, pattern)     gradient of the input    dx = dy @ W.T
sddmm(x, dy, pattern)           gradient of the weights  (x.T @ dy) at the connections only
gradients(...)                  the last two and the bias's in one pass, where an engine gains by that
arrange(x)                      x itself, or a copy in the memory layout that the engine reads fastest
restore(dx)                     dx in the layout of an x that was copied, where an engine is faster at it than torch

x       (n_batch, n_in)   any strides; fastest where the batch is contiguous, as the products return it
dy      (n_batch, n_out)  likewise
values  (nnz,)            the weights in the pattern's input-major order, the dtype of x
bias    (n_out,) or None

x and dy may be bfloat16 or float16 beside float32 values where `takes_half` says so.

`choose` says which engine a layer gets.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.engines import compiled, masked, torch_csr
from set_cli.sparse.engines.device_pattern import DevicePattern

# A layer denser than this is faster as a dense product (docs/benchmarks.md, "Crossover").
CROSSOVER = {"native": 0.6, "torch": 0.2}
# On a GPU, measured on an H200 (docs/gpu.md). A dense product needs the dense weights, 4 GiB of them at most.
CROSSOVER_ON_GPU, LARGEST_DENSE_ON_GPU = 0.15, 2**30
DENSE_WITHOUT_KERNELS = 2**26  # dense weights up to which dense products replace cuSPARSE's; derived, not measured
HALF = (torch.bfloat16, torch.float16)
TRITON_TYPES = (torch.float32, *HALF)


class Forward(Protocol):
    def __call__(self, x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern, /) -> Tensor: ...


class Product(Protocol):
    def __call__(self, dy: Tensor, values: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class SampledProduct(Protocol):
    def __call__(self, x: Tensor, dy: Tensor, pattern: DevicePattern, /) -> Tensor: ...


class Gradients(Protocol):
    """(dx, dw, db) in one pass; dx is None where it is not wanted."""

    def __call__(
        self, x: Tensor, dy: Tensor, values: Tensor, pattern: DevicePattern, /, *, wants_dx: bool = True
    ) -> tuple[Tensor | None, ...]: ...


class Restore(Protocol):
    """dx as row-major as an x was that `arrange` had to copy; torch would turn it over itself, several times slower."""

    def __call__(self, dx: Tensor, /) -> Tensor: ...


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
    takes_half: bool = False
    restore: Restore | None = None


def _triton() -> Engine:
    # Imported when asked for: it is not installed everywhere, and decides at its import whether to interpret.
    from set_cli.sparse.engines import triton_rows as rows

    return Engine("triton", rows.spmm, rows.spmm_t, rows.sddmm, rows.arrange, rows.gradients, takes_half=True)


ENGINES: dict[str, Callable[[], Engine]] = {
    "native": lambda: Engine(
        "native",
        compiled.spmm,
        compiled.spmm_t,
        compiled.sddmm,
        native.to_columns,
        compiled.gradients,
        False,
        native.to_rows,
    ),
    "torch": lambda: Engine("torch", torch_csr.spmm, torch_csr.spmm_t, torch_csr.sddmm, torch_csr.arrange),
    "triton": _triton,
    "masked": lambda: Engine("masked", masked.spmm, masked.spmm_t, masked.sddmm, masked.arrange, takes_half=True),
}


class Choice(NamedTuple):
    """An engine and why that one."""

    engine: Engine
    why: str


@functools.cache
def load_engine(name: str) -> Engine:
    """The engine of that name, made once; an ImportError or what else its package raises where it cannot be loaded."""
    return ENGINES[name]()


def why_missing(name: str) -> str | None:
    """What an engine lacks to be used at all; None where nothing."""
    if name == "native" and native.core is None:
        return f"{native.missing}; engine torch works without them"
    if name == "triton":
        return why_no_triton()
    return None


@functools.cache
def why_no_triton() -> str | None:
    """Why Triton cannot be used at all; None where it can."""
    others = "engines torch and masked work without it"
    if importlib.util.find_spec("triton") is None:
        return f"the package triton is not installed (`pip install triton`); {others}"
    try:
        load_engine("triton")
    except (ImportError, OSError, RuntimeError) as error:
        return f"the package triton cannot be loaded ({error}); {others}"
    return None


def find_engine(name: str) -> Engine:
    """The engine of that name; ValueError lists the names there are, or says what is missing."""
    if name not in ENGINES:
        raise ValueError(f"expected an engine out of auto, {', '.join(ENGINES)}, got {name!r}")
    missing = why_missing(name)
    if missing is not None:
        raise ValueError(f"engine {name}: {missing}")
    return load_engine(name)


def choose(name: str, shape: tuple[int, int], density: float, dtype: torch.dtype, device: torch.device) -> Choice:
    """The engine for a layer of this shape (n_in, n_out) and density (connections / (n_in * n_out)), and why.

    A name is taken at its word (ValueError where it cannot be). `auto` on the CPU: native where the compiled kernels
    are, for float32; else torch; and either way masked, dense products, for a layer denser than the crossover. `auto`
    on a GPU: triton, or torch where there is none; and likewise masked for a layer denser than the crossover.
    """
    if name != "auto":
        return Choice(_fitting(name, device), "asked for")
    if device.type != "cpu":
        return _on_gpu(shape, density, dtype, device)
    return _on_cpu(density, dtype, native.missing if native.core is None else None)


def _fitting(name: str, device: torch.device) -> Engine:
    engine = find_engine(name)
    if name == "native" and device.type != "cpu":
        raise ValueError(f"engine native computes on the CPU, not on {device.type}; use auto, triton, torch or masked")
    if name == "triton" and device.type == "cpu" and not interpreted():
        raise ValueError("engine triton computes on a GPU (backend=cuda); on the CPU use auto, native, torch or masked")
    return engine


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU; where Triton is installed."""
    from set_cli.sparse.engines import triton_rows

    return triton_rows.IS_INTERPRETED


@functools.lru_cache(maxsize=256)  # a layer asks in every forward
def _on_cpu(density: float, dtype: torch.dtype, missing: str | None) -> Choice:
    if dtype in HALF:
        return _dense(f"there are no sparse products of {dtype} on the CPU")
    if missing is not None:
        sparse, why = "torch", missing
    elif dtype != torch.float32:
        sparse, why = "torch", f"the compiled kernels take float32, this is {dtype}"
    else:
        sparse, why = "native", "compiled kernels"
    crossover = CROSSOVER[sparse]
    if density > crossover:
        return _dense(f"density {density:.3g} is above {crossover:g}, dense products are faster")
    return Choice(load_engine(sparse), f"auto: {why}; density {density:.3g} is not above {crossover:g}")


def _on_gpu(shape: tuple[int, int], density: float, dtype: torch.dtype, device: torch.device) -> Choice:
    pairs = shape[0] * shape[1]
    if density > CROSSOVER_ON_GPU and pairs <= LARGEST_DENSE_ON_GPU:
        return _dense(f"density {density:.3g} is above {CROSSOVER_ON_GPU:g}, dense products are faster")
    if device.type != "cuda":
        missing: str | None = f"the kernels that gather rows are for NVIDIA GPUs, this is {device.type}"
    elif dtype not in TRITON_TYPES:
        missing = f"the kernels that gather rows take float32, bfloat16 and float16, this is {dtype}"
    else:
        missing = why_missing("triton") or (why_no_launch(device) if torch.cuda.is_available() else None)
    if missing is None:
        why = f"density {density:.3g} is not above {CROSSOVER_ON_GPU:g}"
        if density > CROSSOVER_ON_GPU:
            why = f"{pairs:,} dense weights are above {LARGEST_DENSE_ON_GPU:,}"
        return Choice(load_engine("triton"), f"auto: kernels that gather rows; {why}")
    if pairs <= DENSE_WITHOUT_KERNELS:
        return _dense(f"{missing}; {pairs:,} dense weights are not above {DENSE_WITHOUT_KERNELS:,}")
    return Choice(load_engine("torch"), f"auto: {missing}; {pairs:,} dense weights are above {DENSE_WITHOUT_KERNELS:,}")


@functools.cache
def why_no_launch(device: torch.device) -> str | None:
    """Why the kernels do not start; Triton builds at its first launch, for which it needs a C compiler."""
    indptr, indices = (torch.tensor(values, dtype=torch.int32, device=device) for values in ([0, 1], [0]))
    one = torch.ones(1, 1, device=device)
    try:
        load_engine("triton").spmm(one, one[0], None, DevicePattern((1, 1), indptr, indices))
    except Exception as error:  # a compiler's failure is none of a few types
        return f"the kernels that gather rows do not start here ({str(error).partition(chr(10))[0]})"
    return None


def _dense(why: str) -> Choice:
    return Choice(load_engine("masked"), f"auto: {why}")
