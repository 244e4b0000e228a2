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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's word about a file written by Python 2
            yield
    except SetError:  # a DataError of ours, or an interruption
        raise
    except MemoryError:
        raise DataError(f"{name}: needs more memory than there is; the file is damaged or too large") from None
    except Exception as error:
        raise DataError(f"{name}: malformed ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def as_binary(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """A table (rows, features) of zeros and ones as uint8; DataError names the first other cell, counted from 1."""
    if values.ndim != 2:
        raise DataError(f"{name}: expected a table of rows and features, found an array of shape {values.shape}")
    if values.dtype.kind not in "buif":
        raise DataError(f"{name}: expected numbers, found values of type {values.dtype}")
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise DataError(f"{name}: expected 0 or 1, found {values[row, column]} in row {row + 1}, column {column + 1}")
    return values.astype(np.uint8)


def check_finite(values: NDArray[Any], name: str) -> None:
    """DataError at the first NaN or infinity, counted from 1."""
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values)
        if wrong.any():
            where = ", column ".join(str(int(i) + 1) for i in np.argwhere(wrong)[0])
            raise DataError(f"{name}: expected finite numbers, found {values[wrong][0]} in row {where}")
