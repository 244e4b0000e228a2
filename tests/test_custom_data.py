"""dataset=custom: what datasets/custom.md promises of the user's own file, and one sentence for all it refuses."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import ConfigError, DataError
from tests.builders import data_config

RNG = np.random.default_rng(0)
IMAGES: NDArray[np.uint8] = RNG.integers(0, 256, (8, 2, 3)).astype(np.uint8)
ROWS = IMAGES.reshape(8, 6)
LABELS = np.array([7, 3, 7, 9, 3, 7, 9, 3])
CLASSES = [1, 0, 1, 2, 0, 1, 2, 0]


def load(
    folder: Path,
    name: str,
    content: bytes,
    *,
    labels: bool = True,
    holdout: int = 2,
    valid: int = 0,
    scaling: str = "unit",
) -> DataSet:
    """What a run sees of a file with this content."""
    path = folder / name
    path.write_bytes(content)
    dataset = Dataset(name="custom", path=str(path), checksum=hashlib.sha256(content).hexdigest())
    return load_data(dataset, data_config(holdout=holdout, valid=valid, scaling=scaling), labels=labels)


def packed(suffix: str, **arrays: object) -> bytes:
    """The arrays as .npz or .mat."""
    stream = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(stream, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})
    else:
        scipy.io.savemat(stream, arrays)
    return stream.getvalue()


def refusal(folder: Path, name: str, content: bytes, *, labels: bool = True, holdout: int = 2) -> str:
    """The one sentence, which names the file."""
    with pytest.raises((DataError, ConfigError)) as caught:
        load(folder, name, content, labels=labels, holdout=holdout)
    sentence = str(caught.value)
    assert name in sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 500 + len(str(folder))
    return sentence


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize(
    ("x", "y"), [("x_train", "y_train"), ("train_data", "train_labels"), ("x", "y"), ("x_train", "train_labels")]
)
def test_training_rows_and_labels_go_by_any_of_their_names(suffix: str, x: str, y: str, tmp_path: Path) -> None:
    data = load(tmp_path, f"my{suffix}", packed(suffix, **{x: ROWS, y: LABELS}))
    assert data.train.x.dtype == np.uint8
    assert np.array_equal(np.concatenate([data.train.x, data.test.x]), ROWS)
    assert [*data.train.labels, *data.test.labels] == CLASSES
    assert (data.card.name, data.card.title, data.card.features, data.card.classes) == ("custom", f"my{suffix}", 6, 3)
    assert (data.origin, data.tested_on, len(data.test)) == ("custom", "holdout", 2)
    assert list(data.checksums) == [f"my{suffix}"]


VALID_NAMES = ["x_valid y_valid", "x_val y_val", "valid_data valid_labels", "val_data val_labels"]
TEST_NAMES = ["x_test y_test", "test_data test_labels"]


@pytest.mark.parametrize(
    ("suffix", "valid", "test"),
    [
        *((".npz", valid, test) for valid in VALID_NAMES for test in TEST_NAMES),
        (".mat", VALID_NAMES[0], TEST_NAMES[0]),
        (".mat", VALID_NAMES[3], TEST_NAMES[1]),
    ],
)
def test_validation_and_test_rows_go_by_any_of_their_names(suffix: str, valid: str, test: str, tmp_path: Path) -> None:
    names = [*["x_train", "y_train"], *valid.split(), *test.split()]
    parts = [ROWS[:4], LABELS[:4], ROWS[4:6], LABELS[4:6], ROWS[6:], LABELS[6:]]
    data = load(tmp_path, f"my{suffix}", packed(suffix, **dict(zip(names, parts, strict=True))), holdout=0, valid=2)
    assert data.valid is not None
    for part, rows in ((data.train, slice(4)), (data.valid, slice(4, 6)), (data.test, slice(6, 8))):
        assert np.array_equal(part.x, ROWS[rows])
        assert part.labels.tolist() == CLASSES[rows]
    assert data.tested_on == "test"


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_images_are_known_by_their_dimensions_or_by_shape(suffix: str, tmp_path: Path) -> None:
    for arrays, shape in (
        ({"x_train": IMAGES}, (2, 3)),
        ({"x_train": ROWS, "shape": [2, 3]}, (2, 3)),
        ({"x_train": ROWS, "shape": np.array([[3.0], [1], [2]])}, (3, 1, 2)),
        ({"x_train": ROWS.reshape(8, 3, 2, 1)}, (3, 2, 1)),
        ({"x_train": IMAGES, "shape": [3, 2]}, (3, 2)),
        ({"x_train": ROWS}, None),
    ):
        data = load(tmp_path, f"my{suffix}", packed(suffix, y_train=LABELS, **arrays))
        assert data.card.shape == shape
        assert np.array_equal(np.concatenate([data.train.x, data.test.x]), ROWS)


def test_test_images_may_be_none_and_other_arrays_are_left_alone(tmp_path: Path) -> None:
    content = packed(".npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:0], y_test=LABELS[:0], names=["a", "b"])
    assert len(load(tmp_path, "my.npz", content).test) == 2
    with pytest.raises(DataError, match=r"^custom: the files have no test rows; data.holdout=N tests on the last N"):
        load(tmp_path, "my.npz", content, holdout=0)


@pytest.mark.parametrize(
    ("x", "dtype", "kind", "maximum"),
    [
        (ROWS, np.uint8, "bounded", 255),
        (ROWS % 2, np.uint8, "binary", 1),
        (ROWS % 2 == 1, np.uint8, "binary", 1),
        ((ROWS % 2).astype(np.float64), np.uint8, "binary", 1),
        ((ROWS % 2).astype(">i4"), np.uint8, "binary", 1),
        (ROWS.astype(np.int64), np.float64, "real", 1),
        (ROWS / 255, np.float64, "bounded", 1),
        (-ROWS.astype(np.float32), np.float32, "real", 1),
        ((ROWS / 7).astype(np.float16), np.float32, "real", 1),
        (np.asfortranarray(ROWS / 7), np.float64, "real", 1),
    ],
)
def test_bytes_and_float32_stay_and_everything_else_becomes_float64(
    x: NDArray[np.generic], dtype: type[np.generic], kind: str, maximum: int, tmp_path: Path
) -> None:
    data = load(tmp_path, "my.npz", packed(".npz", x=x, y=LABELS))
    assert data.train.x.dtype == dtype
    assert (data.card.kind, data.card.maximum) == (kind, maximum)
    assert np.array_equal(np.concatenate([data.train.x, data.test.x]), x.astype(dtype))


CSV = """size,label,"the colour, in nm",split,weight
1.5,cat,400,train,1e-3
-2,dog,500.5,train,0
3,ant,600,valid,7
4,cat,700,train,8
5,ant,800,test,9
 6 ,ant, 8e2 , train ,-0.0
