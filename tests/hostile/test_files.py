"""Links, pipes, devices and folders in the place of files: nothing waits for them, nothing leads out of the folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from set_cli.analysis.measure import FILE, keep_analysis
from set_cli.errors import DataError
from set_cli.report.diff import compare_two
from set_cli.report.drawing import draw_report
from set_cli.report.html import render_page
from set_cli.report.topology import analyze_runs, kept_topologies
from set_cli.runs.summary import REPORTED
from tests.builders import finished_run, report
from tests.hostile.html import assert_inert
from tests.hostile.runs import analysis_of, everything, hostile_runs, page_of, put_everywhere

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


KINDS = ["symbolic link", "pipe", "device", "folder"]


def replace(path: Path, kind: str, elsewhere: Path) -> None:
    """Something else in the file's place; the link leads to the very same file, which is elsewhere now."""
    elsewhere.mkdir()
    moved = elsewhere / path.name
    if path.exists():
        shutil.move(path, moved)
    match kind:
        case "symbolic link":
            path.symlink_to(moved)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["status.json", "summary.json", *REPORTED])
def test_what_is_no_file_is_listed_and_nothing_waits_for_it(name: str, kind: str, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    path = finished_run(tmp_path / "runs", 1, 99, 99, name="bad")
    replace(path / name, kind, tmp_path / "elsewhere")
    comparison = everything(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]
    ((why, where, detail),) = [(run.why, run.path, run.detail) for run in comparison.left_out]
    assert (why, where) == ("unreadable", path)
    assert name in detail


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["degrees.npz", "topology/epoch_0001.npz", "checkpoint.npz", "topology"])
def test_a_topology_that_is_no_file_is_not_read(name: str, kind: str, own: Path, tmp_path: Path) -> None:
    """Its run is listed as unreadable; or it counts, and what was to be made of the file is named as missing."""
    replace(own / name, kind, tmp_path / "elsewhere")
    comparison = report(tmp_path / "runs")
    assert len(comparison.counted) + len(comparison.left_out) == 1
    topologies = analyze_runs(comparison.counted)
    assert not topologies.analyses
    (sentence,) = topologies.missing + [run.detail for run in comparison.left_out]
    assert name.partition("/")[0] in sentence
    if name == "degrees.npz" and comparison.counted:
        _, missing = draw_report(comparison.counted, tmp_path / "figures")
        (sentence,) = missing
        assert name in sentence


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_analysis_that_is_no_file_is_made_anew(kind: str, own: Path, tmp_path: Path) -> None:
    """Or its run is listed as unreadable. Neither is what it says shown, nor is it written to."""
    keep_analysis(own, analysis_of(own, "from elsewhere"))
    replace(own / FILE, kind, tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / FILE).read_bytes()
    comparison = report(tmp_path / "runs")
    assert "from elsewhere" not in render_page(comparison, kept_topologies(comparison.counted))
    topologies = analyze_runs(comparison.counted)
    assert list(topologies.analyses) + [run.path for run in comparison.left_out] == [own]
    assert all(FILE in sentence for sentence in [*topologies.missing, *(run.detail for run in comparison.left_out)])
    assert (tmp_path / "elsewhere" / FILE).read_bytes() == before


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_where_an_analysis_is_written_is_not_written_through(kind: str, own: Path, tmp_path: Path) -> None:
    """The name that is written first and renamed then: a link there must not lead the writing out of the folder."""
    (own / f"{FILE}.tmp").write_text("precious")
    replace(own / f"{FILE}.tmp", kind, tmp_path / "elsewhere")
    comparison = report(tmp_path / "runs")
    topologies = analyze_runs(comparison.counted)
    assert list(topologies.analyses) + [run.path for run in comparison.left_out] == [own]
    assert (tmp_path / "elsewhere" / f"{FILE}.tmp").read_text() == "precious"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_is_no_file_is_named_on_the_page(kind: str, tmp_path: Path) -> None:
    done = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    replace(done / "run.json", kind, tmp_path / "elsewhere")
    page = assert_inert(page_of(tmp_path / "runs"))
    assert "run.json" in page.text
    assert "x(command)" not in page.text
    assert "x(version)" not in page.text
    other = put_everywhere(finished_run(tmp_path / "other", 0, 70, 71), "x")
    with pytest.raises(DataError, match=r"run\.json"):
        compare_two(done, other)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "run.json", "status.json", "summary.json"])
def test_a_difference_shows_nothing_from_outside_the_folders(name: str, tmp_path: Path) -> None:
    """A link to a file of the reader's own: what it says must not come to stand in a report that is passed on."""
    first, second = (hostile_runs(tmp_path / "runs", "x", number)[0] for number in (0, 1))
    secret = {"python": "SECRET", "status": "failed", "reason": "SECRET", "epoch": "SECRET"}
    (tmp_path / "secret.json").write_text(json.dumps([secret] if name == "run.json" else secret))
    (first / name).unlink()
    (first / name).symlink_to(tmp_path / "secret.json")
    try:
        text = compare_two(first, second)
    except DataError as error:
        text = str(error)
    assert "SECRET" not in text
    assert "SECRET" not in page_of(tmp_path / "runs")


@pytest.mark.timeout(20)
def test_a_link_to_a_run_folder_outside_is_listed_not_followed(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    outside = finished_run(tmp_path / "outside", 1, 99, 99)
    (tmp_path / "runs" / "link").symlink_to(outside)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "cifar10" / "broken").symlink_to(tmp_path / "nowhere")
    comparison = everything(tmp_path / "runs")
    assert [(row["n"], row["best_mean"]) for row in comparison.rows] == [(1, 71)]
    assert sorted((run.why, run.path.name) for run in comparison.left_out) == [("skipped", "link"), ("skipped", "loop")]
