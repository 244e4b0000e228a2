"""What a terminal shows: tables of every width, the live line, how far a sweep has come."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from set_cli.report.outcome import outcomes_in_words
from set_cli.report.tables import render
from set_cli.runs.lines import result_lines
from set_cli.sweeps.pace import pace_line
from set_cli.system.live import LiveLine
from set_cli.system.terminal import Column, render_table
from tests.builders import finished_run, report, reseal
from tests.conftest import ONE_THREAD, REPORT, TRAIN, Command

WIDTHS = (40, 60, 80, 100, 120, 200)


def on_terminal(program: str, *arguments: str, width: int, folder: Path) -> str:
    """What a command writes to a terminal of this width, escapes taken out."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "CI", "SET_DATA_DIR")}
    command = [sys.executable, "-P", "-c", program, *arguments]
    shown = b""
    with subprocess.Popen(
        command, cwd=folder, env=kept | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 2**16)
            except OSError:  # Linux says so that the other end was closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def three_methods(folder: Path) -> None:
    for method in ("set", "fixprob", "dense"):
        for seed in range(3):
            finished_run(
                folder, seed, 70 + seed, 71 + seed, method, dataset="digits", epsilon=None if method == "dense" else 5.0
            )


# --- tables


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int, tmp_path: Path) -> None:
    three_methods(tmp_path)
    text = render(report(tmp_path), "table", width)
    assert max(map(cell_len, text.splitlines())) <= max(width, 44)  # method, last and the words above need that much
    assert text.count("71.00 ± 1.00") == 3  # never broken
    everything = render(report(tmp_path), "table")
    numbers = re.findall(r"\d[\d,.]*", everything)
    assert set(re.findall(r"\d[\d,.]*", text)) <= {*numbers, "3"}


def test_what_all_rows_share_is_said_once_above(tmp_path: Path) -> None:
    three_methods(tmp_path)
    first, header, *_ = render(report(tmp_path), "table", 80).splitlines()
    assert first == "digits, mlp, 3 seeds, test accuracy in %, best on test"
    assert [title.strip() for title in header.split("┃")] == [
        "method",
        "ε",
        "ζ",
        "last",
        "best",
        "connections",
        "s/epoch",
    ]


def test_at_80_columns_accuracies_and_log_probabilities_are_told_apart(tmp_path: Path) -> None:
    """Rows of two data sets, models and metrics, a seed of one not finished: the widest that this can become."""
    for seed in range(3):
        rbm = {"dataset": "fashion_mnist", "model": "rbm", "metric": "log_probability"}
        finished_run(tmp_path, seed, -288.5 - seed, -280, "fixprob", name=f"rbm-s{seed}", **rbm)
        finished_run(tmp_path, seed, 70 + seed, 72, "fixprob", "digits")
    (tmp_path / "digits" / "mlp" / "fixprob-s2-abcdef01" / "status.json").write_text('{"status": "failed", "epoch": 1}')
    text = render(report(tmp_path), "table", 80)
    lines = [[cell.strip() for cell in re.split("[┃│]", line)] for line in text.splitlines()]
    header = next(line for line in lines if "last" in line)
    assert header[:6] == ["data set", "model", "method", "n", "metric", "last"]
    assert ["digits", "mlp", "fixprob", "2 of 3*", "accuracy %", "70.50 ± 0.71"] in [line[:6] for line in lines]
    assert ["fashion_mnist", "rbm", "fixprob", "3", "log-prob. (nats)", "-289.50 ± 1.00"] in [
        line[:6] for line in lines
    ]
    assert max(map(cell_len, text.splitlines())) <= 80


def test_what_does_not_fit_is_named_with_the_way_to_see_it(tmp_path: Path) -> None:
    three_methods(tmp_path)
    text = " ".join(render(report(tmp_path), "table", 80).split())
    assert text.endswith("left out: final, parameters, of dense, peak MB; --columns all or a wider terminal")
    assert "left out" not in render(report(tmp_path), "table", 120)
    assert "left out" not in render(report(tmp_path), "table", 80, ["all"])
    assert "379" not in render(report(tmp_path), "table", 80)


