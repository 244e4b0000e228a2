"""Every single bit of a run's files: none changes a row of the table, or what a resumed run records, without a word."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from set_cli.errors import DataError, Interrupted
from set_cli.report.collect import FinishedRun, read_run
from set_cli.report.rows import compare
from set_cli.runs.checkpoint import CURRENT, read_checkpoint
from set_cli.runs.degrees import read_degrees
from set_cli.runs.folder import RunFolder, locate
from set_cli.runs.summary import read_summary
from set_cli.runs.topology import read_topology
from set_cli.system.files import read_json
from tests.builders import StopAt, science, train
from tests.faults.runs import configure

pytestmark = pytest.mark.faults
OLD = Path(__file__).parents[1] / "old_runs/0.1.0/digits/mlp/set-e5-z0.3-s0-90af17a9"
SNAPSHOT = "topology/epoch_0001.npz"


def flips(file: Path, every: int = 1) -> Iterator[int]:
    """The file with one bit changed, for each of its bits; the bit's number. The file is whole again afterwards."""
    content = file.read_bytes()
    with open(file, "r+b", buffering=0) as stream:
        for bit in range(0, 8 * len(content), every):
            byte = content[bit // 8]
            os.pwrite(stream.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
            yield bit
            os.pwrite(stream.fileno(), bytes([byte]), bit // 8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(configure("mlp", "set", tmp_path_factory.mktemp("finished"))).path


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = configure("mlp", "set", tmp_path_factory.mktemp("interrupted"))
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    return locate(config)[0]


def row_of(path: Path) -> str | None:
    """What the report says of a run that counts."""
    run = read_run(path)
    if not isinstance(run, FinishedRun):
        return None
    comparison = compare([run])
    return json.dumps([comparison.rows, comparison.doubtful], sort_keys=True)


@pytest.mark.parametrize("name", ["summary.json", "params.json", "metrics.jsonl", "timing.jsonl", "config.json"])
@pytest.mark.parametrize("age", ["of this version", "of the version before"])
def test_no_bit_changes_a_row_of_the_table(
    name: str, age: str, finished: Path, tmp_path: Path, record: dict[str, int]
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished if age == "of this version" else OLD, path)
    row = row_of(path)
    assert row is not None
    unsaid = [bit for bit in flips(path / name) if row_of(path) not in (row, None)]
    assert unsaid == []
    record["bits flipped in finished runs"] += 8 * (path / name).stat().st_size


def test_no_bit_of_the_summary_changes_what_is_loaded(finished: Path, tmp_path: Path) -> None:
    """Of what set_cli.load takes from a summary nothing changes, figures that the table does not have included."""
    shutil.copytree(finished, path := tmp_path / "run")
    whole = read_summary(path)
    for bit in flips(path / "summary.json"):
        assert found_in(lambda: read_summary(path)) in (whole, None), bit


def found_in(read: Callable[[], Any]) -> Any:
    """What is read; None where it is refused."""
    try:
        return read()
    except DataError:
        return None


@pytest.mark.parametrize("name", ["degrees.npz", SNAPSHOT])
def test_no_bit_of_a_topology_is_read_otherwise(
    name: str, finished: Path, tmp_path: Path, record: dict[str, int]
) -> None:
    shutil.copytree(finished, path := tmp_path / "run")
    sums = read_summary(path)["sha256"]
    read: Callable[[], object] = (
        (lambda: read_degrees(path, sums)) if name == "degrees.npz" else lambda: read_topology(path, sums, 1)
    )
    assert [bit for bit in flips(path / name) if found_in(read) is not None] == []
    record["bits flipped in finished runs"] += 8 * (path / name).stat().st_size


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "degrees.part", "checksums.part", SNAPSHOT])
def test_every_bit_of_an_unfinished_run_is_missed_when_it_is_resumed(
    name: str, interrupted: Path, tmp_path: Path, record: dict[str, int]
) -> None:
    """The newest checkpoint does not fit; what then comes of the run, the tests below and in test_vouched.py show."""
    shutil.copytree(interrupted, path := tmp_path / "run")
    checkpoint = read_checkpoint(path / CURRENT)
    with RunFolder(path) as folder:
        folder.check(checkpoint)
        for bit in flips(path / name):
            with pytest.raises(DataError, match=name):
                folder.check(checkpoint)
            record["bits flipped in unfinished runs"] += bit >= 0


@pytest.mark.parametrize(("name", "every"), [
    ("params.json", 997), ("metrics.jsonl", 197), ("timing.jsonl", 197), ("degrees.part", 397), ("checksums.part", 197),
    ("inputs.npz", 397), ("config.json", 397), (SNAPSHOT, 797),
])  # fmt: skip
def test_a_run_that_resumes_with_a_flipped_bit_ends_as_it_would_have_or_is_refused(
    name: str, every: int, interrupted: Path, tmp_path: Path, record: dict[str, int]
) -> None:
    whole = configure("mlp", "set", tmp_path / "whole")
    summary = train(whole).summary
    expected = science(locate(whole)[0])
    config = configure("mlp", "set", tmp_path / "flipped")
    path = locate(config)[0]
    for bit in flips(interrupted / name, every):
        shutil.copytree(interrupted, path)
        found = found_in(lambda: train(config).summary)
        if found is None:
            record["runs with a flipped bit that were refused"] += 1
        else:
            damage = [sentence for start in read_json(path / "run.json") for sentence in start["damage"]]
            assert science(path) == expected, bit
            assert {**found, **TAKEN} == {**summary, "doubts": [*summary["doubts"], *damage], **TAKEN}, bit
            record["runs with a flipped bit that ended with the same bits"] += 1
        shutil.rmtree(path)


# What differs between two runs of the same bits: times, what was used of them, and the hashes of files with times.
COST = ["seconds_per_epoch", "peak_memory_mb", "seconds_per_evolution", "evolution_memory_mb"]
TAKEN = dict.fromkeys([*COST, "sha256", "digest"])
