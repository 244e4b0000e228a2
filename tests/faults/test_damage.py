"""A damaged checkpoint is noticed, and the one before is used; never is a damaged one taken for whole."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT, PREVIOUS, Checkpoint, load_checkpoint
from set_cli.runs.folder import locate
from set_cli.system.files import read_json
from tests.builders import science, train
from tests.faults.runs import configure

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
BITS, LENGTHS, PAGES = (int(os.environ.get(f"FAULT_{name}", default)) for name, default in
                        (("BITS", "400"), ("LENGTHS", "150"), ("PAGES", "40")))  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = configure("mlp", "set", tmp_path_factory.mktemp("damage"))
    train(config)
    return locate(config)[0]


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    same = (one.identity, one.epoch, one.lengths) == (other.identity, other.epoch, other.lengths)
    return same and one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[name]) and array.dtype == other.arrays[name].dtype
        for name, array in one.arrays.items()
    )  # fmt: skip


def flip(rng: random.Random) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)

    return change


def shorten(rng: random.Random) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        del content[rng.randrange(len(content)) :]

    return change


def zero_page(rng: random.Random) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        start = rng.randrange(0, len(content), 4096)
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))

    return change


@pytest.mark.parametrize(("damage", "count"), [(flip, BITS), (shorten, LENGTHS), (zero_page, PAGES)])
def test_a_damaged_checkpoint_is_never_used(
    damage: Callable[[random.Random], Callable[[bytearray], object]],
    count: int,
    run: Path,
    tmp_path: Path,
    record: dict[str, int],
) -> None:
    """What loads is the current checkpoint or the one before, to the last bit."""
    rng = random.Random(SEED)
    whole, before = (load_checkpoint_of(run, name) for name in (CURRENT, PREVIOUS))
    original = (run / CURRENT).read_bytes()
    shutil.copy(run / PREVIOUS, tmp_path / PREVIOUS)
    noticed = 0
    for _ in range(count):
        content = bytearray(original)
        damage(rng)(content)
        (tmp_path / CURRENT).write_bytes(content)
        found = load_checkpoint(tmp_path)
        assert found is not None
        # A bit may mean nothing, such as one of a time stamp in the archive: then the content is whole.
        assert equal(found, whole) or equal(found, before)
        noticed += equal(found, before)
    assert noticed > count / 2
    record["checkpoints damaged"] += count
    record["of these noticed"] += noticed
    record["of these read whole all the same"] += count - noticed


def test_an_array_changed_with_its_checksum_is_noticed(run: Path, tmp_path: Path, record: dict[str, int]) -> None:
    """What the archive's own checksums cannot see: every array in turn, one value of it."""
    with np.load(run / CURRENT, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    shutil.copy(run / PREVIOUS, tmp_path / PREVIOUS)
    before = load_checkpoint_of(run, PREVIOUS)
    for name, array in arrays.items():
        if array.size:
            changed = array.copy()
            changed.reshape(-1)[array.size // 2] += 1
            np.savez(tmp_path / CURRENT, allow_pickle=False, **(arrays | {name: changed}))
            found = load_checkpoint(tmp_path)
            assert found is not None
            assert equal(found, before), name
            record["checkpoints altered with their checksums"] += 1


def load_checkpoint_of(run: Path, name: str) -> Checkpoint:
    folder = run.parent / f"only-{name}"
    folder.mkdir(exist_ok=True)
    shutil.copy(run / name, folder / CURRENT)
    found = load_checkpoint(folder)
    assert found is not None
    return found


def test_two_damaged_checkpoints_end_with_a_sentence_and_change_nothing(run: Path, tmp_path: Path) -> None:
    for name in (CURRENT, PREVIOUS):
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(
        DataError, match=r"cannot resume: move the folder away, or train again from the start with resume=never"
    ):
        load_checkpoint(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_metrics_torn_anywhere_are_mended(run: Path, tmp_path: Path, record: dict[str, int]) -> None:
    """Cut at every byte of the last two rows, after the checkpoint of the epoch before them."""
    config = configure("mlp", "set", tmp_path)
    train(config)
    path, _ = locate(config)
    expected = science(path)
    rows = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    shutil.copytree(path, tmp_path / "kept")
    first = len(b"".join(rows[:2]))  # what checkpoint.prev vouches for
    for length in range(first, first + len(rows[2])):
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "kept", path)
        (path / CURRENT).unlink()
        (path / "summary.json").unlink()
        (path / "status.json").write_text('{"status": "interrupted", "epoch": 2, "reason": null}')
        with open(path / "metrics.jsonl", "r+b") as stream:
            stream.truncate(length)
        (path / "degrees.part").write_bytes(degrees_of(path))
        (path / "checksums.part").write_text(checksums_of(tmp_path / "kept"))
        train(config)
        assert science(path) == expected, length
        record["torn metrics mended"] += 1


def checksums_of(path: Path) -> str:
    """checksums.part as it was, from a finished run's summary."""
    sums = read_json(path / "summary.json")["sha256"]
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums) if name.startswith("topology/"))


def degrees_of(path: Path) -> bytes:
    """degrees.part as it was, from what it became."""
    with np.load(path / "degrees.npz", allow_pickle=False) as archive:
        columns = [archive[name] for name in archive.files]
    return np.concatenate(columns, axis=1).astype(np.int32).tobytes()