def test_without_a_terminal_every_row_is_whole(tmp_path: Path) -> None:
    three_methods(tmp_path)
    header, _, *rows = render(report(tmp_path), "table").splitlines()
    assert "data set" in header
    assert "peak MB" in header
    assert len(rows) == 3
    assert all("digits" in row and "accuracy %" in row for row in rows)


def test_settings_that_all_rows_have_are_said_once(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        finished_run(tmp_path, 0, 70, 71, name=f"lr{lr}", settings={"train.epochs": 3, "train.lr": lr})
    first, _, _, *rows = render(report(tmp_path), "table", 120).splitlines()
    assert "train.epochs=3" in first
    assert ["train.lr=0.1" in rows[0], "train.lr=0.2" in rows[1]] == [True, True]
    assert not any("train.epochs" in row for row in rows)


def test_words_are_folded_before_a_column_goes_and_numbers_never() -> None:
    columns: list[Column[tuple[str, str]]] = [
        Column("number", lambda row: row[0], True, 0),
        Column("reason", lambda row: row[1], False, 1),
    ]
    rows = [("1,234,567", "the loss is no longer finite in epoch 46; try a smaller rate"), ("7", "no")]
    text = render_table(columns, rows, 40)
    assert max(map(cell_len, text.splitlines())) <= 40
    assert "1,234,567" in text
    assert " ".join(line.split("│")[1].strip() for line in text.splitlines()[2:-1]) == rows[0][1]


def test_wide_characters_take_two_columns() -> None:
    columns: list[Column[str]] = [Column("name", str, False, 0), Column("again", str, False, 1)]
    text = render_table(columns, ["手書き数字", "x"], 40)
    assert max(map(cell_len, text.splitlines())) <= 40
    assert text.count("手書き数字") == 2


def test_columns_are_chosen_by_title_or_key_and_rows_sorted(tmp_path: Path, set_report: Command) -> None:
    for seed, (method, last) in enumerate((("dense", 70), ("fixprob", 60), ("set", 80))):
        finished_run(tmp_path / "runs", seed, last, 90 - seed, method)
    result = set_report("--columns", "last,method,peak_memory_mb", "--sort", "-last", "--format", "markdown")
    assert result.returncode == 0, result.stderr
    header, _, *rows = result.stdout.splitlines()
    assert header.split() == ["|", "last", "|", "method", "|", "peak", "MB", "|"]
    assert [row.split()[3] for row in rows] == ["set", "dense", "fixprob"]
    as_json = set_report("--sort", "best", "--format", "json")
    assert [row["method"] for row in json.loads(as_json.stdout)] == ["set", "fixprob", "dense"]
    for wrong in (["--columns", "lats"], ["--sort", "lats"], ["--columns", "last", "--format", "json"]):
        assert set_report(*wrong).returncode == 2
    assert "no column is called lats; did you mean last?" in set_report("--columns", "lats").stderr


def test_the_command_fits_its_terminal(tmp_path: Path) -> None:
    three_methods(tmp_path / "runs")
    table = on_terminal(REPORT, width=80, folder=tmp_path).replace("\r", "").splitlines()[:6]
    assert max(map(cell_len, table)) <= 80
    assert table[0] == "digits, mlp, 3 seeds, test accuracy in %, best on test"


# --- rows whose seeds did not all finish


def unfinished(path: Path, status: str) -> Path:
    (path / "status.json").write_text(json.dumps({"status": status, "epoch": 4, "reason": f"{path}: loss in epoch 5"}))
    return path


def test_a_row_says_how_many_of_its_seeds_finished(tmp_path: Path, set_report: Command) -> None:
    for seed in range(4):
        finished_run(tmp_path / "runs", seed, 70, 71)
    finished_run(tmp_path / "runs", 0, 60, 61, "dense")
    diverged = unfinished(finished_run(tmp_path / "runs", 1, 60, 61, "dense"), "diverged")
    unfinished(tmp_path / "runs/cifar10/mlp/set-s3-abcdef01", "running")
    comparison = report(tmp_path / "runs")
    assert [one.seeds_text for one in comparison.configurations] == ["1 of 2*", "3 of 4"]
    assert [row["n"] for row in comparison.rows] == [1, 3]
    table = set_report()
    assert "* the mean of those that finished: 1 diverged" in table.stdout
    assert "1 of 2*" in table.stdout
    # One fact once: the folder, and why.
    lines = [line for line in table.stderr.splitlines() if "dense-s1" in line]
    assert lines == [f"  diverged: {diverged.relative_to(tmp_path)} (loss in epoch 5)"]
    assert "missing: runs/cifar10/mlp/dense: no finished run with seed 2, 3" in table.stderr
    assert "1 of 2\\*" in set_report("--format", "markdown").stdout
    assert "1 of 2*" in set_report("--format", "latex").stdout
    assert json.loads(set_report("--format", "json").stdout)[0]["n"] == 1


def test_a_seed_that_was_done_again_counts_once(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71, name="set-s0-abcdef01-2")
    unfinished(finished_run(tmp_path, 0, 60, 61, name="set-s0-abcdef01"), "failed")
    assert [one.seeds_text for one in report(tmp_path).configurations] == ["1"]


@pytest.mark.parametrize("content", ["[]", "{", '{"seed": "x"}', '{"seed": true}', "null"])
def test_a_failed_run_without_a_configuration_is_listed(content: str, tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    (unfinished(finished_run(tmp_path, 1, 60, 61), "failed") / "config.json").write_text(content)
    comparison = report(tmp_path)
    assert [one.seeds_text for one in comparison.configurations] == ["1"]
    assert [run.why for run in comparison.left_out] == ["failed"]


# --- rows that would look alike


def with_config(path: Path, **changes: Any) -> None:
    """The run's configuration with these changes, its checksum made right."""
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))
    reseal(path, "config.json")


