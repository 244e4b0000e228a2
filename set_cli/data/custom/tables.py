"""Rows as they came from a file, and the sentences about their cells."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.parts import Labels
from set_cli.data.readers.guard import one_line
from set_cli.errors import DataError

LARGEST = float(np.finfo(np.float32).max)  # of a value: networks are trained in float32
HOW_TO_FILL = "data.missing=mean, median or zero fills them"
LONGEST_NAME = 40  # characters of a name that a sentence shows
SHOWN_NAMES = 20  # of the columns or arrays that a sentence lists


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of one part, before labels became class numbers.

    x           (rows, features) numbers, NaN where a value is missing; an array of another shape is still to be refused
    labels      (rows,) numbers or words, or None
    groups      (rows,) numbers of rows that belong together, or None
    features    names of the columns; empty where they have none
    shape       of one image, where the file says so
    cell        (row, feature) -> a cell and its place, as "'two' in line 3, column 'a'"
    label_cell  row -> the same of its label
    """

    x: NDArray[Any]
    labels: NDArray[Any] | None
    cell: Callable[[int, int], str]
    label_cell: Callable[[int], str]
    groups: Labels | None = None
    features: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None

    def __getitem__(self, rows: NDArray[np.int64]) -> Table:
        """Some of the rows, whose cells still have the places of the whole."""
        labels, groups = (None if column is None else column[rows] for column in (self.labels, self.groups))
        cell, label_cell = self.cell, self.label_cell
        return replace(
            self,
            x=self.x[rows],
            labels=labels,
            groups=groups,
            cell=lambda row, feature: cell(int(rows[row]), feature),
            label_cell=lambda row: label_cell(int(rows[row])),
        )


def quoted(text: object) -> str:
    """A word of the file as a sentence quotes it."""
    word = str(text)
    return repr(word[:30]) + ("…" if len(word) > 30 else "")


def typed(name: str) -> str:
    """A name as one types it behind `dataset.label=`."""
    plain = one_line(name)
    return plain if re.fullmatch(r"[\w.-]+", plain) else f'"{plain}"'


def listed(names: Iterable[str]) -> str:
    """The names, or the first of many; one with a comma in quotes."""
    known = list(names)
    shown = (one_line(name)[:LONGEST_NAME] for name in known[:SHOWN_NAMES])
    few = [f'"{name}"' if "," in name else name for name in shown]
    return (", ".join(few) or "none") + (f" … ({len(known):,} in all)" if len(known) > SHOWN_NAMES else "")


def close_to(name: str, names: Sequence[str]) -> str:
    """'; did you mean X?' where one of the names is nearly this one, else ''."""
    folded = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), list(folded)[:1000], n=1)
    return f"; did you mean {one_line(folded[close[0]])}?" if close else ""


def check_values(table: Table, name: str, missing: str, *, of_training: bool) -> None:
    """DataError at the first value that no network can take, or that is missing where `missing` is 'refuse'.

    of_training  whether every column must have a value: the others are filled from the training rows
    """
    x = table.x
    if x.ndim != 2 or not x.shape[1]:
        raise DataError(f"{name}: expected rows of features, found an array of shape {x.shape}")
    if x.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(x) if x.dtype == np.float16 else np.abs(x) <= LARGEST  # neither is so for NaN
    if fine.all():
        return
    absent = np.isnan(x)
    large = ~fine & ~absent
    if large.any():
        row, column = first(large)
        found = table.cell(row, column)
        why = "infinite" if re.match(r"\W*inf", found, re.IGNORECASE) else "too large"
        raise DataError(f"{name}: expected numbers between -3.4e38 and 3.4e38, found {found}, which is {why}")
    if missing == "refuse":
        row, column = first(absent)
        count = int(absent.sum())
        many = f"{count:,} cells have no value" if count > 1 else "one cell has no value"
        raise DataError(f"{name}: expected a number, found {table.cell(row, column)} ({many}); {HOW_TO_FILL}")
    empty = absent.all(axis=0)
    if of_training and len(x) and empty.any():
        column = int(np.argmax(empty))
        what = f"column {quoted(table.features[column])}" if table.features else f"column {column + 1}"
        raise DataError(f"{name}: expected some values in {what}, found none; leave the column out")


def first(wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    """Position of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
