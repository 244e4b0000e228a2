"""set-report: numbers against hand-computed ones, and nothing dropped silently."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from set_cli.data.catalog import CATALOG
from set_cli.report.collect import LATER_SUMMARY_TYPES, FinishedRun, LeftOut, find_run_folders, read_run
from set_cli.report.paper import PAPER_VALUES, paper_value
from set_cli.report.rows import ROW_KEYS, settings_text
from set_cli.report.tables import render
from set_cli.runs.summary import VERSION
from tests.builders import finished_run, report, reseal
from tests.conftest import NO_TORCH, REPORT, Command, run_command, run_python

OLD_RUN = Path(__file__).parent / "old_runs/0.1.0/digits/mlp/set-e5-z0.3-s0-90af17a9"

# The keys of the JSON rows that scripts outside the project rely on.
CONTRACT = [
    "dataset",
    "model",
    "method",
    "epsilon",
    "zeta",
    "settings",
    "n",
    "metric",
    "last_mean",
    "last_std",
    "best_mean",
    "best_std",
    "best_on",
    "connections",
    "connections_final",
    "parameters",
    "dense_parameters",
    "seconds_per_epoch",
    "peak_memory_mb",
    "paper",
    "difference",
]


def test_rows_have_exactly_the_contracts_keys(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    assert ROW_KEYS == CONTRACT
    assert [list(row) for row in report(tmp_path).rows] == [CONTRACT]


def test_means_deviations_and_the_difference_to_the_paper(tmp_path: Path) -> None:
    for seed, last, best in ((0, 70.0, 72.0), (1, 71.0, 74.0), (3, 74.0, 76.0)):
        finished_run(tmp_path, seed, last, best)
    (row,) = report(tmp_path).rows
    assert row["n"] == 3
    assert row["last_mean"] == pytest.approx(71.6666667)
    assert row["last_std"] == pytest.approx(2.0816660)  # sqrt((2.7778 + 0.4444 + 5.4444) / 2)
    assert (row["best_mean"], row["best_std"]) == (74, 2)
    assert row["connections"] == 381_001  # of 381,000, 381,001 and 381,003
    assert row["connections_final"] == 279_001
    assert (row["parameters"], row["dense_parameters"]) == (426_001, 20_373_010)
    assert row["seconds_per_epoch"] == 9  # the median
    assert row["peak_memory_mb"] == 503  # the largest
    assert row["paper"] == 74.84
    assert row["difference"] == pytest.approx(74 - 74.84)
    cells = render(report(tmp_path), "markdown", names=["last", "best", "final", "of dense", "difference"])
    shown = [cell.strip() for cell in cells.splitlines()[-1].split("|")[1:-1]]
    assert shown == ["71.67 ± 2.08", "74.00 ± 2.00", "279,001", "2.1 %", "-0.84"]


def test_a_single_run_has_no_deviation(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    (row,) = report(tmp_path).rows
    assert (row["n"], row["last_std"], row["best_std"]) == (1, None, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("cifar10", "mlp", "set", 20.0, 0.3), 74.84),
        (("cifar10", "mlp", "set", 20.0, 0.2), None),
        (("cifar10", "mlp", "set", 10.0, 0.3), None),
        (("cifar10", "mlp", "dense", None, None), 68.70),
        (("cifar10", "mlp", "fixprob", 14.0, None), 62.19),
        (("cifar10", "mlp", "fixprob", 20.0, None), None),
        (("mnist", "mlp", "set", 20.0, 0.3), 98.74),
        (("mnist", "mlp", "dense", None, None), 98.55),
        (("digits", "mlp", "set", 5.0, 0.3), None),
    ],
)
def test_the_paper_stands_only_where_its_settings_are(key: tuple[Any, ...], value: float | None) -> None:
    found = paper_value(*key)
    assert (found and found.value) == value


RBMS = [dataset for dataset, model in PAPER_VALUES if model == "rbm"]


@pytest.mark.parametrize("dataset", RBMS)
def test_the_papers_connections_are_those_that_its_formulas_give(dataset: str) -> None:
    """All of a dense RBM, 8 (n_visible + n_hidden) of FixProb, 0.7 * 11 (n_visible + n_hidden) of SET."""
    features = CATALOG[dataset].features
    for method, rows in PAPER_VALUES[(dataset, "rbm")].items():
        assert rows.hidden is not None
        units = features + rows.hidden
        expected = {"dense": features * rows.hidden, "fixprob": 8 * units, "set": 77 * units // 10}[method]
        if (dataset, method) == ("caltech16", "set"):
            assert (rows.connections, expected) == (40_741, 40_471)  # two digits changed places in print
        else:
            assert rows.connections == expected


def test_an_rbms_row_says_what_network_the_paper_had(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, -83.0, -82.0, dataset="dna", model="rbm", epsilon=11.0, metric="log_probability")
    assert "250 hidden, CD-3, 3,311 connections" in render(report(tmp_path), "markdown")
    finished_run(tmp_path, 0, 70, 71)
    assert "| 278,630 connections" in render(report(tmp_path), "markdown")


def test_chains_that_disagree_are_reported_and_the_run_counts(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, -83.0, -82.0, last_chains_agree=True, best_chains_agree=True)
    path = finished_run(tmp_path, 1, -81.0, -80.0, last_chains_agree=False, best_chains_agree=False)
    finished_run(tmp_path, 2, -81.0, -80.0)  # as of an MLP
    result = run_command(REPORT, str(tmp_path), folder=tmp_path)
    assert result.returncode == 0
    *_, header, line = result.stderr.splitlines()
    assert header == "counted, but doubtful:"
    assert line.startswith(f"  {path}: few annealed chains carry log Z: last and best may be off")
    assert report(tmp_path).rows[0]["n"] == 3


def test_a_doubt_that_runs_share_is_said_once(tmp_path: Path) -> None:
    shared, own = "2 of the 30 test rows have the values of a training row", "the test rows are on another scale"
    paths = [finished_run(tmp_path, seed, 70, 71, doubts=[shared]) for seed in range(3)]
    last = finished_run(tmp_path, 3, 70, 71, doubts=[own, shared])
    assert report(tmp_path).doubtful == [f"{paths[0]} and 3 more: {shared}", f"{last}: {own}"]


def test_other_settings_are_another_row_in_the_papers_order(tmp_path: Path) -> None:
    for method in ("set", "dense", "fixprob"):
        finished_run(tmp_path, 0, 70, 71, method)
    finished_run(tmp_path, 0, 60, 61, name="set-short", settings={"train.epochs": 20, "data.holdout": 10_000})
    rows = report(tmp_path).rows
    assert [(row["method"], row["settings"]) for row in rows] == [
        ("dense", ""),
        ("fixprob", ""),
        ("set", ""),
        ("set", "data.holdout=10000 train.epochs=20"),
    ]


def test_settings_read_as_typed() -> None:
    settings = {"model.hidden": [10, 20], "train.lr": 0.05, "train.nesterov": True, "data.train_limit": None}
    assert settings_text(settings) == "data.train_limit=null model.hidden=[10,20] train.lr=0.05 train.nesterov=true"


def change(path: Path, name: str, old: str, new: str) -> None:
    file = path / name
    file.write_text(file.read_text().replace(old, new))


def left_out(root: Path) -> list[tuple[str, str]]:
    return [(run.why, run.path.name) for run in report(root).left_out]


def test_runs_that_do_not_count_are_listed_with_the_reason(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    for status in ("running", "interrupted", "diverged", "failed"):
        path = finished_run(tmp_path, 1, 99, 99, name=status)
        change(path, "status.json", '"done"', f'"{status}"')
    altered = finished_run(tmp_path, 2, 99, 99, name="altered")
    change(altered, "metrics.jsonl", "1", "2")
    begun = tmp_path / "cifar10" / "mlp" / "begun"
    begun.mkdir()
    (begun / "config.json").write_text("{}")
    comparison = report(tmp_path)
    assert [row["n"] for row in comparison.rows] == [1]
    assert sorted(left_out(tmp_path)) == [
        ("altered", "altered"),
        ("diverged", "diverged"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
        ("not started", "begun"),
        ("running", "running"),
    ]


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    """Where it was on this machine; of another machine's nobody knows."""
    here = socket.gethostname()
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name, pid, host in (("gone", gone.pid, here), ("alive", os.getpid(), here), ("elsewhere", gone.pid, "other")):
        path = finished_run(tmp_path, 1, 99, 99, name=name)
        status = {"status": "running", "epoch": 3, "reason": None, "pid": pid, "host": host}
        (path / "status.json").write_text(json.dumps(status))
    assert sorted(left_out(tmp_path)) == [("killed", "gone"), ("running", "alive"), ("running", "elsewhere")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", b""),
        ("summary.json", b"[]"),
        ("summary.json", b'{"sha256": {}}'),
        ("summary.json", b"\xff\xfe"),
        ("summary.json", b"[" * 100_000),
        ("summary.json", None),
        ("status.json", b"{}"),
        ("status.json", b"nonsense"),
        ("config.json", None),
        ("config.json", b"[]"),
    ],
)
def test_one_unreadable_folder_costs_one_line(name: str, content: bytes | None, tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    path = finished_run(tmp_path, 1, 99, 99, name="bad")
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
        if name == "config.json":
            reseal(path, name)
    comparison = report(tmp_path)
    assert [row["n"] for row in comparison.rows] == [1]
    assert left_out(tmp_path) == [("unreadable", "bad")]


def test_a_figure_of_the_wrong_type_is_unreadable(tmp_path: Path) -> None:
    path = finished_run(tmp_path, 0, 70, 71, connections="many")
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert "connections is missing or of the wrong type" in run.detail


def test_a_figure_that_is_not_finite_is_unreadable(tmp_path: Path) -> None:
    path = finished_run(tmp_path, 0, 70, 71)
    change(path, "summary.json", '"best": 71', '"best": 1e400')
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert "best is not finite" in run.detail


def test_a_key_that_a_later_version_added_is_none_where_a_run_lacks_it(tmp_path: Path) -> None:
    shutil.copytree(OLD_RUN, tmp_path / OLD_RUN.name)
    run = read_run(tmp_path / OLD_RUN.name)
    assert isinstance(run, FinishedRun)
    assert [run.summary[key] for key in LATER_SUMMARY_TYPES] == [None] * len(LATER_SUMMARY_TYPES)


@pytest.mark.parametrize("key", LATER_SUMMARY_TYPES)
def test_a_key_that_a_later_version_added_is_checked_where_it_is_there(key: str, tmp_path: Path) -> None:
    path = finished_run(tmp_path, 0, 70, 71)
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps(summary | {key: {}}))
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert f"{key} is missing or of the wrong type" in run.detail


