"""Sweeps that train several runs at once, and whose processes are killed: nothing wrong, nothing left behind."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from set_cli.runs.folder import locate
from set_cli.system.files import read_json
from tests.builders import MODELS, TINY, science, train
from tests.conftest import TRAIN, run_command
from tests.faults.runs import configure
from tests.faults.test_sweeps import outcomes_in

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
KILLS = max(8, int(os.environ.get("FAULT_KILLS", "0")) // 10)
EPOCHS = "train.epochs=40"
LONGER = (*(word for word in TINY if not word.startswith("train.epochs")), EPOCHS)
SWEEP = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2,3", "runs_dir=runs",
         *LONGER, *MODELS["mlp"], "backend.threads=1")  # fmt: skip
END = 10.0  # seconds


def processes_of(mark: str) -> dict[int, str]:
    """The processes whose environment has this, by number: their command lines."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Marks the processes of a sweep, which have a temporary folder of their own."""
    (tmp_path / "temporary").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "SWEEP_OF_TEST": str(tmp_path)}


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", TRAIN, *SWEEP]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def all_ended(mark: str) -> bool:
    end = time.monotonic() + END
    while processes_of(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return not processes_of(mark)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("whose", ["the sweep's own process", "a run's"])
@pytest.mark.timeout(600 + 60 * KILLS)
def test_processes_of_runs_side_by_side_are_killed(
    whose: str, tmp_path: Path, environment: dict[str, str], record: dict[str, int]
) -> None:
    """The same command again until all is done; what the table says is what happened."""
    rng = random.Random(f"{whose}{SEED}")
    print(f"FAULT_SEED={SEED}")
    mark, killed, rounds = f"SWEEP_OF_TEST={tmp_path}", 0, 0
    while killed < KILLS // 2:
        folder = tmp_path / f"round{rounds}"
        folder.mkdir()
        rounds += 1
        for _ in range(4):
            killed += strike(whose, rng, folder, environment, mark)
        process = start(folder, environment)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stdout
        assert "set-train:" not in stderr
        assert set(outcomes_in(stdout).values()) <= {"done", "already done"}
        assert list((tmp_path / "temporary").iterdir()) == []
        for seed in range(4):
            assert science(locate(configure("mlp", "set", folder / "runs", f"seed={seed}", EPOCHS))[0]) == expected(
                tmp_path, seed
            )
        print(f"{killed} killed in {4 * rounds} sweeps", flush=True)
    record[f"sweeps side by side, killed: {whose}"] += killed
    record["temporary folders or processes left"] += 0


def strike(whose: str, rng: random.Random, folder: Path, environment: dict[str, str], mark: str) -> int:
    """Kill one process at a random moment, and look at what is left and said; how many were killed."""
    process = start(folder, environment)
    victim = process.pid if whose.startswith("the") else 0
    if victim:
        time.sleep(rng.uniform(0.2, 7))
    else:
        victim = one_of_its_runs(process, rng, mark)
    try:
        if process.poll() is None and victim:
            os.kill(victim, signal.SIGKILL)
        else:
            victim = 0
    except ProcessLookupError:
        victim = 0
    stdout, stderr = process.communicate(timeout=120)
    assert all_ended(mark), processes_of(mark)
    assert "Traceback" not in stderr
    assert "another process" not in stderr + stdout
    if process.returncode != -signal.SIGKILL:
        outcomes = outcomes_in(stdout)
        assert len(outcomes) == 4, stdout
        lost = [outcome for outcome in outcomes.values() if outcome not in ("done", "already done")]
        assert lost in ([], ["failed (SIGKILL)"]), stdout
        assert not re.search(r"│ failed[^│]*│[^│]*│ *│", stdout), "an outcome without a sentence"
        assert process.returncode == len(lost)
    return int(victim != 0)


def one_of_its_runs(sweep: subprocess.Popen[str], rng: random.Random, mark: str) -> int:
    """A process that trains a run, at a random moment of its life; 0 where the sweep ended before one began."""
    while sweep.poll() is None:
        runs = [pid for pid, command in processes_of(mark).items() if "sweeps.process" in command]
        if runs:
            time.sleep(rng.uniform(0, 4))
            return rng.choice(runs)
        time.sleep(0.02)
    return 0


def expected(tmp_path: Path, seed: int) -> dict[str, str]:
    config = configure("mlp", "set", tmp_path / "whole", f"seed={seed}", EPOCHS)
    if locate(config)[1] != "done":
        train(config)
    return science(locate(config)[0])


def test_a_run_that_another_process_has_is_told_with_a_sentence(tmp_path: Path) -> None:
    import fcntl

    path, _ = locate(configure("mlp", "set", tmp_path / "runs", "seed=1", EPOCHS))
    path.mkdir(parents=True)
    with open(path / "run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run_command(TRAIN, *SWEEP, folder=tmp_path)
    assert result.returncode == 1
    assert outcomes_in(result.stdout)[1] == "failed (exit code 5)"
    assert "another process works on this run; wait for it or stop it" in result.stdout
    assert not (path / "status.json").exists()
    assert (
        read_json(locate(configure("mlp", "set", tmp_path / "runs", "seed=0", EPOCHS))[0] / "status.json")["status"]
        == "done"
    )
