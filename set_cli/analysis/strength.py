"""How much a trained network looks at each of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr, check_pattern


def input_strength(pattern: Csr, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n_in,): the sum of the absolute weights that leave each input, a measure of its importance.

    weights  (nnz,) in the pattern's storage order
    Atashgahi et al., Machine Learning 111:377 (2022), use it to choose features. ValueError for another length.
    """
    if weights.shape != (pattern.nnz,):
        raise ValueError(f"expected {pattern.nnz} weights, got shape {weights.shape}")
    rows = np.repeat(np.arange(pattern.shape[0]), pattern.out_degrees())
    strengths = np.zeros(pattern.shape[0])
    np.add.at(strengths, rows, np.abs(weights))
    return strengths


def strength_from_checkpoint(
    arrays: Mapping[str, NDArray[Any]], layer: str, shape: tuple[int, int]
) -> NDArray[np.float64] | None:
    """The same of a layer in a checkpoint; None where it is not sparse there. ValueError for a broken pattern."""
    names = [f"model/{layer}.{part}" for part in ("indptr", "indices", "weight")]
    if not all(name in arrays for name in names):
        return None
    indptr, indices, weights = (arrays[name] for name in names)
    if weights.dtype != np.float32 or not np.isfinite(weights).all():
        raise ValueError("expected finite float32 weights")
    return input_strength(check_pattern(Csr(indptr, indices, shape)), weights)
