"""Image augmentation as the authors' CIFAR10 script: rotation, shifts, horizontal flip."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from set_cli.config import Augment


def draw_transforms(
    config: Augment, rows: int, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(rows, 2, 3) float32: for every training row the map from output to input coordinates (grid_sample's).

    Drawn for a whole epoch at once, so that a row's transform does not depend on the order of the batches.
    Rotation uniform in ±rotation degrees, shifts uniform in ±shift of height and width, each row flipped or not.
    """
    height, width = shape[-2:]
    angle = np.radians(rng.uniform(-config.rotation, config.rotation, rows))
    down, right = rng.uniform(-config.shift, config.shift, (2, rows))
    mirror = np.where(rng.random(rows) < 0.5, -1.0, 1.0) if config.flip else np.ones(rows)
    # Coordinates run from -1 to 1 between the centres of the outermost pixels, so a pixel step is 2 / (size - 1).
    aspect = (height - 1) / (width - 1)
    cos, sin = np.cos(angle), np.sin(angle)
    x_row = np.stack([cos * mirror, -sin * aspect, 2 * right * width / (width - 1)], axis=1)
    y_row = np.stack([sin / aspect * mirror, cos, 2 * down * height / (height - 1)], axis=1)
    return np.stack([x_row, y_row], axis=1).astype(np.float32)


def transform(x: Tensor, maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x (n, features) float32 images of `shape`, moved by maps (n, 2, 3); bilinear, edges repeated outwards."""
    height, width = shape[-2:]
    images = x.view(len(x), -1, height, width)
    grid = F.affine_grid(maps, list(images.shape), align_corners=True)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.view(len(x), -1)
