"""No room, no memory, no folder any more. Reliability, C and D6."""

from __future__ import annotations

import gc
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import set_cli.training.supervised
from set_cli import experiment
from set_cli.config import Config
from set_cli.errors import OutOfMemory, StorageError
from set_cli.runs.folder import locate
from set_cli.system.files import read_json
from set_cli.system.progress import NoView
from tests.builders import science, train
from tests.conftest import TRAIN, run_python
from tests.faults.command import command
from tests.faults.runs import configure, in_child

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with these options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems can be mounted only by root")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made


def test_a_disk_without_inodes(
    small_disk: Callable[[str], Path], tmp_path: Path, record: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    """Bytes are free, files are not: the status says so, and with room for files the run resumes."""
    whole = configure("mlp", "set", tmp_path / "whole")
    train(whole)
    for inodes in range(6, 25, 2):
        disk = small_disk(f"size=2m,nr_inodes={inodes}")
        config = configure("mlp", "set", disk)
        code = in_child(lambda config=config: told(config))  # type: ignore[misc]
        said = capfd.readouterr().err
        path, status = locate(config)
        assert (code, status) in ((0, "done"), (StorageError.exit_code, "failed"), (StorageError.exit_code, None))
        assert code == 0 or "the disk takes no more files (inodes)" in said
        assert "bytes" not in said
        subprocess.run(["mount", "-o", "remount,nr_inodes=200", str(disk)], check=True)
        train(config)
        assert science(path) == science(locate(whole)[0])
        subprocess.run(["umount", str(disk)], check=True)
        record["disks without inodes"] += 1


def told(config: Config) -> None:
    """Train, and print the sentence of a failure as set-train does."""
    try:
        train(config)
    except StorageError as error:
        print(error, file=sys.stderr, flush=True)
        raise


def test_a_disk_that_is_full_at_any_size(tmp_path: Path, record: dict[str, int]) -> None:
    """No file may grow beyond so many bytes, as a full disk or a quota has it."""
    whole = configure("mlp", "set", tmp_path / "whole")
    train(whole)
    expected, largest = science(locate(whole)[0]), (locate(whole)[0] / "checkpoint.npz").stat().st_size
    sizes = sorted({1, 10, 100, 200, 400, 700, 1000, *(largest * i // 12 for i in range(1, 13))})
    for size in sizes:
        config = configure("mlp", "set", tmp_path / "full")

        def limited(size: int = size, config: Any = config) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            train(config)

        code = in_child(limited)
        assert code in ({0, 6} if size >= largest else {StorageError.exit_code}), size
        path, _ = locate(config)
        train(config)
        assert science(path) == expected
        shutil.rmtree(tmp_path / "full")
        record["full disks"] += 1


def test_a_full_disk_says_how_much_it_would_take(folder: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    ending = command(folder, "train.epochs=2", "progress=none", before=limited)
    assert ending.code == 6
    assert re.search(r"checkpoint\.new\.npz: could not be written \(File too large\); it takes 1?\d\d,\d\d\d bytes\n",
                     ending.err), ending.err  # fmt: skip
    ending = command(folder, "train.epochs=2", "progress=none")
    assert ending.code == 0


@pytest.mark.parametrize("runs_dir", ["/proc/no", "/dev/null", "file", "file/below"])
def test_a_folder_that_takes_nothing_is_refused_before_anything_is_loaded(
    runs_dir: str, folder: Path, record: dict[str, int]
) -> None:
    (folder / "file").touch()

    def nothing_is_loaded() -> None:
        def load(*arguments: Any, **named: Any) -> None:
            raise AssertionError("data is loaded for nothing")

        setattr(experiment, "load_data", load)  # noqa: B010

    ending = command(folder, f"runs_dir={runs_dir}", before=nothing_is_loaded)
    assert ending.code == 6, ending.err
    assert "could not be written" in ending.err
    assert [path.name for path in folder.iterdir()] == ["file"]
    record["folders refused"] += 1


def test_a_run_folder_that_is_gone_or_moved(tmp_path: Path, record: dict[str, int]) -> None:
    for how in (shutil.rmtree, lambda path: path.rename(tmp_path / "moved")):
        config = configure("mlp", "set", tmp_path / "runs")
        path, _ = locate(config)

        class Gone(NoView):
            def __init__(self, how: Callable[[Path], object], path: Path) -> None:
                self.how, self.path = how, path

            def step(self, epoch: int, rows: int, of: int) -> None:
                if epoch == 2 and self.path.exists():
                    self.how(self.path)

        with pytest.raises(StorageError, match=r"could not be written \(No such file or directory\)"):
            train(config, Gone(how, path))
        assert not path.exists()
        record["run folders deleted or moved"] += 1
    (tmp_path / "moved").rename(path)
    train(config)
    assert locate(config)[1] == "done"


def test_memory_that_ends_in_an_epoch(tmp_path: Path, record: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = configure("mlp", "set", tmp_path / "whole")
    train(whole)
    original = set_cli.training.supervised.train_epoch
    for at in (1, 2, 3):
        config = configure("mlp", "set", tmp_path / f"struck{at}")

        def fails(*arguments: Any, at: int = at, **named: Any) -> float:
            if arguments[4] == at:
                raise MemoryError
            return original(*arguments, **named)

        monkeypatch.setattr(set_cli.training.supervised, "train_epoch", fails)
        with pytest.raises(OutOfMemory, match="training this network takes about"):
            train(config)
        path, status = locate(config)
        assert (status, read_json(path / "status.json")["epoch"]) == ("failed", at - 1)
        monkeypatch.setattr(set_cli.training.supervised, "train_epoch", original)
        train(config)
        assert science(path) == science(locate(whole)[0])
        record["epochs without memory"] += 1


def test_a_process_that_may_not_take_more_memory(folder: Path) -> None:
    """Not what is free on the machine, but what the process may have: found when it is taken."""

    def limited() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))

    ending = command(folder, "model.hidden=[20000,20000]", "method=dense", "progress=none", before=limited)
    assert ending.code == 7, ending
    assert "out of memory" in ending.err
    assert "Traceback" not in ending.err


MEASURED = {
    "dense": ("model.hidden=[6000,6000]", "method=dense", "data.train_limit=100"),
    "half a million neurons": ("model.hidden=[500000]", "epsilon=5", "data.train_limit=100"),
    "masked": ("model.hidden=[6000,6000]", "backend.engine=masked", "data.train_limit=100"),
    "small": ("model.hidden=[100]",),
}


@pytest.mark.parametrize("kind", MEASURED)
def test_the_memory_that_a_dry_run_tells_is_what_the_run_takes(
    kind: str, tmp_path: Path, record: dict[str, int]
) -> None:
    """Within a fifth of the process's peak."""
    run = (*MEASURED[kind], "train.epochs=1", "progress=none", "backend.threads=1")
    told = run_python("-c", TRAIN, "--dry-run", *run, folder=tmp_path)
    row = told.stdout.splitlines()[2].split("│")
    estimate = float(row[4].replace(",", ""))
    result = run_python("-c", TRAIN, *run, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (summary,) = (tmp_path / "runs").rglob("summary.json")
    peak = read_json(summary)["peak_memory_mb"]
    assert 0.8 < estimate / peak < 1.25, (estimate, peak)
    record[f"memory told of what was taken (%): {kind}"] = round(100 * estimate / peak)


def test_many_runs_in_one_process_leave_nothing_behind(tmp_path: Path, record: dict[str, int]) -> None:
    """Open files, and memory as far as it can be seen."""

    def taken() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), int(Path("/proc/self/statm").read_text().split()[1])

    for seed in range(5):
        train(configure("mlp", "set", tmp_path, f"seed={seed}"))
    files, pages = taken()
    began = time.monotonic()
    runs = 0
    while runs < 60 or time.monotonic() - began < 1:
        train(configure("mlp", "set", tmp_path, f"seed={100 + runs}"))
        runs += 1
    files_after, pages_after = taken()
    assert files_after == files
    grown = (pages_after - pages) * resource.getpagesize() / runs
    assert grown < 200_000, f"{grown:,.0f} bytes a run"
    record["runs in one process"] += runs
    record["bytes that each leaves behind"] = max(0, round(grown))
