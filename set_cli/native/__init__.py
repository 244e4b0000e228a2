"""The compiled kernels: which are here, why not, and how they meet torch's tensors.

Matrices meet the kernels as "columns": a tensor (n_batch, neurons) whose batch is contiguous in memory. `to_columns`
makes one of any tensor; those that `new_columns` allocates have each neuron's row on a 64-byte boundary.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from set_cli.errors import ConfigError
from set_cli.native import records
from set_cli.native.interface import Core

ROW_FLOATS = 16  # one cache line
WORK_PER_THREAD = 1 << 19  # multiply-adds: some 10 microseconds
ELEMENTWISE = 4  # multiply-adds that a value of an activation, a gather or a descent takes as long as
BUILD_HINT = "a C++ compiler (g++ or clang++) and Python's headers are needed; then install set-cli again"
SIMD_VARIABLE = "SET_SIMD"  # avx512, avx2 or portable: less than the processor has, to compare or to reproduce

core: Core | None
try:
    import set_cli.native._core as _core  # type: ignore[import-not-found]

    records.check(_core)
    core, missing = _core, ""
except ModuleNotFoundError:
    core, missing = None, f"the compiled kernels are not there; {BUILD_HINT}"
except ImportError as error:
    core, missing = None, f"the compiled kernels cannot be loaded ({error}); {BUILD_HINT}"

if core is not None and (wanted := os.environ.get(SIMD_VARIABLE)) and not core.use_simd(wanted):
    raise ConfigError(f"{SIMD_VARIABLE}={wanted}: expected avx512, avx2 or portable, and a processor that has it")


def describe() -> dict[str, str]:
    """What is here, for the record: the instruction set in use, or why nothing is."""
    return {"simd": core.simd()} if core is not None else {"missing": missing}


@contextmanager
def without_kernels() -> Iterator[None]:
    """Switch the compiled kernels off, as on a machine without them, for tests and benchmarks."""
    global core, missing
    before = core, missing
    core, missing = None, "the compiled kernels are switched off"
    try:
        yield
    finally:
        core, missing = before


def threads(work: int) -> int:
    """How many threads a call of this much work gets: at most torch's (`torch.set_num_threads`), fewer for little.

    work  multiply-adds, or what takes as long. Results do not depend on the answer: waking a thread for a few
          microseconds of work costs more than it gains, and stalls where another process has the core.
    """
    return min(torch.get_num_threads(), 1 + work // WORK_PER_THREAD)


@contextmanager
def as_many_threads(work: int) -> Iterator[None]:
    """Give torch's own operations `threads(work)` threads.

    They wake all of them for each tensor, however small; where another process has a core, each time waits for it.
    """
    usual = torch.get_num_threads()
    torch.set_num_threads(threads(work))
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def takes(*tensors: Tensor | None) -> bool:
    """Whether the kernels are here and all of these are float32 on the CPU, with memory of their own.

    The tensors that torch.func's transforms work with have none.
    """
    if core is None or torch._C._are_functorch_transforms_active():
        return False
    return all(tensor is None or (tensor.dtype is torch.float32 and tensor.is_cpu) for tensor in tensors)


def versions(tensors: Sequence[Tensor]) -> list[int]:
    """How often torch has seen each changed in place; none where one is an inference tensor, which has no gradient."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return []


def row_stride(n_batch: int) -> int:
    """Floats from one neuron to the next: whole cache lines."""
    return -(-n_batch // ROW_FLOATS) * ROW_FLOATS


def new_columns(n_batch: int, neurons: int) -> Tensor:
    """An uninitialised (n_batch, neurons) float32 tensor as the kernels like it: strides (1, a multiple of 16)."""
    return torch.empty_strided((n_batch, neurons), (1, row_stride(n_batch)), dtype=torch.float32, device="cpu")


def empty(length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An uninitialised (length,) tensor on the CPU, whatever torch's defaults are at the moment."""
    return torch.empty(length, dtype=dtype, device="cpu")


def is_columns(x: Tensor) -> bool:
    """Whether the kernels can read this (n_batch, neurons) tensor where it lies."""
    of_batch, of_neurons = x.stride()
    return of_batch == 1 and of_neurons >= x.shape[0]


def to_columns(x: Tensor) -> Tensor:
    """x (n_batch, neurons) itself if its batch is contiguous, else a copy whose batch is."""
    if x.dtype is not torch.float32 or not x.is_cpu:  # the kernels see addresses only
        raise ValueError(
            f"engine native: expected a dense float32 tensor on the CPU, got {x.dtype} on {x.device}; engine torch "
            "takes other types and devices"
        )
    return lay_out(x)


def lay_out(x: Tensor) -> Tensor:
    """What to_columns gives, of a tensor that is known to be float32 on the CPU."""
    x = x.resolve_neg() if x.is_neg() else x
    if is_columns(x):
        return x
    columns = new_columns(*x.shape)
    _turn(x, columns)
    return columns


def to_rows(x: Tensor) -> Tensor:
    """A copy of columns (n_batch, neurons) as torch lays out a tensor by itself, each row contiguous."""
    rows = torch.empty(x.shape, dtype=torch.float32, device="cpu")
    _turn(x.t(), rows.t())
    return rows


def _turn(x: Tensor, columns: Tensor) -> None:
    """Copy x (n_batch, neurons) into columns of that shape."""
    if core is None:
        raise RuntimeError(missing)
    n_batch, neurons = x.shape
    if not n_batch or not neurons:
        return
    of_batch, of_neurons = x.stride()
    core.to_columns(
        records.ToColumns(
            x=x.data_ptr(),
            stride_batch=of_batch,
            stride_feature=of_neurons,
            out=records.columns(columns),
            features=neurons,
            n_batch=n_batch,
        ),
        threads(n_batch * neurons * ELEMENTWISE),
    )