@pytest.mark.parametrize("version", [-1, 1.5, True, "1", None])
def test_a_version_that_is_none_is_unreadable(version: object, tmp_path: Path) -> None:
    run = read_run(finished_run(tmp_path, 0, 70, 71, version=version))
    assert isinstance(run, LeftOut)
    assert "version is" in run.detail


def test_the_summary_of_a_newer_version_is_read_for_the_keys_that_are_known(tmp_path: Path) -> None:
    path = finished_run(tmp_path, 0, 70, 71, version=VERSION + 1, kilowatt_hours=[3])
    run = read_run(path)
    assert isinstance(run, FinishedRun)
    assert run.summary["version"] == VERSION + 1
    change(path, "summary.json", '"last"', '"last_of_five"')
    refused = read_run(path)
    assert isinstance(refused, LeftOut)
    assert refused.detail.endswith(
        f"last is missing or of the wrong type; a newer set_cli wrote this run (summary version {VERSION + 1}, known "
        f"here: {VERSION}): report it with that"
    )


def test_a_pipe_in_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    path = finished_run(tmp_path, 0, 70, 71)
    (path / "status.json").unlink()
    os.mkfifo(path / "status.json")
    assert left_out(tmp_path) == [("unreadable", path.name)]


def test_a_folder_given_twice_counts_once(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    paths, _ = find_run_folders([tmp_path / "runs", tmp_path / "runs" / "cifar10", tmp_path / "link"])
    assert len(paths) == 1


def test_a_seed_counts_once_and_the_copy_is_named(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71, name="set-s0-abcdef01")
    finished_run(tmp_path, 0, 80, 81, name="set-s0-abcdef01-2")
    finished_run(tmp_path, 0, 90, 91, name="set-s0-abcdef01-10")
    comparison = report(tmp_path)
    assert [(row["n"], row["last_mean"]) for row in comparison.rows] == [(1, 90)]
    assert left_out(tmp_path) == [("repeated", "set-s0-abcdef01"), ("repeated", "set-s0-abcdef01-2")]


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        finished_run(tmp_path, seed, 70, 71, "dense")
    finished_run(tmp_path, 1, 70, 71, "set")
    assert report(tmp_path).missing == [f"{tmp_path}/cifar10/mlp/set: no finished run with seed 0, 2"]


def test_formats_hold_the_same_numbers(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, seed, 70 + seed, 71 + seed)
    finished_run(tmp_path, 0, 60, 61, "dense")
    comparison = report(tmp_path)
    rows = json.loads(render(comparison, "json"))
    csv = pd.read_csv(io.StringIO(render(comparison, "csv")))
    assert rows == comparison.rows
    assert list(csv.columns) == CONTRACT
    assert csv["last_mean"].tolist() == [60, 70.5]
    for form in ("table", "markdown"):
        text = render(comparison, form)
        assert "70.50 ± 0.71" in text
        assert "74.84" in text
        assert "-3.34" in text  # 71.5 - 74.84


def test_what_is_in_a_run_folder_cannot_steer_terminal_or_markdown(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71, settings={"x": "\x1b[31mred|cell\n[bold]"})
    table, markdown = (render(report(tmp_path), form) for form in ("table", "markdown"))
    assert "\x1b" not in table + markdown
    assert "[bold]" in table
    change(
        finished_run(tmp_path, 1, 70, 71),
        "status.json",
        '"done", "epoch": 1, "reason": null',
        '"failed", "epoch": 1, "reason": "\\u001b[31mred"',
    )
    result = run_command(REPORT, ".", folder=tmp_path)
    assert "?[31mred" in result.stderr
    assert "\x1b" not in result.stderr
    assert "red\\|cell" in markdown


def test_the_command_reads_folders_and_writes_files(tmp_path: Path, set_report: Command) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    interrupted = finished_run(tmp_path / "runs", 1, 70, 71)
    change(interrupted, "status.json", '"done"', '"interrupted"')
    result = set_report("--format", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)[0]["n"] == 1
    assert "not counted: 1 interrupted" in result.stderr
    assert interrupted.name in result.stderr
    written = set_report("runs/cifar10", "--format", "csv", "--output", "table.csv")
    assert written.stdout == ""
    assert (tmp_path / "table.csv").read_text().startswith("dataset,model,method")


def test_the_command_refuses_what_is_not_there(tmp_path: Path, set_report: Command) -> None:
    result = set_report()
    assert result.returncode == 2
    assert "runs: no such folder; set-train makes runs/" in result.stderr
    (tmp_path / "runs").mkdir()
    empty = set_report("--format", "json")
    assert (empty.returncode, empty.stdout) == (0, "[]\n")
    assert "no finished run found" in empty.stderr
    unwritable = set_report("--output", "no/such/folder.csv")
    assert unwritable.returncode == 6


def test_a_report_needs_neither_torch_nor_hydra(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    result = run_python("-c", NO_TORCH + REPORT, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "cifar10" in result.stdout


def test_finished_runs_are_what_compare_takes(tmp_path: Path) -> None:
    assert isinstance(read_run(finished_run(tmp_path, 0, 70, 71)), FinishedRun)


def test_latex_is_a_table_that_nothing_in_a_run_can_leave(tmp_path: Path) -> None:
    payloads = [r"\input{/etc/passwd}", "a & b", "50 %", "$x$", "#1", "_^~", "{}", "\\\\", "\u202eabc", "\x1b[31m"]
    for seed, payload in enumerate(payloads):
        finished_run(tmp_path, 0, 70 + seed, 71, name=f"run{seed}", settings={"dataset.path": payload})
    text = render(report(tmp_path), "latex")
    lines = text.splitlines()
    assert lines[0].startswith(r"\begin{tabular}{l")
    assert [lines[1], lines[3], lines[-2], lines[-1]] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    rows = lines[4:-2]
    assert len(rows) == len(payloads)
    cells = {len(re.findall(r"(?<!\\)&", row)) for row in (lines[2], *rows)}
    assert len(cells) == 1  # as many columns as the header has
    assert text.isascii()
    commands = set(re.findall(r"(?<!\\)\\[a-zA-Z]+", "\n".join(rows)))
    assert commands <= {r"\pm", r"\textbackslash", r"\textasciicircum", r"\textasciitilde"}
    assert render(report(tmp_path / "none"), "latex") == ""