"""


def test_a_csv_has_its_labels_and_splits_in_columns_of_these_names(tmp_path: Path) -> None:
    data = load(tmp_path, "my.csv", CSV.encode(), holdout=0, valid=1)
    assert data.valid is not None
    assert data.train.x.dtype == np.float64
    expected = np.array([[1.5, 400, 1e-3], [-2, 500.5, 0], [4, 700, 8], [6, 800, 0]])
    assert np.array_equal(data.train.x, expected)
    assert data.valid.x.tolist() == [[3, 600, 7]]
    assert data.test.x.tolist() == [[5, 800, 9]]
    assert (data.train.labels.tolist(), data.valid.labels.tolist(), data.test.labels.tolist()) == (
        [1, 2, 1, 0],
        [0],
        [0],
    )
    assert data.card.classes == 3


@pytest.mark.parametrize(
    "content",
    [
        CSV.replace("\n", "\r\n").encode(),
        CSV.rstrip("\n").encode(),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.replace("\n", "\n\n").encode(),
        CSV.replace("cat", '"cat"').replace("500.5", '"500.5"').encode(),
        CSV.replace("label", " label ").encode(),
    ],
)
def test_a_csv_is_the_same_however_it_was_saved(content: bytes, tmp_path: Path) -> None:
    expected = load(tmp_path, "my.csv", CSV.encode(), holdout=0)
    data = load(tmp_path, "my.csv", content, holdout=0)
    assert np.array_equal(data.train.x, expected.train.x)
    assert np.array_equal(data.test.labels, expected.test.labels)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    data = load(tmp_path, "my.csv", b"\xef\xbb\xbflabel,x\na,1\nb,2\na,3\n", holdout=1)
    assert (data.card.features, data.train.labels.tolist()) == (1, [0, 1])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "10", "2"], [2, 1, 2, 0]),  # numbers by their size
        (["x10", "x9", "x", "x2"], [1, 3, 0, 2]),  # words by their letters
        (["-1", "+1", "1.0", "-1e0"], [0, 1, 1, 0]),
        (["Ä", "a", "Ä", "日本"], [1, 0, 1, 2]),
        (["a b", '"a,b"', "a b", "c"], [0, 1, 0, 2]),
    ],
)
def test_classes_are_the_sorted_labels(labels: list[str], classes: list[int], tmp_path: Path) -> None:
    lines = [f"{i},{label}" for i, label in enumerate(labels)]
    data = load(tmp_path, "my.csv", "\n".join(["x,label", *lines, f"9,{labels[0]}"]).encode(), holdout=1)
    assert data.train.labels.tolist() == classes


def test_a_csv_without_labels_trains_an_rbm_only(tmp_path: Path) -> None:
    content = b"a,b\n0,1\n1,0\n1,1\n"
    data = load(tmp_path, "my.csv", content, labels=False, holdout=1)
    assert (data.train.x.tolist(), data.train.y, data.card.classes) == ([[0, 1], [1, 0]], None, 0)
    with pytest.raises(ConfigError, match=r"my\.csv has no column label, .* \(columns: a, b\); without any, use"):
        load(tmp_path, "my.csv", content, holdout=1)


@pytest.mark.parametrize("suffix", [".svmlight", ".libsvm", ".SVMLight"])
def test_svmlight_counts_its_features_from_1(suffix: str, tmp_path: Path) -> None:
    content = b"-1 1:0.5 3:2 # a comment\n+1 2:-1\n-1\n+1 4:1e-3\n"
    data = load(tmp_path, f"my{suffix}", content, holdout=1)
    assert data.train.x.tolist() == [[0.5, 0, 2, 0], [0, -1, 0, 0], [0, 0, 0, 0]]
    assert data.train.x.dtype == np.float64
    assert data.test.x.tolist() == [[0, 0, 0, 1e-3]]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 0], [1])


def test_the_holdout_is_the_last_training_rows_and_valid_those_before(tmp_path: Path) -> None:
    labels, classes = [7, 3, 9, 7, 3, 7, 9, 3], [1, 0, 2, 1, 0, 1, 2, 0]  # each class is among the rows that stay
    data = load(tmp_path, "my.npz", packed(".npz", x=ROWS, y=labels), holdout=2, valid=3, scaling="standardize")
    assert data.valid is not None
    for part, rows in ((data.train, slice(3)), (data.valid, slice(3, 6)), (data.test, slice(6, 8))):
        assert np.array_equal(part.x, ROWS[rows])
        assert part.labels.tolist() == classes[rows]
    np.testing.assert_allclose(data.scaling.offset, ROWS[:3].mean(axis=0), rtol=1e-6)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    content = packed(".npz", x=ROWS, y=LABELS)
    (tmp_path / "my.npz").write_bytes(content)
    dataset = Dataset(name="custom", path=str(tmp_path / "my.npz"), checksum=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(DataError, match=r"my\.npz: changed, its sha256 was d9298a10d1b0… when the command started"):
        load_data(dataset, data_config(holdout=2))


# The refusals.


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "expected a header line that names the columns (such as x1, x2, label), found nothing"),
        ("1,2\n3,4\n", "expected a header line that names the columns (such as x1, x2, label), found numbers"),
        ("1,-2e5,nan0\n".replace("nan0", "3"), "expected a header line that names the columns"),
        ("a,label\n", "no training rows"),
        ("label,split\n1,train\n", "expected columns of features beside the class, found label, split"),
        ("a,a,label\n1,2,3\n", "expected a name of its own for every column, found 'a'"),
        ("a,label,label\n1,2,3\n", "expected a name of its own for every column, found 'label'"),
        ("a,,label\n1,2,3\n", "expected a name for every column, or row numbers in the first, found '2' in line 2"),
        (",a,label\n1.5,2,3\n", "or row numbers in the first, found '1.5' in line 2, column 'Unnamed: 0'; give"),
        (",a,label\n1,2,3\n1,2,4\n", "or row numbers in the first, found '1' in line 2"),
        ("a,label\n1,x\ntwo,y\n", "expected a number, found 'two' in line 3, column 'a'"),
        ("a,b,label\n1,2,x\n\n1,,y\n", "expected a number, found '' in line 4, column 'b'"),
        ("a,label\n1,x\nnan,y\n", "expected a number, found 'nan' in line 3, column 'a'"),
        ("a,label\n1,x\n-inf,y\n", "-3.4e38 and 3.4e38, found '-inf' in line 3, column 'a', which is infinite"),
        ("a,label\n1,x\n1e39,y\n", "3.4e38, found '1e39' in line 3, column 'a', which is too large"),
        ("a,label\n1,x\n" + "9" * 400 + ",y\n", f"found '{'9' * 30}'… in line 3, column 'a', which is too large"),
        ("a,label\n1,x\n\0,y\n", "expected text, found a zero byte in line 3"),
        ("a,label\n1,x\n\x1b[31m,y\n", r"expected a number, found '\x1b[31m' in line 3, column 'a'"),
        ('a,"\x1b[31m\u202e",label\n1,x,y\n', r"expected a number, found 'x' in line 2, column '\x1b[31m\u202e'"),
        ("a,label\n1,5,x\n1,x\n", "expected 2 cells, found 3 in line 2"),
        ("a,b,label\n1,5,x\n1,5\n", "expected 3 cells, found 2 in line 3"),
        ("a,label\n1,x\n1,\n", "expected a class, found '' in line 3, column 'label'"),
        ("a,label\n1,2\n1,NaN\n", "expected a class, found 'NaN' in line 3, column 'label'"),
        (
            "a,label\n1,0.5\n1,2\n1,3\n",
            "expected whole numbers or words as labels, found '0.5' in line 2, column 'label'",
        ),
        ("a,label\n1,x\n1,x\n1,x\n", "expected at least two classes among the labels, found 1"),
        (
            "a,label,split\n1,x,train\n1,y,Test\n",
            "expected train, valid or test in the column split, found 'Test' in line 3, column 'split'",
        ),
        ("a,label,split\n1,x,test\n", "no training rows"),
        (
            "a,label,split\n1,x,train\n2,y,train\n3,\x07z\x07z,test\n",
            r"test: expected one of the labels x, y of the training rows, found '\x07z\x07z' in line 4, column 'label'",
        ),
        (
            "a,label,split\n1,1,train\n2,2,train\n3,3,test\n",
            "test: expected one of the labels 1, 2 of the training rows, found '3' in line 4, column 'label'",
        ),
        ('a,label\n1,x\n"2,y\n', "malformed in line 3 (unexpected end of data)"),
        ('a,label\n1,"x"y\n', "malformed in line 2 (',' expected after '\"')"),
        ("a,label\n1,x\n" + "1" * 9_000_000 + "\n", "found more than 8,388,608 characters in line 3"),
    ],
)
def test_a_csv_is_refused_at_its_line_and_column(content: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(tmp_path, "my.csv", content.encode())


NAN = np.where(np.arange(48).reshape(8, 6) == 8, np.nan, 1.5)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "expected an array of rows called x_train, X, data or the like, found none"),
        ({"x_test": ROWS, "y_test": LABELS}, "no training rows"),
        ({"x": NAN, "y": LABELS}, "train: expected a number, found nan in row 2, column 3 (one cell has no value)"),
        ({"x": np.full((8, 1), -np.inf), "y": LABELS}, "found -inf in row 1, column 1, which is infinite"),
        ({"x": np.full((8, 1), 1e300), "y": LABELS}, "found 1e+300 in row 1, column 1, which is too large"),
        ({"x": ROWS[:0], "y": LABELS[:0]}, "no training rows"),
        ({"x": ROWS[:, :0], "y": LABELS}, "train: expected rows of features, found an array of shape (8, 0)"),
        ({"x": np.arange(8), "y": LABELS}, "train: expected rows of features, found an array of shape (8,)"),
        ({"x": np.uint8(3), "y": LABELS[:1]}, "train: expected rows of features, found an array of shape (1,)"),
        ({"x": ROWS, "y": LABELS[:5]}, "expected 8 labels in y, found 5"),
        (
            {"x": ROWS, "y": np.eye(8)},
            "expected 8 labels in y, found an array of shape (8, 8); of one column per class",
        ),
        ({"x": ROWS, "y": LABELS * 0}, "expected at least two classes among the labels, found 1"),
        ({"x": ROWS, "y": LABELS / 7}, "expected whole numbers or words as labels, found 0.428"),
        ({"x": ROWS, "y": np.where(LABELS == 9, np.nan, LABELS)}, "expected a class, found nan in row 4"),
        ({"x": ROWS, "y": np.where(LABELS == 9, np.inf, LABELS)}, "whole numbers or words as labels, found inf"),
        ({"x": ROWS, "y": LABELS, "x_test": ROWS}, "test: expected 8 labels, found none"),
        (
            {"x": ROWS, "y": LABELS, "x_test": ROWS[:2], "y_test": [7, 4]},
            "test: expected one of the labels 3, 7, 9 of the training rows, found 4 in row 2",
        ),
        (
            {"x": ROWS, "y": LABELS, "x_val": ROWS[:, :5], "y_val": LABELS},
            "valid has 5 features, the training rows have 6",
        ),
        (
            {"x": ROWS, "y": LABELS, "x_test": NAN * 2, "y_test": LABELS},
            "test: expected a number, found nan in row 2, column 3",
        ),
        ({"x": ROWS, "y": LABELS, "shape": [2, 4]}, "expected the shape of one image of 6 values, found [2, 4]"),
        ({"x": ROWS, "y": LABELS, "shape": [6]}, "expected the shape of one image of 6 values, found [6]"),
        (
            {"x": ROWS, "y": LABELS, "shape": [-2, -3]},
            "expected whole numbers above 0 as the shape of one image, found",
        ),
        (
            {"x": ROWS, "y": LABELS, "shape": [2.5, 2.4]},
            "expected whole numbers above 0 as the shape of one image, found",
        ),
        (
            {"x": ROWS, "y": LABELS, "shape": [np.nan, 6]},
            "expected whole numbers above 0 as the shape of one image, found",
        ),
        (
            {"x": ROWS, "y": LABELS, "shape": [np.inf, 6]},
            "expected whole numbers above 0 as the shape of one image, found",
        ),
        (
            {"x": ROWS.reshape(8, 1, 1, 1, 6), "y": LABELS},
            "expected the shape of one image of 6 values, found [1, 1, 1, 6]",
        ),
        ({"x": ROWS.astype(complex), "y": LABELS}, "expected numbers, found values of type complex128"),
        ({"x": ROWS.astype(str), "y": LABELS}, "expected numbers, found values of type <U3 (nothing was unpickled)"),
        ({"x": ROWS, "y": ["a"] * 8}, "expected at least two classes among the labels, found 1 (a)"),
    ],
)
def test_arrays_are_refused_with_what_was_expected(arrays: dict[str, object], sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(tmp_path, "my.npz", packed(".npz", **arrays))


def test_a_mat_with_words_for_labels_is_refused_and_not_taken_for_unlabelled(tmp_path: Path) -> None:
    for labels in (["a", "b"] * 4, np.array(["a", "bc"] * 4, object)):
        sentence = refusal(tmp_path, "my.mat", packed(".mat", x_train=ROWS, y_train=labels), labels=False)
        assert "y_train: expected an array of numbers, found" in sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected lines of `label index:value …` with indices that rise, found none"),
        (b"1 1:1\n2 3:1 2:1\n", "found '2:1' in line 2, column 3"),
        (b"1 1:1\n2 1:nan\n", "found '1:nan' in line 2, column 2"),
        (b"cat 1:1\ndog 1:2\n", "found 'cat' in line 1, column 1"),
        (b"1,2 1:1\n1 1:2\n", "found '1,2' in line 1, column 1"),
        (b"1 1:1\n2 2147483647:1\n", "expected a table of at most 67,108,864 cells, found (2, 2147483647)"),
        (b"1 1:1\n2 9999999999:1\n", "found '9999999999:1' in line 2, column 2"),
        (b"0.5 1:1\n1 1:2\n2 1:2\n", "expected whole numbers or words as labels, found 0.5"),
        (b"1 1:1\n1 1:2\n1 1:2\n", "expected at least two classes among the labels, found 1"),
        (b"1 1:1\n2 " + b"1:1 " * 1_500_000, "found more than 4,194,304 characters in line 2"),
    ],
)
def test_svmlight_is_refused_at_its_line_and_column(content: bytes, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(tmp_path, "my.svmlight", content)


def test_another_suffix_and_a_missing_file_are_one_sentence(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, "my.xlsx", b"")
    assert "expected a file that ends in .npz, .csv, .tsv, .txt, .data, .mat, .svmlight, .libsvm, .svm" in sentence
    dataset = Dataset(name="custom", path=str(tmp_path / "gone.npz"), checksum="0" * 64)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/gone.npz: could not be read (") + "[^\n]*No such file"):
        load_data(dataset, data_config(holdout=2))


def test_a_file_unpacks_to_256_megabytes_or_200_times_its_size(tmp_path: Path) -> None:
    assert (
        len(load(tmp_path, "my.npz", packed(".npz", x=np.zeros((2**20, 100), np.uint8)), labels=False).train)
        == 2**20 - 2
    )
    content = packed(".npz", x=np.zeros((2**20, 260), np.uint8))
    assert len(content) < 2**28 / 200
    assert "expected at most 268,435,456" in refusal(tmp_path, "my.npz", content, labels=False)
