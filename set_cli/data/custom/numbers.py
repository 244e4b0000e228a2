"""Columns of cells as numbers: missing values in any spelling become NaN, True and False 1 and 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.labels import NUMBER, is_missing

TRUTH = {"true": 1.0, "false": 0.0}
INFINITE = {"inf", "infinity"}


def as_numbers(column: NDArray[Any]) -> tuple[NDArray[np.float64], int | None]:
    """(n,) float64, NaN where there is no value, and the row of the first cell that is no number (None: there is none).

    A column of True and False, and of nothing else, is one of 1 and 0. Infinite values stay, for others to refuse.
    """
    if column.dtype.kind in "buif":
        return column.astype(np.float64), None
    import pandas as pd  # most of a second to import

    words = np.array([_word(cell) for cell in column], object)
    codes, different = pd.factorize(words)
    values = np.array([_value(word) for word in different], object)
    known = [word for word in different if not is_missing(word)]
    if known and all(word.casefold() in TRUTH for word in known):
        values = np.array([TRUTH.get(word.casefold(), np.nan) for word in different], object)
    odd = np.array([value is None for value in values], bool)[codes]
    if odd.any():
        return np.empty(0), int(np.argmax(odd))
    return values.astype(np.float64)[codes], None


def _word(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    return (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)).strip()


def _value(word: str) -> float | None:
    if is_missing(word):
        return np.nan
    if NUMBER.fullmatch(word) or word.casefold().lstrip("+-") in INFINITE:
        return float(word)
    return None
