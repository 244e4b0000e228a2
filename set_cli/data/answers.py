"""Features of the user's own rows that are the class by another name: its number, or a one-hot encoding of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card
from set_cli.data.naming import class_text, drop_hint, feature_text, listed
from set_cli.data.parts import Labels, Part
from set_cli.data.readers.guard import one_line

FEWEST = 20  # rows below which chance makes any pattern; as many are looked at first, for most features fail there
CELLS = 2**22  # looked at together
CHANCE = 1e-3  # with which random columns of 0 and 1 may look like an answer
MARKED = 5  # rows of other classes that a random column of 0 and 1 would mark, from which marking none is no chance


def check_answers(card: Card, train: Part, label: str | None) -> list[str]:
    """Doubt features that give the class away; train: in the order of the file.

    label  the name of the column that holds the class, where it was chosen by name
    """
    if train.y is None or len(train) < FEWEST:
        return []
    columns = _codes(card, train, train.y)
    if columns:
        names = listed([feature_text(card, i) for i in columns])
        return [f"{names} has one value for each class, so this gives the class away; {drop_hint(card, columns)}"]
    if card.shape is not None:
        return []
    marks = _marks(train, train.y)
    if not marks:
        return []
    rows = np.bincount(train.y, minlength=card.classes)
    covers: dict[int, list[int]] = {}
    for run, c in _runs(marks):
        window = _covering(train, run, {i: marks[i][1] for i in run}, int(rows[c]))
        if window and _is_no_chance(np.array([rows[c], len(train) - rows[c]]), card.features * card.classes):
            covers.setdefault(c, window)
    if covers:
        return [_covers_text(card, covers)]
    rest = [i for i in _siblings(card, label) if i in marks and _tells(marks[i], rows)]
    if not rest:
        return []
    one, names = len(rest) == 1, listed([feature_text(card, i) for i in rest])
    return [
        f"{names} {'is' if one else 'are each'} 1 in rows of one class only, as {'a column' if one else 'columns'} of "
        f"a one-hot encoding of {one_line(str(label))} would be, so {'it' if one else 'they'} may give the class away; "
        f"{drop_hint(card, rest)}"
    ]


def _covers_text(card: Card, covers: dict[int, list[int]]) -> str:
    columns = [i for window in covers.values() for i in window]
    names, one = listed([feature_text(card, i) for i in columns]), len(columns) == 1
    if len(covers) > 1:
        marked = (
            "together mark the rows of a class each"
            if len(columns) > len(covers)
            else "mark the rows of one class each"
        )
    else:
        marked = (
            f"{'is' if one else 'are together'} 1 in all rows of class {class_text(card, *covers)} and in no others"
        )
    return (
        f"{names} {marked}, as {'a column' if one else 'columns'} of a one-hot encoding of the class would, so "
        f"{'it gives' if one else 'they give'} the class away; {drop_hint(card, columns)}"
    )


def _codes(card: Card, train: Part, y: Labels) -> list[int]:
    """Features with one value for each class, and another for every class."""
    some = slice(0, max(FEWEST, min(1000, CELLS // card.features)))
    # One row of each class says what a code must be; most features fail in the first rows.
    classes, first, position, rows = np.unique(y, return_index=True, return_inverse=True, return_counts=True)
    if len(classes) < 2 or not _is_no_chance(rows, card.features):
        return []
    code = train.x[first]
    candidates = np.flatnonzero((train.x[some] == code[position[some]]).all(axis=0))
    return [
        int(i)
        for i in candidates
        if len(np.unique(code[:, i])) == len(classes) and (train.x[:, i] == code[position, i]).all()
    ]


def _marks(train: Part, y: Labels) -> dict[int, tuple[int, int]]:
    """Features of 0 and 1 that are 1 in rows of one class only: which class, and in how many rows."""
    x = train.x
    candidates = np.flatnonzero(((x[:FEWEST] == 0) | (x[:FEWEST] == 1)).all(axis=0))
    order = np.argsort(y, kind="stable")
    classes, starts = np.unique(y[order], return_index=True)
    found: dict[int, tuple[int, int]] = {}
    step = max(1, CELLS // len(x))
    for i in range(0, len(candidates), step):
        block = candidates[i : i + step]
        cells = x[:, block]
        binary = ((cells == 0) | (cells == 1)).all(axis=0)
        ones = np.add.reduceat((cells[order] == 1).astype(np.int64), starts, axis=0)
        total, most = ones.sum(axis=0), ones.max(axis=0)
        for j in np.flatnonzero(binary & (total > 0) & (total == most)):
            found[int(block[j])] = int(classes[int(np.argmax(ones[:, j]))]), int(total[j])
    return found


def _runs(marks: dict[int, tuple[int, int]]) -> Iterator[tuple[list[int], int]]:
    """Features that lie beside each other and mark one class, and which."""
    run: list[int] = []
    for i in sorted(marks):
        if run and (i != run[-1] + 1 or marks[i][0] != marks[run[-1]][0]):
            yield run, marks[run[0]][0]
            run = []
        run.append(i)
    yield run, marks[run[0]][0]


def _covering(train: Part, run: list[int], ones: dict[int, int], rows: int) -> list[int]:
    """Neighbours of a run of which exactly one is 1 in every one of the `rows` rows of their class; else none."""
    first, total = 0, 0
    for last, i in enumerate(run):
        total += ones[i]
        while total > rows:
            total -= ones[run[first]]
            first += 1
        window = run[first : last + 1]
        if total == rows and (train.x[:, window] != 0).sum(axis=1).max() == 1:
            return window
    return []


def _is_no_chance(rows: NDArray[np.int64], tries: int) -> bool:
    """Whether dividing the rows at random into parts of these sizes would hardly hit the classes in so many tries."""
    ways = math.lgamma(rows.sum() + 1) - sum(math.lgamma(n + 1) for n in rows)
    return ways > math.log(tries / CHANCE)


def _siblings(card: Card, label: str | None) -> list[int]:
    """Features whose name begins as the label's: `species_setosa` beside `species_virginica`."""
    parts = re.fullmatch(r"(.*\w[_.=: -])[^_.=: -]+", label or "")
    if parts is None:
        return []
    return [i for i, name in enumerate(card.feature_names) if name.startswith(parts[1]) and name != label]


def _tells(mark: tuple[int, int], rows: NDArray[np.int64]) -> bool:
    """Whether a random column with so many ones would mark rows of other classes too."""
    c, ones = mark
    return bool(ones * (1 - rows[c] / rows.sum()) >= MARKED)
