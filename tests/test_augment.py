"""Augmentation: each movement against numpy's own, and every row's transform a function of seed, epoch and row."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from set_cli import native
from set_cli.config import Augment
from set_cli.data.augment import draw_transforms, transform
from set_cli.data.catalog import CATALOG
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import Scaling, unscaled
from set_cli.system import streams

SHAPES = [(3, 32, 32), (8, 8), (2, 16, 8)]

CPU = torch.device("cpu")


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
    largest = np.abs(shifts).max(axis=0)  # to the right, and down
    assert np.all((largest > 0.099) & (largest <= 0.10001))


def test_a_rows_transform_depends_on_seed_epoch_and_row_only() -> None:
    config = Augment(rotation=10.0, shift=0.1, flip=True)

    def draw(seed: int, epoch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return draw_transforms(config, 100, (3, 32, 32), streams.generator(seed, "augment", epoch))

    assert np.array_equal(draw(1, 2), draw(1, 2))
    assert not np.array_equal(draw(1, 2), draw(1, 3))
    assert not np.array_equal(draw(1, 2), draw(2, 2))


@pytest.mark.parametrize("rows", [1, 15, 16, 37])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 32, 32), (8, 8), (2, 16, 9), (1, 5, 1)])
def test_the_kernels_gather_scale_and_move_as_torch_does(shape: tuple[int, ...], dtype: type, rows: int) -> None:
    rng = np.random.default_rng(5)
    features = int(np.prod(shape))
    part = Part((255 * rng.random((50, features))).astype(dtype), rng.integers(10, size=50))
    scaling = Scaling(rng.random(features), rng.random(features) / 255)
    card = replace(CATALOG["digits"], shape=shape)
    data = DataSet(card, part, None, part, scaling, "test", {}, "bundled")
    chosen = torch.from_numpy(rng.integers(50, size=rows))
    augment = Augment(rotation=25.0, shift=0.3, flip=True)
    maps = torch.from_numpy(draw_transforms(augment, rows, shape, rng)) if 1 not in shape else None
    fast = Inputs(part, data, torch.device("cpu"))
    with native.without_kernels():
        slow = Inputs(part, data, torch.device("cpu"))
        plain, expected = slow.batch(chosen), slow.batch(chosen, maps)
    torch.testing.assert_close(fast.batch(chosen)[0], plain[0], rtol=0, atol=1e-6)
    found = fast.batch(chosen, maps)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=2e-5)
    assert torch.equal(found[1], expected[1])
    with native.without_kernels():
        one = Inputs(part, data, torch.device("cpu")).batch(chosen[:1], None if maps is None else maps[:1])
    torch.testing.assert_close(found[0][:1], one[0], rtol=0, atol=2e-5)


def test_a_moved_image_does_not_depend_on_batch_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_PER_THREAD", 1)
    rng = np.random.default_rng(6)
    part = Part((255 * rng.random((64, 192))).astype(np.uint8), np.zeros(64, np.int64))
    card = replace(CATALOG["digits"], shape=(3, 8, 8))
    data = DataSet(card, part, None, part, unscaled(192), "test", {}, "bundled")
    maps = torch.from_numpy(draw_transforms(Augment(rotation=10.0, shift=0.1, flip=True), 64, (3, 8, 8), rng))
    inputs = Inputs(part, data, torch.device("cpu"))
    before = torch.get_num_threads()
    results = []
    for threads, batch in ((1, 64), (2, 64), (3, 7), (2, 1)):
        torch.set_num_threads(threads)
        batches = [inputs.batch(rows, maps[rows])[0] for rows in torch.split(torch.arange(64), batch)]
        results.append(torch.cat([x.contiguous() for x in batches]))
    torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("shape", [(4, 2, 3), (6, 2, 3), (5, 2, 2), (5, 6), (0,)])
@pytest.mark.parametrize("compiled", [True, False])
def test_maps_of_another_shape_are_refused(shape: tuple[int, ...], compiled: bool) -> None:
    part = Part(np.zeros((5, 64), np.uint8), np.zeros(5, np.int64))
    with contextlib.nullcontext() if compiled else native.without_kernels():
        inputs = Inputs(part, DataSet(CATALOG["digits"], part, None, part, unscaled(64), "test", {}, "bundled"), CPU)
        with pytest.raises(ValueError, match=r"expected maps of shape \(5, 2, 3\), one for each row, got"):
            inputs.batch(torch.arange(5), torch.zeros(shape))


def test_maps_of_another_type_are_converted() -> None:
    part = Part(np.arange(128, dtype=np.uint8).reshape(2, 64), np.zeros(2, np.int64))
    inputs = Inputs(part, DataSet(CATALOG["digits"], part, None, part, unscaled(64), "test", {}, "bundled"), CPU)
    maps = torch.tensor([[1.0, 0, 0], [0, 1, 1]]).expand(2, 2, 3)
    assert torch.equal(inputs.batch(torch.arange(2), maps.double())[0], inputs.batch(torch.arange(2), maps)[0])
