"""What is in a run folder cannot steer a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from set_cli.analysis.measure import keep_analysis
from set_cli.commands.report import FORMATS
from tests.builders import finished_run
from tests.conftest import REPORT
from tests.hostile.payloads import CONTROLS
from tests.hostile.runs import analysis_of, assert_no_control, hostile_runs, mend, set_report

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with all of these in every string, and folders whose names are no UTF-8."""
    folder = tmp_path_factory.mktemp("steering")
    for number, payload in enumerate(("".join(CONTROLS), *CONTROLS)):
        hostile_runs(folder / "runs", payload, number, drawn=number == 0, metric="accuracy" if number == 0 else None)
    for number, name in enumerate((b"\xff\x1b[31m", b"\xe2\x82", b"\xc3\x28\x9b", "ü\x1b".encode("latin-1"))):
        root = Path(os.fsdecode(os.fsencode(folder / "runs" / "bytes") + b"/" + name))
        hostile_runs(root, "x", number)
        (finished_run(root, number, 70, 71, name="altered") / "metrics.jsonl").write_text("{}")
        (finished_run(root, number, 70, 71, name="unreadable") / "summary.json").write_text("\x1b[31m")
        done = finished_run(root, number + 10, 70, 71, name="no start")  # run.json is missing: the page says so
        assert not (done / "run.json").exists()
    (folder / "runs" / "link\x1b[31m").symlink_to(folder)
    return folder


@pytest.mark.parametrize("arguments", [*((form,) for form in FORMATS), ("html", "--topology")])
def test_what_is_in_run_folders_cannot_steer_a_terminal(arguments: tuple[str, ...], steering: Path) -> None:
    for text in set_report("runs", "--format", *arguments, folder=steering):
        assert_no_control(text)


@pytest.mark.parametrize("form", ["csv", "html"])
def test_what_is_in_run_folders_can_be_written_to_a_file(form: str, steering: Path, tmp_path: Path) -> None:
    _, err = set_report("runs", "--format", form, "--output", str(tmp_path / "page"), folder=steering)
    assert_no_control(err)
    assert_no_control((tmp_path / "page").read_bytes().decode())


def test_the_sentence_of_an_error_cannot_steer_a_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\u202e"
    (finished_run(tmp_path / name, 0, 70, 71) / "metrics.jsonl").write_text("{}")
    out, err = set_report(name, "--strict", folder=tmp_path, code=3)
    assert_no_control(out + err)
    assert "--strict: 1 run folders altered or not to be read" in err
    out, err = set_report("diff", name, name, folder=tmp_path, code=3)
    assert_no_control(out + err)
    assert "expected a run folder" in err


def test_what_cannot_be_drawn_cannot_steer_a_terminal(steering: Path, tmp_path: Path) -> None:
    root = next((steering / "runs" / "bytes").iterdir())
    (tmp_path / "runs").symlink_to(root)
    out, err = set_report("runs/", "--figures", "figures", folder=tmp_path)
    assert_no_control(out + err)
    assert "not drawn" in err


def test_a_difference_cannot_steer_a_terminal(steering: Path) -> None:
    names = [os.fsencode(path) for path in sorted((steering / "runs").rglob("status.json"))]
    folders = [os.path.dirname(name) for name in names]
    done = [folder for folder in folders if b"/mlp/done" in folder]
    failed = [folder for folder in folders if b"/mlp/failed" in folder]
    for pair in ((done[0], failed[0]), (failed[-1], done[-1])):
        out, err = set_report("diff", *pair, folder=steering)
        assert_no_control(out + err)
    out, err = set_report("diff", os.path.dirname(done[-1]), done[0], folder=steering, code=3)
    assert_no_control(out + err)


def test_a_bar_on_a_terminal_shows_no_escapes_of_a_folders_name(tmp_path: Path) -> None:
    """Its own it may have. Two runs of one configuration: their overlap is the step that it names."""
    for seed in (0, 1):
        path = finished_run(tmp_path / "runs", seed, 70, 71, name=f"{seed}\x1b]0;owned\x07")
        np.savez(path / "degrees.npz")
        keep_analysis(mend(path), analysis_of(path, "layer1"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-c", REPORT, "runs", "--topology"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += (part := os.read(ours, 65536))
            except OSError:  # the child's end is closed
                break
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"overlap with" in shown
    assert b"\x1b]0;" not in shown, shown
