"""The figures of a report: what is drawn, of what, and that nothing in a run folder can lead them astray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from set_cli.analysis.images import border_and_centre
from set_cli.analysis.paper_p import hidden_degrees, paper_p_value
from set_cli.config import METHODS, from_mapping
from set_cli.report.collect import FinishedRun, read_run
from set_cli.report.drawing import draw_report
from set_cli.report.plots import STYLES, input_movie, plot_curves, plot_degrees, plot_input_maps, plot_scale_free
from set_cli.runs.degrees import read_degrees
from tests.builders import finished_run, reseal, train
from tests.conftest import NO_TORCH, ONE_THREAD, REPORT, compose_mapping, run_command, run_python

RUN = ("train.epochs=4", "model.hidden=[40,30]", "progress=none", ONE_THREAD)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for method, seed in (("set", 0), ("set", 1), ("fixprob", 0), ("dense", 0)):
        overrides = (*RUN, f"method={method}", f"seed={seed}", f"runs_dir={folder}/runs")
        train(from_mapping(compose_mapping(*overrides)))
    return folder / "runs"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> list[FinishedRun]:
    """Of SET with two seeds, FixProb and dense; the test's own."""
    shutil.copytree(trained, tmp_path / "runs")
    paths = [next((tmp_path / "runs/digits/mlp").glob(name)) for name in ("set-*-s0-*", "set-*-s1-*", "fix*", "dense*")]
    found = [run for run in map(read_run, paths) if isinstance(run, FinishedRun)]
    assert len(found) == 4
    return found


def test_every_figure_is_drawn_twice(runs: list[FinishedRun], tmp_path: Path) -> None:
    made, missing = draw_report(runs, tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert (names, missing) == ({path.name for path in made}, [])
    sparse = [f"digits-mlp-{run.path.name}" for run in (runs[0], runs[2])]  # of each configuration the first seed
    stems = {"digits-mlp-curves", "digits-mlp-inputs", f"{sparse[0]}-scale-free", *(f"{run}-degrees" for run in sparse)}
    assert names == {f"{stem}.{form}" for stem in stems for form in ("png", "svg")} | {f"{sparse[0]}-inputs.gif"}
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "gif": b"GIF89a"}
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes().startswith(starts[name[-3:]])


