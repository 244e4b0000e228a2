"""How rows become network inputs: missing values filled, offset taken off, scaled, extremes cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Data
from set_cli.data.card import Card
from set_cli.data.naming import feature_text, listed
from set_cli.data.parts import Part
from set_cli.errors import DataError

Rows = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]

CHUNK = 4096  # rows turned to float64 at a time: a mapped file is never in memory as a whole
CELLS = 2**22
FAR = 30  # deviations: a value that is so rare in the training rows makes training explode


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """The network gets clip((x - offset) * scale), computed in float64 for float64 rows.

    offset, scale  (features,) float64, from the training rows
    fill           (features,) float64: what stands for a missing value (NaN); None where none is expected
    clip           largest size of an input; None: any
    blank          (features,) float64: what the network gets of a pixel that is cut out; None: 0
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    fill: NDArray[np.float64] | None = None
    clip: float | None = None
    blank: NDArray[np.float64] | None = None

    def __call__(self, x: Rows) -> NDArray[np.float32]:
        """(n, features) rows as they are in the file -> (n, features) float32 network inputs."""
        if self.fill is not None and x.dtype != np.uint8:
            x = np.where(np.isnan(x), self.fill.astype(x.dtype), x)
        if x.dtype == np.float64:
            with np.errstate(over="ignore"):  # rows far outside what was trained on may become infinite
                scaled = ((x - self.offset) * self.scale).astype(np.float32)
        else:  # as the compiled kernels do it
            scaled = (x.astype(np.float32) - self.offset.astype(np.float32)) * self.scale.astype(np.float32)
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)


def unscaled(features: int) -> Scaling:
    """The scaling of rows that are scaled already."""
    return Scaling(np.zeros(features), np.ones(features))


def in_chunks(scaling: Scaling, x: Rows) -> NDArray[np.float32]:
    """`scaling(x)`, with no more than a few thousand rows in float64 beside it."""
    scaled, rows = np.empty(x.shape, np.float32), rows_at_once(x.shape[1])
    for i in range(0, len(x), rows):
        scaled[i : i + rows] = scaling(x[i : i + rows])
    return scaled


def fit_scaling(
    card: Card, train: Part, data: Data, fill: NDArray[np.float64] | None = None
) -> tuple[Scaling, list[str]]:
    """Offset and scale of every feature, from the training rows alone, and sentences about values far out.

    train  without missing values
    DataError where a feature's values are too large for float64 to hold their spread, or where none of them varies.
    """
    if data.scaling == "unit":
        offset, scale = _unit(card, train)
        blank = (mean_of(train) - offset) * scale if data.augment.cutout else None
        return Scaling(offset, scale, fill, data.clip, blank), []
    spread = _spread_of_doubles(card, train) if train.x.dtype == np.float64 else _spread(train)
    # A constant feature carries nothing: it becomes 0 everywhere instead of a division by zero.
    scale = np.divide(1, spread.deviation, out=np.zeros_like(spread.deviation), where=spread.deviation > 0)
    scaling = Scaling(spread.mean, scale, fill, data.clip)
    return scaling, _far_out(card, train, scaling, spread.furthest * scale)


