"""What a figure rests on is vouched for: damage is found when a run is resumed, loaded or reported, and named."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import set_cli
from set_cli.config import Config, from_mapping
from set_cli.errors import DataError, Interrupted
from set_cli.report.collect import FinishedRun, LeftOut, read_run
from set_cli.report.rows import compare
from set_cli.runs.checkpoint import CURRENT, FRESH, PREVIOUS, read_checkpoint
from set_cli.runs.folder import locate, read_status
from set_cli.runs.summary import DIGEST
from set_cli.runs.topology import read_topology
from set_cli.system.files import read_json, write_json
from set_cli.system.progress import NoView
from set_cli.trained.load import RunWarning
from tests.builders import TINY, StopAt, reseal, science, train
from tests.conftest import ONE_THREAD, compose_mapping

OLD = Path(__file__).parent / "old_runs/0.1.0"
OLD_DONE, OLD_INTERRUPTED = (
    OLD / "digits/mlp" / name for name in ("set-e5-z0.3-s0-90af17a9", "set-e5-z0.3-s1-99cf66c2")
)


def config_in(folder: Path) -> Config:
    """Three epochs, the best of them chosen on validation rows."""
    words = (*TINY, "model.hidden=[12,10]", "data.valid=20", ONE_THREAD, f"runs_dir={folder}")
    return from_mapping(compose_mapping(*words))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config_in(tmp_path_factory.mktemp("finished"))).path


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of three epochs are trained."""
    config = config_in(tmp_path_factory.mktemp("interrupted"))
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    return locate(config)[0]


class Killed(BaseException):
    """Ends a training as SIGKILL does: nothing is saved."""


