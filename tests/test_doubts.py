"""What is said of own data before a run trains on it: classes, and everything that makes its figures doubtful."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from set_cli.data.account import data_lines, data_record
from set_cli.data.prepare import load_data
from set_cli.errors import DataError
from tests.builders import data_config, load_own, said

Patch = pytest.MonkeyPatch
Array = NDArray[Any]
BUNDLES: list[Callable[[], Any]] = [load_iris, load_wine, load_breast_cancer]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def noise(rows: int, features: int = 3) -> Array:
    return rng().normal(size=(rows, features))


# Classes.


def test_few_classes_are_said_by_name_and_recorded_in_the_order_of_the_outputs(monkeypatch: Patch) -> None:
    bunch = load_iris()
    names = [str(name) for name in bunch.target_names]
    data = load_own(monkeypatch, bunch.data, bunch.target, classes=names, holdout=30)
    assert data_lines(data) == [
        "classes: setosa 40, versicolor 40, virginica 40 (test: 10, 10, 10)",
        "note: read as it is",
    ]
    record = data_record(data)
    assert record["classes"] == [{"name": name, "train": 40, "test": 10} for name in names]
    assert (record["train"], record["test"], record["features"]) == (120, 30, 4)
    assert (record["tested_on"], record["origin"], record["doubts"]) == ("holdout", "custom", [])


def test_many_classes_are_said_by_their_number_and_size(monkeypatch: Patch) -> None:
    y = np.repeat(np.arange(26), np.arange(26) + 20)
    data = load_own(monkeypatch, noise(len(y)), y, classes=[chr(97 + i) for i in range(26)], holdout=100, valid=50)
    line = data_lines(data)[0]
    assert line == "classes: 26, each with 17 (class a) to 37 (class z) training rows (valid: 1 to 3; test: 2 to 5)"
    even = load_own(monkeypatch, noise(400), np.repeat(np.arange(40), 10), holdout=80)
    assert data_lines(even)[0] == "classes: 40, each with 8 training rows (test: 2 to 2)"


def test_a_class_name_cannot_write_to_the_terminal(monkeypatch: Patch) -> None:
    names = ["a\x1b[31m\nb", "x" * 500]
    data = load_own(monkeypatch, noise(60), np.arange(60) % 2, classes=names, holdout=12)
    assert all(line.isprintable() and len(line) < 300 for line in data_lines(data))
    assert [row["name"] for row in data_record(data)["classes"]] == names


def test_published_sets_are_recorded_without_a_word() -> None:
    from set_cli.config import Dataset

    data = load_data(Dataset(name="digits"), data_config(scaling="unit"))
    assert data_lines(data) == []
    assert [row["name"] for row in data_record(data)["classes"]] == [str(i) for i in range(10)]


def test_a_class_that_training_never_sees_is_refused(monkeypatch: Patch) -> None:
    y = np.repeat([0, 1, 2], 20)
    with pytest.raises(DataError) as caught:
        load_own(monkeypatch, noise(60), y, split="last", holdout=25, classes=["a", "b", "c"])
    assert str(caught.value) == (
        "my.csv: the test rows have classes that no training row has: c (20); data.split=stratified draws rows of "
        "every class"
    )
    with pytest.raises(DataError, match=r"the test rows have classes that no training row has: 2 \(4\)$"):
        load_own(monkeypatch, noise(40), np.arange(40) % 2, test=(noise(12), np.arange(12) % 3))
    with pytest.raises(DataError, match=r"no training row has: 2 \(4\); data.train_limit=2 leaves few rows"):
        load_own(monkeypatch, noise(60), np.arange(60) % 3, holdout=12, train_limit=2)


def test_training_rows_of_one_class_are_refused(monkeypatch: Patch) -> None:
    with pytest.raises(DataError, match=r"my.csv: all 20 training rows are of class a; expected two classes or more"):
        load_own(monkeypatch, noise(40), np.repeat([0, 1], 20), split="last", holdout=20, classes=["a", "b"])


def test_a_test_part_of_one_class_is_doubtful(monkeypatch: Patch) -> None:
    bunch = load_iris()
    data = load_own(monkeypatch, bunch.data, bunch.target, split="last", holdout=30)
    assert data.doubts == (
        "all 30 test rows are of class 2, one of 3; data.split=stratified draws rows of every class",
    )
    own = load_own(monkeypatch, noise(40), np.arange(40) % 2, test=(noise(52)[40:], np.ones(12, int)))
    assert own.doubts == ("all 12 test rows are of class 1, one of 2",)
    assert data_lines(own)[-1] == f"warning: {own.doubts[0]}"


def test_a_class_without_test_rows_is_doubtful(monkeypatch: Patch) -> None:
    bunch = load_iris()
    names = [str(name) for name in bunch.target_names]
    few = load_own(monkeypatch, bunch.data, bunch.target, classes=names, holdout=2)
    assert few.doubts == (
        "no test row is of class virginica: the test accuracy says nothing about it; data.holdout=3 or more draws rows "
        "of every class",
    )
    one = said(load_own(monkeypatch, bunch.data, bunch.target, classes=names, holdout=1))
    assert one == "the only test row is of class setosa, one of 3; data.holdout=3 or more draws rows of every class"
    assert not load_own(monkeypatch, bunch.data, bunch.target, classes=names, holdout=3).doubts
    test = (bunch.data[:99] + 0.01, bunch.target[:99])
    assert said(load_own(monkeypatch, bunch.data, bunch.target, classes=names, test=test)).endswith("nothing about it")
    rare = np.r_[bunch.target, 3]  # a single row, which is always trained on
    assert said(load_own(monkeypatch, np.r_[bunch.data, [[9, 9, 9, 9]]], rare, holdout=30)).endswith("nothing about it")


def test_a_class_with_next_to_no_training_rows_is_doubtful(monkeypatch: Patch) -> None:
    y = np.r_[np.arange(90) % 2, [2], [2] * 9, 0]
    doubts = said(load_own(monkeypatch, noise(101), y, split="last", holdout=10))
    assert "class 2 has 9 test rows and only 1 to train on; data.split=stratified" in doubts


def test_limits_on_a_published_set_are_no_refusal() -> None:
    from set_cli.config import Dataset

    data = load_data(Dataset(name="digits"), data_config(train_limit=3, scaling="unit"))
    assert said(data).startswith("the test rows have classes that no training row has: 3 (")


@pytest.mark.parametrize("labels", [np.arange(100), np.repeat(np.arange(60), 2)[:100], np.arange(30) // 2 * 2])
def test_more_than_half_as_many_classes_as_rows_are_refused(labels: Array, monkeypatch: Patch) -> None:
    y = np.unique(labels, return_inverse=True)[1]
    if len(np.unique(y)) * 2 <= len(y):
        y = np.r_[y, np.arange(len(y)) + y.max() + 1]
    with pytest.raises(DataError, match=r"my.csv: found \d+ classes among \d+ rows, which looks like a measured"):
        load_own(monkeypatch, noise(len(y)), y, holdout=len(y) // 5)


def test_the_diabetes_target_is_doubtful_and_ordinary_classes_are_not(monkeypatch: Patch) -> None:
    bunch = load_diabetes(scaled=False)
    y = np.unique(bunch.target, return_inverse=True)[1]
    assert "214 classes among 442 rows" in said(load_own(monkeypatch, bunch.data, y, holdout=80))
    counts = np.unique(rng().poisson(60, 300), return_inverse=True)[1]
    assert "if the label is a measured quantity" in said(load_own(monkeypatch, noise(300), counts, holdout=40))
    for y in (np.repeat(np.arange(40), 10), np.repeat(np.arange(26), 20), np.arange(16) % 4):
        assert not load_own(monkeypatch, noise(len(y)), y, holdout=len(y) // 4).doubts


def test_a_model_that_looks_at_no_labels_is_not_refused_for_them(monkeypatch: Patch) -> None:
    data = load_own(monkeypatch, rng().random((50, 3)), np.arange(50), labels=False, holdout=10, scaling="unit")
    assert (len(data.train), data.doubts) == (40, ())


def test_groups_in_two_parts_of_the_file_are_doubtful(monkeypatch: Patch) -> None:
    from set_cli.data.classes import check_groups
    from set_cli.data.parts import Part

    x, y = noise(6), np.arange(6) % 2
    parts = {"train": Part(x, y, np.array([1, 1, 2, 2, 3, 3])), "test": Part(x, y, np.array([3, 4, 4, 5, 5, 1]))}
    assert check_groups(parts) == ["2 groups of rows that belong together have test rows and training rows"]


# Columns that are no measurements.


@pytest.mark.parametrize("load", BUNDLES)
def test_a_row_number_is_named_wherever_the_rows_are(load: Callable[[], Any], monkeypatch: Patch) -> None:
    bunch = load()
    order = np.argsort(bunch.target, kind="stable")
    x, y, n = bunch.data[order], bunch.target[order], len(order)
    names = ["id", *map(str, bunch.feature_names)]
    for column in (np.arange(n), np.arange(1, n + 1)):
        with pytest.raises(DataError, match=r"feature 1 \('id'\) counts the rows: .* gives the class away; dataset"):
            load_own(monkeypatch, np.c_[column, x], y, features=names, holdout=n // 5)
    for other in (np.arange(n) * 10 + 3, np.arange(n)[::-1], 1.7e9 + np.arange(n) * 60, np.arange(n) / 7):
        doubts = said(load_own(monkeypatch, np.c_[other, x], y, features=names, holdout=n // 5))
        assert "feature 1 ('id') counts the rows" in doubts
        assert "may give the class away; dataset.drop=[id] leaves it out" in doubts
    shuffled = rng().permutation(n)
    for column, rows in ((np.arange(n), shuffled), (np.arange(n) + 4, shuffled[: 3 * n // 4])):
        table = np.c_[column, x][rows]
        doubts = said(load_own(monkeypatch, table, y[rows], features=names, holdout=len(rows) // 5))
        assert "feature 1 ('id') numbers the rows" in doubts
        assert "rows with near numbers are of one class, so this gives the class away" in doubts
    mixed = said(load_own(monkeypatch, np.c_[np.arange(n), x[shuffled]], y[shuffled], features=names, holdout=n // 5))
    assert mixed == f"feature 1 ('id') counts the rows: from 0 to {n - 1} in order; dataset.drop=[id] leaves it out"


@pytest.mark.parametrize("load", [*BUNDLES, load_digits])
def test_measurements_are_not_taken_for_row_numbers_or_labels(load: Callable[[], Any], monkeypatch: Patch) -> None:
    bunch = load()
    assert not load_own(monkeypatch, bunch.data, bunch.target, holdout=30).doubts
    ranks = np.argsort(np.argsort(noise(200, 6), axis=0), axis=0).astype(float)
    assert not load_own(monkeypatch, ranks, np.arange(200) % 2, holdout=40).doubts


def test_the_way_to_leave_a_column_out_can_be_typed(monkeypatch: Patch) -> None:
    x, y = np.c_[np.arange(60), noise(60)], rng().integers(0, 2, 60)
    names = ["Unnamed: 0", "a", "b", "c"]
    doubts = said(load_own(monkeypatch, x, y, features=names, holdout=12))
    assert doubts.endswith("""'dataset.drop=["Unnamed: 0"]' leaves it out""")
    assert said(load_own(monkeypatch, x, y, holdout=12)).endswith("; leave it out of the file")


@pytest.mark.parametrize("load", BUNDLES)
def test_a_column_that_is_the_class_is_named(load: Callable[[], Any], monkeypatch: Patch) -> None:
    bunch = load()
    names, y = [*map(str, bunch.feature_names), "target"], bunch.target
    for column in (y, y + 1, y.max() - y):
        doubts = said(load_own(monkeypatch, np.c_[bunch.data, column], y, features=names, holdout=30))
        assert "('target') has one value for each class, so this gives the class away" in doubts
    almost = y.copy()
    almost[0] = (y[0] + 1) % 2
    assert not load_own(monkeypatch, np.c_[bunch.data, almost], y, features=names, holdout=30).doubts


def test_any_number_for_each_class_is_the_class(monkeypatch: Patch) -> None:
    bunch = load_iris()
    price = np.array([9.5, 20, 11.25])[bunch.target]
    assert "one value for each class" in said(load_own(monkeypatch, np.c_[bunch.data, price], bunch.target, holdout=30))
    shared = np.array([9.5, 20, 9.5])[bunch.target]
    assert not load_own(monkeypatch, np.c_[bunch.data, shared], bunch.target, holdout=30).doubts


def test_the_rest_of_a_one_hot_encoding_is_named(monkeypatch: Patch) -> None:
    bunch = load_iris()
    one_hot = np.eye(3)[bunch.target]
    names = [*map(str, bunch.feature_names), "species_setosa", "species_versicolor"]
    rest = np.c_[bunch.data, one_hot[:, :2]]
    doubts = said(load_own(monkeypatch, rest, (bunch.target == 2).astype(int), features=names, holdout=30))
    assert "('species_versicolor') are together 1 in all rows of class 0 and in no others" in doubts
    assert doubts.endswith("; dataset.drop=[species_setosa,species_versicolor] leaves them out")
    doubts = said(load_own(monkeypatch, np.c_[bunch.data, one_hot], bunch.target, holdout=30))
    assert "feature 5, feature 6, feature 7 mark the rows of one class each" in doubts
    mixed = rest.copy()
    mixed[np.flatnonzero(bunch.target == 2)[0], 4] = 1  # no encoding: a row of class 1 has it too
    assert not load_own(monkeypatch, mixed, (bunch.target == 2).astype(int), features=names, holdout=30).doubts


def test_a_one_hot_encoding_without_its_first_column_is_known_by_its_names(monkeypatch: Patch) -> None:
    bunch = load_iris()
    names = [*map(str, bunch.feature_names), "species_versicolor"]
    x, y = np.c_[bunch.data, bunch.target == 1], (bunch.target == 2).astype(int)
    doubts = said(load_own(monkeypatch, x, y, features=names, label="species_virginica", holdout=30))
    assert "('species_versicolor') is 1 in rows of one class only" in doubts
    for label in ("virginica", "kind_virginica", None):
        assert not load_own(monkeypatch, x, y, features=names, label=label, holdout=30).doubts


def test_columns_of_words_are_no_answer(monkeypatch: Patch) -> None:
    words = (rng().random((60, 4000)) < 0.02).astype(float)
    y = (np.arange(60) % 60 == 0).astype(int)  # words that stand in this row and no other come by chance
    assert "class away" not in said(load_own(monkeypatch, np.c_[words, noise(60)], y, holdout=12))


# Rows that training knows.


@pytest.mark.parametrize("load", [*BUNDLES, load_digits])
def test_test_rows_that_training_has_seen_are_named(load: Callable[[], Any], monkeypatch: Patch) -> None:
    bunch = load()
    n = len(bunch.data)
    x, y = np.r_[bunch.data, bunch.data[: n // 2]], np.r_[bunch.target, bunch.target[: n // 2]]
    order = rng().permutation(len(x))
    doubts = said(load_own(monkeypatch, x[order], y[order], holdout=n // 4))
    assert f"of the {n // 4} test rows have the values of a training row" in doubts
    assert "remove repeated rows from the data, or give equal rows one group (dataset.group)" in doubts
    assert not load_own(monkeypatch, bunch.data, bunch.target, holdout=n // 4).doubts


def test_repeated_rows_are_counted_exactly_in_each_part(monkeypatch: Patch) -> None:
    x, y = noise(300), np.arange(300) % 2
    x[0], x[299] = 0.0, -0.0  # equal values of different bytes
    other = np.r_[noise(300)[1:41], rng().normal(5, 9, size=(159, 3)), x[299:]]
    doubts = load_own(monkeypatch, x[:299], y[:299], test=(other, np.arange(200) % 2)).doubts
    assert doubts[0].startswith("41 of the 200 test rows have the values of a training row, so they do not show")
    few = np.r_[x[1:10], rng().normal(5, 9, size=(191, 3))]
    assert "values of a training row" not in said(load_own(monkeypatch, x, y, test=(few, np.arange(200) % 2)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_equal_rows_of_few_different_values_are_expected(dtype: type, monkeypatch: Patch) -> None:
    y = rng().integers(0, 2, 400)
    age = rng().integers(18, 90, 400)
    for x in (
        rng().integers(0, 2, (400, 5)),
        rng().integers(1, 5, (400, 4)),
        age[:, None],
        np.c_[age, age // 3 + rng().integers(0, 6, 400)],
        rng().poisson(0.01, (400, 300)),
    ):
        assert "training row," not in said(load_own(monkeypatch, x.astype(dtype), y, holdout=80))


def test_a_column_that_numbers_groups_is_named(monkeypatch: Patch) -> None:
    y, persons = rng().integers(0, 2, 90), np.repeat(np.arange(1, 31), 3)
    names = ["patient", "a", "b", "c"]
    for column, words in (
        (persons, "rises through the file, several rows each"),
        (np.repeat(rng().permutation(30) * 7 + 100, 3), "goes through the file by blocks of equal values"),
    ):
        table = np.c_[column, noise(90)]
        assert said(load_own(monkeypatch, table, y, features=names, holdout=18)) == (
            f"feature 1 ('patient') (30 values) {words}: if these are groups such as persons, dataset.group=patient "
            "keeps each on one side"
        )
        assert not load_own(monkeypatch, table, y, features=names, groups=persons, holdout=18).doubts
    odd = load_own(monkeypatch, np.c_[persons, noise(90)], y, features=["patient no", *names[1:]], holdout=18)
    assert """'dataset.group="patient no"' keeps each on one side""" in said(odd)
    assert "dataset.group=NAME, an array" in said(load_own(monkeypatch, np.c_[persons, noise(90)], y, holdout=18))


def test_other_columns_are_no_groups(monkeypatch: Patch) -> None:
    y = np.repeat(np.arange(6), 15)
    for column in (np.ones(90), np.arange(90) // 45, np.arange(90) // 30, np.repeat(noise(30, 1)[:, 0], 3), y % 4):
        mixed = load_own(monkeypatch, np.c_[column, noise(90)], np.arange(90) % 2, holdout=18)
        assert not mixed.doubts
    assert "such as persons" not in said(load_own(monkeypatch, np.c_[y + 1, noise(90)], y, holdout=18))
    shuffled = np.c_[rng().integers(0, 30, 90), noise(90)]
    assert not load_own(monkeypatch, shuffled, np.arange(90) % 2, holdout=18).doubts


def test_groups_that_come_back_are_known_by_their_name(monkeypatch: Patch) -> None:
    y, x = np.arange(90) % 2, np.c_[np.tile(np.arange(1, 31), 3), noise(90)]
    for name in ("subject", "patient_id", "Speaker No", "family", "mouse.nr"):
        doubts = said(load_own(monkeypatch, x, y, features=[name, "a", "b", "c"], holdout=18))
        assert f"feature 1 ({name!r}) has 30 whole numbers that come back" in doubts
    for name in ("subjective", "month", "x", "groups of cells"):
        assert not load_own(monkeypatch, x, y, features=[name, "a", "b", "c"], holdout=18).doubts
    measured = np.c_[x[:, 0] + 0.5, x[:, 1:]]
    assert not load_own(monkeypatch, measured, y, features=["subject", "a", "b", "c"], holdout=18).doubts


# Scales.


@pytest.mark.parametrize("load", [*BUNDLES, load_digits])
def test_test_rows_on_another_scale_are_named(load: Callable[[], Any], monkeypatch: Patch) -> None:
    bunch = load()
    order = rng().permutation(len(bunch.data))
    x, y = bunch.data[order], bunch.target[order]
    half = len(x) // 2
    deviation = x.std(axis=0)
    others = {
        "standardised": (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1),
        "bytes / 255": x / 255,
        "other unit": x * 1000,
    }
    for name, other in others.items():
        doubts = said(load_own(monkeypatch, x[:half], y[:half], test=(other[half:], y[half:])))
        if (name, load) != ("standardised", load_digits):  # there the spread of a pixel is about 1 deviation
            assert "the test rows are on another scale" in doubts, name
    assert not load_own(monkeypatch, x[:half], y[:half], test=(x[half:], y[half:])).doubts


def test_rare_values_are_no_other_scale(monkeypatch: Patch) -> None:
    counts = rng().poisson(0.02, (500, 400)).astype(np.float32) * 9
    y = rng().integers(0, 3, 500)
    data = load_own(monkeypatch, counts[:400], y[:400], test=(counts[400:], y[400:]))
    assert not data.doubts
    doubts = said(load_own(monkeypatch, counts[:400], y[:400], test=(counts[400:] / 255, y[400:])))
    assert "255 times narrower" in doubts


def test_small_bytes_that_are_divided_by_255_are_named(monkeypatch: Patch) -> None:
    x, y = rng().integers(0, 6, (80, 4)).astype(np.uint8), rng().integers(0, 2, 80)
    doubts = said(load_own(monkeypatch, x, y, holdout=20, scaling="unit"))
    assert doubts.startswith("values are bytes, and bytes are divided by 255; the largest is 5, so that no input")
    assert not load_own(monkeypatch, x, y, holdout=20).doubts
    assert not load_own(monkeypatch, x * 50, y, holdout=20, scaling="unit").doubts
    assert not load_own(monkeypatch, x % 2, y, holdout=20, scaling="unit").doubts


def test_features_that_never_vary_are_named_and_nothing_else_is_refused(monkeypatch: Patch) -> None:
    x, y = np.c_[np.full(60, 0.1), noise(60, 2), np.full(60, -3.0)], rng().integers(0, 2, 60)
    notes = load_own(monkeypatch, x, y, holdout=12).notes
    assert "features with one value in all training rows say nothing: 2 of 4 (feature 1, feature 4)" in notes
    with pytest.raises(DataError, match=r"my.csv: every feature has one value in all training rows"):
        load_own(monkeypatch, x[:, [0, 3]], y, holdout=12)


# The record of a run.


def test_doubts_are_printed_logged_recorded_and_reported(set_train: Any, tmp_path: Path) -> None:
    values = rng().normal(size=(60, 2))
    rows = "\n".join(f"{i * 7},{a:.3f},{b:.3f},{'ab'[i % 2]}" for i, (a, b) in enumerate(values))
    (tmp_path / "my.csv").write_text(f"id,v,w,label\n{rows}\n")
    keys = ("dataset=custom", "dataset.path=my.csv", "data.holdout=12", "train.epochs=1", "model.hidden=[5]")
    result = set_train(*keys, "backend.threads=1", "progress=none")
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs/custom/mlp").iterdir()
    doubt = json.loads((run / "summary.json").read_text())["doubts"][0]
    assert "counts the rows: from 0 to 413 in order" in doubt
    (start,) = json.loads((run / "run.json").read_text())
    assert start["data"]["doubts"] == [doubt]
    assert [(row["train"], row["test"]) for row in start["data"]["classes"]] == [(24, 6), (24, 6)]
    for text in (result.stderr, (run / "train.log").read_text()):
        assert text.count(f"warning: {doubt}") == 1
        assert text.count("classes: ") == 1
