"""Columns of cells as numbers: missing values in any spelling become NaN, True and False 1 and 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.labels import NUMBER, is_missing
from set_cli.data.custom.tables import typed

TRUTH = {"true": 1.0, "false": 0.0}
MOST_DROPPED = 20  # names of columns that a sentence leaves out
INFINITE = {"inf", "infinity"}
# Digits in groups of three, with the mark of thousands and, after another mark, a fraction.
GROUPED = re.compile(
    r"([+-]?[0-9]{1,3})((?P<mark>[.,' \u00a0\u202f\u2019_])[0-9]{3}(?:(?P=mark)[0-9]{3})*)([.,][0-9]*)?"
)


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


def hint_for(cell: object, columns: Sequence[str]) -> str:
    """What to do about a cell that is no number, in the first of these columns, all of which have such cells."""
    word = _word(cell)
    found = GROUPED.fullmatch(word)
    names = ",".join(map(typed, columns[:MOST_DROPPED])) + ",…" * (len(columns) > MOST_DROPPED)
    word = f"dataset.drop=[{names}]"
    word = f"'{word}'" if '"' in word else word  # for the shell
    drop = f"{word} leaves the column{'s' * (len(columns) > 1)} out"
    drop = f"{len(columns):,} columns hold such cells; {drop}" if len(columns) > 1 else drop
    if found is None or (found[4] and found[4][0] == found["mark"]):
        return f"{drop}, and pandas.get_dummies turns words into numbers"
    whole = found[1] + found[2].replace(found["mark"], "")
    plain = [whole + mark + found[4][1:] for mark in ",."] if found[4] else [whole]
    return (
        f"it looks like a number with a separator of thousands ({found['mark']!r}): write {' or '.join(plain)} (pandas "
        f"reads them with thousands={found['mark']!r}), or {drop}"
    )


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
