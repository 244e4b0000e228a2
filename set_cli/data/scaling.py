"""How rows become network inputs: missing values filled, offset taken off, scaled, extremes cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """The network gets clip((x - offset) * scale), computed in float64 for float64 rows.

    offset, scale  (features,) float64, from the training rows
    fill           (features,) float64: what stands for a missing value (NaN); None where none is expected
    clip           largest size of an input; None: any
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    fill: NDArray[np.float64] | None = None
    clip: float | None = None

    def __call__(self, x: Rows) -> NDArray[np.float32]:
        """(n, features) rows as they are in the file -> (n, features) float32 network inputs."""
        if self.fill is not None and x.dtype != np.uint8:
            x = np.where(np.isnan(x), self.fill.astype(x.dtype), x)
        if x.dtype == np.float64:
            scaled = ((x - self.offset) * self.scale).astype(np.float32)
        else:  # as the compiled kernels do it
            scaled = (x.astype(np.float32) - self.offset.astype(np.float32)) * self.scale.astype(np.float32)
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)


def unscaled(features: int) -> Scaling:
    """The scaling that changes nothing."""
    return Scaling(np.zeros(features), np.ones(features))
