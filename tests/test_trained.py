"""A trained run that is loaded: it predicts rows as they are in the file, and evaluates to the report's figure."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import set_cli
from set_cli.config import from_mapping
from set_cli.errors import ConfigError, DataError, Interrupted
from set_cli.runs.folder import locate
from set_cli.runs.inputs import INPUTS, read_inputs
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_arrays, read_json, write_json
from set_cli.trained.classes import class_labels
from set_cli.trained.rows import RowsWarning
from set_cli.trained.run import TrainedRun
from set_cli.training import supervised
from tests.builders import SHORT_CNN, SHORT_MLP, SHORT_RBM, StopAt, iris_frame, reseal, rows_of_digits, train_in
from tests.conftest import ONE_THREAD, compose_mapping

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """A short run on digits, in the test's own folder."""
    return lambda *overrides: train_in(tmp_path / "runs", *overrides)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished SET-MLP on digits, not to be changed."""
    return train_in(tmp_path_factory.mktemp("digits"), *SHORT_MLP)


@pytest.fixture(scope="module")
def rbm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished SET-RBM on digits, not to be changed."""
    return train_in(tmp_path_factory.mktemp("rbm"), *SHORT_RBM)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run on iris.csv, whose labels are words; the file lies beside the runs."""
    folder = tmp_path_factory.mktemp("iris")
    iris_frame().to_csv(folder / "iris.csv", index=False)
    held_out = ("dataset=custom", f"dataset.path={folder}/iris.csv", "data.holdout=50")
    return train_in(folder / "runs", *held_out, *SHORT_MLP[:-1], "train.epochs=20")


@pytest.mark.parametrize("method", ["set", "fixprob", "dense"])
@pytest.mark.parametrize(("model", "settings"), [("mlp", SHORT_MLP), ("cnn", SHORT_CNN), ("rbm", SHORT_RBM)])
def test_evaluate_gives_the_summarys_figure_to_the_last_digit(
    model: str, settings: tuple[str, ...], method: str, train: Train
) -> None:
    run = set_cli.load(train(*settings, f"method={method}", "data.valid=100"))
    metric = run.summary["metric"]
    for part in ("test", "valid"):
        found = run.evaluate(part=part)
        assert found[metric] == run.summary["after_last_removal"][part]
        last = run.metrics.iloc[-1]
        if method != "set":  # nothing was removed after the last row of metrics.jsonl: every figure is that row's
            figures = {name: value for name, value in found.items() if f"{part}_{name}" in last}
            assert figures.keys() >= {metric, "reconstruction_loss" if model == "rbm" else "loss"}
            assert all(value == last[f"{part}_{name}"] for name, value in figures.items())
            assert found[metric] == run.summary["last"] or part == "valid"
    assert (found["rows"], found["tested_on"]) == (100, "valid")
    assert run.evaluate()["tested_on"] == "test"


@pytest.mark.parametrize("method", ["set", "dense"])
def test_evaluate_computes_with_the_threads_of_the_training(
    method: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = train(*SHORT_MLP, f"method={method}", "backend.threads=2")
    torch.set_num_threads(1)
    threads = []

    def counted(*arguments: Any, **named: Any) -> dict[str, float]:
        threads.append(torch.get_num_threads())
        return evaluate(*arguments, **named)

    evaluate = supervised.evaluate
    monkeypatch.setattr(supervised, "evaluate", counted)
    found = set_cli.load(path).evaluate()
    assert (threads, torch.get_num_threads()) == ([2], 1)
    assert found["accuracy"] == read_json(path / "summary.json")["after_last_removal"]["test"]
    if method == "dense":
        assert found["loss"] == read_rows(path / "metrics.jsonl")[-1]["test_loss"]


@pytest.mark.parametrize("engine", ["torch", "masked", "native"])
def test_evaluate_computes_with_the_engines_of_the_training(engine: str, train: Train) -> None:
    path = train(*SHORT_MLP, "method=fixprob", f"backend.engine={engine}")
    run = set_cli.load(path)
    assert run.evaluate()["loss"] == run.metrics["test_loss"].iloc[-1]


def test_a_run_on_held_out_rows_says_so(train: Train) -> None:
    run = set_cli.load(train(*SHORT_MLP, "data.holdout=200"))
    found = run.evaluate()
    assert (found["accuracy"], found["rows"], found["tested_on"]) == (
        run.summary["after_last_removal"]["test"],
        200,
        "holdout",
    )
    with pytest.raises(DataError, match="the run has no valid rows"):
        run.evaluate(part="valid")


def test_predictions_of_the_test_rows_are_as_right_as_the_report_says(digits: Path) -> None:
    run = set_cli.load(digits)
    x, y = rows_of_digits()
    right = run.summary["after_last_removal"]["test"]
    assert right > 60  # else scaling would not matter
    assert 100 * int((run.predict(x) == y).sum()) / len(y) == right
    assert run.evaluate(x, y) == run.evaluate() | {"tested_on": "rows"}


def test_rows_may_be_of_any_kind(digits: Path) -> None:
    run = set_cli.load(digits)
    x, _ = rows_of_digits()
    expected = run.predict_proba(x)
    assert expected.dtype == np.float32
    assert expected.shape == (len(x), 10)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(run.classes[expected.argmax(axis=1)], run.predict(x))
    kinds: list[Any] = [x.astype(kind) for kind in (np.uint8, np.int16, np.int64, np.float16, np.float32, object)]
    kinds += [torch.tensor(x), torch.tensor(x, dtype=torch.bfloat16), x.tolist(), x.astype(str), np.asfortranarray(x)]
    kinds += [scipy.sparse.csr_matrix(x), pd.DataFrame(x), pd.DataFrame(x).astype("Int64"), x.reshape(-1, 8, 8)]
    kinds += [x.reshape(-1, 1, 8, 8), x.reshape(-1, 8, 8, 1), np.ma.masked_array(x)]
    for rows in kinds:
        np.testing.assert_array_equal(run.predict_proba(rows), expected)
    for row in (x[3], x[3].reshape(8, 8), x[3].reshape(8, 8, 1), torch.tensor(x[3]), pd.Series(x[3])):
        np.testing.assert_array_equal(run.predict(row), run.predict(x[3:4]))
    assert run.predict(x[:0]).shape == (0,)
    assert run.predict_proba(x[:0]).shape == (0, 10)


def test_many_rows_are_predicted_in_batches(digits: Path) -> None:
    run = set_cli.load(digits)
    x, _ = rows_of_digits()
    many = np.tile(x, (10, 1))
    np.testing.assert_array_equal(run.predict(many), np.tile(run.predict(x), 10))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (np.zeros((3, 63)), r"expected rows \(n, 64\), or images \(n, 8, 8\), found an array of shape \(3, 63\)"),
        (np.zeros((3, 8, 9)), r"found an array of shape \(3, 8, 9\)"),
        ([[1, 2], [3]], "expected rows of numbers of one length"),
        (np.full((2, 64), "blue"), "expected rows of numbers .*could not convert"),
        (np.zeros((2, 64), complex), "expected rows of numbers, found values of type complex128"),
        (np.zeros((2, 64), "datetime64[s]"), "expected rows of numbers, found values of type datetime64"),
        (np.where(np.eye(64)[:3] == 1, np.nan, 0), "a value is missing .NaN. in row 0, feature 0 .*data.missing=mean"),
        (np.where(np.eye(64)[1:3] == 1, np.inf, 0), "expected finite numbers, found inf in row 0, feature 1"),
        (np.zeros((2, 64)) + 1e300, r"expected finite numbers, found 1e\+300 in row 0, feature 0"),
    ],
)
def test_rows_that_cannot_be_predicted_are_refused_in_a_sentence(rows: Any, sentence: str, digits: Path) -> None:
    run = set_cli.load(digits)
    with pytest.raises(DataError, match=sentence):
        run.predict(rows)


def test_rows_that_were_scaled_before_are_warned_of(digits: Path, iris: Path) -> None:
    x, _ = rows_of_digits()
    with pytest.warns(RowsWarning, match=r"values from 0 to 1, where the data file has 0 to 16: are these") as caught:
        set_cli.load(digits).predict(x / 16)
    assert caught[0].filename == __file__
    run, frame = set_cli.load(iris), iris_frame()
    values = frame.iloc[:, :4].to_numpy()
    with pytest.warns(RowsWarning, match="most values lie far from those of the training rows"):
        run.predict((values - values.mean(axis=0)) / values.std(axis=0))
    run.predict(values[0])  # one row, or rows of one class, are no reason
    run.predict(values[frame["label"] == "setosa"])


def test_classes_are_the_labels_of_the_file(iris: Path, digits: Path) -> None:
    run, frame = set_cli.load(iris), iris_frame()
    assert run.evaluate()["accuracy"] == run.summary["after_last_removal"]["test"] > 80
    assert set_cli.load(digits).classes.tolist() == list(range(10))
    assert run.classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert float((run.predict(frame.iloc[:, :4].to_numpy()) == frame["label"]).mean()) > 0.8
    assert repr(run).splitlines()[4].endswith("3: setosa, versicolor, virginica")


def name_features(path: Path, features: list[str], classes: list[str]) -> None:
    """Give a finished run the names that its data file has."""
    arrays = read_arrays(path / INPUTS)
    about = json.loads(arrays["about"].tobytes()) | {"features": features, "classes": classes}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path / INPUTS, allow_pickle=False, **arrays)
    reseal(path, INPUTS)


@pytest.fixture
def named(iris: Path, tmp_path: Path) -> TrainedRun:
    """A copy of the iris run, which knows its features and classes by name."""
    shutil.copytree(iris, tmp_path / "named")
    return set_cli.load(tmp_path / "named")


def test_columns_are_found_by_their_names(named: TrainedRun) -> None:
    frame = iris_frame()
    expected = named.predict_proba(frame.iloc[:, :4].to_numpy())
    shuffled = frame[["petal width", "label", "sepal length", "petal length", "sepal width"]]
    np.testing.assert_array_equal(named.predict_proba(shuffled), expected)
    np.testing.assert_array_equal(named.predict_proba(frame.drop(columns="label")), expected)
    np.testing.assert_array_equal(named.predict_proba(shuffled.iloc[7]), expected[7:8])
    assert named.predict(shuffled).tolist() == named.classes[expected.argmax(axis=1)].tolist()
    assert named.evaluate(shuffled, frame["label"])["accuracy"] > 80
    with pytest.raises(DataError, match="missing: 'sepal width', 'petal width'") as error:
        named.predict(frame[["sepal length", "petal length"]])
    assert "sepal length" not in str(error.value)
    with pytest.raises(DataError, match="found others too: 'colour'"):
        named.predict(frame.assign(colour=1))
    with pytest.raises(DataError, match="expected one column 'sepal width', found two"):
        named.predict(pd.concat([frame, frame[["sepal width"]]], axis=1))
    with pytest.raises(DataError, match=r"found 'wide' in row 3 .the first is 0., column 'sepal width'"):
        named.predict(frame.assign(**{"sepal width": ["3.1", None, 3, "wide", *frame["sepal width"][4:]]}))
    with pytest.raises(DataError, match=r"expected numbers, found datetime64\[ns\] in column 'petal width'"):
        named.predict(frame.assign(**{"petal width": pd.Timestamp("2020-01-01").as_unit("ns")}))


def test_labels_are_refused_that_the_run_does_not_know(named: TrainedRun, digits: Path) -> None:
    frame = iris_frame()
    with pytest.raises(
        DataError, match="out of the run's classes setosa, versicolor, virginica, found 'rose' for row 2"
    ):
        named.evaluate(frame, frame["label"].where(frame.index.to_series() != 2, "rose"))
    x, y = rows_of_digits()
    run = set_cli.load(digits)
    assert run.evaluate(x, y.astype(float)) == run.evaluate(x, y.astype(str)) == run.evaluate(x, y.tolist())
    with pytest.raises(DataError, match=r"found '1[0-9]' for row 0"):
        run.evaluate(x, y + 10)
    with pytest.raises(DataError, match="expected 359 labels, found 5"):
        run.evaluate(x, y[:5])
    with pytest.raises(ConfigError, match="expected labels y, found none"):
        run.evaluate(x)


def test_missing_values_are_filled_as_in_training(named: TrainedRun) -> None:
    assert named.inputs is not None
    arrays = read_arrays(named.path / INPUTS)
    values = iris_frame().iloc[:, :4].to_numpy()
    with pytest.raises(DataError, match=r"a value is missing .NaN. in row 1, feature 2 'petal length'"):
        named.predict(np.where(np.arange(4) == np.where(np.arange(150) == 1, 2, 9)[:, None], np.nan, values))
    np.savez(named.path / INPUTS, allow_pickle=False, **arrays, fill=np.array([5.0, 3.0, 4.0, 1.0]))
    reseal(named.path, INPUTS)
    run = set_cli.load(named.path)
    missing, filled = values.copy(), values.copy()
    missing[1, 2], filled[1, 2] = np.nan, 4.0
    np.testing.assert_array_equal(run.predict_proba(missing), run.predict_proba(filled))


def test_the_models_own_changes_are_predicted_with(digits: Path) -> None:
    run = set_cli.load(digits)
    x, _ = rows_of_digits()
    before = run.predict_proba(x)
    with torch.no_grad():
        run.model.get_submodule("output").bias[3] += 100  # type: ignore[operator, index]
    assert set(run.predict(x)) == {3}
    run = set_cli.load(digits)
    run.model.double()
    np.testing.assert_allclose(run.model.double()(torch.zeros(1, 64).double()).shape, (1, 10))
    assert before.shape == (len(x), 10)


def test_an_rbm_has_probabilities_of_units_and_rows_but_no_classes(rbm: Path, digits: Path) -> None:
    run = set_cli.load(rbm)
    x, _ = rows_of_digits()
    for refused in (run.predict, run.predict_proba):
        with pytest.raises(ConfigError, match=r"an RBM has no classes to predict; run\.hidden"):
            refused(x)
    assert run.hidden(x).shape == (len(x), 30)
    np.testing.assert_array_equal(run.hidden(x), run.model(torch.tensor(x / 16).float()).numpy())
    assert run.reconstruct(x[0]).shape == (1, 64)
    found = run.evaluate()
    assert run.evaluate(x) == found | {"tested_on": "rows"}
    assert run.log_probability(x).mean() == pytest.approx(found["log_probability"], abs=1e-9)
    assert run.log_probability(x[:0]).shape == (0,)
    with pytest.raises(ConfigError, match="expected rows alone"):
        run.evaluate(x, x)
    with pytest.raises(ConfigError, match="expected an RBM, found an MLP"):
        set_cli.load(digits).hidden(x)


def test_an_interrupted_run_is_loaded_as_its_checkpoint_has_it(tmp_path: Path) -> None:
    overrides = (*SHORT_MLP, "train.epochs=4")
    with pytest.raises(Interrupted):
        train_in(tmp_path / "runs", *overrides, view=StopAt(3))
    config = from_mapping(compose_mapping(f"runs_dir={tmp_path}/runs", "progress=none", ONE_THREAD, *overrides))
    run = set_cli.load(locate(config)[0])
    assert "interrupted, not finished: the newest checkpoint, after epoch 2" in repr(run)
    assert "accuracy so far" in repr(run)
    assert set(run.evaluate()) == {"loss", "accuracy", "rows", "tested_on"}
    assert run.predict(rows_of_digits()[0]).shape == (359,)


def test_a_run_that_resumes_must_scale_its_rows_as_before(tmp_path: Path) -> None:
    overrides = (*SHORT_MLP, "train.epochs=4")
    with pytest.raises(Interrupted):
        train_in(tmp_path / "runs", *overrides, view=StopAt(3))
    (path,) = (tmp_path / "runs").glob("*/*/*")
    content = (path / INPUTS).read_bytes()
    arrays = read_arrays(path / INPUTS)
    np.savez(path / INPUTS, allow_pickle=False, **{**arrays, "scale": arrays["scale"] * 2})
    with pytest.raises(DataError, match="rows were scaled or named otherwise when this run started"):
        train_in(tmp_path / "runs", *overrides)
    (path / INPUTS).unlink()  # of an older version
    train_in(tmp_path / "runs", *overrides)
    assert (path / INPUTS).read_bytes() == content


@pytest.mark.parametrize("how", ["altered", "added", "removed"])
def test_the_file_that_says_how_rows_are_scaled_is_sealed(how: str, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(digits, path)
    if how == "removed":
        (path / INPUTS).unlink()
    else:
        arrays = read_arrays(path / INPUTS)
        np.savez(path / INPUTS, allow_pickle=False, **{**arrays, "scale": arrays["scale"] * 2})
    if how == "added":  # to a run that never had one
        content = (path / INPUTS).read_bytes()
        (path / INPUTS).unlink()
        reseal(path, INPUTS)
        (path / INPUTS).write_bytes(content)
    with pytest.raises(DataError, match=INPUTS):
        set_cli.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": np.ones(63)},
        {"offset": np.full(64, np.nan)},
        {"offset": np.zeros((64, 1))},
        {"scale": np.array(["x"] * 64)},
        {"about": np.frombuffer(b"[]", np.uint8)},
        {"about": np.frombuffer(b'{"kind": "odd"}', np.uint8)},
    ],
)
def test_what_cannot_be_in_that_file_is_refused(change: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    arrays = read_arrays(digits / INPUTS)
    np.savez(tmp_path / INPUTS, allow_pickle=False, **{**arrays, **change})
    with pytest.raises(DataError, match=r"inputs\.npz: expected offset, scale and names of a run"):
        read_inputs(tmp_path)


def make_old(path: Path) -> None:
    """As a run folder was before the file."""
    (path / INPUTS).unlink()
    reseal(path, INPUTS)
    starts = read_json(path / "run.json")
    for key in ("dataset.path", "dataset.test_path"):
        del starts[-1]["options"][key]
    write_json(path / "run.json", starts)


def test_older_runs_predict_where_the_catalogue_says_how(digits: Path, iris: Path, tmp_path: Path) -> None:
    x, _ = rows_of_digits()
    expected = set_cli.load(digits).predict_proba(x)
    for name, path in (("digits", digits), ("iris", iris)):
        shutil.copytree(path, tmp_path / name)
        make_old(tmp_path / name)
    run = set_cli.load(tmp_path / "digits")
    np.testing.assert_array_equal(run.predict_proba(x), expected)
    assert run.evaluate()["accuracy"] == run.summary["after_last_removal"]["test"]
    run = set_cli.load(tmp_path / "iris")
    with pytest.raises(DataError, match=r"older than the file that says how it scales its rows .inputs\.npz."):
        run.predict(iris_frame().iloc[:, :4].to_numpy())
    with pytest.raises(DataError, match=r"does not name its data; give it as run\.evaluate\(path=…\)"):
        run.evaluate()
    file = iris.parents[3] / "iris.csv"
    assert run.evaluate(path=file)["accuracy"] == run.summary["after_last_removal"]["test"]


def test_evaluate_finds_moved_data_and_refuses_other_data(iris: Path, tmp_path: Path) -> None:
    shutil.copytree(iris.parents[3], tmp_path / "all")
    (path,) = (tmp_path / "all" / "runs").glob("*/*/*")
    file = tmp_path / "all" / "iris.csv"
    starts = read_json(path / "run.json")
    starts[-1]["options"]["dataset.path"], starts[-1]["folder"] = "iris.csv", str(tmp_path / "all")
    write_json(path / "run.json", starts)
    run = set_cli.load(path)
    expected = run.summary["after_last_removal"]["test"]
    assert run.evaluate()["accuracy"] == expected  # from the folder in which it was trained
    file.rename(tmp_path / "moved.csv")
    with pytest.raises(DataError, match=r"the data file is not there; give its place as run\.evaluate\(path=…\)"):
        run.evaluate()
    assert run.evaluate(path=tmp_path / "moved.csv")["accuracy"] == expected
    (tmp_path / "moved.csv").write_text((tmp_path / "moved.csv").read_text().replace("5.1", "5.2"))
    with pytest.raises(DataError, match="the file has changed since the run was trained on it"):
        run.evaluate(path=tmp_path / "moved.csv")
    with pytest.raises(ConfigError, match="expected rows, or the place of the run's own data; found both"):
        run.evaluate(np.zeros((1, 4)), ["setosa"], path=file)


def test_evaluate_refuses_data_that_is_split_or_scaled_otherwise(digits: Path, tmp_path: Path) -> None:
    for name in ("split", "scaled"):
        shutil.copytree(digits, tmp_path / name)
    starts = read_json(tmp_path / "split" / "run.json")
    starts[-1]["data"]["test"] = 358
    write_json(tmp_path / "split" / "run.json", starts)
    with pytest.raises(DataError, match="splits the data differently"):
        set_cli.load(tmp_path / "split").evaluate()
    path = tmp_path / "scaled"
    arrays = read_arrays(path / INPUTS)
    np.savez(path / INPUTS, allow_pickle=False, **{**arrays, "scale": arrays["scale"] * 2})
    reseal(path, INPUTS)
    with pytest.raises(DataError, match="scales or names the data differently"):
        set_cli.load(path).evaluate()


def test_a_run_prints_as_six_lines(digits: Path, rbm: Path) -> None:
    run = set_cli.load(digits)
    lines = str(run).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "state", "test", "connections", "classes", "folder"]
    assert "digits, mlp, set, ε=5, ζ=0.3, seed=0" in lines[0]
    assert f"last {run.summary['last']:.2f} %, best {run.summary['best']:.2f} %" in lines[2]
    assert f"after the last removal {run.summary['after_last_removal']['test']:.2f} %" in lines[2]
    assert f"{run.summary['connections']:,} in training, {run.summary['connections_final']:,} after" in lines[3]
    assert str(digits) in lines[5]
    assert len(str(run)) < 800
    assert run.checksums["config.json"] not in repr(run)
    assert "nats" in str(set_cli.load(rbm))


def test_a_run_is_a_table_in_a_notebook_in_which_names_are_text(named: TrainedRun) -> None:
    name_features(named.path, [], ["<script>alert(1)</script>", "b\x1b[2J", "c"])
    run = set_cli.load(named.path)
    html = run._repr_html_()
    assert html.count("<tr>") == 6
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "\x1b" not in html + str(run)


def test_loading_a_folder_of_runs_names_one_and_says_how_to_list_them(train: Train, tmp_path: Path) -> None:
    first = train(*SHORT_MLP, "train.epochs=1")
    train(*SHORT_MLP, "train.epochs=1", "seed=1")
    with pytest.raises(DataError, match="holds 2 runs, such as ") as error:
        set_cli.load(tmp_path / "runs")
    assert str(first) in str(error.value)
    assert f"set_cli.runs('{tmp_path / 'runs'}') lists them" in str(error.value)


def test_runs_are_listed_one_row_each(train: Train, tmp_path: Path) -> None:
    paths = [train(*SHORT_MLP, "train.epochs=1", f"seed={seed}") for seed in range(3)]
    paths.append(train(*SHORT_MLP, "train.epochs=1", "method=dense"))
    (paths[1] / "metrics.jsonl").write_text("")
    (paths[2] / "status.json").write_text('{"status": "interrupted", "epoch": 1, "reason": "by hand"}')
    frame = set_cli.runs(tmp_path / "runs").set_index("path").loc[[str(path) for path in paths]]
    assert frame["status"].tolist() == ["done", "altered", "interrupted", "done"]
    assert frame["seed"].tolist() == [0, 1, 2, 0]
    assert frame["method"].tolist() == ["set", "set", "set", "dense"]
    assert frame["epsilon"].isna().tolist() == [False, False, False, True]
    summary = read_json(paths[0] / "summary.json")
    assert frame["last"].iloc[0] == summary["last"]
    assert frame["after_last_removal"].iloc[0] == summary["after_last_removal"]["test"]
    assert frame["last"].isna().tolist() == [False, True, True, False]
    assert "metrics.jsonl changed after the run" in frame["reason"].iloc[1]
    assert "by hand" in frame["reason"].iloc[2]
    assert frame["connections"].dtype == "Int64"
    assert frame["seconds_per_evolution"].iloc[0] == summary["seconds_per_evolution"] > 0
    assert frame["seconds_per_evolution"].isna().tolist() == [False, True, True, True]  # method=dense has none
    assert set_cli.runs(paths[0]).shape[0] == 1
    (tmp_path / "nothing").mkdir()
    assert set_cli.runs(tmp_path / "nothing").columns.tolist() == set_cli.runs(paths[0]).columns.tolist()
    with pytest.raises(DataError, match="no such folder"):
        set_cli.runs(tmp_path / "nowhere")


def test_own_rows_as_people_have_them(tmp_path: Path) -> None:
    """Timestamps in float64, whose differences float32 does not know, and images of bytes."""
    rng = np.random.default_rng(1)
    stamps = 1_600_000_000 + rng.integers(0, 1000, (200, 3)).astype(np.float64)
    y = (stamps[:, 0] > 1_600_000_500).astype(int)
    np.savez(tmp_path / "t.npz", x_train=stamps[:150], y_train=y[:150], x_test=stamps[150:], y_test=y[150:])
    images = rng.integers(0, 256, (120, 3, 6, 6), dtype=np.uint8)
    images[::2, 0] //= 4
    labels = np.where(np.arange(120) % 2 == 0, 7, 3)
    parts = {"x_train": images[:90], "y_train": labels[:90], "x_test": images[90:], "y_test": labels[90:]}
    np.savez(tmp_path / "i.npz", allow_pickle=False, **parts)
    for name, rows, answers in (("t", stamps[150:], y[150:]), ("i", images[90:], labels[90:])):
        run = set_cli.load(
            train_in(tmp_path / name, "dataset=custom", f"dataset.path={tmp_path}/{name}.npz", *SHORT_MLP)
        )
        expected = run.summary["after_last_removal"]["test"]
        assert run.evaluate()["accuracy"] == expected
        assert repr(run).splitlines()[0].startswith(f"run          custom {name}.npz, mlp, set")
        assert run.classes.tolist() == sorted(set(answers.tolist()))
        assert 100 * int((run.predict(rows) == answers).sum()) / len(answers) == expected
    np.testing.assert_array_equal(run.predict(images[90:].transpose(0, 2, 3, 1)), run.predict(rows))
    np.testing.assert_array_equal(run.predict(images[91].transpose(1, 2, 0)), run.predict(images[91]))


@pytest.mark.parametrize("words", [("False", "True"), ("false", "true"), ("FALSE", "TRUE")])
def test_true_and_false_come_back_as_pandas_reads_them(words: tuple[str, str], tmp_path: Path) -> None:
    frame = iris_frame()
    frame["label"] = np.where(frame["label"] == "setosa", *reversed(words))
    frame.to_csv(tmp_path / "flags.csv", index=False)
    own = ("dataset=custom", f"dataset.path={tmp_path}/flags.csv", "data.holdout=50")
    run = set_cli.load(train_in(tmp_path / "runs", *own, *SHORT_MLP[:-1], "train.epochs=5"))
    again = pd.read_csv(tmp_path / "flags.csv")
    assert (run.classes.dtype.kind, again["label"].dtype.kind, run.classes.tolist()) == ("b", "b", [False, True])
    right = float((run.predict(again) == again["label"]).mean())
    assert right > 0.5
    for labels in (again["label"], frame["label"], again["label"].astype(int), list(again["label"])):
        assert run.evaluate(again, labels)["accuracy"] == pytest.approx(100 * right)
    with pytest.raises(DataError, match=r"expected labels out of the run's classes False, True, found '2' for row 1"):
        run.evaluate(again.iloc[:2], [1, 2])


def test_only_both_words_of_truth_are_bools() -> None:
    for names in (("True", "no"), ("False", "True", "maybe"), ("0", "1"), ("no", "yes")):
        assert class_labels(names, len(names)).dtype != bool


def test_rows_of_a_second_file_are_evaluated(tmp_path: Path) -> None:
    frame = iris_frame()
    frame.iloc[:100].to_csv(tmp_path / "a.csv", index=False)
    frame.iloc[100:].to_csv(tmp_path / "b.csv", index=False)
    files = (f"dataset.path={tmp_path}/a.csv", f"dataset.test_path={tmp_path}/b.csv")
    run = set_cli.load(train_in(tmp_path / "runs", "dataset=custom", *files, *SHORT_MLP[:-1]))
    expected = run.summary["after_last_removal"]["test"]
    assert run.evaluate()["accuracy"] == expected
    assert run.evaluate(frame.iloc[100:], frame["label"].iloc[100:])["accuracy"] == expected
    (tmp_path / "b.csv").rename(tmp_path / "c.csv")
    with pytest.raises(
        DataError, match=r"b\.csv: the data file is not there; give its place as run\.evaluate\(test_path=…\)"
    ):
        run.evaluate()
    assert run.evaluate(test_path=tmp_path / "c.csv")["accuracy"] == expected


def test_warnings_are_no_part_of_an_ordinary_prediction(digits: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_cli.load(digits).predict(rows_of_digits()[0][:1])