def test_rows_that_look_alike_name_the_key_in_which_they_differ(tmp_path: Path) -> None:
    """A default has changed between two versions: neither run has it among its settings."""
    for method in ("set", "dense"):
        for scaling in ("unit", "standardize"):
            with_config(
                finished_run(tmp_path, 0, 70, 71, method, name=f"{method}-{scaling}"), data={"scaling": scaling}
            )
    rows = report(tmp_path).rows
    assert [(row["method"], row["settings"]) for row in rows] == [
        ("dense", "data.scaling=standardize"),
        ("set", "data.scaling=standardize"),
        ("dense", "data.scaling=unit"),
        ("set", "data.scaling=unit"),
    ]


def test_a_key_that_is_younger_than_a_run_has_its_class_default(tmp_path: Path) -> None:
    with_config(finished_run(tmp_path, 0, 70, 71, name="old"), data={"scaling": "unit"})
    with_config(finished_run(tmp_path, 0, 70, 71, name="new"), data={"scaling": "unit", "clip": 5.0, "split": "random"})
    assert [row["settings"] for row in report(tmp_path).rows] == [
        "data.clip=5 data.split=random",
        "data.clip=null data.split=last",
    ]


def test_rows_that_differ_anyway_get_no_settings_of_their_configuration(tmp_path: Path) -> None:
    with_config(finished_run(tmp_path, 0, 70, 71, "set"), data={"scaling": "unit"})
    with_config(finished_run(tmp_path, 0, 70, 71, "dense"), data={"scaling": "standardize"})
    assert [row["settings"] for row in report(tmp_path).rows] == ["", ""]


