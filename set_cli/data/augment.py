"""Image augmentation: crops, the movements of the authors' CIFAR10 script (rotation, shifts, flip), and cutout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from set_cli.config import Augment
from set_cli.errors import ConfigError
from set_cli.system import streams

# Numbers of the streams of an epoch, beside the movements' own: what one key draws is not changed by another.
CROPS, SQUARES = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What is done to each of n images, in this order; None: nothing of the kind.

    crops    (n, 2) int32: the image is read so many pixels further down and to the right, reflected at its borders
    maps     (n, 2, 3) float32, from output to input coordinates (grid_sample's)
    squares  (n, 4) int32: the lines [top, bottom) and columns [left, right) that become blank
    """

    crops: Tensor | None = None
    maps: Tensor | None = None
    squares: Tensor | None = None

    def of(self, rows: Tensor) -> Changes:
        """The changes of some of the images."""
        return Changes(*(None if each is None else each[rows] for each in self._each()))

    def to(self, device: torch.device) -> Changes:
        return Changes(*(None if each is None else each.to(device) for each in self._each()))

    def for_kernels(self) -> Changes:
        """The same on the CPU, each contiguous and of the type that it is said to have."""
        dtypes = (torch.int32, torch.float32, torch.int32)
        return Changes(
            *(
                None if each is None else each.to("cpu", dtype).contiguous()
                for each, dtype in zip(self._each(), dtypes, strict=True)
            )
        )

    def after(self, first: int) -> Changes:
        """The changes from this image on."""
        return Changes(*(None if each is None else each[first:] for each in self._each()))

    @property
    def is_nothing(self) -> bool:
        return all(each is None for each in self._each())

    def check(self, rows: int) -> None:
        """ValueError where they are not those of so many images."""
        for name, each, shape in zip(("crops", "maps", "squares"), self._each(), ((2,), (2, 3), (4,)), strict=True):
            if each is not None and each.shape != (rows, *shape):
                raise ValueError(
                    f"expected {name} of shape {(rows, *shape)}, one for each row, got {tuple(each.shape)}"
                )

    def _each(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.crops, self.maps, self.squares


def check_images(augment: Augment, name: str, shape: tuple[int, ...] | None) -> None:
    """ConfigError where rows of this shape cannot be changed so."""
    if not augment.changes_images:
        return
    if shape is None:
        raise ConfigError(f"data.augment needs images; {name} has none")
    side = min(shape[-2:])
    if side < 2 and augment.moves_images:
        raise ConfigError(
            f"data.augment.rotation, shift and flip need images of at least 2 pixels a side; those of {name} have "
            f"{shape[-2]}x{shape[-1]}"
        )
    if augment.crop >= side:
        raise ConfigError(
            f"data.augment.crop: expected fewer than {side} pixels, the shorter side of the images of {name}, which a "
            f"reflected border cannot exceed, found {augment.crop}"
        )
    if augment.cutout > side:
        raise ConfigError(
            f"data.augment.cutout: expected at most {side} pixels, the shorter side of the images of {name}, found "
            f"{augment.cutout}"
        )


def draw_changes(augment: Augment, rows: int, shape: tuple[int, ...], seed: int, epoch: int) -> Changes:
    """The changes of every training row in an epoch.

    Drawn for the whole epoch at once, so that a row's changes do not depend on the order of the batches.
    """
    found: dict[str, Tensor] = {}
    if augment.moves_images:
        rng = streams.generator(seed, "augment", epoch)
        found["maps"] = torch.from_numpy(draw_transforms(augment, rows, shape, rng))
    if augment.crop:
        rng = streams.generator(seed, "augment", epoch, CROPS)
        found["crops"] = torch.from_numpy(rng.integers(-augment.crop, augment.crop + 1, (rows, 2), dtype=np.int32))
    if augment.cutout:
        rng = streams.generator(seed, "augment", epoch, SQUARES)
        found["squares"] = torch.from_numpy(draw_squares(augment.cutout, rows, shape, rng))
    return Changes(**found)


def draw_transforms(
    config: Augment, rows: int, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(rows, 2, 3) float32: for every training row the map from output to input coordinates (grid_sample's).

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


def draw_squares(side: int, rows: int, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    """(rows, 4) int32: squares around any pixel, cut off at the image's border (DeVries and Taylor 2017)."""
    size = np.array(shape[-2:])
    first = rng.integers(0, size, (rows, 2)) - side // 2
    ends = np.stack([first, first + side], axis=2).clip(0, size[:, None])
    return ends.reshape(rows, 4).astype(np.int32)


def changed(x: Tensor, changes: Changes, shape: tuple[int, ...], blank: Tensor) -> Tensor:
    """x (n, features) float32 images of `shape`, changed; blank (features,): what their squares become."""
    if changes.crops is not None:
        x = cropped(x, changes.crops, shape)
    if changes.maps is not None:
        x = transform(x, changes.maps.to(x.dtype), shape)
    return x if changes.squares is None else blanked(x, changes.squares, shape, blank)


def cropped(x: Tensor, crops: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x (n, features) images of `shape`, read further down and to the right by crops (n, 2) pixels."""
    height, width = shape[-2:]
    lines, columns = (
        _reflected(torch.arange(size, device=x.device) + crops[:, i : i + 1].long(), size)
        for i, size in enumerate((height, width))
    )
    pixels = (lines[:, :, None] * width + columns[:, None, :]).view(len(x), 1, -1)
    images = x.view(len(x), -1, height * width)
    return images.gather(2, pixels.expand_as(images)).view(len(x), -1)


def _reflected(at: Tensor, size: int) -> Tensor:
    """Indices beyond the borders, reflected at them; the outermost pixels are not repeated."""
    return (size - 1) - ((size - 1) - at.abs()).abs()


def transform(x: Tensor, maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x (n, features) float32 images of `shape`, moved by maps (n, 2, 3); bilinear, edges repeated outwards."""
    height, width = shape[-2:]
    images = x.view(len(x), -1, height, width)
    grid = F.affine_grid(maps, list(images.shape), align_corners=True)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.view(len(x), -1)


def blanked(x: Tensor, squares: Tensor, shape: tuple[int, ...], blank: Tensor) -> Tensor:
    """x (n, features) images of `shape`, blank in the lines and columns of squares (n, 4)."""
    height, width = shape[-2:]
    lines, columns = (
        (at >= squares[:, i : i + 1]) & (at < squares[:, i + 1 : i + 2])
        for i, at in ((0, torch.arange(height, device=x.device)), (2, torch.arange(width, device=x.device)))
    )
    inside = lines[:, None, :, None] & columns[:, None, None, :]
    images = x.view(len(x), -1, height, width)
    return torch.where(inside, blank.view(-1, height, width), images).view(len(x), -1)
