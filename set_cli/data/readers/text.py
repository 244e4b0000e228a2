"""Text formats of 0/1 tables: DEBD's commas, Larochelle's .amat, LIBSVM's sparse rows, Taskar's letters."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.readers.guard import as_binary, check_finite, reading
from set_cli.errors import DataError

Bytes = NDArray[np.uint8]

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
            return f"{expected}, found {line[:40]!r}{'…' if len(line) > 40 else ''} in line {number}"
    return f"{expected}, found {len(content)} bytes"


def read_amat(content: bytes, name: str, features: int) -> tuple[Bytes, NDArray[np.float64]]:
    """(n, features) and the (n,) target of the last column, from lines of blank-separated numbers."""
    with reading(name):
        table = np.loadtxt(io.BytesIO(content), dtype=np.float64, comments=None, encoding="latin-1", ndmin=2)
    if table.shape[1] != features + 1 or not len(table):
        raise DataError(f"{name}: expected rows of {features} values and a target, found a table of {table.shape}")
    check_finite(table, name)
    return as_binary(table[:, :-1], name), table[:, -1]


def read_svmlight(
    content: bytes, name: str, features: int | None, most_cells: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(n, features) and (n,) labels from LIBSVM's `label index:value …` lines, indices from 1.

    features    None takes the largest index
    most_cells  n * features beyond which the table is refused before it is laid out
    """
    from sklearn.datasets import load_svmlight_file  # most of a second to import

    with reading(name):
        x, y = load_svmlight_file(io.BytesIO(content), n_features=features, dtype=np.float64, zero_based=False)
        if x.shape[0] * x.shape[1] > most_cells:
            raise DataError(f"{name}: expected a table of at most {most_cells:,} cells, found {x.shape}")
        if not x.shape[0]:
            raise DataError(f"{name}: expected lines of `label index:value …`, found none")
        dense = np.asarray(x.toarray(), np.float32)
    check_finite(dense, name)
    check_finite(y[:, None], f"{name}: labels")
    return dense, np.asarray(y, np.float64)


def read_letters(content: bytes, name: str, features: int) -> tuple[Bytes, NDArray[np.int64]]:
    """(n, features) pixels and (n,) labels 0 to 25 of Taskar's tab-separated letter.data, in file order."""
    pixels, labels = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        columns = line.rstrip(b"\t").split(b"\t")
        if len(columns) != LETTER_COLUMNS + features:
            raise DataError(
                f"{name}: expected {LETTER_COLUMNS + features} columns, found {len(columns)} in line {number}"
            )
        letter, row = columns[1], b"".join(columns[LETTER_COLUMNS:])
        if not (len(letter) == 1 and b"a" <= letter <= b"z"):
            raise DataError(f"{name}: expected a letter from a to z, found {letter[:20]!r} in line {number}, column 2")
        if len(row) != features or row.strip(b"01"):
            raise DataError(f"{name}: expected pixels 0 or 1 in line {number}")
        labels.append(letter[0] - ord("a"))
        pixels.append(row)
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
        raise DataError(f"{name}: expected one of the labels {_few(values)}, found {labels[row]} in row {row + 1}")
    return positions.astype(np.int64)


def _few(values: NDArray[Any]) -> str:
    text = [f"{value}" for value in values]
    return ", ".join(text if len(text) <= 10 else [*text[:3], "…", text[-1]])
