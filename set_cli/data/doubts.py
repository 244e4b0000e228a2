"""What in the user's own rows makes a figure doubtful: columns that are no measurements, parts on different scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card
from set_cli.data.naming import drop_hint, feature_text, listed
from set_cli.data.parts import Labels, Part, Values
from set_cli.data.scaling import Scaling
from set_cli.errors import DataError

FEWEST = 20  # rows below which chance makes any pattern
SHUFFLED = 50  # rows from which different whole numbers without many gaps are no chance
ROWS = 2000  # of a part, whose scale is looked at
CELLS = 2**22  # looked at together
OTHER_SCALE = 8  # times larger or smaller, in the middle feature
DARK = 128  # bytes below this in all rows are hardly pixels


def check_columns(card: Card, name: str, parts: Mapping[str, Part]) -> list[str]:
    """Doubt features that count the rows; parts: as the source has them.

    DataError where a row number gives the class away in a file that is sorted by class.
    """
    train = parts["train"]
    if len(train) < FEWEST:
        return []
    return _counting(card, name, train) or _shuffled(card, [part for part in parts.values() if len(part)], train)


def _counting(card: Card, name: str, train: Part) -> list[str]:
    """Features that rise or fall from each row to the next one, in the order of the file."""
    x = train.x
    steps = np.diff(x[:FEWEST].astype(np.float64), axis=0)
    candidates = np.flatnonzero((steps > 0).all(axis=0) | (steps < 0).all(axis=0))
    columns = [int(i) for i in candidates if _counts(x[:, i].astype(np.float64))]
    if not columns:
        return []
    names, first = listed([feature_text(card, i) for i in columns]), x[:, columns[0]].astype(np.float64)
    they = f"{names} count{'s' * (len(columns) == 1)} the rows: from {first[0]:.12g} to {first[-1]:.12g} in order"
    hint = drop_hint(card, columns)
    changes = 0 if train.y is None else int(np.count_nonzero(np.diff(train.y)))
    if changes == 0 or changes != len(np.unique(train.labels)) - 1:
        near = ", and rows with near numbers are of one class, so this may give the class away"
        return [f"{they}{near if _tells_class(x[:, columns[0]], train.y) else ''}; {hint}"]
    if any(x[0, i] in (0, 1) and (np.diff(x[:, i].astype(np.float64)) == 1).all() for i in columns):
        raise DataError(f"{name}: {they}, and the file is sorted by class, so this gives the class away; {hint}")
    return [f"{they}, and the file is sorted by class, so this may give the class away; {hint}"]


def _counts(column: NDArray[np.float64]) -> bool:
    """Whether values rise or fall without exception, by whole numbers or in equal steps."""
    steps = np.diff(column)
    if not ((steps > 0).all() or (steps < 0).all()):
        return False
    whole = bool((column == np.trunc(column)).all())
    return whole or bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))


def _shuffled(card: Card, parts: list[Part], train: Part) -> list[str]:
    """Features that number the rows of a file whose rows were put in another order afterwards, or left out in part."""
    n = sum(len(part) for part in parts)
    low = np.min([part.x.min(axis=0) for part in parts], axis=0).astype(np.float64)
    high = np.max([part.x.max(axis=0) for part in parts], axis=0).astype(np.float64)
    span = high - low + 1
    candidates = np.flatnonzero((span == n) | ((span > n) & (span < 2 * n) & (n >= SHUFFLED)))
    columns = []
    for i in candidates:
        values = np.concatenate([part.x[:, i] for part in parts])
        if (values == np.trunc(values)).all() and len(np.unique(values)) == n:
            columns.append(int(i))
    if not columns or len(columns) > 2:  # so many are ranks
        return []
    names = listed([feature_text(card, i) for i in columns])
    sentence = f"{names} number{'s' * (len(columns) == 1)} the rows: no value comes twice"
    if any(_tells_class(train.x[:, i], train.y) for i in columns):
        sentence += ", and rows with near numbers are of one class, so this gives the class away"
    return [f"{sentence}; {drop_hint(card, columns)}"]


def _tells_class(column: Values, y: Labels | None) -> bool:
    """Whether the class changes far less often along this column than it would by chance."""
    if y is None:
        return False
    share = np.bincount(y) / len(y)
    by_chance = (len(y) - 1) * (1 - (share**2).sum())
    return bool(4 * np.count_nonzero(np.diff(y[np.argsort(column, kind="stable")])) < by_chance)


def check_scales(card: Card, parts: Mapping[str, Part]) -> list[str]:
    """Doubt parts whose values are not on the scale of the training rows."""
    train = _sample(parts["train"].x)
    others = {name: _sample(part.x) for name, part in parts.items() if name != "train" and len(part) >= FEWEST // 2}
    if len(train) < FEWEST // 2:
        return []
    return [sentence for name, x in others.items() for sentence in _other_scale(card, name, train, x)]


def _sample(x: Values) -> Values:
    """Rows at even distances, enough to see the scale of a feature by."""
    rows = min(len(x), max(100, min(ROWS, 2 * CELLS // x.shape[1])))
    return x[np.linspace(0, len(x) - 1, rows).astype(np.int64)] if rows < len(x) else x


def _other_scale(card: Card, name: str, train: Values, x: Values) -> Iterator[str]:
    """Compare the middle of each feature's spread, so that rare values decide nothing."""
    ratios, outside = [], 0
    step = max(1, CELLS // len(train))
    for i in range(0, card.features, step):
        columns = slice(i, i + step)
        low, high = train[:, columns].min(axis=0), train[:, columns].max(axis=0)
        before, now = _width(train[:, columns]), _width(x[:, columns])
        vary = (before > 0) & (now > 0)
        ratios.append(now[vary] / before[vary])
        typical = np.median(x[:, columns], axis=0)
        outside += int(np.count_nonzero((typical < low) | (typical > high)))
    ratio = float(np.median(np.concatenate(ratios))) if any(map(len, ratios)) else _peak(x) / (_peak(train) or 1)
    largest = f"the largest value is {_peak(x):.4g} there and {_peak(train):.4g} in the training rows"
    if 0 < ratio < 1 / OTHER_SCALE or ratio > OTHER_SCALE:
        factor = f"{ratio:.3g} times wider" if ratio > 1 else f"{1 / ratio:.3g} times narrower"
        yield (
            f"the {name} rows are on another scale: their values spread {factor} than those of the training rows, and "
            f"{largest}"
        )
    elif 2 * outside > card.features:
        yield (
            f"the {name} rows are on another scale: in {outside:,} of {card.features:,} features most of their values "
            f"lie outside what the training rows have, and {largest}"
        )


def _width(x: Values) -> NDArray[np.float64]:
    low, high = np.quantile(x.astype(np.float64), [0.1, 0.9], axis=0)
    width: NDArray[np.float64] = high - low
    return width


def _peak(x: Values) -> float:
    return float(np.abs(x.astype(np.float64)).max())


def check_constant(card: Card, name: str, scaling: Scaling) -> list[str]:
    """Name features that have one value in all training rows, which the network gets as 0; not pixels at the border.

    DataError where no feature varies.
    """
    constant = np.flatnonzero(scaling.scale == 0)
    if len(constant) == card.features:
        raise DataError(f"{name}: every feature has one value in all training rows, so there is nothing to learn from")
    if not len(constant) or card.shape is not None:
        return []
    names = listed([feature_text(card, int(i)) for i in constant])
    return [
        f"features with one value in all training rows say nothing: {len(constant):,} of {card.features:,} ({names})"
    ]


def check_bytes(card: Card, parts: Mapping[str, Part], scaling: str) -> list[str]:
    """Doubt bytes that are divided by 255 although none of them is nearly so large."""
    largest = max(int(part.x.max()) for part in parts.values() if len(part))
    if scaling != "unit" or card.kind != "bounded" or card.maximum != 255 or largest >= DARK:
        return []
    return [
        f"values are bytes, and bytes are divided by 255; the largest is {largest}, so that no input exceeds "
        f"{largest / 255:.2g}: if they are no pixels, save them divided by {largest}"
    ]
