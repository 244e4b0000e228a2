"""What every reader shares: libraries' many exceptions as one, and the check of 0/1 values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError, SetError


@contextmanager
def reading(name: str) -> Iterator[None]:
    """DataError for whatever a library raises about malformed content: zipfile, zlib and numpy know a dozen kinds."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # what overflows is infinite, and refused for it
            warnings.simplefilter("ignore")  # numpy's word about a file written by Python 2
            yield
    except SetError:  # a DataError of ours, or an interruption
        raise
    except MemoryError:
        raise DataError(f"{name}: needs more memory than there is; the file is damaged or too large") from None
    except Exception as error:
        raise DataError(f"{name}: malformed ({one_line(str(error)) or type(error).__name__})") from None


def one_line(text: str) -> str:
    """Words from a file or from a library as they may be shown: one line, no control characters, not too many."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:200]


def shown(cell: bytes) -> str:
    """A cell of a text as a sentence quotes it."""
    return repr(cell[:30])[1:] + ("…" if len(cell) > 30 else "")


def as_binary(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """A table (rows, features) of zeros and ones as uint8; DataError names the first other cell, counted from 1."""
    if values.ndim != 2:
        raise DataError(f"{name}: expected a table of rows and features, found an array of shape {values.shape}")
    if not len(values):
        raise DataError(f"{name}: expected rows, found none")
    if values.dtype.kind not in "buif":
        raise DataError(f"{name}: expected numbers, found values of type {values.dtype}")
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        row, column = _first(wrong)
        raise DataError(f"{name}: expected 0 or 1, found {values[row, column]} in row {row + 1}, column {column + 1}")
    return values.astype(np.uint8)


def check_finite(values: NDArray[Any], name: str) -> None:
    """DataError at the first NaN or infinity, counted from 1."""
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values)
        if wrong.any():
            first = _first(wrong)
            where = ", column ".join(str(i + 1) for i in first)
            raise DataError(f"{name}: expected finite numbers, found {values[first]} in row {where}")


def _first(wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
