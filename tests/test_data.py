"""The data sets: files checked before they are read, splits, limits, scaling; every damage is one sentence."""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from set_cli.config import Dataset
from set_cli.data import parse
from set_cli.data.card import Digest, SourceFile
from set_cli.data.catalog import CATALOG
from set_cli.data.files import data_folder
from set_cli.data.prepare import load_data
from set_cli.data.readers.binary import read_cifar, read_idx
from set_cli.errors import ConfigError, DataError
from tests.builders import data_config
from tests.raw_files import idx


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST's four files with 30 + 10 rows of real format, known to the catalogue."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (form,) = CATALOG["mnist"].forms
    files = []
    for file in form.files:
        rows = 30 if file.part == "train" else 10
        shape = (rows, 28, 28) if "images" in file.name else (rows,)
        top = 256 if "images" in file.name else 10
        content = idx(rng.integers(0, top, shape).astype(np.uint8))
        (folder / file.name).write_bytes(content)
        digest = Digest("sha256", hashlib.sha256(content).hexdigest(), len(content))
        files.append(SourceFile(file.name, file.part, file.urls, digest))
    forms = (replace(form, files=tuple(files)),)
    for name in ("mnist", "mnist_binary"):
        monkeypatch.setitem(CATALOG, name, replace(CATALOG[name], forms=forms))
    return tmp_path / "data"


def test_digits_are_bundled() -> None:
    data = load_data(Dataset(name="digits"), data_config())
    card = data.card
    assert (data.train.x.shape, data.test.x.shape) == ((card.train, 64), (card.test, 64))
    assert data.train.x.max() == card.maximum
    assert set(np.unique(data.test.labels)) == set(range(10))
    assert data.tested_on == "test"


def test_files_are_read_compressed_or_not(tiny_mnist: Path) -> None:
    plain = load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    for path in (tiny_mnist / "mnist").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    assert (len(plain.train), len(plain.test)) == (30, 10)
    assert np.array_equal(plain.train.x, packed.train.x)
    assert np.array_equal(plain.test.labels, packed.test.labels)


def test_data_folder_is_the_key_then_the_variable_then_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SET_DATA_DIR", raising=False)
    assert data_folder(None) == Path("datasets")
    monkeypatch.setenv("SET_DATA_DIR", "/from/variable")
    assert data_folder(None) == Path("/from/variable")
    assert data_folder("/from/key") == Path("/from/key")


def test_missing_files_are_named_together_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data(Dataset(name="mnist"), data_config(tmp_path))
    sentence = str(caught.value)
    for file in CATALOG["mnist"].forms[0].files:
        assert file.name in sentence
    assert str(tmp_path / "mnist") in sentence
    assert "SET_DATA_DIR" in sentence
    assert "\n" not in sentence


def test_a_missing_test_file_points_to_the_holdout(tiny_mnist: Path) -> None:
    for path in (tiny_mnist / "mnist").glob("t10k*"):
        path.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte .* data.holdout=N"):
        load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    data = load_data(Dataset(name="mnist"), data_config(tiny_mnist, holdout=5))
    assert (len(data.train), len(data.test), data.tested_on) == (25, 5, "holdout")


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "truncated":
            path.write_bytes(content[:-1])
        case "too long":
            path.write_bytes(content + b"\0")
        case "bit flipped":
            content[100] ^= 1
            path.write_bytes(content)
        case "empty":
            path.write_bytes(b"")
        case "html":
            path.write_bytes(b"<html><body>404 not found</body></html>")
        case "folder":
            path.unlink()
            path.mkdir()
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "truncated gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(bytes(content))[:-20])
            path.unlink()
        case "not gz":
            path.with_name(path.name + ".gz").write_bytes(b"nothing compressed")
            path.unlink()
        case "gz bomb":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(bytes(50_000_000)))
            path.unlink()


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "too long",
        "bit flipped",
        "empty",
        "html",
        "folder",
        "pipe",
        "truncated gz",
        "not gz",
        "gz bomb",
    ],
)
def test_damaged_files_are_refused(how: str, tiny_mnist: Path) -> None:
    path = tiny_mnist / "mnist" / "train-images-idx3-ubyte"
    damage(path, how)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # the bomb is 50 MB
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x09\x01\0\0\0\1\0", b"\0\0\x08\x03\0\0\0\1", idx(np.zeros((2, 3), np.uint8))[:-1]],
)
def test_malformed_idx_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError, match="somewhere"):
        read_idx(content, "somewhere")


@pytest.mark.parametrize("length", [0, 1, 3072, 3074])
def test_malformed_cifar_is_a_data_error(length: int) -> None:
    with pytest.raises(DataError, match="expected rows of 3073 bytes"):
        read_cifar(bytes(length), "somewhere")


