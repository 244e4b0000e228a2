"""Between runs: is a difference one, how a row is made again, and what tells two runs apart."""

from __future__ import annotations

import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

import hydra
import pytest
from rich.console import Console, Group

from set_cli.commands import hydra_compose as composed
from set_cli.config import Config, from_mapping, identity
from set_cli.errors import DataError
from set_cli.report import watch
from set_cli.report.diff import compare_two
from set_cli.report.reproduce import reproduce_command, sweep_command
from set_cli.report.significance import compare_methods, in_words
from set_cli.training.pairs import with_checksum
from tests.builders import finished_run, report, reseal, train
from tests.conftest import ONE_THREAD, Command, compose_mapping


def runs_of(
    folder: Path, method: str, values: list[float], epsilon: float | None = 20.0, name: str = "", **changes: Any
) -> None:
    for seed, value in enumerate(values):
        finished_run(folder, seed, value, value + 1, method, name=f"{method}{name}-s{seed}", epsilon=epsilon, **changes)
        path = folder / "cifar10" / "mlp" / f"{method}{name}-s{seed}"
        config = json.loads((path / "config.json").read_text()) | {"epsilon": epsilon}
        (path / "config.json").write_text(json.dumps(config))
        reseal(path, "config.json")


def test_six_pairs_of_one_sign_are_one_in_32(tmp_path: Path) -> None:
    """2 of the 64 ways to give six differences their signs are as far from 0: p = 0.03125, of one comparison."""
    runs_of(tmp_path, "dense", [60, 61, 62, 63, 64, 65], None)
    runs_of(tmp_path, "set", [61, 62.5, 63, 64, 66, 67])
    (found,) = compare_methods(report(tmp_path).counted)
    assert (found.first, found.second, found.n) == ("dense", "set ε=20 ζ=0.3", 6)
    assert found.difference == pytest.approx((1 + 1.5 + 1 + 1 + 2 + 2) / 6)
    assert found.p == pytest.approx(2 / 64)
    assert "set ε=20 ζ=0.3 minus dense is +1.42 ± 0.49 points after the last epoch (n=6, p=0.031" in in_words(found)


def test_five_pairs_say_nothing(tmp_path: Path) -> None:
    runs_of(tmp_path, "dense", [60, 61, 62, 63, 64], None)
    runs_of(tmp_path, "set", [70, 71, 72, 73, 74, 75])
    assert compare_methods(report(tmp_path).counted) == []


def test_several_comparisons_share_the_error(tmp_path: Path) -> None:
    """Holm: the smallest p times three, the next times two, and never below the one before. Three need seven seeds."""
    runs_of(tmp_path / "six", "dense", [60.0] * 6, None)
    runs_of(tmp_path / "six", "fixprob", [61.0] * 6)
    runs_of(tmp_path / "six", "set", [62.0, 63, 62, 63, 62, 64])
    assert compare_methods(report(tmp_path / "six").counted) == []
    tmp_path = tmp_path / "seven"
    runs_of(tmp_path, "dense", [60.0] * 7, None)
    runs_of(tmp_path, "fixprob", [60.5, 59.5, 60.5, 59.5, 60.5, 59.5, 60])
    runs_of(tmp_path, "set", [62.0, 63, 62, 63, 62, 64, 62])
    found = {(one.first, one.second): one.p for one in compare_methods(report(tmp_path).counted)}
    assert found == pytest.approx(
        {
            ("dense", "fixprob ε=20"): 1,
            ("dense", "set ε=20 ζ=0.3"): 6 / 128,
            ("fixprob ε=20", "set ε=20 ζ=0.3"): 6 / 128,
        }
    )


def test_only_equally_sparse_methods_are_rivals(tmp_path: Path) -> None:
    """Of one epsilon, or a FixProb with the connections that SET is left with; not any two rows of a sweep."""
    values = [60.0, 61, 62, 63, 64, 65, 66]
    runs_of(tmp_path, "fixprob", values, 10.0, connections_final=100_000)
    runs_of(tmp_path, "fixprob", values, 14.0, name="14", connections_final=281_000)  # SET is left with 279,000
    runs_of(tmp_path, "set", [62.0, 63, 62, 63, 62, 64, 66], 20.0)
    assert [(one.first, one.second) for one in compare_methods(report(tmp_path).counted)] == [
        ("fixprob ε=14", "set ε=20 ζ=0.3")
    ]


def test_a_setting_that_only_one_method_has_makes_no_other_experiment(tmp_path: Path) -> None:
    """A sweep with method.regrow_init=random: dense and FixProb have no such key, and are compared with SET."""
    runs_of(tmp_path, "dense", [60.0] * 6, None)
    runs_of(tmp_path, "set", [62.0, 63, 62, 63, 62, 64], settings={"method.regrow_init": "random"})
    (found,) = compare_methods(report(tmp_path).counted)
    assert found.second == "set ε=20 ζ=0.3 method.regrow_init=random"