# --- formats and folders as people type them


@pytest.mark.parametrize(
    ("ending", "start"),
    [
        ("html", "<!doctype html>"),
        ("json", "[\n"),
        ("csv", "dataset,model"),
        ("md", "| data set"),
        ("tex", r"\begin{tabular}"),
        ("txt", "data set ┃"),
    ],
)
def test_the_ending_of_the_file_says_the_format(ending: str, start: str, tmp_path: Path, set_report: Command) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    assert set_report("--output", f"report.{ending}").returncode == 0
    assert (tmp_path / f"report.{ending}").read_text().startswith(start)


def test_an_ending_that_contradicts_the_format_is_refused(tmp_path: Path, set_report: Command) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    result = set_report("--output", "report.html", "--format", "csv")
    assert (result.returncode, "report.html is html, --format is csv" in result.stderr) == (2, True)
    unknown = set_report("--output", "report.pdf")
    assert (unknown.returncode, "expected an ending out of .html" in unknown.stderr) == (2, True)
    assert set_report("--output", "report.pdf", "--format", "json").returncode == 0
    assert set_report("--output", "report.txt", "--format", "markdown").returncode == 0
    assert set_report("--output", "report").returncode == 0


def test_a_folder_may_be_named_as_set_train_names_it(tmp_path: Path, set_report: Command) -> None:
    finished_run(tmp_path / "c1", 0, 70, 71)
    result = set_report("runs_dir=c1", "--format", "json")
    assert (result.returncode, json.loads(result.stdout)[0]["n"]) == (0, 1)
    assert "nothere: no such folder" in set_report("runs_dir=nothere").stderr
    (tmp_path / "runs_dir=c2").mkdir()
    assert "no finished run found in runs_dir=c2" in set_report("runs_dir=c2").stderr


# --- what came out


def test_the_report_ends_with_the_outcome_and_the_seeds_that_are_missing(tmp_path: Path, set_report: Command) -> None:
    three_methods(tmp_path / "runs")
    outcome, too_few, command = set_report().stderr.splitlines()
    assert outcome.startswith("fixprob ε=5 reaches 71.00 % with 2.1 % of dense's parameters: 0.00 points from dense, ")
    assert too_few == "3 seeds cannot tell these three methods apart; 7 can:"
    assert command == (
        "  set-train -m dataset=digits model=mlp method=dense,fixprob,set epsilon=5.0 zeta=0.3 'seed=range(7)'"
    )
    assert set_report("--format", "csv").stderr == ""


def outcomes_of(folder: Path, **lasts: dict[int, float]) -> list[str]:
    for method, by_seed in lasts.items():
        for seed, last in by_seed.items():
            finished_run(folder, seed, last, 90, method)
    return outcomes_in_words(report(folder).configurations)


def test_the_outcome_compares_over_the_seeds_that_two_rows_share(tmp_path: Path) -> None:
    """SET's mean is 71.26; on seed 0, the only one of FixProb's, both have 70."""
    one = {0: 70.0, 1: 71.26, 2: 72.52}
    (sentence,) = outcomes_of(tmp_path, set=one, fixprob={0: 70.0}, dense={0: 71.0, 1: 72.0, 2: 74.0})
    assert sentence == (
        "set ε=20 ζ=0.3 reaches 71.26 % with 2.1 % of dense's parameters: "
        "1.07 points below dense, 0.00 points from fixprob on the 1 seed they share"
    )


def test_the_outcome_says_over_how_many_seeds_of_two_overlapping_rows(tmp_path: Path) -> None:
    (sentence,) = outcomes_of(tmp_path, set={0: 70.0, 1: 72.0, 2: 80.0}, dense={1: 71.0, 2: 78.0, 3: 10.0})
    assert sentence.endswith(": 1.50 points above dense on the 2 seeds they share")