def test_cifar_rows_are_a_label_then_the_pixels() -> None:
    rows = np.arange(2 * 3073, dtype=np.uint32).astype(np.uint8).reshape(2, 3073)
    x, y = read_cifar(rows.tobytes(), "somewhere")
    assert np.array_equal(x, rows[:, 1:])
    assert np.array_equal(y, rows[:, 0])


def test_labels_out_of_range_are_named(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "mnist", replace(CATALOG["mnist"], classes=5))
    with pytest.raises(DataError, match=r"mnist: train: expected labels 0 to 4, found [5-9] in row \d+"):
        load_data(Dataset(name="mnist"), data_config(tiny_mnist))


def test_labels_and_images_of_different_number_are_refused(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "read_idx", lambda content, name: read_idx(content, name)[: 29 if "lab" in name else 30])
    with pytest.raises(DataError, match="expected one label per row of 784 features, found 29 labels"):
        load_data(Dataset(name="mnist"), data_config(tiny_mnist))


def test_holdout_and_valid_are_cut_from_the_end_of_the_training_rows(tiny_mnist: Path) -> None:
    whole = load_data(Dataset(name="mnist"), data_config(tiny_mnist)).train
    data = load_data(Dataset(name="mnist"), data_config(tiny_mnist, holdout=6, valid=4, train_limit=15, test_limit=3))
    assert data.valid is not None
    assert np.array_equal(data.train.x, whole.x[:15])
    assert np.array_equal(data.valid.labels, whole.labels[20:24])
    assert np.array_equal(data.test.x, whole.x[24:27])


@pytest.mark.parametrize(("holdout", "valid"), [(30, 0), (0, 30), (15, 15), (100, 0)])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(holdout: int, valid: int, tiny_mnist: Path) -> None:
    with pytest.raises(ConfigError, match="expected fewer than the 30 training rows of mnist together, found"):
        load_data(Dataset(name="mnist"), data_config(tiny_mnist, holdout=holdout, valid=valid))


def test_standardised_training_rows_have_mean_0_and_deviation_1(tiny_mnist: Path) -> None:
    data = load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    x = data.scaling(data.train.x.astype(np.float64))
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-4)


def test_unit_scaling_is_division_by_the_largest_value(tiny_mnist: Path) -> None:
    data = load_data(Dataset(name="mnist"), data_config(tiny_mnist, scaling="unit"))
    np.testing.assert_allclose(data.scaling(data.test.x), data.test.x / 255, rtol=1e-6)


def test_a_constant_feature_becomes_0_everywhere() -> None:
    data = load_data(Dataset(name="digits"), data_config())
    constant = np.flatnonzero(data.train.x.std(axis=0) == 0)
    assert len(constant) > 0
    assert np.all(data.scaling.scale[constant] == 0)
    assert np.isfinite(data.scaling.scale).all()


def test_the_test_rows_do_not_touch_the_scaling(tiny_mnist: Path) -> None:
    limited = load_data(Dataset(name="mnist"), data_config(tiny_mnist, test_limit=1))
    whole = load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    assert np.array_equal(limited.scaling.offset, whole.scaling.offset)
    assert np.array_equal(limited.scaling.scale, whole.scaling.scale)


def test_a_row_is_binarised_alike_whatever_part_it_is_in(tiny_mnist: Path) -> None:
    for how in ("sample", "threshold"):
        dataset = Dataset(name="mnist_binary", binarize=how)
        whole = load_data(dataset, data_config(tiny_mnist))
        split = load_data(dataset, data_config(tiny_mnist, holdout=7, valid=5))
        assert split.valid is not None
        assert set(whole.train.x.flatten().tolist()) == {0, 1}
        rows = np.concatenate([split.train.x, split.valid.x, split.test.x])
        assert np.array_equal(rows, whole.train.x)
    grey = load_data(Dataset(name="mnist"), data_config(tiny_mnist))
    assert np.array_equal(whole.train.x, grey.train.x >= 128)


def test_real_mnist_is_what_the_catalogue_says(real_data: str) -> None:
    data = load_data(Dataset(name="mnist"), data_config(real_data))
    assert (data.train.x.shape, data.test.x.shape) == ((60_000, 784), (10_000, 784))
    assert round(float(data.train.x.mean()), 4) == 33.3184
    assert round(float(data.train.x.std()), 3) == 78.567
    assert np.bincount(data.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_real_cifar10_trains_with_a_holdout(real_data: str) -> None:
    data = load_data(Dataset(name="cifar10"), data_config(real_data, holdout=10_000))
    assert (data.train.x.shape, data.test.x.shape) == ((40_000, 3072), (10_000, 3072))
    channels = np.concatenate([data.train.x, data.test.x]).reshape(-1, 3, 1024).mean(axis=(0, 2)) / 255
    np.testing.assert_allclose(channels, [0.49140, 0.48216, 0.44653], atol=1e-5)
    assert np.bincount(np.concatenate([data.train.labels, data.test.labels])).tolist() == [5000] * 10
