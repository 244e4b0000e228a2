"""set-predict: predictions as data, figures as notes, every ending one sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, classification_report, confusion_matrix

import set_cli
from set_cli.commands.predict import predict
from set_cli.system.files import read_json
from set_cli.trained.figures import as_text, measure
from tests.builders import SHORT_CNN, SHORT_MLP, SHORT_RBM, iris_frame, rows_of_digits, train_in
from tests.conftest import NO_TORCH, run_python

PREDICT = "import set_cli.commands.predict; set_cli.commands.predict.main()"


class Ending(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


SetPredict = Callable[..., Ending]


@pytest.fixture
def set_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> SetPredict:
    """set-predict in the test's own folder; in this process, for torch takes seconds to import."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ending:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            predict.main([str(argument) for argument in arguments], prog_name="set-predict")
        code = ending.value.code
        return Ending(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("digits"), *SHORT_MLP)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iris")
    iris_frame().to_csv(folder / "iris.csv", index=False)
    held_out = ("dataset=custom", f"dataset.path={folder}/iris.csv", "data.holdout=50")
    return train_in(folder / "runs", *held_out, *SHORT_MLP[:-1], "train.epochs=20")


def digits_frame() -> pd.DataFrame:
    x, y = rows_of_digits()
    return pd.DataFrame(x.astype(int), columns=[f"pixel{i}" for i in range(64)]).assign(label=y)


