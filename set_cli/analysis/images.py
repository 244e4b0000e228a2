"""Where on a picture a network looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def border_and_centre(degrees: NDArray[np.integer], shape: tuple[int, int]) -> tuple[float, float]:
    """Mean degree of the frame, an eighth of the sides wide, and of the middle half of the picture.

    degrees  (height * width,)
    """
    picture = degrees.reshape(shape)
    height, width = shape
    frame = np.ones(shape, bool)
    frame[max(1, height // 8) : height - max(1, height // 8), max(1, width // 8) : width - max(1, width // 8)] = False
    centre = picture[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return float(picture[frame].mean()), float(centre.mean())