COMMANDS: list[tuple[str, ...]] = [
    ("dataset=cifar10", "model=mlp"),
    ("method=set", "epsilon=0.1234567890123456", "zeta=1e-05", "train.lr=0.012345678901234567"),
    ("method=dense", "train.nesterov=true", "train.weight_decay=0", "model.hidden=[7,8,9]"),
    ("method=fixprob", "epsilon=3", "data.train_limit=100", "data.holdout=10", "model.activation=relu"),
    ("dataset=dna", "model=rbm", "model.cd_steps=3", "model.persistent=true", "model.ais_every=7"),
    ("dataset=mnist_binary", "model=rbm", "dataset.binarize=threshold"),
    ("dataset=cifar10", "model=cnn", "model.channels=[8,16]", "model.sparse_convolutions=true"),
    ("dataset=cifar10", "data.augment.flip=false", "data.augment.rotation=7.5", "data.valid=100"),
    ("recipe=modern", "train.epochs=9"),
    (
        "recipe=modern",
        "dataset=cifar10",
        "train.warmup=0",
        "model.norm=null",
        "data.augment.until=1.0",
        "train.lr=0.01",
    ),
    ("recipe=modern", "method=dense", "model.dropout=0.2"),
    ("dataset=digits", "backend.engine=torch", "backend.precision=bfloat16", "method.regrow_init=random"),
]


@pytest.mark.parametrize("overrides", COMMANDS, ids=" ".join)
def test_the_command_of_a_row_trains_the_same_run(overrides: tuple[str, ...]) -> None:
    """The same folder: the hash of everything that decides the numbers."""
    config = from_mapping(compose_mapping(*overrides, "seed=3"))
    recipe = "modern" if "recipe=modern" in overrides else "paper"
    command = shlex.split(reproduce_command(summary_of(config, recipe), [3]))
    assert command[0] == "set-train"
    assert identity(from_mapping(compose_mapping(*command[1:]))) == identity(config)


def summary_of(config: Config, recipe: str = "paper") -> dict[str, Any]:
    with hydra.initialize_config_module("set_cli.conf", version_base="1.3"):
        settings = composed.changed_settings(config, recipe)
    names = {"dataset": config.dataset.name, "model": config.model.name, "method": config.method.name}
    epsilon = None if config.method.name == "dense" else config.epsilon
    return {**names, "epsilon": epsilon, "zeta": config.zeta if config.method.name == "set" else None,
            "settings": json.loads(json.dumps(settings))}  # fmt: skip


def test_several_seeds_are_a_sweep_and_text_is_quoted() -> None:
    summary: dict[str, Any] = {"dataset": "custom", "model": "mlp", "method": "dense", "epsilon": None, "zeta": None}
    summary |= {"settings": {"data": "my file's.csv:0123abcd", "bad key;": 1}}
    command = reproduce_command(summary, [0, 1])
    assert shlex.split(command) == [
        "set-train", "-m", "dataset=custom", "model=mlp", "method=dense", "seed=0,1", r"dataset.path='my file\'s.csv'"
    ]  # fmt: skip