def test_curves_are_the_metrics(runs: list[FinishedRun]) -> None:
    left, right = plot_curves(runs).axes
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in left.get_lines()}
    assert list(lines) == ["dense", "fixprob ε=5", "set ε=5 ζ=0.3 (n=2)"]
    rows = [[json.loads(line)["test_accuracy"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
            for run in runs]  # fmt: skip
    assert lines["set ε=5 ζ=0.3 (n=2)"] == pytest.approx(np.mean(rows[:2], axis=0))
    assert lines["dense"] == pytest.approx(np.array(rows[3]))
    assert left.get_ylabel() == "test accuracy (%)"
    widths = [patch.get_width() for patch in right.patches]  # type: ignore[attr-defined]
    assert widths == [runs[3].summary["connections"], runs[2].summary["connections"],
                      np.mean([run.summary["connections"] for run in runs[:2]])]  # fmt: skip


def test_degrees_are_shares_of_the_neurons() -> None:
    """Four inputs with 1, 2, 2 and 0 connections: all but one have 1 or more, half 2 or more."""
    degrees = {"layer1/out_degree": np.array([[1, 2, 2, 0]] * 3, np.int32),
               "layer1/in_degree": np.array([[3, 2]] * 3, np.int32)}  # fmt: skip
    inputs, outputs = plot_degrees(degrees).axes
    line = inputs.get_lines()[0]
    assert line.get_xdata() == pytest.approx(np.array([1, 2, 2]))
    assert line.get_ydata() == pytest.approx(np.array([0.75, 0.5, 0.25]))
    assert line.get_label() == "start, 1 without"
    assert (inputs.get_title(), outputs.get_title()) == ("layer1, inputs", "layer1, outputs")
    assert [str(one.get_label()) for one in outputs.get_lines()] == [
        "start",
        "epoch 2",  # of two: the topology that it was trained with, before the last removal
    ]


def test_the_papers_test_is_drawn_beside_the_metric(runs: list[FinishedRun]) -> None:
    """Fig. 3: the metric on the left, p from 0 to 1 on the right, of every epoch where there are few."""
    degrees = read_degrees(runs[0].path, runs[0].summary["sha256"])
    left, right = plot_scale_free(runs[0], degrees).axes
    rows = [json.loads(line) for line in (runs[0].path / "metrics.jsonl").read_text().splitlines()]
    (curve,), dots = left.get_lines(), right.get_lines()[0]
    assert list(np.asarray(curve.get_ydata())) == [row["test_accuracy"] for row in rows]
    layer1, _ = hidden_degrees(degrees).values()
    expected = [paper_p_value(values) for values in layer1]
    assert list(np.asarray(dots.get_xdata())) == [0, 1, 2, 3, 4]
    assert list(np.asarray(dots.get_ydata())) == expected
    assert right.get_ylim()[0] < 0 < 1 < right.get_ylim()[1]
    assert right.get_lines()[2].get_ydata() == [0.05, 0.05]
    assert [line.get_label() for line in right.get_lines()[:2]] == [
        f"paper's p, neurons behind layer{i}" for i in (1, 2)
    ]


def test_input_maps_have_a_row_for_each_width_and_its_own_scale() -> None:
    narrow, wide = np.arange(16, dtype=np.int32), 10 * np.arange(16, dtype=np.int32)
    figure = plot_input_maps([("narrow", {0: narrow, 3: narrow + 1}), ("wide", {0: wide})], (4, 4))
    pictures = [
        (axes.get_title(), axes.get_xlabel(), axes.get_images()[0]) for axes in figure.axes if axes.get_images()
    ]
    assert [title for title, _, _ in pictures] == ["start", "epoch 4", "start"]
    assert np.array_equal(np.asarray(pictures[1][2].get_array()), (narrow + 1).reshape(4, 4))
    assert [image.get_clim() for _, _, image in pictures] == [(0, 16), (0, 16), (0, 150)]
    # Of 0 to 15 in a square the frame of one has a mean of 7.5, as the four in the middle.
    assert [text for _, text, _ in pictures] == [
        "border 7.5, centre 7.5",
        "border 8.5, centre 8.5",
        "border 75.0, centre 75.0",
    ]


def test_border_and_centre_are_a_frame_and_the_middle() -> None:
    picture = np.zeros((28, 28), np.int32)
    picture[:3], picture[-3:], picture[:, :3], picture[:, -3:] = 8, 8, 8, 8
    picture[7:21, 7:21] = 2
    assert border_and_centre(picture.ravel(), (28, 28)) == (8, 2)
    assert border_and_centre(np.arange(6), (2, 3)) == (2.5, 2.5)  # nothing but a frame


def test_the_film_shows_every_epoch_on_one_scale(tmp_path: Path) -> None:
    degrees = np.array([[0, 0, 0, 9], [3, 3, 3, 3], [9, 0, 0, 0], [9, 9, 9, 9]], np.int32)
    with Image.open(BytesIO(input_movie(degrees, (2, 2)))) as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 3  # not what the last removal left
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    corner = [tuple(frame[90, 80]) for frame in frames]  # of the first pixel
    other = tuple(frames[0][200, 180])  # of the last one, with 9 at the start
    assert len(set(corner)) == 3
    assert np.abs(np.subtract(corner[2], other, dtype=np.int64)).max() < 8
    with Image.open(BytesIO(input_movie(np.ones((500, 4), np.int32), (2, 2)))) as still:
        assert sum(1 for _ in ImageSequence.Iterator(still)) <= 60


def test_methods_differ_without_colour() -> None:
    assert set(STYLES) == set(METHODS)
    assert len({(style["linestyle"], style["marker"]) for style in STYLES.values()}) == len(STYLES)


def altered(path: Path, change: Callable[[Path], object]) -> FinishedRun:
    """The run with its checksums made right again: somebody who wants to mislead can do that."""
    change(path)
    reseal(path, "metrics.jsonl", "degrees.npz")
    run = read_run(path)
    assert isinstance(run, FinishedRun)
    return run


DAMAGE: list[tuple[str, bytes | dict[str, Any], str]] = [
    ("metrics.jsonl", b'{"epoch": 1, "test_accuracy": "high"}\n', "metrics.jsonl has no figures to draw"),
    ("metrics.jsonl", b'{"epoch": 1, "test_accuracy": NaN}\n', "metrics.jsonl, line 1: expected a JSON object"),
    ("metrics.jsonl", b'{"epoch": [], "test_accuracy": 1}\n', "metrics.jsonl has no figures to draw"),
    ("metrics.jsonl", b"", "metrics.jsonl has no figures to draw"),
    ("degrees.npz", b"PK", "could not be read"),
    ("degrees.npz", {"layer1/out_degree": np.array([[-1]], np.int32)}, "expected degrees of every epoch"),
    ("degrees.npz", {"../out_degree": np.array([1.5])}, "expected degrees of every epoch"),
    ("degrees.npz", {"layer1/out_degree": np.zeros((0, 3), np.int32)}, "expected degrees of every epoch"),
]


@pytest.mark.parametrize(("name", "content", "reason"), DAMAGE)
def test_what_cannot_be_drawn_is_named(
    name: str, content: bytes | dict[str, Any], reason: str, runs: list[FinishedRun], tmp_path: Path
) -> None:
    def damage(path: Path) -> None:
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            np.savez(path / name, allow_pickle=False, **content)

    _, missing = draw_report([altered(runs[0].path, damage)], tmp_path / "figures")
    assert len(missing) == 1
    assert reason in missing[0]


def test_degrees_that_were_changed_after_the_run_are_not_drawn(runs: list[FinishedRun], tmp_path: Path) -> None:
    (runs[0].path / "degrees.npz").write_bytes((runs[2].path / "degrees.npz").read_bytes())
    _, missing = draw_report([runs[0]], tmp_path / "figures")
    assert "degrees.npz: altered after the run" in missing[0]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", r"$\frac$", "\x1b[31m", "x" * 300])
def test_names_in_a_summary_lead_nowhere(name: str, runs: list[FinishedRun], tmp_path: Path) -> None:
    summary = {**runs[0].summary, "dataset": name, "model": name, "method": name}
    before = {path for path in tmp_path.rglob("*") if path.parent.name != "figures"}
    made, _ = draw_report([FinishedRun(runs[0].path, "g", summary)], tmp_path / "figures")
    assert made
    assert {path.parent for path in made} == {tmp_path / "figures"}
    after = {path for path in tmp_path.rglob("*") if path.parent.name != "figures"}
    assert after - before == {tmp_path / "figures"}


def test_the_command_draws_without_torch(runs: list[FinishedRun], tmp_path: Path) -> None:
    result = run_python("-c", NO_TORCH + REPORT, "runs", "--figures", "figures", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "11 figures in figures" in result.stderr
    dense = next((tmp_path / "runs/digits/mlp").glob("dense*"))
    result = run_command(REPORT, str(dense), "--figures", f"{dense}/x/../../../../../made/here", folder=tmp_path)
    assert "2 figures in" in result.stderr
    (tmp_path / "file").touch()
    result = run_command(REPORT, "runs", "--figures", "file/below", folder=tmp_path)
    assert (result.returncode, "could not be written" in result.stderr) == (6, True)


def test_of_many_configurations_the_foremost_are_drawn(tmp_path: Path) -> None:
    """The best of each method and the next best, told apart; how many there were stands in the title."""
    for i in range(30):
        method = "dense" if i == 29 else "set"
        path = finished_run(tmp_path, 0, 90 - i, 91, method, name=f"{method}{i}-s0", settings={})
        row = {"epoch": 1, "test_accuracy": 90 - i}
        (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        config = json.loads((path / "config.json").read_text()) | {"number": i}
        (path / "config.json").write_text(json.dumps(config))
        reseal(path, "metrics.jsonl", "config.json")
    runs = [run for run in map(read_run, (tmp_path / "cifar10/mlp").iterdir()) if isinstance(run, FinishedRun)]
    figure = plot_curves(runs)
    shown = sorted(float(np.asarray(line.get_ydata())[0]) for line in figure.axes[0].get_lines())
    assert shown == [61, *range(80, 91)]
    assert "12 of 30 configurations" in str(figure.get_suptitle())
