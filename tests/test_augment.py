"""Augmentation: each movement against numpy's own, and every row's transform a function of seed, epoch and row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from set_cli import streams
from set_cli.config import Augment
from set_cli.data.augment import draw_transforms, transform

SHAPES = [(3, 32, 32), (8, 8), (2, 16, 8)]


def images(shape: tuple[int, ...], rows: int = 4) -> torch.Tensor:
    return torch.rand(rows, int(np.prod(shape)), generator=torch.Generator().manual_seed(0))


def as_maps(rows: int, map_2_by_3: list[list[float]]) -> torch.Tensor:
    return torch.tensor([map_2_by_3] * rows, dtype=torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_movement_changes_nothing(shape: tuple[int, ...]) -> None:
    x = images(shape)
    maps = torch.from_numpy(
        draw_transforms(Augment(rotation=0.0, shift=0.0, flip=False), 4, shape, streams.generator(0, "augment", 1))
    )
    torch.testing.assert_close(transform(x, maps, shape), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_left_to_right(shape: tuple[int, ...]) -> None:
    x = images(shape, 200)
    maps = torch.from_numpy(
        draw_transforms(Augment(rotation=0.0, shift=0.0, flip=True), 200, shape, streams.generator(0, "augment", 1))
    )
    moved = transform(x, maps, shape).reshape(200, -1, shape[-1])
    before = x.reshape(200, -1, shape[-1])
    flipped = torch.isclose(moved, before.flip(-1), atol=1e-4).all(dim=(1, 2))
    kept = torch.isclose(moved, before, atol=1e-4).all(dim=(1, 2))
    assert torch.all(flipped | kept)
    assert 60 < int(flipped.sum()) < 140


def test_rotation_turns_about_the_centre() -> None:
    x = images((3, 9, 9))
    quarter = as_maps(4, [[0, -1, 0], [1, 0, 0]])
    expected = torch.rot90(x.view(4, 3, 9, 9), 1, (2, 3)).reshape(4, -1)
    turned = transform(x, quarter, (3, 9, 9))
    backwards = torch.rot90(x.view(4, 3, 9, 9), -1, (2, 3)).reshape(4, -1)
    assert torch.allclose(turned, expected, atol=1e-5) or torch.allclose(turned, backwards, atol=1e-5)


def test_rotations_keep_lengths_on_an_image_that_is_not_square() -> None:
    maps = draw_transforms(
        Augment(rotation=180.0, shift=0.0, flip=False), 50, (2, 16, 8), streams.generator(1, "augment", 1)
    )
    half = np.diag([7 / 2, 15 / 2])  # pixels per unit coordinate: (width - 1) / 2, (height - 1) / 2
    for map_2_by_3 in maps.astype(np.float64):
        in_pixels = half @ map_2_by_3[:, :2] @ np.linalg.inv(half)
        np.testing.assert_allclose(in_pixels @ in_pixels.T, np.eye(2), atol=1e-6)


def test_shift_moves_whole_pixels_and_repeats_the_edge() -> None:
    x = images((10, 10))
    one_right = as_maps(4, [[1, 0, 2 / 9], [0, 1, 0]])
    expected = x.view(4, 10, 10)[:, :, [*range(1, 10), 9]].reshape(4, -1)
    torch.testing.assert_close(transform(x, one_right, (10, 10)), expected, atol=1e-5, rtol=0)


def test_draws_stay_within_what_was_asked() -> None:
    maps = draw_transforms(
        Augment(rotation=10.0, shift=0.1, flip=False), 5000, (3, 32, 32), streams.generator(0, "augment", 1)
    )
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    shifts = maps[:, :, 2] * 31 / 2 / 32  # back to a fraction of the size
    assert 9.9 < np.abs(angles).max() <= 10.001
    assert 0.099 < np.abs(shifts).max() <= 0.10001


def test_a_rows_transform_depends_on_seed_epoch_and_row_only() -> None:
    config = Augment(rotation=10.0, shift=0.1, flip=True)

    def draw(seed: int, epoch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return draw_transforms(config, 100, (3, 32, 32), streams.generator(seed, "augment", epoch))

    assert np.array_equal(draw(1, 2), draw(1, 2))
    assert not np.array_equal(draw(1, 2), draw(1, 3))
    assert not np.array_equal(draw(1, 2), draw(2, 2))
