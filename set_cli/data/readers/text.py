"""Text formats of 0/1 tables: DEBD's commas, Larochelle's .amat, LIBSVM's sparse rows, Taskar's letters."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.readers.guard import as_binary, one_line, reading, shown
from set_cli.errors import DataError

Bytes = NDArray[np.uint8]

CELL = 64  # bytes that a number, or an index:value, takes at most with what separates it from the next
LONGEST_LINE = 2**22  # bytes, where the number of cells is not known
LARGEST = float(np.finfo(np.float32).max)
ENTRY = re.compile(rb"([0-9]{1,10}):(.+)", re.DOTALL)
PYTHONS_NUMBER = re.compile(rb"(?m)^[^#\n]*_")  # 1_000, which Python alone takes for a number

LETTER_COLUMNS = 6  # id, letter, next_id, word_id, position, fold
LETTER_SEED = 12345


def read_debd(content: bytes, name: str, features: int) -> Bytes:
    """(n, features) from lines of comma-separated 0 and 1."""
    width = 2 * features  # a digit and a comma or the end of the line
    text = np.frombuffer(content.replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n", np.uint8)
    if len(text) % width:
        raise DataError(f"{name}: {_first_odd_line(content, width, features)}")
    rows = text.reshape(-1, width)
    separators = np.full(features, ord(","), np.uint8)
    separators[-1] = ord("\n")
    odd = ((rows[:, 1::2] != separators) | (rows[:, ::2] < ord("0")) | (rows[:, ::2] > ord("1"))).any(axis=1)
    if odd.any():
        raise DataError(f"{name}: {_first_odd_line(content, width, features)}")
    return rows[:, ::2] - np.uint8(ord("0"))


def _first_odd_line(content: bytes, width: int, features: int) -> str:
    expected = f"expected {features} comma-separated 0 or 1 a line"
    for number, line in enumerate(io.BytesIO(content), start=1):
        line = line.rstrip(b"\r\n")
        if len(line) != width - 1 or line.strip(b"01,") or b"," in line[::2] or line[1::2].strip(b","):
            return f"{expected}, found {shown(line)} in line {number}"
    return f"{expected}, found {len(content)} bytes"


def read_amat(content: bytes, name: str, features: int) -> tuple[Bytes, NDArray[np.float64]]:
    """(n, features) and the (n,) target of the last column, from lines of blank-separated numbers."""
    expected = f"{name}: expected lines of {features} values and a target"
    table = np.empty((0, 0))
    with reading(name), suppress(ValueError):
        lines = (line for _, line in bounded_lines(content, CELL * (features + 1), expected))
        table = np.loadtxt(lines, dtype=np.float64, comments=None, encoding="latin-1", ndmin=2)
    if table.shape[1] != features + 1 or not np.isfinite(table).all():
        raise DataError(f"{expected}, {_first_odd_row(content, features + 1)}")
    return as_binary(table[:, :-1], name), table[:, -1]


def bounded_lines(content: bytes, longest: int, expected: str) -> Iterator[tuple[int, bytes]]:
    """The lines and their numbers from 1; DataError at one so long that its cells would fill the memory."""
    for number, line in enumerate(io.BytesIO(content), start=1):
        if len(line) > longest:
            raise DataError(f"{expected}, found more than {longest:,} characters in line {number}")
        yield number, line


def _first_odd_row(content: bytes, columns: int) -> str:
    found = "none"
    for number, line in enumerate(io.BytesIO(content), start=1):
        cells = line.split()
        if cells and len(cells) != columns:
            return f"found {len(cells)} columns in line {number}"
        for column, cell in enumerate(cells, start=1):
            if not is_number(cell):
                return f"found {shown(cell)} in line {number}, column {column}"
            found = "something else"
    return f"found {found}"


def is_number(cell: bytes) -> bool:
    """Whether a cell is a finite number in float32's range, as other programs read it too."""
    try:
        return abs(float(cell)) <= LARGEST and b"_" not in cell
    except ValueError:
        return False


