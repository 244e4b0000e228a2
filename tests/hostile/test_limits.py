"""What is too large, too deep or no number."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from set_cli.analysis.measure import FILE, keep_analysis
from set_cli.commands.report import FORMATS
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, find_run_folders, read_run
from set_cli.report.diff import compare_two
from set_cli.report.drawing import draw_report, experiment_drawings
from set_cli.report.figures import write_figure
from set_cli.report.html import render_page
from set_cli.report.topology import analyze_runs, kept_topologies, render_topologies
from set_cli.runs.summary import REPORTED
from tests.builders import finished_run, report
from tests.conftest import REPORT
from tests.hostile.html import Page, assert_inert
from tests.hostile.runs import (
    analysis_of,
    assert_no_control,
    counted,
    everything,
    hostile_runs,
    mend,
    page_of,
    put_everywhere,
)

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


# What is put into an object as the value of one more key, and whether strict JSON has room for it.
VALUES = {
    "deep lists": ("[" * 100_000, False),
    "deep objects": ('{"a":' * 100_000, False),
    "closed deep lists": ("[" * 100_000 + "]" * 100_000, False),
    "a key twice": ('1, "hostile": 2', False),
    "NaN": ("NaN", False),
    "Infinity": ("[Infinity]", False),
    "-Infinity": ('{"a": -Infinity}', False),
    "5,000 digits": ("1" * 5000, False),
    "no float's range": ("1e400", None),
    "a long string": ('"' + "x" * 2**20 + '"', None),
    "many digits": ("1" * 4000, None),
    "a short end": ('"', False),
    "bytes that are no text": ('"\xff\xfe"', False),
}


def inject(path: Path, value: str) -> None:
    """One more key, first in the file's first object."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"{", b'{"hostile": ' + value.encode("latin-1") + b", ", 1))


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["status.json", "summary.json", "config.json"])
def test_json_that_is_none_is_listed_as_unreadable(name: str, what: str, tmp_path: Path) -> None:
    value, fine = VALUES[what]
    finished_run(tmp_path, 0, 70, 71)
    bad = finished_run(tmp_path, 1, 99, 99, name="bad")
    if name == "config.json":
        inject(bad / name, value)
        mend(bad)
    else:
        inject(bad / name, value)
        if fine is None:
            with suppress(ValueError):  # no digest can be made of what strict JSON has no room for
                mend(bad)
    comparison = everything(tmp_path)
    listed = [(run.why, run.path) for run in comparison.left_out]
    if fine is False:
        assert listed == [("unreadable", bad)]
    else:
        assert listed in ([], [("unreadable", bad)])
    assert sum(row["n"] for row in comparison.rows) + len(listed) == 2


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["run.json", FILE, "metrics.jsonl"])
def test_json_that_is_none_is_named_or_made_nothing_of(name: str, what: str, tmp_path: Path) -> None:
    """Where the run's figures do not come from it, the run counts all the same."""
    value, fine = VALUES[what]
    drawn = name == "metrics.jsonl"
    done, _ = hostile_runs(tmp_path / "runs", "x", drawn=drawn, metric="accuracy")
    if drawn:
        (done / "degrees.npz").unlink()
    inject(done / name, value)
    if name != FILE:
        keep_analysis(mend(done), analysis_of(done, "layer1"))
    comparison = report(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]
    kept = kept_topologies(comparison.counted)
    page = assert_inert(render_page(comparison, kept))
    if fine is False:
        assert name != FILE or not kept.analyses
        assert name != "run.json" or "could not be read" in page.text
        assert name != "metrics.jsonl" or (not page.pictures() and "metrics.jsonl" in page.text)
    for form in FORMATS[:-1]:
        assert_no_control(render_topologies(kept, form))


def test_json_of_any_depth_that_can_be_read_can_be_shown(tmp_path: Path) -> None:
    """Python's reader and its writer of JSON, and what goes through the value, do not give up at the same depth."""
    other = put_everywhere(finished_run(tmp_path / "other", 0, 70, 71), "x")
    path = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    for depth in [100, 500, *range(960, 1000, 8), 2000, 5000, 9000]:
        deep = ("[" * depth + "]" * depth) if depth % 4 else ('{"x":' * depth + "1" + "}" * depth)
        (path / "config.json").write_text(f'{{"x": {deep}}}')
        (path / "run.json").write_text(f'[{{"packages": {deep}, "command": [{deep}], "set_cli": {deep}}}]')
        mend(path)
        page_of(tmp_path / "runs")
        try:
            compare_two(path, other)
        except DataError:
            assert not isinstance(read_run(path), FinishedRun) or depth > 500


