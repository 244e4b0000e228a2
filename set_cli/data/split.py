"""Which rows are held out, kept for validation, or left within a limit.

`last` cuts from the end of the file, as the paper's sets are cut. `stratified` and `random` draw rows. The draw does
not depend on the run's seed: every seed of a comparison trains and tests on the same rows. The rows of a part stay in
the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from set_cli.config import Data
from set_cli.data.card import Split
from set_cli.data.parts import Labels, Part
from set_cli.errors import ConfigError, DataError

How = Literal["stratified", "random", "last"]
Mask = NDArray[np.bool_]

SPLIT_SEED = 1936  # of the draws that part rows, the same for every run
STREAMS: dict[str, int] = {"data.holdout": 0, "data.valid": 1, "data.train_limit": 2, "data.test_limit": 3}
DRAWS, GROUPS = 50, 2000  # of groups are tried at most; groups in all of them together
CANDIDATES = 32  # groups among which the one is taken that keeps the classes nearest to their proportions


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a run, and sentences about how they were chosen that the numbers alone do not say."""

    train: Part
    valid: Part
    test: Part
    notes: tuple[str, ...]


def check_split(name: str, data: Data, train: int, valid: int) -> int:
    """How many of so many training rows become validation rows; ConfigError where the split asks for too many."""
    cut = 0 if valid else data.valid
    if data.holdout + cut >= train:
        raise ConfigError(
            f"data.holdout and data.valid: expected fewer than the {train} training rows of {name} together, "
            f"found {data.holdout + cut}"
        )
    if data.valid > valid > 0:
        raise ConfigError(f"data.valid: expected at most the {valid} validation rows of {name}, found {data.valid}")
    return cut


def choose_rows(name: str, data: Data, parts: Mapping[Split, Part], *, labels: bool) -> Chosen:
    """Training, validation and test rows: held out, cut and limited as the configuration says.

    labels  whether the model learns from labels; for one that does not, a stratified draw is a random one
    ConfigError where more rows are asked for than there are, or where groups do not let them be parted; DataError where
    there are no test rows.
    """
    train, valid, test = parts["train"], parts["valid"], parts["test"]
    how: How = "random" if data.split == "stratified" and not labels else data.split
    cut = check_split(name, data, len(train), len(valid))
    notes: list[str] = []
    if data.holdout:
        if len(test):
            notes.append(f"data.holdout: the {len(test):,} test rows of the file itself are not used")
        train, test = _part(train, data.holdout, how, "data.holdout", notes)
    if cut:
        train, valid = _part(train, cut, how, "data.valid", notes)
    if not len(test):
        raise DataError(f"{name}: the files have no test rows; {_advice(how, len(train))}")
    return Chosen(
        _limit(train, data.train_limit, how, "data.train_limit", each=True),
        _limit(valid, data.valid, how, "data.valid", each=False),
        _limit(test, data.test_limit, how, "data.test_limit", each=False),
        tuple(notes),
    )


def _advice(how: How, rows: int) -> str:
    which = {
        "last": "the last N training rows",
        "random": "N training rows drawn at random",
        "stratified": "N training rows, drawn with each class in proportion",
    }[how]
    return f"data.holdout=N tests on {which} (a fifth of them: data.holdout={max(1, rows // 5)})"


def _part(part: Part, count: int, how: How, key: str, notes: list[str]) -> tuple[Part, Part]:
    """The rows that stay and the `count` that leave; how many those are where groups decide is noted."""
    if part.groups is not None:
        taken = _whole_groups(part, part.groups, count, how, key)
        found = int(taken.sum())
        if found != count:
            notes.append(f"{key}: took {found:,} rows where {count:,} were asked for: groups are never cut in two")
    elif how == "last":
        return part[:-count], part[-count:]  # views: a mapped file stays one
    elif how == "random" or part.y is None:
        taken = _drawn(_rng(key), len(part), count)
    else:
        rows = np.bincount(part.y)
        most = np.maximum(rows - 1, 0)  # every class keeps a training row
        if count > most.sum():
            raise ConfigError(
                f"{key}: expected at most {most.sum():,} of {len(part):,} rows, so that each class keeps one to train "
                f"on, found {count:,}"
            )
        taken = _drawn_by_class(_rng(key), part.y, shares(rows, count, np.zeros_like(rows), most))
    return part[~taken], part[taken]


def _limit(part: Part, limit: int | None, how: How, key: str, *, each: bool) -> Part:
    """Take at most so many rows of a part, at least one of each class where that is asked and possible.

    Rows of a group may be left out here: no other part gets them.
    """
    if limit is None or limit >= len(part):
        return part
    if how == "last":
        return part[:limit]
    if how == "random" or part.y is None:
        return part[_drawn(_rng(key), len(part), limit)]
    rows = np.bincount(part.y)
    least = np.minimum(rows, 1) if each and limit >= np.count_nonzero(rows) else np.zeros_like(rows)
    return part[_drawn_by_class(_rng(key), part.y, shares(rows, limit, least, rows))]


