"""Terminals that close, pipes that break, full disks behind stdout: training does not depend on who reads it."""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

from set_cli.system.files import read_json
from tests.builders import science, wait_for
from tests.conftest import ONE_THREAD, REPORT, TRAIN
from tests.faults.command import command

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
SHORT = ("data.train_limit=120", "data.test_limit=60", "train.batch_size=40", "model.hidden=[12,10]", ONE_THREAD)
RUN = (*SHORT, "train.epochs=25")


def run_of(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/*/*")
    return path


def a_folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


# --- a terminal that is closed


def on_a_terminal(seconds: float) -> Callable[[], None]:
    """Makes a process's standard streams a terminal of its own, which is closed after so many seconds."""

    def move() -> None:
        ours, theirs = pty.openpty()
        if os.fork() == 0:
            os.close(theirs)
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                if select.select([ours], [], [], left)[0]:
                    os.read(ours, 2**16)
            os._exit(0)
        os.close(ours)
        os.setsid()
        ioctl(theirs, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(theirs, number)

    return move


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "here"
    folder.mkdir()
    assert command(folder, *RUN, "progress=none").code == 0
    return science(run_of(folder))


@pytest.mark.parametrize("progress", ["plain", "rich"])
def test_a_terminal_that_is_closed_ends_no_run(
    progress: str, whole: dict[str, str], tmp_path: Path, record: dict[str, int]
) -> None:
    """At random moments: it is trained to its end, or ended as if killed, and the same command resumes it."""
    rng = random.Random(f"{progress}{SEED}")
    print(f"FAULT_SEED={SEED}")
    for number in range(10):
        folder = a_folder(tmp_path, str(number))
        ending = command(folder, *RUN, f"progress={progress}", before=on_a_terminal(rng.uniform(0, 1)))
        assert ending.code in (0, -signal.SIGHUP)
        if ending.code == 0:
            assert read_json(run_of(folder) / "status.json")["status"] == "done"
        assert command(folder, *RUN, "progress=none").code == 0
        assert science(run_of(folder)) == whole
        record["terminals closed at random moments, all resumed"] += 1


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_a_terminal_that_is_closed_ends_no_sweep(launcher: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ("-m", *launcher, "seed=0,1", *RUN, "progress=plain")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", TRAIN, *arguments],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    wait_for(tmp_path, "runs/digits/mlp/*/metrics.jsonl")
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # what a shell sends its children then
    assert process.wait(timeout=120) == 0
    assert [read_json(path)["status"] for path in tmp_path.glob("runs/*/*/*/status.json")] == ["done"] * 2


def test_a_watched_report_ends_with_its_terminal(tmp_path: Path) -> None:
    """As of `nohup`, which has SIGHUP ignored."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {sys.executable} -P -c '{REPORT}' --watch"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    try:
        assert process.wait(timeout=60) in (0, 1)
    finally:
        process.kill()
        process.wait()


# --- streams that are closed, full or without a reader from the start


def closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as Python does

    return close


def onto(path: str, *numbers: int) -> Callable[[], None]:
    def turn() -> None:
        for number in numbers:
            os.dup2(os.open(path, os.O_WRONLY), number)

    return turn


def without_a_reader(*numbers: int) -> Callable[[], None]:
    def turn() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        for number in numbers:
            os.dup2(writing, number)

    return turn


STREAMS = {
    ">&-": closed(1), "2>&-": closed(2), "<&-": closed(0), "<&- >&- 2>&-": closed(0, 1, 2),
    "> /dev/full": onto("/dev/full", 1), "2> /dev/full": onto("/dev/full", 2), "&> /dev/full": onto("/dev/full", 1, 2),
    "|& true": without_a_reader(1, 2),
}  # fmt: skip


@pytest.mark.parametrize("progress", ["plain", "rich"])
@pytest.mark.parametrize("streams", STREAMS)
def test_a_run_is_done_whatever_its_streams_are(
    streams: str, progress: str, whole: dict[str, str], tmp_path: Path, record: dict[str, int]
) -> None:
    folder = a_folder(tmp_path, "here")
    ending = command(folder, *RUN, f"progress={progress}", before=STREAMS[streams])
    assert ending.code == 0, ending
    assert "Traceback" not in ending.err
    assert read_json(run_of(folder) / "status.json")["status"] == "done"
    assert science(run_of(folder)) == whole
    record["runs with streams closed, full or without a reader"] += 1


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "> /dev/full 2>&1"])
def test_a_sweep_is_done_whatever_its_streams_are(streams: str, tmp_path: Path) -> None:
    command = f'exec {sys.executable} -P -c "{TRAIN}" -m seed=0,1 {" ".join(SHORT)} train.epochs=1 {streams}'
    result = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert [read_json(path)["status"] for path in tmp_path.glob("runs/*/*/*/status.json")] == ["done"] * 2