FIGURES = {
    "last": ["1e400", "-1e400", "NaN", "1e19", "1" + 30 * "0", "null", "true", "[]", '"1"', "1" * 5000],
    "best": ["1e400", "1" * 400, "{}"],
    "epsilon": ["1e400", "1" * 400, '"20"', "false", "[20]"],
    "zeta": ["Infinity", "-1e19", '"x"'],
    "seed": ["0.5", "null", '"0"', "true", "1" * 5000],
    "connections": ["-1", "1e3", "1" + 30 * "0", "null"],
    "connections_final": ["-1", "1" + 30 * "0"],
    "parameters": ["-1", "0.5", "1" * 4000],
    "dense_parameters": ["0", "-1", "1" + 30 * "0", "null"],
    "seconds_per_epoch": ["-1", "-1e-9", "1e400", "null", '"8"'],
    "peak_memory_mb": ["-1", "1e400", "1e300"],
    "seconds_per_evolution": ["-1", "1e400"],
    "evolution_memory_mb": ["-1", '"8"'],
    "dataset": ["1", "null", "[]", '"' + "x" * 2**20 + '"'],
    "metric": ["null", "[]", '"' + "x" * 201 + '"'],
    "settings": ["null", "[]", '"x"', '{"a": {"b": 1}}', '{"a": [[1]]}', '{"a": NaN}'],
    "sha256": ["null", "[]", "{}", '{"config.json": 1, "params.json": [], "metrics.jsonl": null}'],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FIGURES.items() for value in values],
                         ids=lambda text: text[:20])  # fmt: skip