class KillAt(NoView):
    def step(self, epoch: int, rows: int, of: int) -> None:
        if epoch == 3:
            raise Killed


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of three epochs are trained, and each has a checkpoint."""
    config = config_in(tmp_path_factory.mktemp("killed"))
    with pytest.raises(Killed):
        train(config, KillAt())
    return locate(config)[0]


def copied(path: Path, folder: Path) -> tuple[Path, Config]:
    """The run in another folder, and its configuration there."""
    config = config_in(folder)
    target = locate(config)[0]
    shutil.copytree(path, target)
    return target, config


def replace(file: Path, old: str, new: str, count: int = 1) -> None:
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, count))


def flip(file: Path, place: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "run.lock"}


# --- Files of a run that is not finished --------------------------------------------------------------------------


DAMAGE: dict[str, Callable[[Path], None]] = {
    "metrics.jsonl": lambda file: replace(file, '"valid_accuracy": ', '"valid_accuracy": 9'),
    "timing.jsonl": lambda file: replace(file, "train_seconds", "train_secondt"),
    "degrees.part": lambda file: flip(file, 0),
    "checksums.part": lambda file: flip(file, 0),
    "topology/epoch_0000.npz": lambda file: flip(file),
    "topology/epoch_0001.npz": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_from_before_both_checkpoints_is_refused_by_name_and_nothing_is_written(
    name: str, interrupted: Path, tmp_path: Path
) -> None:
    path, config = copied(interrupted, tmp_path)
    DAMAGE[name](path / name)
    before = contents(path)
    with pytest.raises(DataError, match=rf"{name}.*cannot resume: .* train again from the start with resume=never"):
        train(config)
    assert contents(path) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "degrees.part", "topology/epoch_0002.npz"])
def test_damage_from_after_the_checkpoint_before_costs_an_epoch_and_is_said(
    name: str, killed: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = copied(killed, tmp_path)
    flip(path / name, -4)
    summary = train(config).summary
    assert science(path) == science(finished)
    assert_said(path, summary["doubts"], name, capsys.readouterr().err)


def assert_said(path: Path, doubts: list[str], what: str, err: str) -> None:
    """On stderr, in run.json, in train.log and in the report."""
    told = [sentence for start in read_json(path / "run.json") for sentence in start["damage"]]
    assert len(told) == 1
    assert what in told[0]
    assert f"warning: {told[0]}" in err
    assert f"warning: {told[0]}" in (path / "train.log").read_text()
    assert told[0] in doubts
    run = read_run(path)
    assert isinstance(run, FinishedRun)
    assert any(told[0] in sentence for sentence in compare([run]).doubtful)


@pytest.mark.parametrize("old", ["connections", "bytes"])
def test_damaged_parameters_are_counted_anew(old: str, interrupted: Path, finished: Path, tmp_path: Path) -> None:
    path, config = copied(interrupted, tmp_path)
    replace(path / "params.json", f'"{old}"', f'"{old[:-1]}t"')
    with pytest.raises(DataError, match=r"params\.json"):
        set_cli.load(path)
    train(config)
    assert science(path) == science(finished)


def test_a_run_that_is_not_finished_is_loaded_with_what_its_checkpoint_vouches_for(
    interrupted: Path, tmp_path: Path
) -> None:
    path, _ = copied(interrupted, tmp_path)
    with open(path / "metrics.jsonl", "a") as stream:
        stream.write('{"epoch": 3, "tra')
    assert list(set_cli.load(path).metrics["epoch"]) == [1, 2]
    flip(path / "topology/epoch_0001.npz")
    with pytest.raises(DataError, match=r"epoch_0001\.npz"):
        set_cli.load(path).topology(1)
    flip(path / "metrics.jsonl", 30)
    with pytest.raises(DataError, match=r"metrics\.jsonl: damaged"):
        set_cli.load(path)


def test_another_configuration_beside_a_checkpoint_is_not_loaded(interrupted: Path, tmp_path: Path) -> None:
    path, _ = copied(interrupted, tmp_path)
    replace(path / "config.json", '"activation": "srelu"', '"activation": "relu"')
    with pytest.raises(DataError, match=r"config\.json"):
        set_cli.load(path)


def test_what_is_damaged_while_a_run_is_trained_is_not_sealed(tmp_path: Path) -> None:
    class Rot(StopAt):
        def step(self, epoch: int, rows: int, of: int) -> None:
            if epoch == self.at:
                self.at = -1
                flip(locate(config)[0] / "topology/epoch_0001.npz")

    config = config_in(tmp_path)
    with pytest.raises(DataError, match=r"epoch_0001\.npz: damaged while the run was trained"):
        train(config, Rot(3))
    assert not (locate(config)[0] / "summary.json").exists()


def test_what_a_checkpoint_holds_of_the_files_does_not_grow_with_the_run(interrupted: Path) -> None:
    sizes = [len(read_checkpoint(interrupted / name).digests) for name in (CURRENT, PREVIOUS)]
    assert sizes[0] == sizes[1]
    lines = (interrupted / "checksums.part").read_text().splitlines()
    assert [line.split()[1] for line in lines] == [f"topology/epoch_{epoch:04d}.npz" for epoch in range(3)]


# --- Runs of the version before ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "old", "new"), [
    ("metrics.jsonl", '"test_accuracy"', '"test_accurac9"'),
    ("metrics.jsonl", '"epoch": 1', '"epoch": 3'),
    ("timing.jsonl", '"evolve_seconds"', '"evolve_second3"'),
    ("timing.jsonl", '"peak_memory_mb": ', '"peak_memory_mb": "x", "evaluate_seconds2": '),
])  # fmt: skip
def test_a_damaged_key_of_an_old_run_is_found_before_anything_is_trained(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    runs = tmp_path / "0.1.0"
    shutil.copytree(OLD_INTERRUPTED, path := runs / OLD_INTERRUPTED.relative_to(OLD))
    _, *words = read_json(path / "run.json")[-1]["command"]
    words = [word for word in words if not word.startswith("runs_dir=")]
    config = from_mapping(compose_mapping(*words, f"runs_dir={runs}"))
    replace(path / name, old, new)
    (path / PREVIOUS).unlink()  # which is of no epoch, and would do
    with pytest.raises(DataError, match=rf"{name}, line 1: .*cannot resume"):
        train(config)


@pytest.mark.parametrize(("old", "new"), [
    ('"best": 61', '"best": 91'),
    ('"last": 61', '"last": 91'),
    ('"best_epoch": 3', '"best_epoch": 2'),
    ('"epochs": 3,', '"epochs": 7,'),
    ('"connections": 606', '"connections": 602'),
    ('"seconds_per_epoch": 0.08', '"seconds_per_epoch": 0.01'),
    ('"peak_memory_mb": 3', '"peak_memory_mb": 1'),
    ('"method": "set"', '"method": "sft"'),
    ('"best_on": "test"', '"best_on": "tes4"'),
    ('"metric": "accuracy"', '"metric": "accurac9"'),
    ('"zeta": 0.3', '"zeta": 0.1'),
    ('"data.train_limit": 300', '"data.train_limit": 100'),
    ('"data.train_limit"', '"data.train_limi4"'),
])  # fmt: skip
def test_a_figure_of_an_old_summary_is_compared_with_what_it_came_from(old: str, new: str, tmp_path: Path) -> None:
    shutil.copytree(OLD_DONE, path := tmp_path / OLD_DONE.name)
    replace(path / "summary.json", old, new)
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert run.why == "altered"
    with pytest.raises(DataError, match=r"summary\.json: altered after the run"):
        set_cli.load(path)


# --- A finished run ------------------------------------------------------------------------------------------------


def test_a_figure_changed_in_the_summary_is_noticed(finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    replace(path / "summary.json", '"best": ', '"best": 1')
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert (run.why, run.detail) == ("altered", "summary.json changed after the run")
    with pytest.raises(DataError, match=r"summary\.json: altered after the run"):
        set_cli.load(path)


@pytest.mark.parametrize("key", [DIGEST, "version"])
def test_a_summary_without_its_digest_or_version_is_noticed(key: str, finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    replace(path / "summary.json", f'"{key}"', f'"{key[:-1]}x"')
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert run.why == "altered"


def test_deleted_snapshots_are_noticed_and_none_takes_the_place_of_the_last(finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    (path / "topology/epoch_0003.npz").unlink()
    with pytest.warns(
        RunWarning, match=r"1 snapshots of the topology are gone since the run: topology/epoch_0003\.npz"
    ):
        run = set_cli.load(path)
    assert run.snapshots == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"epoch_0003\.npz"):
        run.topology()
    assert run.topology(2)


def test_a_snapshot_that_the_run_did_not_write_is_none_of_its_own(finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    shutil.copy(path / "topology/epoch_0001.npz", path / "topology/epoch_0009.npz")
    run = set_cli.load(path)
    assert run.snapshots == [0, 1, 2, 3]
    last, third = (run.topology(epoch)["layer1"].indices for epoch in (None, 3))
    assert np.array_equal(last, third)


def test_a_damaged_checkpoint_that_was_sealed_is_not_replaced_by_the_one_before(finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    flip(path / CURRENT, (path / CURRENT).stat().st_size // 2)
    reseal(path, CURRENT)
    with pytest.raises(DataError, match=r"checkpoint\.npz"):
        set_cli.load(path)


# --- Checkpoints ---------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one(
    interrupted: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that dies before it has renamed its first checkpoint leaves the one that it had resumed from."""
    path, config = copied(interrupted, tmp_path)
    flip(path / CURRENT, 5000)
    before = (path / PREVIOUS).read_bytes()
    replace_file = os.replace

    def dies(source: Path, target: Path) -> None:
        if Path(source).name == FRESH:
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert not (path / CURRENT).exists()
    assert (path / PREVIOUS).read_bytes() == before
    summary = train(config).summary
    assert science(path) == science(finished)
    assert_said(path, summary["doubts"], "checkpoint.npz", capsys.readouterr().err)