def test_rows_without_a_common_seed_have_no_outcome(tmp_path: Path) -> None:
    assert outcomes_of(tmp_path / "none", set={0: 70.0}, dense={1: 60.0}) == []
    (sentence,) = outcomes_of(tmp_path / "some", set={0: 70.0}, dense={1: 60.0}, fixprob={0: 69.0})
    assert sentence.endswith("dense's parameters: 1.00 points above fixprob")


def test_the_command_for_more_seeds_names_the_folder_of_the_runs(tmp_path: Path, set_report: Command) -> None:
    for method in ("set", "dense"):
        finished_run(tmp_path / "my runs", 0, 70, 71, method)
    *_, too_few, command = set_report("my runs").stderr.splitlines()
    assert too_few == "1 seed cannot tell these two methods apart; 6 can:"
    assert command.endswith("""'seed=range(6)' 'runs_dir='"'"'my runs'"'"''""")


# --- the live line


def live(width: int, row: dict[str, Any]) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    line = LiveLine(console=console)
    line.begin(12, 3)
    line.move(3.5, 4)
    line.show(row)
    with console.capture() as capture:
        console.print(line.get_renderable())
    return capture.get().rstrip("\n")


ROW = {"epoch": 9, "train_loss": 0.1776, "test_accuracy": 95.26, "connections": 7810}
RBM = {"epoch": 9, "train_loss": 80.1776, "test_log_probability": -85.97, "test_log_z_error": 0.11, "connections": 7810}


@pytest.mark.parametrize("row", [ROW, ROW | {"valid_accuracy": 96.0}, RBM])
@pytest.mark.parametrize("width", [20, 30, *WIDTHS])
def test_the_live_line_is_one_line_of_whole_parts(width: int, row: dict[str, Any]) -> None:
    (line,) = live(width, row).splitlines()
    assert cell_len(line.rstrip()) <= width
    parts = [part for part in re.split(r" {2,}", line.strip()) if not set(part) <= set("━╸╺")]
    assert parts[0] == "epoch  9/12".replace("  ", " ") or line.startswith("epoch  9/12")
    whole = ("loss", "test", "valid", "left", "connections", "so far", "9/12", "epoch")
    assert all(any(word in part for word in whole) or re.search(r"\d", part) for part in parts)


def test_at_80_columns_there_is_a_bar_and_the_time_left() -> None:
    line = live(80, ROW)
    assert "epoch  9/12  loss 0.1776  test  95.26 %  ━" in line
    assert line.rstrip().endswith("left")
    assert line.count("━") >= 12  # of 20, of which a quarter is to come
    assert "connections" not in line
    assert "7,810 connections" in live(120, ROW)


def test_on_a_terminal_the_folder_stands_above_the_line(tmp_path: Path) -> None:
    run = ("train.epochs=2", "model.hidden=[20]", ONE_THREAD)
    lines = re.split(r"[\r\n]+", on_terminal(TRAIN, *run, width=80, folder=tmp_path))
    (folder,) = (tmp_path / "runs/digits/mlp").iterdir()
    assert lines.count(f"runs/digits/mlp/{folder.name}") == 1
    drawn = [line for line in lines if line.startswith("epoch ")]
    assert drawn
    assert max(map(cell_len, (line.rstrip() for line in drawn))) <= 80
    assert all("left" in line for line in drawn)


# --- a sweep


def outcomes(*words: str, seconds: float = 60.0) -> list[dict[str, Any]]:
    codes = {"done": 0, "already done": 0, "skipped": 0, "diverged": 4, "lost": 1}
    return [
        {"outcome": word, "exit_code": codes[word]} | ({"seconds": seconds} if word == "done" else {}) for word in words
    ]


