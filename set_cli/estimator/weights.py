"""Sample and class weights, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from set_cli.data.drawn import balanced


def sample_weights(given: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """(n,) weights, 1 where none are given; ValueError for others than finite ones of 0 and more, or all 0."""
    if given is None:
        return np.ones(n)
    weights = np.asarray(given, np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight: expected shape ({n},), one for each row, found {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("sample_weight: expected finite numbers of 0 and more, found others")
    if not weights.any():
        raise ValueError("sample_weight: expected some above 0, found zero for every row")
    return weights


def class_factors(given: Any, classes: NDArray[Any], totals: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(classes,) factors of the rows' weights; None: all alike.

    given   None, 'balanced' or a mapping from labels; those it does not name have 1
    totals  (classes,) weight of the rows of each class
    ValueError for anything else, and where a label is not in the mapping while the mapping has one that is no class.
    """
    if given is None:
        return None
    if isinstance(given, str) and given == "balanced":
        return balanced(totals)
    if not isinstance(given, Mapping):
        raise ValueError(f"class_weight: expected None, 'balanced' or a dictionary, found {given!r}")
    factors = np.array([given.get(label, 1.0) for label in classes.tolist()], np.float64)
    unknown, missing = set(given) - set(classes.tolist()), set(classes.tolist()) - set(given)
    if unknown and missing:
        raise ValueError(f"class_weight: expected the labels {classes.tolist()}, found {sorted(unknown, key=str)}")
    if not np.isfinite(factors).all() or factors.min() < 0 or not factors[totals > 0].any():
        raise ValueError("class_weight: expected finite numbers of 0 and more, not all 0, found others")
    return factors