def test_a_checkpoint_that_was_not_renamed_yet_is_used_where_the_others_are_damaged(
    interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    path, config = copied(interrupted, tmp_path)
    shutil.copy(path / CURRENT, path / FRESH)
    for name in (CURRENT, PREVIOUS):
        flip(path / name, 5000)
    train(config)
    assert science(path) == science(finished)


def test_a_model_from_the_checkpoint_before_is_loaded_with_a_warning(killed: Path, tmp_path: Path) -> None:
    path, _ = copied(killed, tmp_path)
    flip(path / CURRENT, 5000)
    with pytest.warns(RunWarning, match=r"checkpoint\.npz.*this is the run after epoch 1"):
        assert list(set_cli.load(path).metrics["epoch"]) == [1]


# --- status.json and run.json --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"status": "dond"}', None])
def test_a_run_needs_no_status_to_be_resumed(
    content: bytes | None, interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    path, config = copied(interrupted, tmp_path)
    (path / "status.json").unlink()
    if content is not None:
        (path / "status.json").write_bytes(content)
    train(config)
    assert science(path) == science(finished)
    assert read_status(path) == "done"


@pytest.mark.parametrize("content", [b"", None])
def test_a_finished_run_without_status_is_done_again_without_training(
    content: bytes | None, finished: Path, tmp_path: Path
) -> None:
    path, config = copied(finished, tmp_path)
    (path / "status.json").unlink()
    if content is not None:
        (path / "status.json").write_bytes(content)
    assert train(config).skipped
    assert isinstance(read_run(path), FinishedRun)
    assert len(read_json(path / "run.json")) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"[{}]", b"[3]", b'[{"checksums": {}}]', None])
