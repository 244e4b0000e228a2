"""Nothing that was altered counts, and nothing is left out without a word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from set_cli.report.topology import analyze_runs
from set_cli.runs.summary import REPORTED
from tests.builders import finished_run, report
from tests.hostile.html import Page
from tests.hostile.runs import counted, mend, page_of, set_report

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


def change_a_digit(path: Path) -> None:
    content = path.read_bytes()
    place = max(i for i, byte in enumerate(content) if 0x30 <= byte <= 0x39)
    digit = 0x30 + (content[place] - 0x30 + 1) % 10
    path.write_bytes(content[:place] + bytes([digit]) + content[place + 1 :])


@pytest.mark.parametrize("name", REPORTED)
def test_one_digit_altered_is_found_excluded_and_counted(name: str, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        path = finished_run(tmp_path / "runs", seed, 70 + seed, 71 + seed)
        (path / "params.json").write_text('{"total": {"connections": 381000}}')
        mend(path)
    change_a_digit(path / name)
    out, err = set_report("runs", "--format", "json", "--strict", folder=tmp_path, code=3)
    assert [(row["n"], row["last_mean"]) for row in json.loads(out)] == [(2, 70.5)]
    assert "not counted: 1 altered" in err
    assert f"altered: {path.relative_to(tmp_path)} ({name} changed after the run)" in err
    assert "--strict: 1 run folders altered" in err
    page = Page(page_of(tmp_path / "runs"))
    assert "1 not counted" in page.text
    assert f"{name} changed after the run" in page.text


@pytest.mark.parametrize(
    "name", ["degrees.npz", "topology/epoch_0000.npz", "topology/epoch_0001.npz", "checkpoint.npz"]
)
def test_a_topology_with_one_bit_altered_is_not_analysed(name: str, own: Path) -> None:
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    topologies = analyze_runs([counted(own)])
    assert not topologies.analyses
    (sentence,) = topologies.missing
    assert f"{name}: altered after the run" in sentence


# How many run folders of each kind, and how they come to be left out.
MIXTURE = {"running": 1, "interrupted": 3, "diverged": 2, "failed": 4, "altered": 2, "unreadable": 3, "skipped": 1,
           "repeated": 2, "not started": 1}  # fmt: skip


def mixture(root: Path) -> None:
    for seed in range(5):
        finished_run(root, seed, 70 + seed, 71 + seed, name=f"done-s{seed}")
    for why, count in MIXTURE.items():
        for i in range(count):
            # Of other figures and seeds: where one were averaged all the same, the mean would say so.
            path = finished_run(root, 2 + i if why == "repeated" else 100 + i, 1, 1, name=f"{why} {i}")
            match why:
                case "altered":
                    (path / "metrics.jsonl").write_text('{"epoch": 2}\n')
                case "unreadable":
                    (path / ("summary.json", "status.json", "summary.json")[i]).write_text("{")
                case "skipped":
                    path.rename(root.parent / "elsewhere")
                    path.symlink_to(root.parent / "elsewhere")
                case "not started":
                    (path / "status.json").unlink()
                case "repeated":  # the same configuration and seed: of its copies the last one counts
                    path.rename(path.with_name(f"before {i}"))
                case _:
                    status = {"status": why, "epoch": 1, "reason": f"because {i}"}
                    (path / "status.json").write_text(json.dumps(status))


def test_of_a_mixture_the_finished_runs_count_and_the_others_are_counted(tmp_path: Path) -> None:
    mixture(tmp_path / "runs")
    out, err = set_report("runs", "--format", "json", folder=tmp_path)
    (row,) = json.loads(out)
    assert (row["n"], row["last_mean"], row["best_mean"]) == (5, 72, 73)
    (line,) = [line for line in err.splitlines() if line.startswith("not counted: ")]
    parts = [part.partition(" ") for part in line.removeprefix("not counted: ").split(", ")]
    assert {why: int(count) for count, _, why in parts} == MIXTURE
    for why, count in MIXTURE.items():
        assert len(re.findall(rf"(?m)^  {why}: runs/", err)) == count
    page = Page(page_of(tmp_path / "runs"))
    assert f"{sum(MIXTURE.values())} not counted" in page.text
    for i in range(MIXTURE["failed"]):
        assert f"because {i}" in page.text


def test_runs_of_other_versions_are_not_averaged_without_a_word(tmp_path: Path) -> None:
    for seed, version in enumerate(("0.1.0", "0.1.0", "9.9.9")):
        path = finished_run(tmp_path, seed, 70, 71)
        (path / "run.json").write_text(json.dumps([{"set_cli": version, "python": "3.11.7", "command": []}]))
    comparison = report(tmp_path)
    assert len(comparison.rows) > 1 or comparison.doubtful or comparison.left_out


def test_one_damaged_folder_among_a_thousand_costs_one_line(tmp_path: Path) -> None:
    for seed in range(1000):
        path = finished_run(tmp_path / "runs", seed, 70, 71)
    (path / "summary.json").write_bytes(b"\xff" * 100)
    out, err = set_report("runs", "--format", "json", folder=tmp_path)
    assert [row["n"] for row in json.loads(out)] == [999]
    assert "not counted: 1 unreadable" in err
    assert f"unreadable: {path.relative_to(tmp_path)}" in err
    assert len(err.splitlines()) == 2
    out, err = set_report("runs", "--format", "json", "--strict", folder=tmp_path, code=3)
    assert [row["n"] for row in json.loads(out)] == [999]
    assert "--strict: 1 run folders" in err