def test_the_command_of_a_row_names_both_files(tmp_path: Path) -> None:
    """In settings each is its name and eight digits, no key of the configuration."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x,label\n1,a\n2,b\n")
    places = (f"dataset.path={tmp_path}/a.csv", f"dataset.test_path={tmp_path}/b.csv")
    summary = summary_of(with_checksum(from_mapping(compose_mapping("dataset=custom", "model=mlp", *places))))
    settings = summary["settings"]
    assert (settings["data"][:6], settings["test_data"][:6], len(settings["test_data"])) == ("a.csv:", "b.csv:", 14)
    assert "dataset.test_checksum" not in settings
    words = shlex.split(reproduce_command(summary, [0]))
    assert words[words.index("seed=0") + 1 :] == ["dataset.path=a.csv", "dataset.test_path=b.csv"]


def sweep_words(root: Path, monkeypatch: pytest.MonkeyPatch, start: object, **changes: Any) -> list[str]:
    """What stands behind the seeds in the command that the report of a run with this record gives."""
    path = finished_run(root / "runs", 0, 70, 71, **changes)
    (path / "run.json").write_text(json.dumps([{}, start]))
    monkeypatch.chdir(root)
    command = sweep_command(report(root / "runs").counted, 6)
    assert command is not None
    words = shlex.split(command)
    return words[words.index("seed=range(6)") + 1 :]


TWO_FILES = {"settings": {"data": "my wine.zip:0123abcd", "test_data": "t.csv:4567abcd"}}


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (
            {"options": {"dataset.path": "data/my wine.zip", "dataset.test_path": "/d/t.csv", "data.dir": "x"}},
            ["dataset.path='data/my wine.zip'", "dataset.test_path=/d/t.csv"],
        ),
        ({"options": {"runs_dir": "runs"}}, ["dataset.path='my wine.zip'", "dataset.test_path=t.csv"]),
        ({"options": {"dataset.path": 3}}, ["dataset.path='my wine.zip'", "dataset.test_path=t.csv"]),
        ([3], ["dataset.path='my wine.zip'", "dataset.test_path=t.csv"]),
    ],
    ids=["as given", "an older run", "a number", "no record"],
)
def test_the_command_for_more_seeds_names_the_files_as_they_were_given(
    start: object, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep_words(tmp_path, monkeypatch, start, dataset="custom", **TWO_FILES) == expected


def test_files_given_from_another_folder_are_found_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "wine.csv").touch()
    start = {"folder": str(tmp_path / "there"), "options": {"dataset.path": "wine.csv"}}
    settings = {"data": "wine.csv:0123abcd"}
    words = sweep_words(tmp_path, monkeypatch, start, dataset="custom", settings=settings)
    assert words == [f"dataset.path={tmp_path}/there/wine.csv"]


@pytest.mark.parametrize(
    ("dataset", "folder", "expected"),
    [
        ("cifar10", "/mnt/sets", ["data.dir=/mnt/sets"]),
        ("cifar10", "datasets", []),
        ("digits", "/mnt/sets", []),
    ],
)
def test_the_command_for_more_seeds_names_a_data_folder_of_ones_own(
    dataset: str, folder: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SET_DATA_DIR", raising=False)
    start = {"options": {"data.dir": folder, "dataset.path": None}}
    assert sweep_words(tmp_path, monkeypatch, start, dataset=dataset) == expected


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    common = ("train.epochs=2", "model.hidden=[20]", "progress=none", ONE_THREAD, f"runs_dir={folder}/runs")
    first, second = (
        train(from_mapping(compose_mapping(*common, *own))) for own in (("seed=0",), ("seed=1", "train.lr=0.02"))
    )
    return first.path, second.path


def test_two_runs_differ_in_what_differs(pair: tuple[Path, Path]) -> None:
    text = compare_two(*pair)
    lines = {line.split("│")[0].strip(): [cell.strip() for cell in line.split("│")[1:]] for line in text.splitlines()}
    assert lines["train.lr"] == ["0.01", "0.02", "+0.01"]
    assert lines["seed"] == ["0", "1", "+1"]
    assert "train.epochs" not in lines
    assert "Environment: the same" in text
    last = [json.loads((path / "summary.json").read_text())["last"] for path in pair]
    assert lines["accuracy, last epoch"] == [f"{last[0]:.2f} %", f"{last[1]:.2f} %", f"{last[1] - last[0]:+.2f} points"]
    assert lines["time per epoch"][0].endswith(" s")
    assert "in common" in text
    assert "Configuration: the same" in compare_two(pair[0], pair[0])


def test_the_command_tells_two_runs_apart(pair: tuple[Path, Path], set_report: Command, tmp_path: Path) -> None:
    result = set_report("diff", *map(str, pair))
    assert (result.returncode, "train.lr" in result.stdout) == (0, True)
    nowhere = set_report("diff", str(pair[0]), str(tmp_path))
    assert (nowhere.returncode, "expected a run folder, found none" in nowhere.stderr) == (3, True)
    assert set_report("diff", str(pair[0])).returncode == 2
    (tmp_path / "diff").mkdir()
    assert set_report("./diff").returncode == 0  # a folder of that name


def test_a_run_that_did_not_end_is_compared_as_far_as_it_came(tmp_path: Path) -> None:
    done, failed = finished_run(tmp_path, 0, 70, 71), finished_run(tmp_path, 1, 60, 61)
    for path in (done, failed):
        (path / "run.json").write_text("[{}]")
    (failed / "status.json").write_text(json.dumps({"status": "failed", "epoch": 2, "reason": "disk full"}))
    text = compare_two(done, failed)
    assert "(failed, epoch 2, disk full)" in text
    assert "accuracy, last epoch │ 70" in text
    (failed / "run.json").write_text("[]")
    assert "Environment: the same" in compare_two(done, failed)
    (failed / "run.json").write_text("[3]")
    with pytest.raises(DataError, match="expected one entry per start"):
        compare_two(done, failed)


def test_watching_shows_new_runs_and_those_that_go_on(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    going = finished_run(tmp_path, 1, 60, 61)
    status = {"status": "running", "epoch": 4, "reason": None, "pid": os.getpid(), "host": socket.gethostname()}
    (going / "status.json").write_text(json.dumps(status))
    read: watch.Read = {}
    first = shown(watch.render_comparison([tmp_path], read, 120))
    assert "70.00" in first
    assert f"running: {going} (epoch 4)" in first
    assert "1 finished, 1 others" in first
    (going / "status.json").write_text(json.dumps({"status": "done", "epoch": 5, "reason": None}))
    second = shown(watch.render_comparison([tmp_path], read, 120))
    assert "65.00 ± 7.07" in second
    assert "2 finished, 0 others" in second


def shown(page: Group) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(page)
    return capture.get()


def test_watching_needs_a_terminal(set_report: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    result = set_report("--watch")
    assert (result.returncode, "--watch shows the table on a terminal" in result.stderr) == (2, True)
