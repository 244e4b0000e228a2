"""A run that is struck down anywhere goes on and ends with the same bits: reliability promises P1 and P2."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from set_cli.config import Config
from set_cli.errors import BusyError, StorageError
from set_cli.runs.folder import locate
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from tests.builders import MODELS, science, train
from tests.faults.runs import METHODS, calls_of, configure, struck
from tests.faults.shim import KILLED

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
KILLS = int(os.environ.get("FAULT_KILLS", "60"))
PAIRS = [(model, method) for model in MODELS for method in METHODS]


def reference(model: str, method: str, folder: Path) -> tuple[dict[str, str], list[str]]:
    """The bytes of an undisturbed run, and its calls."""
    config = configure(model, method, folder / "reference")
    calls = calls_of(config)
    path, _ = locate(config)
    assert (read_rows(path / "metrics.jsonl")[0]["regrown"] > 0) == (method == "set")
    return science(path), calls


def finish(config: Config) -> dict[str, str]:
    """The bytes of the run after the same command again."""
    train(config)  # here: a fork takes as long as the run
    path, status = locate(config)
    assert status == "done"
    assert not list(path.rglob("*.tmp"))
    return science(path)


@pytest.mark.parametrize(("model", "method"), PAIRS)
def test_death_at_every_call(model: str, method: str, tmp_path: Path, record: dict[str, int]) -> None:
    """Every call of SET-MLP; of the others every tenth, another tenth for each."""
    expected, calls = reference(model, method, tmp_path)
    every = 1 if (model, method) == ("mlp", "set") else 10
    for at in range(1 + PAIRS.index((model, method)) % every, len(calls) + 1, every):
        config = configure(model, method, tmp_path / "struck")
        assert struck(config, at, None) == KILLED, calls[at - 1]
        assert finish(config) == expected, f"call {at}: {calls[at - 1]}"
        shutil.rmtree(tmp_path / "struck")
        record["crash points enumerated"] += 1


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "EACCES"])
def test_an_error_at_every_call_is_told_and_mended(kind: str, tmp_path: Path, record: dict[str, int]) -> None:
    """Every call with EIO, every fourth with the others; nothing goes on as if it had been written."""
    expected, calls = reference("mlp", "set", tmp_path)
    for at in range(1, len(calls) + 1, 1 if kind == "EIO" else 4):
        config = configure("mlp", "set", tmp_path / "struck")
        code = struck(config, at, getattr(errno, kind))
        assert code == StorageError.exit_code, f"call {at}: {calls[at - 1]} ended with {code}"
        if at == len(calls):  # the run was done before that call, and stays so
            assert locate(config)[1] == "done"
        assert finish(config) == expected, f"call {at}: {calls[at - 1]}"
        shutil.rmtree(tmp_path / "struck")
        record["I/O errors injected"] += 1


def test_every_rename_is_of_what_is_on_the_disk_and_is_then_there_itself(
    tmp_path: Path, record: dict[str, int]
) -> None:
    """The order of calls that a power failure needs: content, its name, the folder that holds the name."""
    _, calls = reference("mlp", "set", tmp_path)
    for at, call in enumerate(calls):
        if call == "replace":
            assert calls[at - 1] == calls[at + 1] == "fsync", calls[at - 4 : at + 4]
            record["renames in the right order"] += 1
    assert record["renames in the right order"] > 20


def test_random_kills(tmp_path: Path, record: dict[str, int]) -> None:
    """Killed again and again at random moments, also while it recovers, until it is done."""
    rng = random.Random(SEED)
    print(f"FAULT_SEED={SEED}")
    kills = runs = 0
    expected = {pair: reference(*pair, tmp_path / "-".join(pair))[0] for pair in PAIRS}
    while kills < KILLS:
        pair = PAIRS[runs % len(PAIRS)]
        config = configure(*pair, tmp_path / str(runs))
        longest = 0.4  # seconds; more with every kill, or a machine that does other things would never get to an end
        while in_killed_child(config, rng.uniform(0, longest)):
            kills += 1
            longest *= 1.02
        path, status = locate(config)
        assert status == "done"
        assert science(path) == expected[pair]
        runs += 1
    record["kills at random points"] += kills
    record["runs that ended bit for bit the same"] += runs


def in_killed_child(config: Config, seconds: float) -> bool:
    """Train in a child and kill it after so long; whether it was killed before it was done."""
    child = os.fork()
    if child == 0:
        try:
            train(config)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_eight_together_have_one_winner(tmp_path: Path, record: dict[str, int]) -> None:
    for number in range(10):
        config = configure("mlp", "set", tmp_path / str(number), "train.epochs=30")
        ready, go = os.pipe()
        children = []
        for _ in range(8):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.read(ready, 1)
                    train(config)
                    code = 0
                except BusyError as error:
                    code = error.exit_code
                finally:
                    os._exit(code)
            children.append(child)
        os.write(go, b"x" * 8)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        # Who comes after the winner is done finds a finished run.
        assert set(codes) <= {0, BusyError.exit_code}
        path, status = locate(config)
        assert status == "done"
        assert len(read_json(path / "run.json")) == 1
        assert len(list(path.parent.iterdir())) == 1
        record["starts of eight on one folder"] += 1