@pytest.mark.parametrize(
    ("number", "runs", "noted", "at_once", "line"),
    [
        (0, 9, ["lost"], 1, "run 1 of 9"),
        (2, 9, ["done", "diverged", "lost"], 1, "run 3 of 9, 1 failed, about 7 min left"),
        (2, None, ["done", "done", "lost"], 1, "run 3"),
        (4, 9, ["already done"] * 4 + ["lost"], 1, "run 5 of 9"),
        (4, 10, ["done", "done", "skipped", "lost", "lost"], 2, "run 5 of 10, about 4 min left"),
        (2, 3, ["done", "done", "lost"], None, "run 3 of 3"),
    ],
)
def test_a_sweep_says_how_far_it_has_come(
    number: int, runs: int | None, noted: Sequence[str], at_once: int | None, line: str
) -> None:
    assert pace_line(number, runs, outcomes(*noted), at_once) == line


@pytest.mark.parametrize(("seconds", "left"), [(1, "about 2 s"), (20, "about 40 s"), (4000, "about 2 h 13 min")])
def test_the_time_left_is_in_a_unit_that_one_would_say(seconds: float, left: str) -> None:
    assert left in pace_line(1, 3, outcomes("done", "lost", seconds=seconds), 1)


@pytest.mark.slow  # three sweeps
def test_every_run_of_a_sweep_is_announced(tmp_path: Path, set_train: Command) -> None:
    run = ("train.epochs=1", "model.hidden=[20]", ONE_THREAD)
    result = set_train("-m", "seed=0,1", *run)
    announced = [line for line in result.stdout.splitlines() if line.startswith("run ")]
    assert announced == ["run 1 of 2; starting …", announced[1]]
    assert re.fullmatch(r"run 2 of 2, about \d+ (s|min) left; starting …", announced[1])
    again = set_train("-m", "seed=0,1", *run)
    assert "starting" not in again.stdout  # both are done
    assert "run 1" not in set_train("-m", "seed=2", "progress=none", *run).stdout


# --- the end of a run


def summary_of(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": "digits", "model": "mlp", "method": "set", "metric": "accuracy", "last": 96.94, "best": 97.22,
        "best_on": "valid", "best_epoch": 41, "last_error": None, "best_error": None, "last_chains_agree": None,
        "best_chains_agree": None, "tested_on": "test", "connections": 7810, "connections_final": 6350,
        "after_last_removal": {"test": 96.38}, "seconds_per_epoch": 0.13,
    } | changes  # fmt: skip


def test_a_run_ends_in_three_short_lines() -> None:
    lines = result_lines(summary_of(), Path("runs/digits/mlp/set-e5"), "./runs")
    assert lines == [
        "done: set on digits, test accuracy 96.94 %, best on valid 97.22 % (epoch 41)",
        "7,810 connections, 6,350 after the last removal (test 96.38 %); 0.13 s/epoch",
        "compare: set-report; predict: set-predict runs/digits/mlp/set-e5 FILE",
    ]
    assert max(map(len, lines)) <= 80


def test_the_last_line_names_folders_as_a_shell_takes_them() -> None:
    *_, line = result_lines(summary_of(), Path("my runs/digits/mlp/set-e5"), "my runs")
    assert line == "compare: set-report 'my runs'; predict: set-predict 'my runs/digits/mlp/set-e5' FILE"


def test_an_rbms_result_has_its_errors_and_no_prediction() -> None:
    rbm = {"model": "rbm", "metric": "log_probability", "last": -85.97, "best": -85.5, "last_error": 0.11}
    rbm |= {
        "best_error": 0.2,
        "last_chains_agree": False,
        "tested_on": "holdout",
        "after_last_removal": {"test": -86.0},
    }
    lines = result_lines(summary_of(**rbm), Path("runs/x"), "runs")
    assert "test log-probability -85.97 ± 0.11 nats (chains disagree), best on valid -85.50 ± 0.20 nats" in lines[0]
    assert lines[0].endswith("tested on held-out training rows")
    assert "(test -86.00 nats)" in lines[1]
    assert lines[2] == 'compare: set-report; load: set_cli.load("runs/x")'
