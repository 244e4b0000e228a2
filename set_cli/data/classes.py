"""The classes of a run's parts: how many rows each has, in words, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card
from set_cli.data.naming import class_text, listed
from set_cli.data.parts import Labels, Part
from set_cli.errors import DataError

Counts = Mapping[str, Labels]  # rows of each class, by part

NAMED = 8  # classes that are said by name
WIDEST = 120  # characters of the line that names them
MANY = 20  # classes from which labels may be a measured quantity
FEW = 10  # classes up to which they are not


def count_classes(card: Card, parts: Mapping[str, Part]) -> Counts:
    """(classes,) rows of each class in each of these parts; empty where there are no labels."""
    return {name: np.bincount(part.y, minlength=card.classes) for name, part in parts.items() if part.y is not None}


def classes_line(card: Card, counts: Counts) -> str:
    """'classes: setosa 40, versicolor 40 (test: 10, 10)'; of many classes how many there are and how large."""
    train, others = counts["train"], [name for name in counts if name != "train"]
    names = [class_text(card, i) for i in range(len(train))]
    parts = "; ".join(f"{name}: {', '.join(f'{n:,}' for n in counts[name])}" for name in others)
    line = f"classes: {', '.join(f'{name} {n:,}' for name, n in zip(names, train, strict=True))} ({parts})"
    if len(names) <= NAMED and len(line) <= WIDEST:
        return line
    fewest, most = int(np.argmin(train)), int(np.argmax(train))
    parts = "; ".join(f"{name}: {counts[name].min():,} to {counts[name].max():,}" for name in others)
    each = f"{train[fewest]:,} (class {names[fewest]}) to {train[most]:,} (class {names[most]})"
    each = f"{train[most]:,}" if train[fewest] == train[most] else each
    return f"classes: {len(names):,}, each with {each} training rows ({parts})"


def check_measured(card: Card, name: str, labels: Sequence[Labels]) -> list[str]:
    """Refuse or doubt labels that look like a measured quantity; labels: of all rows that the source has.

    DataError where there are more than half as many classes as rows.
    """
    y = np.concatenate(labels)
    rows = np.bincount(y, minlength=card.classes)
    classes, single = int(np.count_nonzero(rows)), int(np.count_nonzero(rows == 1))
    if classes > FEW and 2 * classes > len(y):
        raise DataError(
            f"{name}: found {classes:,} classes among {len(y):,} rows, which looks like a measured quantity or a name "
            "for every row; only classes can be trained, so group the values or choose another label"
        )
    if classes < MANY or (10 * classes <= len(y) and 5 * single <= classes):
        return []
    return [
        f"{classes:,} classes among {len(y):,} rows, {single:,} of them with a single row: if the label is a measured "
        "quantity, group its values, for only classes can be trained"
    ]


def check_parts(card: Card, name: str, counts: Counts, hint: str, *, own: bool, drawn: int = 0) -> list[str]:
    """Refuse or doubt classes that a part lacks.

    hint   what to do about it
    drawn  how many test rows were drawn by class from the training rows
    own    whether the data is the user's: a class that training never sees is then refused, as a DataError. Limits on a
           published set are quick looks: there it is a doubt.
    """
    train = counts["train"]
    trained = np.count_nonzero(train)
    if own and trained < 2:
        only = class_text(card, int(np.argmax(train)))
        raise DataError(
            f"{name}: all {train.sum():,} training rows are of class {only}; expected two classes or more{hint}"
        )
    doubts = []
    for part, rows in counts.items():
        unseen = np.flatnonzero((rows > 0) & (train == 0))
        if len(unseen):
            names = listed([f"{class_text(card, int(i))} ({rows[i]:,})" for i in unseen])
            sentence = f"the {part} rows have classes that no training row has: {names}{hint}"
            if own:
                raise DataError(f"{name}: {sentence}")
            doubts.append(sentence)
        if part == "train" or not rows.sum():
            continue
        if np.count_nonzero(rows) == 1:
            found = class_text(card, int(np.argmax(rows)))
            all_rows = f"all {rows.sum():,} {part} rows are" if rows.sum() > 1 else f"the only {part} row is"
            doubts.append(f"{all_rows} of class {found}, one of {trained:,}{hint or _more_rows(counts, drawn)}")
        elif own and part == "test" and len(untested := np.flatnonzero((rows == 0) & (train > 0))):
            names = listed([class_text(card, int(i)) for i in untested])
            doubts.append(
                f"no test row is of class {names}: the test accuracy says nothing about "
                f"{'it' if len(untested) == 1 else 'them'}{hint or _more_rows(counts, drawn)}"
            )
        doubts += [
            f"class {class_text(card, int(i))} has {rows[i]:,} {part} rows and only {train[i]:,} to train on{hint}"
            for i in np.flatnonzero((rows >= 5) & (rows > 4 * train) & (train > 0))[:3]
            if rows.sum() < train.sum()
        ]
    return doubts


def _more_rows(counts: Counts, drawn: int) -> str:
    """How many rows to draw, where so few were drawn by class that not every class got one."""
    rows = counts["train"] + counts["test"]
    fewest = int(rows[rows > 0].min())
    enough = -(-int(rows.sum()) // fewest)
    return f"; data.holdout={enough} or more draws rows of every class" if drawn and fewest > 1 else ""


def check_groups(parts: Mapping[str, Part]) -> list[str]:
    """Doubt groups that have training rows and rows of another part."""
    train = parts["train"].groups
    doubts = []
    for name, part in parts.items():
        if name != "train" and train is not None and part.groups is not None:
            both: NDArray[np.int64] = np.intersect1d(train, part.groups)
            if len(both):
                groups = f"{len(both):,} group{'s' * (len(both) != 1)}"
                doubts.append(f"{groups} of rows that belong together have {name} rows and training rows")
    return doubts
