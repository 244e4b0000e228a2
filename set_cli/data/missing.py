"""What stands for a missing value (NaN): a figure of the training rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card
from set_cli.data.naming import drop_hint, feature_text, listed
from set_cli.data.parts import Part
from set_cli.errors import DataError

CELLS = 2**22  # looked at together

Mask = NDArray[np.bool_]


def fill_values(card: Card, train: Part, how: Literal["mean", "median", "zero"]) -> NDArray[np.float64]:
    """(features,) what stands for a missing value, from the training rows that have one.

    DataError names a feature that no training row has, and one whose values are too large to be added up.
    """
    step = max(1, CELLS // max(1, len(train)))
    found = [_columns(train.x[:, i : i + step], how) for i in range(0, card.features, step)]
    fill = np.concatenate([values for values, _ in found])
    empty = np.flatnonzero(np.concatenate([none for _, none in found]))
    if len(empty):
        names = listed([feature_text(card, int(i)) for i in empty])
        has = "has" if len(empty) == 1 else "have"
        raise DataError(
            f"data.missing={how}: {names} {has} no value in any training row; {drop_hint(card, empty.tolist())}"
        )
    if not np.isfinite(fill).all():
        name = feature_text(card, int(np.argmin(np.isfinite(fill))))
        raise DataError(f"data.missing={how}: the values of {name} are too large to be added up; scale them down")
    return fill


def _columns(x: NDArray[np.generic], how: Literal["mean", "median", "zero"]) -> tuple[NDArray[np.float64], Mask]:
    """Fill values of these columns, and which of them are empty."""
    values = x.astype(np.float64)
    empty: Mask = np.all(np.isnan(values), axis=0)
    if how == "zero" or not len(values):
        return np.zeros(values.shape[1]), empty
    values[:, empty] = 0
    with np.errstate(over="ignore"):
        fill = np.nanmedian(values, axis=0) if how == "median" else np.nanmean(values, axis=0)
    return np.asarray(fill), empty


def filled(part: Part, fill: NDArray[np.float64]) -> Part:
    """The part with every NaN replaced by its feature's value."""
    gaps = gaps_of(part)
    return part if gaps is None else replace(part, x=np.where(gaps, fill.astype(part.x.dtype), part.x))


def gaps_of(part: Part) -> Mask | None:
    """(rows, features) where values are missing; None where none is."""
    if part.x.dtype == np.uint8:
        return None
    gaps = np.isnan(part.x)
    return gaps if gaps.any() else None


def fill_sentence(card: Card, parts: list[Part], how: str) -> list[str]:
    """How many values were missing, and of which features; empty where none was."""
    gaps = np.zeros(card.features, np.int64)
    for part in parts:
        found = gaps_of(part)
        if found is not None:
            gaps += found.sum(axis=0)
    count, columns = int(gaps.sum()), np.flatnonzero(gaps)
    if not count:
        return []
    values = sum(part.x.size for part in parts)
    worst = columns[np.argsort(-gaps[columns], kind="stable")]
    names = listed([f"{feature_text(card, int(i))}: {gaps[i]:,}" for i in worst])
    stands = "zero stands" if how == "zero" else f"the {how} of the training rows stands"
    return [f"{count:,} of {values:,} values are missing ({names}); {stands} for them (data.missing={how})"]
