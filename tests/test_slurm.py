"""A sweep on a real Slurm: jobs run, are moved, are told that their time is up, and are stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from set_cli.system.files import read_json
from tests.conftest import ONE_THREAD, TRAIN

pytestmark = pytest.mark.slurm
CLUSTER = Path(__file__).resolve().parent.parent / "tools/one_node_slurm.sh"
SLURM = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=60")
RUN = ("model.hidden=[20]", "progress=none", ONE_THREAD)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a Slurm of this machine is found, or a skip that says why there is none."""
    folder = tmp_path_factory.mktemp("slurm") / "state"
    folder.parent.chmod(0o755)
    for parent in folder.parents[:3]:
        parent.chmod(0o755)  # munged is another user
    environment = os.environ | {"SET_SLURM_FOLDER": str(folder)}
    result = subprocess.run(["bash", CLUSTER, "start"], env=environment, capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"Slurm does not start here: {result.stderr.strip().splitlines()[-1:]}")
    try:
        yield environment | {"SLURM_CONF": result.stdout.strip().partition("=")[2]}
    finally:
        subprocess.run(["bash", CLUSTER, "stop"], env=environment, check=True, timeout=60)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(slurm: dict[str, str], tmp_path: Path) -> Start:
    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", TRAIN, *SLURM, *arguments, *RUN]
        return subprocess.Popen(
            command, cwd=tmp_path, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


def until(what: str, holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def rows(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.rglob("metrics.jsonl"))


def jobs(slurm: dict[str, str], *arguments: str) -> list[str]:
    result = subprocess.run(
        ["squeue", "--noheader", "--format=%i", *arguments], env=slurm, capture_output=True, text=True, check=True
    )
    return result.stdout.split()


def test_runs_of_a_sweep_are_jobs(start: Start, tmp_path: Path) -> None:
    """One of them fails, which costs one."""
    process = start("seed=0,1", "train.lr=0.01,1e6", "train.epochs=2")
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 1, stderr
    assert "sweep of 4: 1 done, 1 diverged, 1 done, 1 diverged" in stdout or "sweep of 4: 2 done, 2 diverged" in stdout
    hosts = [read_json(path)[0]["command"] for path in (tmp_path / "runs").rglob("run.json")]
    assert len(hosts) == 4
    assert all(command[2] == "hydra/launcher=submitit_slurm" for command in hosts)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("how", ["requeued by Slurm", "told by its signal"])
def test_a_job_that_is_moved_goes_on_in_the_same_folder(
    how: str, start: Start, slurm: dict[str, str], tmp_path: Path
) -> None:
    """As a preemption does it: Slurm requeues the job itself, or tells it so and submitit does."""
    process = start("seed=0,1", "train.epochs=100")
    until("two runs with epochs", lambda: len(list(tmp_path.rglob("metrics.jsonl"))) == 2 and rows(tmp_path) > 10)
    (job, *_) = jobs(slurm, "--states=RUNNING")
    if how == "requeued by Slurm":
        subprocess.run(["scontrol", "requeue", job], env=slurm, check=True, timeout=30)
    else:
        subprocess.run(["scancel", "--signal=USR2", job], env=slurm, check=True, timeout=30)
    until("the job waits", lambda: job in jobs(slurm, "--states=PENDING"))

    def runs_again() -> bool:
        # Asked for again until it does: a job whose processes still end is given the two minutes' wait once more.
        hurry = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(hurry, env=slurm, check=False, capture_output=True, timeout=30)
        return process.poll() is not None or job in jobs(slurm, "--states=RUNNING")

    until("the job runs again", runs_again)
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stdout + stderr
    assert "sweep of 2: 2 done" in stdout
    starts = sorted(len(read_json(path)) for path in (tmp_path / "runs").rglob("run.json"))
    assert starts == [1, 2]
    moved = next(s for p in (tmp_path / "runs").rglob("run.json") if len(s := read_json(p)) == 2)
    assert moved[1]["resumed_after_epoch"] > 0
    assert moved[1]["differences"] == []


def test_a_signal_ends_the_jobs_of_a_sweep(start: Start, slurm: dict[str, str], tmp_path: Path) -> None:
    process = start("seed=0,1,2,3", "train.epochs=4000", "hydra.launcher.array_parallelism=2")
    until("two runs with epochs", lambda: len(list(tmp_path.rglob("metrics.jsonl"))) == 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 130, stderr
    assert re.search("sweep of 4: 2 interrupted, 2 not started", stdout), stdout
    until("no job is left", lambda: not jobs(slurm))
