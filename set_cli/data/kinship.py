"""Rows of the user's own that are no news to the network: test rows that it was trained on, or persons it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card
from set_cli.data.naming import feature_text, group_hint, listed
from set_cli.data.parts import Labels, Part, Values

LEAST, SHARE = 3, 0.05  # rows, and part of the test rows, from which repeated ones are doubtful
CELLS = 2**20  # hashed together
SAMPLE = 2000  # rows that say how common a value is
TIED = 2 / 3  # of what its features say one by one a row says as a whole: they depend on each other
FEWEST = 20  # rows below which chance makes any pattern
GROUPS = 5  # of which a column must have as many, with two rows each on average
NUMBERED = re.compile(  # names of columns that number persons, sessions and the like, which may come in any order
    r"(?:.*[\W_])?(?:subject|patient|person|participant|speaker|writer|user|customer|household|family|session|site|"
    r"hospital|school|donor|animal|mouse|plate|batch|fold|group|cluster)s?(?:[\W_]*(?:id|no|nr|num|number|code|index))?",
    re.IGNORECASE,
)


def check_repeats(card: Card, parts: Mapping[str, Part]) -> list[str]:
    """Doubt parts whose rows have the values of training rows; not so where equal rows come by themselves."""
    others = {name: part.x for name, part in parts.items() if name != "train" and len(part)}
    if card.kind == "binary" or not others:
        return []
    train = parts["train"].x
    known = np.unique(_hashes(train))
    doubts = []
    for name, x in others.items():
        repeated = int(np.count_nonzero(np.isin(_hashes(x), known)))
        share = repeated / len(x)
        if repeated < LEAST or share < SHARE or _by_chance(train, x) > share / 2:
            continue
        doubts.append(
            f"{repeated:,} of the {len(x):,} {name} rows have the values of a training row, so they do not show what "
            "the network makes of new rows; remove repeated rows from the data, or give equal rows one group "
            "(dataset.group)"
        )
    return doubts


def _hashes(x: Values) -> NDArray[np.int64]:
    """(rows,) of the bytes of each row: 8 bytes a row are kept, however wide it is."""
    found = np.empty(len(x), np.int64)
    step = max(1, CELLS // x.shape[1])
    for i in range(0, len(x), step):
        block = x[i : i + step]
        block = np.ascontiguousarray(block if block.dtype == np.uint8 else block + 0.0)  # makes -0.0 0.0
        rows = block.view(np.dtype((np.void, block.shape[1] * block.itemsize))).ravel().tolist()
        found[i : i + step] = [hash(row) for row in rows]
    return found


def _by_chance(train: Values, x: Values) -> float:
    """The part of the rows of x that would have an equal training row if values came together by chance.

    Few different values make many equal rows. Features that depend on each other make more of them than features that
    do not, which TIED allows for.
    """
    some, rows = _spread(train), _spread(x)
    surprise = np.zeros(len(rows))
    for column, values in zip(some.T, rows.T, strict=True):
        different, counts = np.unique(column, return_counts=True)
        at = np.minimum(np.searchsorted(different, values), len(different) - 1)
        surprise -= np.log(np.where(different[at] == values, counts[at], 1) / len(some))
    with np.errstate(under="ignore"):  # a wide row is as good as impossible
        return float(np.minimum(1, len(train) * np.exp(-TIED * surprise)).mean())


def _spread(x: Values) -> Values:
    """Rows at even distances."""
    return x if len(x) <= SAMPLE else x[np.linspace(0, len(x) - 1, SAMPLE).astype(np.int64)]


def check_unused_groups(card: Card, train: Part) -> list[str]:
    """Doubt features that may number persons, days or the like; train: in the order of the file, without groups."""
    if train.groups is not None or card.shape is not None or len(train) < FEWEST:
        return []
    columns = list(_in_blocks(train))
    if not columns:
        return _by_name(card, train)
    names = listed([f"{feature_text(card, i)} ({values:,} values)" for i, values, _ in columns])
    one, rises = len(columns) == 1, all(rising for _, _, rising in columns)
    what = ("rises" if one else "rise") if rises else ("goes" if one else "go")
    how = "through the file, several rows each" if rises else "through the file by blocks of equal values"
    return [f"{names} {what} {how}: if these are groups such as persons, {group_hint(card, columns[0][0])}"]


def _by_name(card: Card, train: Part) -> list[str]:
    """Doubt whole numbers that come back and are called subject, patient_id or the like."""
    for i, name in enumerate(card.feature_names):
        if not NUMBERED.fullmatch(name):
            continue
        values = len(np.unique(train.x[:, i]))
        whole = bool((train.x[:, i] == np.trunc(train.x[:, i].astype(np.float64))).all())
        if whole and GROUPS <= values <= len(train) // 2:
            return [
                f"{feature_text(card, i)} has {values:,} whole numbers that come back: if these are groups such as "
                f"persons, {group_hint(card, i)}"
            ]
    return []


def _in_blocks(train: Part) -> Iterator[tuple[int, int, bool]]:
    """Features of whole numbers of which each has its rows in one run, how many numbers, and whether they rise."""
    x, n = train.x, len(train)
    changes = np.zeros(x.shape[1], np.int64)
    step = max(1, CELLS // x.shape[1])
    for i in range(0, n - 1, step):
        changes += np.count_nonzero(x[i + 1 : i + step + 1] != x[i : min(i + step, n - 1)], axis=0)
    for feature in np.flatnonzero((changes >= GROUPS - 1) & (2 * (changes + 1) <= n)):
        column = x[:, feature].astype(np.float64)
        values = len(np.unique(column))
        if (
            values == changes[feature] + 1
            and (column == np.trunc(column)).all()
            and not _is_class(column, values, train.y)
        ):
            yield int(feature), values, bool((np.diff(column) >= 0).all())


def _is_class(column: NDArray[np.float64], values: int, y: Labels | None) -> bool:
    """Whether each value has a class of its own, which others say."""
    if y is None or len(np.unique(y)) != values:
        return False
    return len(np.unique(np.stack([column, y]), axis=1).T) == values
