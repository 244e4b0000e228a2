"""A sweep in which everything goes wrong that can, and one that is killed again and again. Reliability, K."""

from __future__ import annotations

import fcntl
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
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from tests.builders import MODELS, TINY, science, train
from tests.conftest import TRAIN, run_command
from tests.faults.runs import configure

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
RUN = (*TINY, *MODELS["mlp"], "backend.threads=1")

# What strikes the run of this seed in its second epoch, in its own process.
STRUCK = """
import os, resource, signal, sys, time
import set_cli.experiment
import set_cli.training.supervised as supervised
from set_cli.sweeps import process as single
from set_cli.errors import DataError

def bug(model): raise RuntimeError("a bug")
def no_data(model): raise DataError("the file changed")
def no_memory(model): raise MemoryError
def diverge(model): next(model.parameters()).data.fill_(float("nan"))
def crash(model): os.kill(os.getpid(), signal.SIGSEGV)
def killed(model): os.kill(os.getpid(), signal.SIGKILL)
def stopped(model): os.kill(os.getpid(), signal.SIGTERM)
def hang(model): time.sleep(600)
def full(model):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

strikes = {2: bug, 3: no_data, 4: no_memory, 5: diverge, 6: crash, 7: killed, 8: stopped, 9: hang, 10: full}
train_epoch = supervised.train_epoch

def struck(model, inputs, optimizer, config, epoch, *rest):
    if epoch == 2:
        strikes.get(config.seed, lambda model: None)(model)
    return train_epoch(model, inputs, optimizer, config, epoch, *rest)

supervised.train_epoch = struck
sys.exit(single.main())
"""
# The parent of such a sweep starts these children, and does not wait for one that hangs for a minute.
PARENT = (
    "import tests.warm as w; w.Popen.instead = {child!r}\nimport set_cli.sweeps.child as c; c.GRACE = 0.5\n" + TRAIN
)
OUTCOMES = {
    -1: "failed (exit code 2)",
    0: "done",
    1: "done",
    2: "failed (exit code 1)",
    3: "failed (exit code 3)",
    4: "failed (exit code 7)",
    5: "diverged",
    6: "failed (SIGSEGV)",
    7: "failed (SIGKILL)",
    8: "interrupted",
    9: "failed (time limit)",
    10: "failed (exit code 6)",
    11: "failed (exit code 5)",
}
TRIED_AGAIN = {4, 7, 8, 10, 11}  # for want of room, memory or a free folder; the others when asked


def outcomes_in(table: str) -> dict[int, str]:
    lines = [line for line in table.splitlines() if re.match(r" *\d+ │", line)]
    rows = [[cell.strip() for cell in line.split("│")] for line in lines]
    return {int(re.search(r"seed=(-?\d+)", row[2])[1]): row[1] for row in rows}  # type: ignore[index]


def test_a_sweep_of_one_failure_of_every_kind(tmp_path: Path, record: dict[str, int]) -> None:
    child = tmp_path / "struck.py"
    child.write_text(STRUCK)
    seeds = ",".join(map(str, OUTCOMES))
    sweep = ("-m", f"seed={seeds}", "time_limit=0.15", "runs_dir=runs", *RUN)
    busy, _ = locate(configure("mlp", "set", tmp_path / "runs", "seed=11"))
    busy.mkdir(parents=True)
    with open(busy / "run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run_command(PARENT.format(child=str(child)), *sweep, folder=tmp_path)
    assert outcomes_in(result.stdout) == OUTCOMES, result.stdout
    assert result.returncode == 1
    statuses = {read_json(p.parent / "config.json")["seed"]: read_json(p)["status"] for p in
                (tmp_path / "runs").rglob("status.json")}  # fmt: skip
    assert statuses == {0: "done", 1: "done", 5: "diverged", 8: "interrupted"} | dict.fromkeys(
        (2, 3, 4, 6, 7, 9, 10), "failed"
    )
    record["sweep with one failure of every kind: runs"] += len(OUTCOMES)
    record["sweep with one failure of every kind: outcomes right"] += len(OUTCOMES)

    again = run_command(TRAIN, *sweep, folder=tmp_path)
    before = {seed: "diverged before" if seed == 5 else "failed before" for seed in (2, 3, 5, 6, 9)}
    expected = {0: "already done", 1: "already done", -1: OUTCOMES[-1]} | before | dict.fromkeys(TRIED_AGAIN, "done")
    assert outcomes_in(again.stdout) == expected, again.stdout
    once_more = run_command(TRAIN, *sweep, "retry_failed=true", folder=tmp_path)
    assert outcomes_in(once_more.stdout) == dict.fromkeys(OUTCOMES, "already done") | {
        -1: OUTCOMES[-1]
    } | dict.fromkeys(before, "done")
    for seed in range(12):
        config = configure("mlp", "set", tmp_path / "whole", f"seed={seed}")
        train(config)
        path, _ = locate(configure("mlp", "set", tmp_path / "runs", f"seed={seed}"))
        assert science(path) == science(locate(config)[0]), seed
        assert len(read_rows(path / "metrics.jsonl")) == 3


def test_a_sweep_that_is_killed_again_and_again(tmp_path: Path, record: dict[str, int]) -> None:
    """The same command until it is done: nothing is lost, nothing twice, nothing busy, every bit the same."""
    rng = random.Random(SEED)
    print(f"FAULT_SEED={SEED}")
    sweep = ("-m", "seed=0,1", "method=set,fixprob", "runs_dir=runs", *RUN)
    kills = 0
    for wait in [rng.uniform(0.3, 6) for _ in range(5)]:
        command = [sys.executable, "-P", "-c", TRAIN, *sweep]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        assert "busy" not in stderr
        assert "another process" not in stderr
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    result = run_command(TRAIN, *sweep, folder=tmp_path)
    assert result.returncode == 0, result.stdout
    found = sorted(path for path in (tmp_path / "runs").glob("*/*/*"))
    assert len(found) == 4
    for method in ("set", "fixprob"):
        for seed in (0, 1):
            config = configure("mlp", method, tmp_path / "whole", f"seed={seed}")
            train(config)
            path, _ = locate(configure("mlp", method, tmp_path / "runs", f"seed={seed}"))
            assert science(path) == science(locate(config)[0])
    record["sweeps killed"] += kills
