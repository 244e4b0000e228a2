"""Labels as people write them: numbers compared as numbers, words as they are, and what is no class refused."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.tables import Table, quoted
from set_cli.data.parts import Labels
from set_cli.data.readers.guard import one_line
from set_cli.errors import DataError

MOST = 2**63 - 1  # the largest number that a label may be
DIGITS = 19  # of which every number with fewer is smaller
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# How a missing value is written, in any case: by R, pandas, SQL, Excel, SAS, MATLAB and people.
MISSING = (
    "", "na", "n/a", "n.a.", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "#n/a n/a", "#null!", "nil",
    "?", "-", "--", ".", "*", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind",
)  # fmt: skip
# Words that are also classes: "none" of "none, mild, severe", and "-" beside "+".
ALSO_CLASSES = {"none", "nil", "-", "--", ".", "*"}


def is_missing(word: str) -> bool:
    """Whether a cell of features says that there is no value."""
    return word.strip().casefold() in MISSING


def is_missing_label(word: str, others: set[str]) -> bool:
    """Whether a label says that there is none; `others` are all the labels."""
    word = word.strip()
    if word == "None":  # Python's
        return True
    if word.casefold() in ALSO_CLASSES:
        return word == "-" and "+" not in others
    return word.casefold() in MISSING


def read_labels(table: Table, name: str) -> NDArray[Any]:
    """The labels of a part as comparable values: int64 where they are numbers, else stripped words.

    DataError where one is missing, no whole number or one that cannot be told from its neighbours, or numbers and
    words are mixed.
    """
    assert table.labels is not None
    labels = table.labels.ravel()
    if labels.dtype.kind in "buif":
        _check_numbers(labels, table, name)
        return labels.astype(np.int64)
    import pandas as pd  # most of a second to import

    words = [_word(label) for label in labels]
    codes, different = pd.factorize(np.array(words, object))
    known = set(different)
    _refuse_first(
        np.array([is_missing_label(word, known) for word in different], bool)[codes],
        table.label_cell,
        f"{name}: expected a class",
        "leave out the rows without one, or give the class another word if it is one",
    )
    is_number = np.array([NUMBER.fullmatch(word) is not None for word in different], bool)
    if not is_number.any():
        return np.array(words, object)
    if not is_number.all():
        _refuse_mixture(is_number[codes], table.label_cell, name)
    values = [_whole_number(word) for word in different]
    _refuse_first(np.array([value is None for value in values], bool)[codes], table.label_cell, *_no_class(name))
    too_large = np.array([abs(value or 0) > MOST for value in values], bool)
    _refuse_first(too_large[codes], table.label_cell, *_too_large(name, MOST))
    return np.array(values, np.int64)[codes]


def class_values(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """The different labels of the training rows, sorted: their positions are the class numbers."""
    values: NDArray[Any] = np.unique(labels)
    if len(values) < 2:
        found = f"1 ({class_name(values[0])})" if len(values) else "0"
        raise DataError(f"{name}: expected at least two classes among the labels, found {found}")
    return values


def check_spellings(labels: list[NDArray[Any]], name: str) -> None:
    """DataError where two classes differ in nothing but case, blanks or a full stop; labels: of every part."""
    count = Counter(word for part in labels if part.dtype.kind == "O" for word in part)
    seen: dict[str, str] = {}
    for word in sorted(count):
        key = " ".join(word.casefold().split()).rstrip(". ")
        other = seen.setdefault(key, word)
        if other != word:
            rows = [f"{quoted(w)} ({count[w]:,} rows)" for w in (other, word)]
            raise DataError(
                f"{name}: expected one spelling of every class, found {rows[0]} and {rows[1]}, which differ only in "
                f"case, blanks or a full stop; spell them alike, or give them different words"
            )


def class_numbers(labels: NDArray[Any], values: NDArray[Any], table: Table, name: str) -> Labels:
    """Labels as positions in the sorted `values`; DataError names the first label that is not among them."""
    strange = np.array([not same_kind(labels, values)] * len(labels), bool)
    positions = np.zeros(len(labels), np.int64)
    if len(labels) and not strange.any():
        positions = np.minimum(np.searchsorted(values, labels), len(values) - 1).astype(np.int64)
        strange = values[positions] != labels
    if strange.any():
        known = [class_name(value) for value in values]
        few = known if len(known) <= 10 else [*known[:3], "…", known[-1]]
        found = table.label_cell(int(np.argmax(strange)))
        raise DataError(f"{name}: expected one of the labels {', '.join(few)} of the training rows, found {found}")
    return positions


def same_kind(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.dtype.kind == "O") == (other.dtype.kind == "O")


def class_name(value: Any) -> str:
    """What a class is called: its word, or its number without a needless fraction."""
    if isinstance(value, str):
        return one_line(value)
    return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)


def _word(label: object) -> str:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    text = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
    return text.strip()


def _whole_number(word: str) -> int | None:
    """The number that a word says, every digit of it; None where it has a fraction."""
    if word.lstrip("+-").isdigit() and len(word) < DIGITS:  # nearly all of them
        return int(word)
    number = Decimal(word)
    if number.adjusted() >= DIGITS:  # int() would write all of its zeros
        return MOST + 1
    whole = int(number)
    return whole if whole == number else None


def _check_numbers(labels: NDArray[Any], table: Table, name: str) -> None:
    if labels.dtype.kind == "u":
        _refuse_first(labels > MOST, table.label_cell, *_too_large(name, MOST))
    if labels.dtype.kind != "f":
        return
    _refuse_first(np.isnan(labels), table.label_cell, f"{name}: expected a class", "leave out the rows without one")
    strange = ~np.isfinite(labels)
    strange[~strange] = labels[~strange] != np.trunc(labels[~strange])
    _refuse_first(strange, table.label_cell, *_no_class(name))
    most = 2 ** (np.finfo(labels.dtype).nmant + 1) - 1  # from here on several whole numbers are the same to this type
    _refuse_first(np.abs(labels) > most, table.label_cell, *_too_large(name, most))


def _no_class(name: str) -> tuple[str, str]:
    return f"{name}: expected whole numbers or words as labels", "only classes can be trained, no measured quantities"


def _too_large(name: str, most: int) -> tuple[str, str]:
    return (
        f"{name}: expected labels up to {most:,}, beyond which some numbers are the same here",
        "write words as classes",
    )


def _refuse_first(wrong: NDArray[np.bool_], cell: Callable[[int], str], expected: str, what_to_do: str) -> None:
    if wrong.any():
        count = int(wrong.sum())
        rows = f" (and {count - 1:,} more such rows)" if count > 1 else ""
        raise DataError(f"{expected}, found {cell(int(np.argmax(wrong)))}{rows}; {what_to_do}")


def _refuse_mixture(is_number: NDArray[np.bool_], cell: Callable[[int], str], name: str) -> None:
    """DataError that names the first label of the rarer kind."""
    numbers = int(is_number.sum())
    words_are_odd = 2 * numbers >= len(is_number)
    odd = ~is_number if words_are_odd else is_number
    most, count = ("numbers", numbers) if words_are_odd else ("words", len(is_number) - numbers)
    rows = f"; {count:,} other rows have {most}"
    raise DataError(
        f"{name}: expected numbers only or words only as classes, found {cell(int(np.argmax(odd)))}{rows}; "
        f"write all classes as numbers, or all as words"
    )