@dataclass(frozen=True, slots=True)
class _Spread:
    """(features,) float64 each; furthest: the largest distance of a value from the mean."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    furthest: NDArray[np.float64]


def _spread(train: Part) -> _Spread:
    mean = mean_of(train)
    variance: NDArray[np.float64] | int = 0
    furthest = np.zeros_like(mean)
    for chunk in _chunks(train):
        off = chunk - mean
        variance = variance + (off**2).sum(axis=0)
        np.maximum(furthest, np.abs(off, out=off).max(axis=0), out=furthest)
    return _Spread(mean, np.sqrt(variance / len(train)), furthest)


def _spread_of_doubles(card: Card, train: Part) -> _Spread:
    """Spread of values that may lie close together far from 0 (Unix seconds), or be huge or tiny.

    Everything is measured from the first row in units of the largest distance from it, so that nothing is lost to
    rounding, overflows or vanishes.
    """
    first = train.x[0].astype(np.float64)
    furthest = np.zeros_like(first)
    at_once = rows_at_once(len(first))
    with np.errstate(over="ignore"):
        for chunk in _chunks(train, at_once):
            np.maximum(furthest, np.abs(chunk - first).max(axis=0), out=furthest)
    if not np.isfinite(furthest).all():
        name = feature_text(card, int(np.argmin(np.isfinite(furthest))))
        raise DataError(f"{card.title}: the values of {name} are too large for their spread to be a number; scale them")
    unit = np.where(furthest > 0, furthest, 1)
    with np.errstate(under="ignore"):
        centre = sum(((chunk - first) / unit).sum(axis=0) for chunk in _chunks(train, at_once)) / len(train)
        variance, largest = np.zeros_like(first), np.zeros_like(first)
        for chunk in _chunks(train, at_once):
            off = (chunk - first) / unit - centre
            variance += (off**2).sum(axis=0)
            np.maximum(largest, np.abs(off).max(axis=0), out=largest)
        deviation = np.sqrt(variance / len(train)) * unit
        deviation[deviation < np.finfo(np.float64).tiny] = 0  # its inverse would be infinite
        return _Spread(first + centre * unit, deviation, largest * unit)


def _chunks(part: Part, rows: int = CHUNK) -> Iterator[Rows]:
    for i in range(0, len(part), rows):
        yield part.x[i : i + rows]


def rows_at_once(features: int) -> int:
    """Rows of doubles to look at together: as few as a wide table needs."""
    return max(1, min(CHUNK, CELLS // max(1, features)))


def mean_of(part: Part) -> NDArray[np.float64]:
    """(features,) mean of the rows."""
    total = np.zeros(part.x.shape[1])
    for chunk in _chunks(part):
        total += chunk.sum(axis=0, dtype=np.float64)
    return total / len(part)


def _unit(card: Card, train: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """To [0, 1]: by the largest value that is possible, or where there is none by what the training rows have."""
    if card.kind != "real":
        return np.zeros(card.features), np.full(card.features, 1 / card.maximum)
    low, high = train.x.min(axis=0).astype(np.float64), train.x.max(axis=0).astype(np.float64)
    with np.errstate(over="ignore"):
        width = high - low
    if not np.isfinite(width).all():
        name = feature_text(card, int(np.argmin(np.isfinite(width))))
        raise DataError(f"{card.title}: the values of {name} are too large for their range to be a number; scale them")
    width[width < np.finfo(np.float64).tiny] = 0
    return low, np.divide(1, width, out=np.zeros_like(low), where=width > 0)


def _far_out(card: Card, train: Part, scaling: Scaling, furthest: NDArray[np.float64]) -> list[str]:
    """Which features have training values so far out that they are cut off, or that training may explode.

    furthest  (features,) largest size of a standardised training value
    """
    limit = FAR if scaling.clip is None else scaling.clip
    beyond = np.flatnonzero(furthest > limit)
    if not len(beyond):
        return []
    worst = beyond[np.argsort(-furthest[beyond], kind="stable")]
    named = []
    for i in worst[:3]:
        sizes = np.abs((train.x[:, i] - scaling.offset[i]) * scaling.scale[i])
        rows = int(np.count_nonzero(sizes > limit))
        named.append(f"{feature_text(card, int(i))} at {furthest[i]:.1f} in {rows:,} row{'s' * (rows != 1)}")
    names = listed([*named, *[""] * (len(worst) - len(named))])
    if scaling.clip is None:
        advice = "data.clip=5 cuts them off, data.scaling=unit has none"
        return [f"training values far from the mean, in deviations: {names}; {advice}"]
    return [f"training values beyond {scaling.clip:g} deviations are cut off there (data.clip), the largest: {names}"]
