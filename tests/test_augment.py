"""Augmentation: each movement against numpy's own, and every row's transform a function of seed, epoch and row."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from set_cli import native
from set_cli.config import Augment
from set_cli.data.augment import Changes, changed, draw_changes, draw_transforms, transform
from set_cli.data.catalog import CATALOG
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import Scaling, unscaled
from set_cli.system import streams

SHAPES = [(3, 32, 32), (8, 8), (2, 16, 8)]

CPU = torch.device("cpu")


def replace(augment: Augment, **keys: Any) -> Augment:
    return Augment(**{**augment.model_dump(), **keys})


NONE = Augment(rotation=0.0, shift=0.0, flip=False)
MOVED = Augment(rotation=25.0, shift=0.3, flip=True)
ALL_OR_ONE = [
    MOVED,
    replace(NONE, crop=3),
    replace(NONE, cutout=4),
    replace(NONE, crop=7, cutout=5),
    replace(MOVED, crop=4, cutout=3),
]


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


def test_a_crop_is_a_part_of_torchs_reflected_image() -> None:
    for height, width, border in ((32, 32, 4), (8, 8, 7), (16, 9, 5), (5, 2, 1)):
        shape = (3, height, width)
        x = images(shape, 60)
        changes = draw_changes(replace(NONE, crop=border), 60, shape, 0, 1)
        assert changes.crops is not None
        wide = F.pad(x.view(60, *shape), (border,) * 4, mode="reflect")
        places = [(int(down) + border, int(right) + border) for down, right in changes.crops]
        parts = [part[:, i : i + height, j : j + width] for part, (i, j) in zip(wide, places, strict=True)]
        assert torch.equal(changed(x, changes, shape, torch.zeros(1)), torch.stack(parts).view(60, -1))
        assert {min(min(places)), max(map(max, places))} == {0, 2 * border}


def test_cutout_blanks_a_square_around_any_pixel() -> None:
    shape, side, rows = (3, 16, 12), 5, 4000
    changes = draw_changes(replace(NONE, cutout=side), rows, shape, 0, 1)
    blank = torch.arange(576.0)
    found = changed(torch.full((rows, 576), -1.0), changes, shape, blank).view(rows, *shape)
    is_blank = found == blank.view(shape)
    assert torch.equal(found[~is_blank], torch.full_like(found[~is_blank], -1.0))
    assert torch.equal(is_blank[:, 0], is_blank[:, 2])  # all channels
    lines, columns = is_blank[:, 0].any(dim=2).sum(dim=1), is_blank[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(is_blank[:, 0].sum(dim=(1, 2)), lines * columns)  # a rectangle
    assert (int(lines.min()), int(lines.max())) == (3, 5)  # cut off at the border, at most at the centre
    # A centre in each line is as likely, so that the mean height is that of all 16 of them.
    for sizes, extent in ((lines, 16), (columns, 12)):
        expected = np.mean([min(i + 3, extent) - max(i - 2, 0) for i in range(extent)])
        assert float(sizes.double().mean()) == pytest.approx(expected, rel=0.02)


def test_what_a_key_draws_is_not_changed_by_another() -> None:
    shape = (3, 16, 16)
    alone = [
        draw_changes(augment, 50, shape, 1, 2) for augment in (MOVED, replace(NONE, crop=3), replace(NONE, cutout=4))
    ]
    together = draw_changes(replace(MOVED, crop=3, cutout=4), 50, shape, 1, 2)
    for name, one in zip(("maps", "crops", "squares"), alone, strict=True):
        assert torch.equal(getattr(one, name), getattr(together, name))
    other = draw_changes(replace(MOVED, crop=3, cutout=4), 50, shape, 1, 3)
    assert all(not torch.equal(getattr(together, name), getattr(other, name)) for name in ("maps", "crops", "squares"))


def data_of(shape: tuple[int, ...], dtype: type, rows: int = 50) -> DataSet:
    rng = np.random.default_rng(5)
    features = int(np.prod(shape))
    part = Part((255 * rng.random((rows, features))).astype(dtype), rng.integers(10, size=rows))
    scaling = Scaling(rng.random(features), rng.random(features) / 255, blank=rng.random(features))
    card = dataclasses.replace(CATALOG["digits"], shape=shape, features=features)
    return DataSet(card, part, None, part, scaling, "test", {}, "bundled")


@pytest.mark.parametrize("rows", [1, 15, 16, 37])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 32, 32), (8, 8), (2, 16, 9), (1, 5, 1)])
def test_the_kernels_gather_scale_and_change_as_torch_does(shape: tuple[int, ...], dtype: type, rows: int) -> None:
    data = data_of(shape, dtype)
    chosen = torch.from_numpy(np.random.default_rng(6).integers(50, size=rows))
    fast = Inputs(data.train, data, CPU)
    with native.without_kernels():
        slow = Inputs(data.train, data, CPU)
        plain = slow.batch(chosen)
    torch.testing.assert_close(fast.batch(chosen)[0], plain[0], rtol=0, atol=1e-6)
    assert torch.equal(fast.batch(chosen)[1], plain[1])
    for augment in ALL_OR_ONE if 1 not in shape else [replace(NONE, cutout=1)]:
        changes = draw_changes(augment, rows, shape, 5, 1)
        with native.without_kernels():
            expected, one = slow.batch(chosen, changes)[0], slow.batch(chosen[:1], changes.of(torch.tensor([0])))[0]
        tolerance = 2e-5 if augment.flip else 1e-6  # what is not moved is copied
        found = fast.batch(chosen, changes)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(found[:1], one, rtol=0, atol=tolerance)


def test_a_changed_image_does_not_depend_on_batch_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_PER_THREAD", 1)
    data = data_of((3, 8, 8), np.uint8, 64)
    inputs = Inputs(data.train, data, CPU)
    before = torch.get_num_threads()
    for augment in ALL_OR_ONE:
        changes = draw_changes(augment, 64, (3, 8, 8), 6, 1)
        results = []
        for threads, batch in ((1, 64), (2, 64), (3, 7), (2, 1)):
            torch.set_num_threads(threads)
            batches = [inputs.batch(rows, changes.of(rows))[0] for rows in torch.split(torch.arange(64), batch)]
            results.append(torch.cat([x.contiguous() for x in batches]))
        torch.set_num_threads(before)
        assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            Changes(crops=torch.zeros(4, 2, dtype=torch.int32)),
            r"crops of shape \(5, 2\), one for each row, got \(4, 2\)",
        ),
        (Changes(squares=torch.zeros(5, 2)), r"squares of shape \(5, 4\), one for each row, got \(5, 2\)"),
    ],
)
def test_crops_and_squares_of_another_shape_are_refused(changes: Changes, message: str, compiled: bool) -> None:
    data = data_of((8, 8), np.uint8)
    with contextlib.nullcontext() if compiled else native.without_kernels():
        inputs = Inputs(data.train, data, CPU)
        with pytest.raises(ValueError, match=message):
            inputs.batch(torch.arange(5), changes)


@pytest.mark.skipif(native.core is None, reason="the compiled kernels are not here")
def test_the_kernels_stay_within_the_image_whatever_they_are_given() -> None:
    data = data_of((8, 8), np.float32, 64)
    far = torch.tensor([[2**31 - 1, -(2**31)], [-(2**31), 2**31 - 1]], dtype=torch.int32).repeat(8, 1)
    squares = torch.tensor([[-(2**31), 2**31 - 1] * 2, [2**31 - 1, -(2**31)] * 2], dtype=torch.int32).repeat(8, 1)
    found = Inputs(data.train, data, CPU).batch(torch.arange(16), Changes(crops=far, squares=squares))[0]
    assert torch.equal(found[::2], torch.from_numpy(np.float32(data.scaling.blank)).expand(8, 64))
    assert found.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 2, 3), (6, 2, 3), (5, 2, 2), (5, 6), (0,)])
@pytest.mark.parametrize("compiled", [True, False])
def test_maps_of_another_shape_are_refused(shape: tuple[int, ...], compiled: bool) -> None:
    part = Part(np.zeros((5, 64), np.uint8), np.zeros(5, np.int64))
    with contextlib.nullcontext() if compiled else native.without_kernels():
        inputs = Inputs(part, DataSet(CATALOG["digits"], part, None, part, unscaled(64), "test", {}, "bundled"), CPU)
        with pytest.raises(ValueError, match=r"expected maps of shape \(5, 2, 3\), one for each row, got"):
            inputs.batch(torch.arange(5), Changes(maps=torch.zeros(shape)))


def test_maps_of_another_type_are_converted() -> None:
    part = Part(np.arange(128, dtype=np.uint8).reshape(2, 64), np.zeros(2, np.int64))
    inputs = Inputs(part, DataSet(CATALOG["digits"], part, None, part, unscaled(64), "test", {}, "bundled"), CPU)
    maps = torch.tensor([[1.0, 0, 0], [0, 1, 1]]).expand(2, 2, 3)
    found = [inputs.batch(torch.arange(2), Changes(maps=values))[0] for values in (maps.double(), maps)]
    assert torch.equal(*found)