def test_predictions_are_data_and_figures_are_notes(digits: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    digits_frame().to_csv(tmp_path / "rows.csv", index=False)
    result = set_predict(digits, "rows.csv")
    assert result.returncode == 0, result.stderr
    table, run = pd.read_csv(io.StringIO(result.stdout)), set_cli.load(digits)
    x, y = rows_of_digits()
    assert table.columns.tolist() == ["row", "prediction", "label", *(f"probability_{i}" for i in range(10))]
    assert table["row"].tolist() == list(range(len(x)))
    assert table["prediction"].tolist() == run.predict(x).tolist()
    assert table["label"].tolist() == y.tolist()
    np.testing.assert_allclose(table.filter(like="probability_"), run.predict_proba(x), rtol=1e-6)
    right = read_json(digits / "summary.json")["after_last_removal"]["test"]
    assert f"rows.csv, 359 rows: accuracy {right:.2f} %" in result.stderr
    assert "precision %" in result.stderr
    assert "rows by label (down) and prediction (across)" in result.stderr


def test_predictions_go_to_a_file_and_figures_to_stdout(digits: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    digits_frame().to_csv(tmp_path / "rows.csv", index=False)
    for name in ("out.csv", "out.npz"):
        result = set_predict(digits, "rows.csv", "--output", name)
        assert result.returncode == 0, result.stderr
        assert "359 rows: accuracy" in result.stdout
        assert f"359 predictions in {name}" in result.stderr
    table = pd.read_csv(tmp_path / "out.csv")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert arrays.keys() == {"prediction", "probability", "classes", "label", "confusion"}
    np.testing.assert_array_equal(arrays["prediction"], table["prediction"])
    np.testing.assert_array_equal(arrays["confusion"], confusion_matrix(table["label"], table["prediction"]))
    assert arrays["probability"].shape == (359, 10)


@pytest.mark.parametrize("settings", [SHORT_MLP, SHORT_CNN])
def test_without_a_file_the_runs_own_test_rows_are_predicted(
    settings: tuple[str, ...], set_predict: SetPredict, tmp_path: Path
) -> None:
    path = train_in(tmp_path / "runs", *settings)
    result = set_predict(path, "--output", "own.csv")
    assert result.returncode == 0, result.stderr
    right = read_json(path / "summary.json")["after_last_removal"]["test"]
    assert f"test rows of digits, 359 rows: accuracy {right:.2f} %" in result.stdout
    table = pd.read_csv(tmp_path / "own.csv")
    assert 100 * int((table["prediction"] == table["label"]).sum()) / 359 == right
    assert set_predict(path).stdout == result.stdout


def test_labels_are_welcome_and_not_needed(digits: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    frame = digits_frame()
    frame.drop(columns="label").to_csv(tmp_path / "bare.csv", index=False)
    frame.assign(label=frame["label"] + 100).to_csv(tmp_path / "other.csv", index=False)
    frame.iloc[:1].to_csv(tmp_path / "one.csv", index=False)
    bare = set_predict(digits, "bare.csv")
    assert bare.returncode == 0, bare.stderr
    assert bare.stderr == ""
    assert "label" not in bare.stdout.splitlines()[0]
    other = set_predict(digits, "other.csv")
    assert (other.returncode, other.stdout) == (3, "")
    assert "other.csv: expected labels out of the run's classes 0, 1" in other.stderr
    assert "--ignore-labels predicts without them" in other.stderr
    assert set_predict(digits, "other.csv", "--ignore-labels").stdout == bare.stdout
    assert len(set_predict(digits, "one.csv").stdout.splitlines()) == 2


def test_every_format_of_own_data_is_read(digits: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    x, y = rows_of_digits()
    np.savez(tmp_path / "r.npz", x_train=x.astype(np.uint8).reshape(-1, 8, 8), y_train=y)
    np.savez(tmp_path / "parts.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    lines = [
        f"{label} " + " ".join(f"{i + 1}:{v:g}" for i, v in enumerate(row)) for row, label in zip(x, y, strict=True)
    ]
    (tmp_path / "r.svmlight").write_text("\n".join(lines) + "\n")
    expected = set_cli.load(digits).predict(x).tolist()
    for name in ("r.npz", "r.svmlight", "parts.npz"):
        result = set_predict(digits, name)
        assert result.returncode == 0, result.stderr
        table = pd.read_csv(io.StringIO(result.stdout))
        assert table["prediction"].tolist() == expected
        assert table["label"].tolist() == y.tolist()
    assert table["part"].tolist() == ["train"] * 300 + ["test"] * 59
    right = np.array(expected) == y
    assert result.stderr.endswith(
        f"\naccuracy of each part of the file: train {100 * right[:300].mean():.2f} % of 300 rows, "
        f"test {100 * right[300:].mean():.2f} % of 59 rows\n"
    )


def test_an_rbm_tells_what_it_measured(set_predict: SetPredict, tmp_path: Path) -> None:
    path = train_in(tmp_path / "runs", *SHORT_RBM)
    result = set_predict(path)
    assert result.returncode == 0, result.stderr
    figure = read_json(path / "summary.json")["after_last_removal"]["test"]
    assert f"359 rows (test): log-probability {figure:.2f} nats" in result.stdout
    digits_frame().to_csv(tmp_path / "rows.csv", index=False)
    refused = set_predict(path, "rows.csv")
    assert refused.returncode == 2
    assert "an RBM has no classes to predict" in refused.stderr


def test_endings(digits: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    digits_frame().drop(columns="pixel3").to_csv(tmp_path / "narrow.csv", index=False)
    (digits_frame() / 16).assign(label=digits_frame()["label"]).to_csv(tmp_path / "scaled.csv", index=False)
    (tmp_path / "rows.txt.exe").write_text("1")
    cases = [
        ((digits, "nowhere.csv"), 3, "nowhere.csv"),
        ((digits, "narrow.csv"), 3, "narrow.csv: expected rows (n, 64), or images (n, 8, 8), found an array of shape"),
        ((digits, "rows.txt.exe"), 2, "rows.txt.exe: expected a file that ends in"),
        ((tmp_path / "none",), 3, "expected a run folder, found none"),
        ((digits.parent,), 3, "holds 1 run, such as"),
        ((digits, "--output", "x.json"), 2, "expected a name that ends in .csv or .npz"),
        ((digits, "--output", "no/folder/x.csv"), 6, "no/folder/x.csv: could not be written"),
    ]
    for arguments, code, sentence in cases:
        result = set_predict(*arguments)
        assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
        assert sentence in result.stderr
    scaled = set_predict(digits, "scaled.csv")
    assert scaled.returncode == 0
    assert "are these rows scaled already?" in scaled.stderr


def test_help_and_version_need_no_torch(tmp_path: Path) -> None:
    program = f"{NO_TORCH}\n{PREDICT}"
    for flag, words in (("--help", "Usage: set-predict"), ("--version", f"set-predict {set_cli.__version__}")):
        result = run_python("-c", program, flag, folder=tmp_path)
        assert (result.returncode, words in result.stdout) == (0, True), result.stderr
    listing = "import set_cli; print(len(set_cli.runs('.')))"
    result = run_python("-c", f"{NO_TORCH}\n{listing}", folder=tmp_path)
    assert result.stdout == "0\n", result.stderr


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (2, 200))
    figures = measure(labels, predicted, 6)  # two classes have no rows
    report = classification_report(labels, predicted, output_dict=True, zero_division=0)
    assert figures.balanced_accuracy == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert figures.accuracy == pytest.approx(100 * report["accuracy"])
    assert figures.confusion.sum() == 200
    for i in range(4):
        assert figures.precision[i] == report[str(i)]["precision"]
        assert figures.recall[i] == report[str(i)]["recall"]
        assert figures.f1[i] == report[str(i)]["f1-score"]
    assert figures.support.tolist()[4:] == [0, 0]


def test_of_many_classes_the_confusions_are_named() -> None:
    labels = np.arange(100)
    predicted = np.where(labels == 7, 12, labels)
    text = as_text(measure(labels, predicted, 100), np.array([f"kind {i}" for i in range(100)]), None)
    assert "the most frequent confusions" in text
    (line,) = [line for line in text.splitlines() if line.startswith("kind 7 ") and "kind 12" in line]
    assert line.split()[-1] == "1"
    assert "no row is confused" in as_text(measure(labels, labels, 100), labels, None)
    few = as_text(measure(labels % 9, labels % 9, 9), np.array([f"a long name {i}" for i in range(9)]), 80)
    assert max(map(len, few.splitlines())) <= 100
    assert "no row is confused" in few


def test_columns_of_a_file_are_found_by_their_names(iris: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    frame = iris_frame()
    expected = set_cli.load(iris).predict(frame)
    shuffled = frame[["petal width", "label", "sepal length", "petal length", "sepal width"]]
    shuffled.to_csv(tmp_path / "shuffled.csv", sep=";", decimal=",")  # with the row numbers of pandas
    shuffled.rename(columns={"label": "kind"}).to_csv(tmp_path / "kind.csv.gz", index=False)
    shuffled.drop(columns="petal length").to_csv(tmp_path / "few.csv", index=False)
    shuffled.astype({"petal width": str}).replace({"petal width": "1.3"}, "wide").to_csv(tmp_path / "words.csv")
    np.savez(tmp_path / "odd.npz", a=frame.iloc[:, :4].to_numpy())
    for arguments in (("shuffled.csv",), ("kind.csv.gz", "--label", "kind")):
        result = set_predict(iris, *arguments)
        assert result.returncode == 0, result.stderr
        table = pd.read_csv(io.StringIO(result.stdout))
        assert table["prediction"].tolist() == expected.tolist()
        assert table["label"].tolist() == frame["label"].tolist()
        assert f"accuracy {100 * (expected == frame['label']).mean():.2f} %" in result.stderr
    for arguments, code, sentence in (
        (("kind.csv.gz",), 3, "found others too: kind; --label NAME says which one holds the labels"),
        (("shuffled.csv", "--label", "kin"), 2, "--label kin: shuffled.csv has no column or array of that name"),
        (("few.csv",), 3, "few.csv: expected the columns that the run was trained on; missing: 'petal length'"),
        (("words.csv",), 3, "column 'petal width'\n"),
        (("odd.npz",), 3, "found a 150x4; call the array of rows as the training file does, or X\n"),
    ):
        result = set_predict(iris, *arguments)
        assert (result.returncode, result.stdout) == (code, "")
        assert sentence in result.stderr


def test_the_file_that_the_run_was_trained_on_is_called_so(iris: Path, set_predict: SetPredict, tmp_path: Path) -> None:
    content = next(folder / "iris.csv" for folder in iris.parents if (folder / "iris.csv").exists()).read_bytes()
    (tmp_path / "copy.csv").write_bytes(content)
    (tmp_path / "other.csv").write_bytes(content + b"1,2,3,4,setosa\n")
    sentence = (
        f"note: copy.csv is the file that the run was trained on: 100 of its 150 rows are training rows; set-predict "
        f"{iris} measures the held-out rows alone\n"
    )
    assert set_predict(iris, "copy.csv").stderr.count(sentence) == 1
    assert set_predict(iris, "copy.csv", "--ignore-labels", "--output", "out.csv").stderr.count(sentence) == 1
    assert "trained on" not in set_predict(iris, "other.csv").stderr
    assert "trained on" not in set_predict(iris).stderr


def test_a_sparse_file_need_not_have_the_last_features(set_predict: SetPredict, digits: Path, tmp_path: Path) -> None:
    x, _ = rows_of_digits()
    x = x[x[:, 60:].sum(axis=1) == 0]
    assert len(x)
    lines = ["0 " + " ".join(f"{i + 1}:{v:g}" for i, v in enumerate(row) if v) for row in x]
    (tmp_path / "few.svmlight").write_text("\n".join(lines) + "\n")
    result = set_predict(digits, "few.svmlight", "--ignore-labels")
    assert result.returncode == 0, result.stderr
    assert pd.read_csv(io.StringIO(result.stdout))["prediction"].tolist() == set_cli.load(digits).predict(x).tolist()