def test_a_lost_record_of_the_starts_is_said_and_the_run_resumes(
    content: bytes | None, interrupted: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = copied(interrupted, tmp_path)
    (path / "run.json").unlink()
    if content is not None:
        (path / "run.json").write_bytes(content)
    summary = train(config).summary
    assert science(path) == science(finished)
    assert [start["resumed_after_epoch"] for start in read_json(path / "run.json")] == [None, 2]
    assert_said(path, summary["doubts"], "run.json", capsys.readouterr().err)


def test_an_old_run_without_the_record_of_its_starts_says_what_to_do(tmp_path: Path) -> None:
    runs = tmp_path / "0.1.0"
    shutil.copytree(OLD_INTERRUPTED, path := runs / OLD_INTERRUPTED.relative_to(OLD))
    _, *words = read_json(path / "run.json")[-1]["command"]
    words = [word for word in words if not word.startswith("runs_dir=")]
    (path / "run.json").write_text("")
    before = contents(path)
    with pytest.raises(
        DataError, match=r"run\.json is missing or damaged .*train again from the start with resume=never"
    ):
        train(from_mapping(compose_mapping(*words, f"runs_dir={runs}")))
    assert contents(path) == before


def test_differences_of_earlier_starts_outlive_the_record(interrupted: Path, tmp_path: Path) -> None:
    path, config = copied(interrupted, tmp_path)
    starts = read_json(path / "run.json")
    write_json(path / "run.json", [{**starts[0], "threads": 64}])
    often = config.model_copy(update={"checkpoints": config.checkpoints.model_copy(update={"minutes": 0})})
    with pytest.raises(Interrupted):
        train(often, StopAt(3, rows=40))
    (path / "run.json").unlink()
    assert train(config).summary["differences"] == ["threads: 1, before 64"]


# --- Sizes ---------------------------------------------------------------------------------------------------------


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(finished: Path, tmp_path: Path) -> None:
    path, _ = copied(finished, tmp_path)
    with np.load(path / CURRENT) as archive:
        arrays = dict(archive)
    np.savez_compressed(path / CURRENT, **arrays, more=np.zeros(2**27, np.uint8))
    reseal(path, CURRENT)
    with pytest.raises(DataError, match="expected uncompressed arrays"):
        set_cli.load(path)


@pytest.mark.parametrize("change", [
    {"shape": [2**31 - 1, 12]},
    {"shape": [64, 2**31 - 1]},
])  # fmt: skip
def test_layers_that_the_checkpoint_cannot_hold_are_not_allocated(
    change: dict[str, object], finished: Path, tmp_path: Path
) -> None:
    path, _ = copied(finished, tmp_path)
    params, config = read_json(path / "params.json"), read_json(path / "config.json")
    params["layers"][0] |= change
    config["model"]["hidden"][0] = params["layers"][0]["shape"][1]
    params["layers"][1]["shape"][0] = params["layers"][0]["shape"][1]
    (path / "params.json").write_text(json.dumps(params))
    (path / "config.json").write_text(json.dumps(config))
    reseal(path, "params.json", "config.json")
    with pytest.raises(DataError, match="far larger than what the checkpoint has"):
        set_cli.load(path)


def test_an_array_larger_than_its_place_in_the_archive_is_not_allocated(tmp_path: Path) -> None:
    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }"
    path = tmp_path / "topology/epoch_0001.npz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        content = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n" + bytes(16)
        archive.writestr("layer1/indices.npy", content)
    with pytest.raises(DataError, match="is not as large as its header says"):
        read_topology(tmp_path, {}, 1)