def read_svmlight(
    content: bytes, name: str, features: int | None, most_cells: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(n, features) and (n,) labels from LIBSVM's `label index:value …` lines, indices from 1.

    features    None takes the largest index
    most_cells  n * features beyond which the table is refused before it is laid out
    """
    from sklearn.datasets import load_svmlight_file  # most of a second to import

    expected = f"{name}: expected lines of `label index:value …` with indices from 1"
    expected += " that rise" if features is None else f" to {features} that rise"
    for _ in bounded_lines(content, LONGEST_LINE if features is None else CELL * (features + 1), expected):
        pass
    if PYTHONS_NUMBER.search(content):
        raise DataError(f"{expected}, {_first_odd_entry(content, features or 2**31)}")
    x = y = None
    with reading(name), suppress(ValueError, OverflowError):
        x, y = load_svmlight_file(io.BytesIO(content), n_features=features, dtype=np.float32, zero_based=False)
    if x is None or y is None or not len(y) or not (np.isfinite(x.data).all() and np.isfinite(y).all()):
        raise DataError(f"{expected}, {_first_odd_entry(content, features or 2**31)}")
    if x.shape[0] * x.shape[1] > most_cells:
        raise DataError(f"{name}: expected a table of at most {most_cells:,} cells, found {x.shape}")
    with reading(name):
        return x.toarray(), np.asarray(y, np.float64)


def _first_odd_entry(content: bytes, features: int) -> str:
    found = "none"
    for number, line in enumerate(io.BytesIO(content), start=1):
        last = 0
        for column, cell in enumerate(line.partition(b"#")[0].split(), start=1):
            if column == 1:
                good = is_number(cell)
            else:
                entry = ENTRY.fullmatch(cell)
                index = int(entry[1]) if entry else 0
                good = entry is not None and last < index <= features and is_number(entry[2])
                last = index
            if not good:
                return f"found {shown(cell)} in line {number}, column {column}"
            found = "something else"
    return f"found {found}"


def read_letters(content: bytes, name: str, features: int) -> tuple[Bytes, NDArray[np.int64]]:
    """(n, features) pixels and (n,) labels 0 to 25 of Taskar's tab-separated letter.data, in file order."""
    pixels, labels = [], []
    expected = f"{name}: expected {LETTER_COLUMNS + features} columns"
    for number, line in bounded_lines(content, CELL * (LETTER_COLUMNS + features), expected):
        columns = line.rstrip(b"\t\r\n").split(b"\t")
        if len(columns) != LETTER_COLUMNS + features:
            raise DataError(f"{expected}, found {len(columns)} in line {number}")
        letter, row = columns[1], columns[LETTER_COLUMNS:]
        if not (len(letter) == 1 and b"a" <= letter <= b"z"):
            raise DataError(f"{name}: expected a letter from a to z, found {shown(letter)} in line {number}, column 2")
        odd = next((i for i, cell in enumerate(row) if cell not in (b"0", b"1")), None)
        if odd is not None:
            column = LETTER_COLUMNS + odd + 1
            raise DataError(
                f"{name}: expected pixels 0 or 1, found {shown(row[odd])} in line {number}, column {column}"
            )
        labels.append(letter[0] - ord("a"))
        pixels.append(b"".join(row))
    if not pixels:
        raise DataError(f"{expected}, found none")
    table = np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, features)
    return table - np.uint8(ord("0")), np.array(labels, np.int64)


def letters_order(rows: int) -> NDArray[np.int64]:
    """The suite's order of Taskar's letters: Python 2's random.seed(12345); random.shuffle(list(range(rows)))."""
    generator = random.Random(LETTER_SEED)  # the same Mersenne Twister; only shuffle itself became another in Python 3
    order = list(range(rows))
    for i in range(rows - 1, 0, -1):
        j = int(generator.random() * (i + 1))
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def class_numbers(labels: NDArray[Any], values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Labels as positions in the sorted `values`; DataError names the first label that is not among them."""
    positions = np.minimum(np.searchsorted(values, labels), len(values) - 1)
    strange = values[positions] != labels
    if strange.any():
        row = int(np.argmax(strange))
        found = _word(labels[row])
        raise DataError(f"{name}: expected one of the labels {_few(values)}, found {found} in row {row + 1}")
    return positions.astype(np.int64)


def _few(values: NDArray[Any]) -> str:
    few = list(values) if len(values) <= 10 else [*values[:3], "…", values[-1]]
    return ", ".join(_word(value) for value in few)


def _word(label: object) -> str:
    return one_line(f"{label}")[:30]