def shares(rows: Labels, count: int, least: Labels, most: Labels) -> Labels:
    """(classes,) how many rows of each class make `count` in proportion, by largest remainder, within these bounds.

    rows         (classes,) rows that each class has
    least, most  (classes,) bounds; the sums of them must lie on both sides of count
    """
    total = int(rows.sum())
    wanted = rows * count  # times total: whole numbers, so that equal classes are treated as equal
    given = np.clip(wanted // total, least, most)
    while missing := count - int(given.sum()):
        step = 1 if missing > 0 else -1
        allowed = np.flatnonzero(given < most if missing > 0 else given > least)
        order = np.argsort(-step * (wanted - given * total)[allowed], kind="stable")
        given[allowed[order[: abs(missing)]]] += step
    return given


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng([SPLIT_SEED, STREAMS[key]])


def _drawn(rng: np.random.Generator, rows: int, count: int) -> Mask:
    mask = np.zeros(rows, bool)
    mask[rng.permutation(rows)[:count]] = True
    return mask


def _drawn_by_class(rng: np.random.Generator, y: Labels, counts: Labels) -> Mask:
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # by class, shuffled within it
    first = np.concatenate([[0], np.cumsum(np.bincount(y))])
    mask = np.zeros(len(y), bool)
    for start, count in zip(first, counts, strict=False):
        mask[order[start : start + count]] = True
    return mask


def _whole_groups(part: Part, groups: Labels, count: int, how: How, key: str) -> Mask:
    """(rows,) which rows leave: whole groups whose rows come as near to `count` as drawing one by one gets.

    ConfigError where all rows are one group.
    """
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ConfigError(f"{key}: expected rows of several groups (dataset.group), found one, which is not cut in two")
    if how == "last":
        taken = _last_groups(group, sizes, count)
    else:
        classes = None
        if how == "stratified" and part.y is not None:
            shape = (len(sizes), int(part.y.max()) + 1)
            classes = csr_array((np.ones(len(group), np.int64), (group, part.y)), shape)
        taken = _drawn_groups(_rng(key), classes, sizes, count)
    mask: Mask = np.isin(group, taken)
    return mask


def _drawn_groups(rng: np.random.Generator, classes: csr_array | None, sizes: Labels, count: int) -> list[int]:
    """The first draw that has `count` rows, or the one that comes nearest; of many small groups any comes near."""
    best: list[int] = []
    for _ in range(max(1, min(DRAWS, GROUPS // len(sizes)))):
        order = rng.permutation(len(sizes))
        if classes is None:
            taken = _fill_up([int(i) for i in _fitting(order, sizes, count)], order, sizes, count)
        else:
            taken = _proportional_groups(classes, order, sizes, count)
        if not best or abs(sizes[taken].sum() - count) < abs(sizes[best].sum() - count):
            best = taken
        if sizes[best].sum() == count:
            break
    return best


def _last_groups(group: Labels, sizes: Labels, count: int) -> list[int]:
    last_row = np.zeros(len(sizes), np.int64)
    last_row[group] = np.arange(len(group))  # of several rows the last one stays
    taken: list[int] = []
    rows = 0
    for i in np.argsort(-last_row)[:-1]:
        if taken and abs(rows + sizes[i] - count) >= abs(rows - count):
            break
        taken.append(int(i))
        rows += int(sizes[i])
    return taken


def _fitting(order: Labels, sizes: Labels, count: int) -> Iterator[int]:
    """Groups in this order, each of them that still fits."""
    for i in order:
        if sizes[i] <= count:
            count -= int(sizes[i])
            yield int(i)


def _fill_up(taken: list[int], order: Labels, sizes: Labels, count: int) -> list[int]:
    """One group more where that comes nearer to `count` than stopping short of it, or where none was taken."""
    short = count - int(sizes[taken].sum())
    left = np.setdiff1d(order, taken)
    if not short or len(left) < 2:
        return taken
    nearest = left[np.argmin(sizes[left])]
    if not taken or sizes[nearest] - short < short:
        return [*taken, int(nearest)]
    return taken


def _proportional_groups(classes: csr_array, order: Labels, sizes: Labels, count: int) -> list[int]:
    """Groups by which each class comes near to its proportion and none loses its last training row.

    classes  (groups, classes) rows of each class in each group
    """
    left = classes.sum(axis=0)
    proportion = left / left.sum()
    drawn, taken, waiting = np.zeros_like(left), list[int](), order
    while True:
        waiting = waiting[sizes[waiting] <= count - int(drawn.sum())]
        if not len(waiting):
            break
        near = waiting[:CANDIDATES]
        found = classes[near].toarray()
        possible = ~((found == left) & (left > 0)).any(axis=1)
        if not possible.any():
            waiting = waiting[CANDIDATES:]
            continue
        after = drawn + found
        off = ((after - after.sum(axis=1, keepdims=True) * proportion) ** 2).sum(axis=1)
        best = int(np.argmin(np.where(possible, off, np.inf)))
        drawn, left = after[best], left - found[best]
        taken.append(int(near[best]))
        waiting = waiting[waiting != near[best]]
    rest = np.setdiff1d(order, taken)
    harmless = [i for i in rest if not ((classes[[i]].toarray()[0] == left) & (left > 0)).any()] if len(rest) else []
    return _fill_up(taken, np.array([*taken, *harmless], np.int64), sizes, count)
