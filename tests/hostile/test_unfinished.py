"""Run folders that somebody else made, given to the command that would resume them: nothing outside is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import set_cli
from set_cli.config import Config, from_mapping
from set_cli.errors import Interrupted, SetError
from set_cli.runs.checkpoint import CURRENT, FRESH, PREVIOUS, Checkpoint, read_checkpoint, save_checkpoint
from set_cli.runs.folder import locate
from tests.builders import TINY, StopAt, report, science, train
from tests.conftest import ONE_THREAD, compose_mapping

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]
LONGEST = 1000  # characters of a sentence

Change = Callable[[Path, Path], object]  # of a run folder, with a folder elsewhere


def config_in(folder: Path) -> Config:
    return from_mapping(compose_mapping(*TINY, "model.hidden=[12,10]", ONE_THREAD, f"runs_dir={folder}"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_in(tmp_path_factory.mktemp("interrupted"))
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    return locate(config)[0]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return science(train(config_in(tmp_path_factory.mktemp("whole"))).path)


# --- What is done to the folder --------------------------------------------------------------------------------


def link(name: str) -> Change:
    """The file is elsewhere, and a link leads to it."""

    def change(path: Path, outside: Path) -> None:
        shutil.move(path / name, outside / Path(name).name)
        (path / name).symlink_to(outside / Path(name).name)

    return change


def hard_link(name: str) -> Change:
    def change(path: Path, outside: Path) -> None:
        os.link(path / name, outside / Path(name).name)

    return change


def dangling(name: str) -> Change:
    """A link to what is not there yet: writing would make it."""

    def change(path: Path, outside: Path) -> None:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(outside / "made")

    return change


def device(name: str) -> Change:
    def change(path: Path, outside: Path) -> None:
        (path / name).unlink()
        (path / name).symlink_to("/dev/zero")

    return change


def pipe(name: str) -> Change:
    def change(path: Path, outside: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return change


def folder(name: str) -> Change:
    def change(path: Path, outside: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return change


def linked_run(path: Path, outside: Path) -> None:
    shutil.move(path, outside / "run")
    path.symlink_to(outside / "run")


def forged(change: Callable[[Checkpoint, Path], Checkpoint]) -> Change:
    """Both checkpoints with this change, their own checksums right."""

    def apply(path: Path, outside: Path) -> None:
        checkpoint = change(read_checkpoint(path / CURRENT), outside)
        for _ in range(2):
            save_checkpoint(path, checkpoint)

    return apply


def lengths(*named: tuple[str, Any]) -> Change:
    """More lengths; {} in a name is the folder elsewhere."""

    def change(checkpoint: Checkpoint, outside: Path) -> Checkpoint:
        more = {name.format(outside): length for name, length in named}
        return replace(checkpoint, lengths={**checkpoint.lengths, **more})

    return forged(change)


def only_lengths(*names: str) -> Change:
    """As a checkpoint of the version before, which held lengths only: of these files."""

    def change(checkpoint: Checkpoint, outside: Path) -> Checkpoint:
        return replace(checkpoint, lengths={name.format(outside): 0 for name in names}, digests={})

    return forged(change)


def snapshot_called(name: str) -> Change:
    """A line of checksums.part that names a file elsewhere, all else right."""

    def change(path: Path, outside: Path) -> None:
        line = f"{hashlib.sha256(b'precious').hexdigest()}  {name.format(outside)}\n".encode()
        with open(path / "checksums.part", "ab") as stream:
            stream.write(line)
        content = (path / "checksums.part").read_bytes()
        checkpoint = read_checkpoint(path / CURRENT)
        sums = {**checkpoint.digests, "checksums.part": hashlib.sha256(content).hexdigest()}
        longer = {**checkpoint.lengths, "checksums.part": len(content)}
        for _ in range(2):
            save_checkpoint(path, replace(checkpoint, lengths=longer, digests=sums))

    return change


def array_called(name: str) -> Change:
    def change(checkpoint: Checkpoint, outside: Path) -> Checkpoint:
        return replace(checkpoint, arrays={**checkpoint.arrays, name.format(outside): np.zeros(3, np.float32)})

    return forged(change)


def other_identity(checkpoint: Checkpoint, outside: Path) -> Checkpoint:
    return replace(checkpoint, identity="../../../outside/precious")


def other_epoch(epoch: int) -> Change:
    return forged(lambda checkpoint, outside: replace(checkpoint, epoch=epoch))


def compressed(path: Path, outside: Path) -> None:
    with np.load(path / CURRENT) as archive:
        arrays = dict(archive)
    for name in (CURRENT, PREVIOUS):
        np.savez_compressed(path / name, **arrays, more=np.zeros(2**26, np.uint8))


def deep_snapshot(path: Path, outside: Path) -> None:
    """Folders within the folder of the snapshots, one of them a link."""
    (path / "topology" / "epoch_0007.npz").mkdir()
    (path / "topology" / "epoch_0007.npz" / "epoch_0008.npz").symlink_to(outside / "precious")


HOSTILE: dict[str, Change] = {
    **{f"a link for {name}": link(name) for name in
       ("metrics.jsonl", "timing.jsonl", "degrees.part", "checksums.part", "train.log", "run.lock", "status.json",
        "run.json", "config.json", "params.json", CURRENT, "inputs.npz", "topology", "topology/epoch_0001.npz")},
    **{f"a second name for {name}": hard_link(name) for name in
       ("metrics.jsonl", "timing.jsonl", "degrees.part", "checksums.part", "train.log")},
    **{f"a link to nothing for {name}": dangling(name) for name in
       ("metrics.jsonl", "train.log", "run.lock", "topology", "error.txt", FRESH, f"{FRESH}.tmp", "status.json.tmp",
        "degrees.npz", "summary.json")},
    **{f"a device for {name}": device(name) for name in ("metrics.jsonl", "degrees.part", "status.json", CURRENT)},
    **{f"a pipe for {name}": pipe(name) for name in
       ("metrics.jsonl", "train.log", "run.lock", "config.json", "run.json", CURRENT)},
    **{f"a folder for {name}": folder(name) for name in ("metrics.jsonl", "train.log", CURRENT, "run.lock")},
    "a link for the run": linked_run,
    "lengths of other files": lengths(("../../../../outside/precious", 0)),
    "lengths of absolute names": lengths(("{}/precious", 4)),
    "lengths of names within": lengths(("topology/../../../../../outside/precious", 0)),
    "old lengths of other files": only_lengths("metrics.jsonl", "timing.jsonl", "{}/precious"),
    "lengths below zero": lengths(("metrics.jsonl", -1)),
    "lengths that are no numbers": lengths(("metrics.jsonl", True)),
    "lengths beyond any file": lengths(("degrees.part", 2**62)),
    "a snapshot elsewhere": snapshot_called("topology/../../../../../outside/precious"),
    "a snapshot of an absolute name": snapshot_called("{}/precious"),
    "an array of another name": array_called("../../outside/precious"),
    "an array of an absolute name": array_called("{}/precious"),
    "another identity": forged(other_identity),
    "an epoch beyond": other_epoch(10**30),
    "an epoch before": other_epoch(-5),
    "compressed arrays": compressed,
    "folders within": deep_snapshot,
}  # fmt: skip


# --- What was touched -------------------------------------------------------------------------------------------

TOUCHED: list[str] = []
WATCHED: list[Path] = []
PATHS = {"os.remove": 1, "os.rename": 2, "os.truncate": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2}


def watch(event: str, details: tuple[Any, ...]) -> None:
    if not WATCHED or not (event in PATHS or event in ("open", "os.listdir", "os.scandir")):
        return
    for name in details[: PATHS.get(event, 1)]:
        if not isinstance(name, str | os.PathLike):
            continue
        path = Path(name)
        follows = event in ("os.listdir", "os.scandir") or (event == "open" and not details[2] & os.O_NOFOLLOW)
        place = Path(os.path.realpath(path)) if follows else Path(os.path.realpath(path.parent), path.name)
        if place.is_relative_to(WATCHED[0]) or (follows and str(place).startswith("/dev/zero")):
            TOUCHED.append(f"{event} {name}")


@contextmanager
def watching(outside: Path) -> Iterator[None]:
    """Note what is opened, listed, made or removed in that folder meanwhile."""
    TOUCHED.clear()
    WATCHED[:] = [outside]
    try:
        yield
    finally:
        WATCHED.clear()


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(watch)


def state(outside: Path) -> dict[str, Any]:
    """What is there, byte for byte, and when it was written."""
    found = {}
    for file in sorted(outside.rglob("*")):
        status, is_file = file.lstat(), file.is_file()
        found[str(file)] = (status.st_mtime_ns, status.st_nlink, file.read_bytes() if is_file else b"")
    return found


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.filterwarnings("ignore::set_cli.trained.load.RunWarning")
def test_a_received_folder_leads_nowhere(
    what: str, interrupted: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """It is refused in one sentence, or resumed and ends with the right bits; either way nothing outside is touched."""
    config = config_in(tmp_path / "runs")
    path, outside = locate(config)[0], tmp_path / "outside"
    shutil.copytree(interrupted, path)
    outside.mkdir()
    (outside / "precious").write_text("precious")
    HOSTILE[what](path, outside)
    before = state(outside)
    attempts: list[Callable[[], object]] = [
        lambda: report(path.parent),
        lambda: set_cli.load(path),
        lambda: train(config),
    ]
    if path.is_symlink():  # which whoever loads it has named
        del attempts[1]
    with watching(outside):
        *_, (is_done, sentence) = [ending(attempt) for attempt in attempts]
    assert TOUCHED == []
    assert state(outside) == before
    assert len(sentence) < LONGEST
    assert "\n" not in sentence
    if is_done:
        assert science(path) == expected


def ending(attempt: Callable[[], object]) -> tuple[bool, str]:
    """Whether it came to its end, and the sentence of an error of ours."""
    try:
        attempt()
    except SetError as error:
        return False, str(error)
    return True, ""


def test_there_are_folders_of_every_kind() -> None:
    assert len(HOSTILE) >= 40