def test_a_figure_out_of_range_or_of_another_kind_does_not_count(name: str, value: str, tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    bad = finished_run(tmp_path, 1, 99, 99, name="bad")
    summary = json.loads((bad / "summary.json").read_text())
    text = json.dumps(summary | {name: "@"}).replace('"@"', value)
    (bad / "summary.json").write_text(text)
    comparison = everything(tmp_path)
    assert [(row["n"], row["best_mean"]) for row in comparison.rows] == [(1, 71)]
    ((why, where),) = [(run.why, run.path) for run in comparison.left_out]
    assert (why in ("unreadable", "altered"), where) == (True, bad)


# Figures at the edges of what counts: every page can still be made of them.
EDGES: list[dict[str, Any]] = [
    {"last": 1e18, "best": -1e18},
    {"last": 5e-324, "best": -0.0, "epsilon": 5e-324, "zeta": 1e18},
    {"connections": 0, "connections_final": 0, "parameters": 0, "dense_parameters": 1},
    {"connections": 10**18, "parameters": 10**18, "dense_parameters": 1, "seconds_per_epoch": 10**18},
    {"seed": -(10**400)},
    {"seed": 10**4000, "epsilon": -1, "zeta": -1.5},
    {"settings": {"x": 10**4000, "y": [1e308, True, None, ""], "": "", "model.hidden": []}},
    {"settings": {"x": "y" * 2**20}},
    {"dataset": "", "model": "", "method": "", "metric": "", "best_on": ""},
    {"dataset": "x" * 200, "model": "x" * 200, "method": "x" * 200, "metric": "x" * 200},
    {"differences": {"x": 1}, "epochs": [], "last_chains_agree": "no", "best_epoch": None},
    {"differences": [None, [], {"x": "y"}, 10**4000]},
]


@pytest.mark.parametrize("changes", EDGES, ids=lambda changes: " ".join(changes))
def test_figures_at_their_limits_are_shown(changes: dict[str, Any], tmp_path: Path) -> None:
    first = put_everywhere(finished_run(tmp_path / "a", 0, 70, 71), "x", drawn=True, metric="accuracy")
    second = put_everywhere(finished_run(tmp_path / "a", 1, 70, 71), "x")
    mend(first, **changes)
    keep_analysis(first, analysis_of(first, "layer1"))
    comparison = everything(tmp_path / "a")
    assert sum(row["n"] for row in comparison.rows) == 2
    assert_no_control(compare_two(first, second))


METRICS = {
    "an epoch beyond all numbers": '{"epoch": 1e400, "test_accuracy": 1}',
    "an epoch of 400 digits": '{"epoch": %s, "test_accuracy": 1}' % ("1" * 400),
    "an epoch of 30 digits": '{"epoch": %s, "test_accuracy": 1}' % ("1" * 30),
    "a negative epoch of 400 digits": '{"epoch": -%s, "test_accuracy": 1}' % ("1" * 400),
    "a negative epoch": '{"epoch": -9, "test_accuracy": 1}',
    "an epoch that is none": '{"epoch": NaN, "test_accuracy": 1}',
    "a metric of 400 digits": '{"epoch": 1, "test_accuracy": %s}' % ("1" * 400),
    "a metric of 5,000 digits": '{"epoch": 1, "test_accuracy": %s}' % ("1" * 5000),
    "a metric beyond all numbers": '{"epoch": 1, "test_accuracy": 1e400}',
    "an enormous metric": '{"epoch": 1, "test_accuracy": 1e99}',
    "a tiny metric": '{"epoch": 1, "test_accuracy": 5e-324}',
    "no metric": '{"epoch": 1}',
    "no object": "[1]",
    "nothing": "",
    "no text": "\x00" * 100,
    "far epochs": '{"epoch": 0, "test_accuracy": 1}\n{"epoch": 999999999999, "test_accuracy": 2}',
}


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("what", METRICS)
def test_metrics_that_are_none_are_drawn_as_nothing(what: str, tmp_path: Path) -> None:
    path = put_everywhere(finished_run(tmp_path, 0, 70, 71), "x", drawn=True, metric="accuracy")
    (path / "metrics.jsonl").write_text(METRICS[what] + "\n")
    made, missing = draw_report([counted(mend(path, method="set"))], tmp_path / "figures")
    stems = {path.stem.rpartition("-")[2] for path in made} - {"degrees"}
    assert stems in ({"curves", "free"}, set())
    assert stems or any("metrics.jsonl" in sentence for sentence in missing)


def test_two_numbers_of_any_size_have_a_difference_or_none(tmp_path: Path) -> None:
    paths = [put_everywhere(finished_run(tmp_path, seed, 70, 71), "x") for seed in (0, 1)]
    numbers: list[list[Any]] = [[10**400, 0.5], [0.5, 10**400], [10**400, 10**400 + 1], [1e308, -1e308], [1, True]]
    for pair in numbers:
        for path, number in zip(paths, pair, strict=True):
            (path / "config.json").write_text(json.dumps({"seed": 0, "x": number}))
            mend(path)
        assert_no_control(compare_two(paths[0], paths[1]))


PEAK = """
import atexit
def peak():
    # Of this program alone: what resource.getrusage says starts with what the process was forked from.
    with open("/proc/self/status") as lines:
        print(next(line for line in lines if line.startswith("VmHWM:")).split()[1], file=open("peak", "w"))
atexit.register(peak)
"""


@pytest.mark.timeout(60)
def test_files_of_10_gigabytes_take_no_memory(tmp_path: Path) -> None:
    names = [*REPORTED, "status.json", "summary.json", "run.json", FILE]
    for seed, name in enumerate(names):
        path = finished_run(tmp_path / "runs", seed, 70, 71, name=f"run{seed}")
        with open(path / name, "ab") as stream:
            os.truncate(stream.fileno(), 10 * 10**9)
    command = [sys.executable, "-P", "-c", PEAK + REPORT, "runs", "--format", "html"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert "2 finished runs" in Page(result.stdout).text  # the tables need no run.json and no analysis
    assert "not counted: 5 unreadable" in result.stderr
    assert int((tmp_path / "peak").read_text()) < 500_000  # kB


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["degrees.npz", "topology/epoch_0001.npz", "checkpoint.npz"])
def test_a_topology_of_a_terabyte_is_refused_at_once(name: str, own: Path, tmp_path: Path) -> None:
    """Not after its checksum: that takes as long as the file is."""
    run = counted(own)
    try:
        os.truncate(own / name, 10**12)
    except OSError:
        pytest.skip("this file system has no files of a terabyte")
    topologies = analyze_runs([run])
    assert not topologies.analyses
    assert name in topologies.missing[0]
    if name == "degrees.npz":
        _, missing = draw_report([run], tmp_path / "figures")
        assert name in missing[0]


def test_folders_deeper_than_python_goes_are_no_traceback(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    made: list[str] = []
    try:
        deep = f"{tmp_path}/runs"
        while len(deep) < 3900:
            deep += "/d"
            os.mkdir(deep)
            made.append(deep)
        paths, closed = find_run_folders([tmp_path / "runs"])
        assert len(paths) == 1
        assert len(closed) <= 1
    finally:  # pytest does not get that deep either
        for path in reversed(made):
            os.rmdir(path)


@pytest.mark.parametrize("name", ["5²3", "①", "٣٤", "¼", "9" * 250, "-0", "1e9", "0x10", "..."])
def test_folders_are_sorted_whatever_their_numbers_are(name: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, seed, 70, 71, name=f"{name}{'x' * seed}")
    paths, closed = find_run_folders([tmp_path])
    assert (len(paths), closed) == (2, [])


@pytest.mark.timeout(60)
def test_a_sweep_of_a_hundred_configurations_is_drawn_on_a_page(own: Path) -> None:
    """Figures have no room for as many lines, nor for the input maps of as many networks; and no warning about it."""
    run = counted(own)
    runs = [FinishedRun(run.path, f"group {i}", {**run.summary, "epsilon": float(i + 1)}) for i in range(100)]
    for drawing in experiment_drawings(runs):
        figure = drawing.draw()
        assert isinstance(figure, Figure)
        assert max(figure.get_size_inches()) < 50
        write_figure(figure, io.BytesIO(), "svg")


@pytest.mark.parametrize("name", ["config.json", "status.json"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_stray_file_between_the_run_folders_hides_none_of_them(name: str, kind: str, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    stray = tmp_path / "runs" / "cifar10" / name
    stray.mkdir() if kind == "folder" else stray.write_text("{}")
    comparison = report(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]
