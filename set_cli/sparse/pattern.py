"""The connectivity of one layer in compressed sparse rows, and its invariants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from set_cli.system.memory import left_on_machine

Indices = NDArray[np.int32]
Positions = NDArray[np.int64]

LARGEST_INT32 = 2**31 - 1
ROOM_FOR_ANY = 2**28  # bytes of a layer for which nobody looks how much memory there is


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Csr:
    """Which (input, output) pairs of one layer are connected; rows are the layer's inputs.

    indptr   (n_in + 1,) int32  row i's connections are indices[indptr[i]:indptr[i + 1]]
    indices  (nnz,)      int32  output neurons, ascending within a row, no duplicates
    shape    (n_in, n_out)

    A connection is a stored entry whatever its weight, so values live beside the pattern, in this order.
    """

    indptr: Indices
    indices: Indices
    shape: tuple[int, int]

    def __repr__(self) -> str:
        return f"Csr({self.shape[0]:,} x {self.shape[1]:,}, {self.nnz:,} connections)"

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def cells(self) -> int:
        """n_in * n_out: how many connections the layer could have."""
        return self.shape[0] * self.shape[1]

    @property
    def is_full(self) -> bool:
        return self.nnz == self.cells

    def has_connections_of(self, other: Csr) -> bool:
        """Whether both, of one shape, have the same connections."""
        return np.array_equal(self.indptr, other.indptr) and np.array_equal(self.indices, other.indices)

    def positions(self) -> Positions:
        """(nnz,) int64, ascending: input * n_out + output of every connection."""
        rows = np.repeat(np.arange(self.shape[0], dtype=np.int64), np.diff(self.indptr))
        return rows * self.shape[1] + self.indices

    def out_degrees(self) -> Indices:
        """(n_in,) connections that leave each input neuron."""
        return np.diff(self.indptr)

    def in_degrees(self) -> Indices:
        """(n_out,) connections that reach each output neuron."""
        return np.bincount(self.indices, minlength=self.shape[1]).astype(np.int32)

    def transposed_order(self) -> tuple[Csr, Indices]:
        """The same connections with rows the layer's outputs, and where each one's value lies in this order.

        `values[order]` are the values in the transposed storage order. Linear time (SciPy's counting sort).
        """
        order = scipy.sparse.csr_array(
            (np.arange(self.nnz, dtype=np.int32), self.indices, self.indptr), shape=self.shape
        ).tocsc()
        transposed = Csr(order.indptr.astype(np.int32), order.indices.astype(np.int32), (self.shape[1], self.shape[0]))
        return transposed, order.data


def check_size(n_in: int, n_out: int, nnz: int = 0) -> None:
    """ValueError where a width or a count does not fit the int32 indices; call it before anything is allocated."""
    for name, value in (("n_in", n_in), ("n_out", n_out)):
        if not 1 <= value <= LARGEST_INT32:
            raise ValueError(f"{name}: expected 1 to {LARGEST_INT32} neurons, got {value}")
    if nnz > LARGEST_INT32:
        raise ValueError(f"expected at most {LARGEST_INT32} connections in one layer, got {nnz}")


def check_room(n_in: int, n_out: int, nnz: int) -> None:
    """MemoryError where a layer cannot be made: asking for the memory would end the process, not this call."""
    # The rows' starts in 64 and in 32 bits beside the indices; then the indices beside the weights and their draws.
    least = max(12 * n_in + 4 * nnz, 4 * n_in + 12 * nnz)
    free = left_on_machine() if least > ROOM_FOR_ANY else None
    if free is not None and least > free:
        raise MemoryError(
            f"{n_in:,} x {n_out:,} neurons with {nnz:,} connections: expected {least / 2**30:,.1f} GiB of free "
            f"memory, found {free / 2**30:,.1f} GiB; take a smaller epsilon, or fewer neurons"
        )


def check_pattern(pattern: Csr) -> Csr:
    """The pattern itself where every invariant holds; ValueError names the first that does not.

    For patterns that come from outside (a file, a state_dict): what the algorithm makes is right by construction.
    """
    (n_in, n_out), indptr, indices = pattern.shape, pattern.indptr, pattern.indices
    check_size(n_in, n_out, len(indices))
    if indptr.dtype != np.int32 or indices.dtype != np.int32:
        raise ValueError(f"expected int32 indptr and indices, got {indptr.dtype} and {indices.dtype}")
    if indptr.shape != (n_in + 1,) or indices.ndim != 1:
        raise ValueError(f"expected indptr of length {n_in + 1}, got shape {indptr.shape}")
    if indptr[0] != 0 or indptr[-1] != len(indices):
        raise ValueError(f"expected indptr from 0 to {len(indices)}, got {indptr[0]} to {indptr[-1]}")
    if np.any(indptr[1:] < indptr[:-1]):
        raise ValueError("expected a non-decreasing indptr")
    if len(indices) and (indices.min() < 0 or indices.max() >= n_out):
        raise ValueError(f"expected indices in 0..{n_out - 1}, got {indices.min()}..{indices.max()}")
    if np.any(np.diff(pattern.positions()) <= 0):
        raise ValueError("expected indices sorted within each row, without duplicates")
    return pattern


def from_positions(positions: Positions, shape: tuple[int, int]) -> Csr:
    """The pattern with connections at these positions (ascending, distinct, input * n_out + output)."""
    n_in, n_out = shape
    row_starts = np.arange(n_in + 1, dtype=np.int64) * n_out
    indptr = np.searchsorted(positions, row_starts)
    columns = positions - np.repeat(row_starts[:-1], np.diff(indptr))
    return Csr(indptr.astype(np.int32), columns.astype(np.int32), shape)


def find_positions(before: Csr, after: Csr) -> Positions:
    """(nnz,) of `after`: where each of its connections lies in `before`, of the same shape; -1 where it does not."""
    old, new = before.positions(), after.positions()
    at = np.searchsorted(old, new)
    is_there = at < len(old)
    is_there[is_there] = old[at[is_there]] == new[is_there]
    return np.where(is_there, at, -1)


def as_pattern(given: Any, shape: tuple[int, int]) -> Csr:
    """The pattern that was given for a layer of this shape (n_in, n_out).

    given  a Csr, a SciPy sparse matrix or array whose stored entries are the connections, or two arrays of whole
           numbers, the inputs and the outputs of the connections in any order
    ValueError where it is something else, of another shape, or names a connection twice.
    """
    if isinstance(given, Csr):
        pattern = given
    elif scipy.sparse.issparse(given):
        entries = given.tocoo()
        pattern = _from_pairs(entries.row, entries.col, entries.shape)
    elif isinstance(given, tuple | list) and len(given) == 2:
        pattern = _from_pairs(np.asarray(given[0]), np.asarray(given[1]), shape)
    else:
        raise ValueError(
            f"pattern: expected a SciPy sparse array or the arrays of inputs and outputs, got {type(given).__name__}"
        )
    if pattern.shape != shape:
        raise ValueError(f"pattern: expected one of shape {shape}, (inputs, outputs), got {pattern.shape}")
    return check_pattern(pattern)


def _from_pairs(inputs: NDArray[np.integer], outputs: NDArray[np.integer], shape: tuple[int, int]) -> Csr:
    check_size(*shape, len(inputs))
    for name, numbers, most in (("inputs", inputs, shape[0]), ("outputs", outputs, shape[1])):
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or len(numbers) != len(inputs):
            raise ValueError(
                f"pattern: expected one whole number for each connection, got {name} of shape {numbers.shape} as "
                f"{numbers.dtype}"
            )
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < most:
            raise ValueError(f"pattern: expected {name} from 0 to {most - 1}, got {numbers.min()} to {numbers.max()}")
    positions = np.sort(inputs.astype(np.int64) * shape[1] + outputs)
    if np.any(positions[1:] == positions[:-1]):
        raise ValueError("pattern: expected every connection once, got one twice")
    return from_positions(positions, shape)


def full_pattern(n_in: int, n_out: int) -> Csr:
    """Every pair connected: what a connection probability of 1 or more means."""
    check_size(n_in, n_out, n_in * n_out)
    indptr = np.arange(n_in + 1, dtype=np.int64) * n_out
    return Csr(indptr.astype(np.int32), np.tile(np.arange(n_out, dtype=np.int32), n_in), (n_in, n_out))
