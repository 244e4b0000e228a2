"""From rows as they are in the file to network inputs: nothing is lost to rounding, and extremes are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from set_cli.data.inputs import Inputs
from set_cli.data.prepare import DataSet, training_mean
from set_cli.data.scaling import Scaling
from set_cli.errors import DataError
from tests.builders import load_own

Patch = pytest.MonkeyPatch
Y = np.arange(200) % 2


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def inputs(data: DataSet) -> NDArray[np.float32]:
    """All training rows as the network gets them."""
    part = Inputs(data.train, data, torch.device("cpu"))
    found: NDArray[np.float32] = part.batch(torch.arange(len(part)))[0].numpy()
    return found


@pytest.mark.parametrize(
    "column",
    [
        1.7e9 + 40.0 * Y,
        1.7e12 + rng().integers(0, 9, 200),
        -1e15 + Y,
        2.0**53 - 2 * Y,
        1e-300 * (1 + Y),
        1e300 * rng().normal(size=200),
        1e8 + rng().normal(size=200) * 1e-3,
    ],
)
def test_doubles_keep_their_differences(column: NDArray[np.float64], monkeypatch: Patch) -> None:
    x = np.c_[column, rng().normal(size=200)]
    data = load_own(monkeypatch, x, Y, holdout=40)
    found = inputs(data)[:, 0]
    kept = data.train.x[:, 0]
    assert len(np.unique(found)) == len(np.unique(kept))
    assert np.array_equal(np.argsort(found, kind="stable"), np.argsort(kept, kind="stable"))
    np.testing.assert_allclose(
        [found.mean(dtype=float), found.std(dtype=float)], [0, 1], atol=1e-4
    )  # the offset is a double, too
    assert np.array_equal(found, data.scaling(data.train.x)[:, 0])


def test_the_spread_is_that_of_numpy_on_ordinary_values(monkeypatch: Patch) -> None:
    x = rng().normal(3, 2, (200, 4))
    for table in (x, x.astype(np.float32)):
        data = load_own(monkeypatch, table, Y, holdout=40)
        kept = data.train.x.astype(float)
        np.testing.assert_allclose(data.scaling.offset, kept.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(1 / data.scaling.scale, kept.std(axis=0), rtol=1e-12)


def test_values_whose_spread_is_no_number_are_refused(monkeypatch: Patch) -> None:
    x = np.c_[rng().normal(size=200), np.where(Y, 1.7e308, -1.7e308)]
    for scaling in ("standardize", "unit"):
        with pytest.raises(DataError, match=r"my.csv: the values of feature 2 \('b'\) are too large for their "):
            load_own(monkeypatch, x, Y, features=["a", "b"], holdout=40, scaling=scaling)


def test_unit_scaling_of_doubles_is_by_the_range_of_the_training_rows(monkeypatch: Patch) -> None:
    x = np.c_[1.7e9 + 41 + 40.0 * rng().integers(0, 5, 200), np.full(200, 7.0)]
    found = inputs(load_own(monkeypatch, x, Y, holdout=40, scaling="unit"))
    assert np.unique(found[:, 0]).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert not found[:, 1].any()
    whole = load_own(monkeypatch, x, Y, holdout=40, scaling="unit")
    np.testing.assert_allclose(training_mean(whole), found.mean(axis=0), rtol=1e-5)
    fractions = rng().random((200, 3))
    data = load_own(monkeypatch, fractions, Y, holdout=40, scaling="unit")
    assert np.array_equal(inputs(data), data.train.x.astype(np.float32))
    np.testing.assert_allclose(training_mean(data), data.train.x.mean(axis=0), rtol=1e-6)


def test_training_values_that_are_cut_off_or_far_out_are_named(monkeypatch: Patch) -> None:
    x = rng().uniform(-1, 1, (2000, 30))
    x[7, 23] = 400
    x[[3, 4], 2] = -90
    y = np.arange(2000) % 2
    names = [f"f{i}" for i in range(30)]
    keys = {"features": names, "split": "last", "holdout": 400}
    (note,) = load_own(monkeypatch, x, y, clip=5.0, **keys).notes[1:]  # type: ignore[arg-type]
    assert note == (
        "training values beyond 5 deviations are cut off there (data.clip), the largest: feature 24 ('f23') at 39.9 "
        "in 1 row, feature 3 ('f2') at 27.8 in 2 rows"
    )
    (note,) = load_own(monkeypatch, x, y, **keys).notes[1:]  # type: ignore[arg-type]
    assert note == (
        "training values far from the mean, in deviations: feature 24 ('f23') at 39.9 in 1 row; data.clip=5 cuts them "
        "off, data.scaling=unit has none"
    )
    assert load_own(monkeypatch, x, y, scaling="unit", **keys).notes[1:] == ()  # type: ignore[arg-type]


def test_a_wide_table_of_doubles_is_scaled_a_few_rows_at_a_time(monkeypatch: Patch) -> None:
    from set_cli.data import scaling

    monkeypatch.setattr(scaling, "CELLS", 50)
    x = rng().normal(size=(200, 20))
    small = load_own(monkeypatch, x, Y, holdout=40)
    monkeypatch.undo()
    whole = load_own(monkeypatch, x, Y, holdout=40)
    np.testing.assert_allclose(small.scaling.scale, whole.scaling.scale, rtol=1e-12)
    np.testing.assert_allclose(inputs(small), inputs(whole), rtol=1e-5, atol=1e-6)


# Missing values.


def gappy() -> NDArray[np.float64]:
    x = rng().normal(5, 2, (200, 4))
    x[rng().random(x.shape) < 0.1] = np.nan
    x[:, 3] = np.arange(200) ** 2 % 31
    return x


@pytest.mark.parametrize("how", ["mean", "median", "zero"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_missing_values_are_filled_from_the_training_rows(how: str, dtype: type, monkeypatch: Patch) -> None:
    x: NDArray[Any] = gappy().astype(dtype)
    data = load_own(monkeypatch, x, Y, split="last", holdout=40, missing=how)
    train = x[:160].astype(float)
    expected = {"mean": np.nanmean(train, axis=0), "median": np.nanmedian(train, axis=0), "zero": np.zeros(4)}[how]
    assert data.scaling.fill is not None
    np.testing.assert_allclose(data.scaling.fill, expected, rtol=1e-12)
    gaps = np.isnan(x)
    whole = np.concatenate([data.train.x, data.test.x])
    assert whole.dtype == dtype
    assert np.array_equal(whole, np.where(gaps, expected.astype(dtype), x))
    # Rows as they are in the file become the same inputs.
    assert np.array_equal(data.scaling(x[160:]), data.scaling(data.test.x))
    (note,) = [note for note in data.notes if "missing" in note]
    assert note.startswith(f"{gaps.sum()} of 800 values are missing (feature ")
    assert note.endswith(f"(data.missing={how})")


def test_a_file_without_gaps_says_nothing_and_still_knows_what_to_fill_in(monkeypatch: Patch) -> None:
    data = load_own(monkeypatch, rng().normal(size=(200, 2)), Y, holdout=40, missing="mean")
    assert data.notes == ("read as it is",)
    assert data.scaling.fill is not None
    assert np.isfinite(data.scaling(np.full((1, 2), np.nan))).all()
    as_bytes = rng().integers(0, 255, (200, 2)).astype(np.uint8)
    assert load_own(monkeypatch, as_bytes, Y, holdout=40, missing="median").scaling.fill is not None


@pytest.mark.parametrize("how", ["mean", "median", "zero"])
def test_a_feature_that_no_training_row_has_is_refused(how: str, monkeypatch: Patch) -> None:
    x = gappy()
    x[:160, 1] = np.nan
    with pytest.raises(DataError) as caught:
        load_own(monkeypatch, x, Y, split="last", holdout=40, missing=how, features=["a", "age", "c", "d"])
    assert str(caught.value) == (
        f"data.missing={how}: feature 2 ('age') has no value in any training row; dataset.drop=[age] leaves it out"
    )


def test_scaling_alone_fills_scales_and_cuts_off() -> None:
    scaling = Scaling(np.array([1.0, 2.0]), np.array([2.0, 0.5]), fill=np.array([3.0, 4.0]), clip=5.0)
    x = np.array([[np.nan, 2.0], [100.0, np.nan]])
    assert scaling(x).tolist() == [[4.0, 0.0], [5.0, 1.0]]
    assert scaling(x.astype(np.float32)).tolist() == [[4.0, 0.0], [5.0, 1.0]]
