"""Sweeps in several processes: what they share, what one may cost the others, what a command would do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from set_cli.commands.hydra_words import count_runs
from set_cli.errors import ConfigError
from set_cli.sweeps.child import Hung, run_in_child
from set_cli.sweeps.folder import SweepFolder, remove_abandoned
from set_cli.sweeps.launch import Launcher
from set_cli.sweeps.table import print_outcomes
from set_cli.system.files import read_json
from set_cli.system.machine import available_cores, visible_gpus
from tests.builders import ONE_EPOCH, start, wait_for
from tests.conftest import ONE_THREAD, TRAIN, Command, Compose, run_command, run_python
from tests.faults.runs import in_child

TWO_AT_ONCE = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LONG = ("train.epochs=4000", "model.hidden=[20]", "progress=none")


def statuses(folder: Path) -> list[str]:
    return sorted(read_json(path)["status"] for path in folder.glob("runs/*/*/*/status.json"))


def test_two_runs_at_once_share_the_cores(set_train: Command, tmp_path: Path) -> None:
    result = set_train(*TWO_AT_ONCE, "method=set,dense", "train.lr=0.01,1e6", "epsilon=3", *ONE_EPOCH[:-1])
    assert result.returncode == 1
    assert "sweep of 4: 2 done, 2 diverged" in result.stdout
    starts = [read_json(path)[0] for path in (tmp_path / "runs").rglob("run.json")]
    assert {start["threads"] for start in starts} <= {1, max(1, available_cores() // 2)}
    assert all(start["command"][1] == "-m" for start in starts)  # the line that was typed, not the worker's
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


@pytest.mark.parametrize(
    ("number", "exit_code", "to_all"),
    [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)],
    ids=["as a terminal", "to the parent"],
)
def test_a_signal_stops_runs_in_other_processes(number: int, exit_code: int, to_all: bool, tmp_path: Path) -> None:
    process = start(tmp_path, *TWO_AT_ONCE, "seed=0,1,2,3", *LONG)
    wait_for(tmp_path, "runs/digits/mlp/*-s0-*/metrics.jsonl")
    wait_for(tmp_path, "runs/digits/mlp/*-s1-*/metrics.jsonl")
    (os.killpg if to_all else os.kill)(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code, stderr
    assert "sweep of 4: 2 interrupted, 2 not started" in stdout
    assert "Traceback" not in stderr
    assert statuses(tmp_path) == ["interrupted"] * 2


@pytest.mark.faults
def test_a_second_signal_ends_all_runs_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, *TWO_AT_ONCE, "seed=0,1", *LONG)
    wait_for(tmp_path, "runs/digits/mlp/*-s0-*/metrics.jsonl")
    wait_for(tmp_path, "runs/digits/mlp/*-s1-*/metrics.jsonl")
    pids = [read_json(path)["pid"] for path in tmp_path.glob("runs/*/*/*/status.json")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that the first signal is not enough
    process.terminate()
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    ended(pids)


@pytest.mark.faults
def test_a_run_that_is_killed_beside_others_costs_itself_only(tmp_path: Path) -> None:
    process = start(tmp_path, *TWO_AT_ONCE, "seed=0,1,2", "train.epochs=60", *LONG[1:])
    wait_for(tmp_path, "runs/digits/mlp/*-s0-*/metrics.jsonl")
    (status,) = tmp_path.glob("runs/*/*/*-s0-*/status.json")
    os.kill(read_json(status)["pid"], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "sweep of 3: 1 failed (SIGKILL), 2 done" in stdout
    assert "killed by SIGKILL" in stdout


@pytest.mark.faults
def test_a_run_that_a_sweep_lists_twice_is_trained_once(set_train: Command) -> None:
    result = set_train(*TWO_AT_ONCE, "method=dense", "epsilon=2,3", *ONE_EPOCH)
    assert result.returncode == 0, result.stdout
    assert re.search("sweep of 2: 1 (already )?done, 1 (already )?done", result.stdout)


def test_a_signal_while_a_run_starts_is_not_lost(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "seed=0,1", *LONG, ONE_THREAD)
    deadline = time.monotonic() + 60
    while not (children := subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, children
    assert "sweep of 2: 1 interrupted, 1 not started" in stdout
    assert "Traceback" not in stderr


@pytest.mark.faults
def test_runs_end_with_the_sweep_that_was_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "seed=0,1", *LONG, ONE_THREAD)
    wait_for(tmp_path, "runs/digits/mlp/*/metrics.jsonl")
    (status,) = tmp_path.glob("runs/*/*/*/status.json")
    pid = read_json(status)["pid"]
    process.kill()
    process.communicate(timeout=60)
    ended([pid])
    again = run_command(TRAIN, "-m", "seed=0", *LONG, ONE_THREAD, "time_limit=0.1", folder=tmp_path)
    assert "sweep of 1: 1 failed (time limit)" in again.stdout  # not: busy
    assert "time_limit=0.1: the run took more minutes; the same command resumes in epoch" in again.stdout
    once_more = run_command(TRAIN, "-m", "seed=0", *LONG, ONE_THREAD, "time_limit=0.1", folder=tmp_path)
    assert "sweep of 1: 1 failed (time limit)" in once_more.stdout  # as it said: it went on


def ended(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
        assert time.monotonic() < deadline, "a run outlived its sweep"
        time.sleep(0.02)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    (tmp_path / "sweep").mkdir()
    return SweepFolder(tmp_path / "sweep")


def test_a_run_that_hangs_is_killed(
    sweep: SweepFolder, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not even look at its own clock any more."""
    hung = tmp_path / "hung.py"
    hung.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    hung.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hung))
    monkeypatch.setattr("set_cli.sweeps.child.GRACE", 0.1)
    with pytest.raises(Hung, match=r"time_limit=0.001: the run did not stop by itself and was killed"):
        run_in_child(compose("time_limit=0.001"), {}, [], sweep, {})


def test_gpus_are_shared_out_evenly(sweep: SweepFolder) -> None:
    def take(count: int) -> list[str]:
        if not count:
            return []
        with sweep.one_of(["4", "7"], 5) as gpu:
            return [gpu, *take(count - 1)]

    assert take(5) == ["4", "7", "4", "7", "4"]
    assert take(1) == ["4"]  # free again


@pytest.mark.parametrize(
    ("variable", "gpus"), [("", []), ("3", ["3"]), ("0, GPU-8f1a", ["0", "GPU-8f1a"]), (None, ["0", "1"])]
)
def test_gpus_are_those_that_the_process_may_use(
    variable: str | None, gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("set_cli.system.machine.DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


def test_every_run_of_a_sweep_has_a_gpu_of_its_own(set_train: Command, tmp_path: Path) -> None:
    """Seen in the variable that CUDA reads; there is no GPU to be seen."""
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'set_cli.sweeps.process' in ' '.join(sys.orig_argv):\n"
        f"    open(f'{tmp_path}/seen-{{os.getpid()}}', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    variables = {"PYTHONPATH": str(shim), "CUDA_VISIBLE_DEVICES": "4,7"}
    result = set_train(*TWO_AT_ONCE, "seed=0,1", *ONE_EPOCH, **variables)
    assert result.returncode == 0, result.stderr
    assert {path.read_text() for path in tmp_path.glob("seen-*")} <= {"4", "7"}
    assert len(list(tmp_path.glob("seen-*"))) == 2


@pytest.mark.parametrize(
    ("n_jobs", "runs", "at_once"),
    [(3, None, 3), (3, 2, 2), (-1, None, available_cores()), (-1, 1, 1), (-2, None, max(1, available_cores() - 1))],
)
def test_runs_at_once_are_as_joblib_counts_them(n_jobs: int, runs: int | None, at_once: int) -> None:
    assert Launcher("side_by_side", n_jobs, runs, True).at_once == at_once
    assert Launcher("basic", n_jobs, runs, False).at_once == 1


def test_a_launcher_without_a_bound_starts_all_at_once() -> None:
    assert Launcher("submitit_local", 1, 7, True).at_once == 7
    assert Launcher("submitit_slurm", 1, 7, True).at_once == 1  # here; the others are elsewhere


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", row)]


def test_the_table_names_every_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    path = "runs/digits/mlp/set"
    outcomes: list[dict[str, Any]] = [
        {"number": 0, "overrides": "seed=0", "outcome": "done", "run": path, "why": "test 96.94 %", "exit_code": 0},
        {"number": 1, "overrides": "seed=1", "outcome": "diverged", "run": path, "why": f"{path}: no", "exit_code": 4},
        {"number": 2, "overrides": "seed=2", "outcome": "skipped", "why": "no labels", "exit_code": 0},
    ]
    assert print_outcomes(outcomes, None, None) == 1
    header, _, *rows, count = capsys.readouterr().out.splitlines()
    assert cells(header) == ["", "outcome", "run with", "result", "run"]
    assert [cells(row) for row in rows] == [
        ["0", "done", "seed=0", "test 96.94 %", path],
        ["1", "diverged", "seed=1", "no", path],
        ["2", "skipped", "seed=2", "no labels", ""],
    ]
    assert count == "sweep of 3: 1 done, 1 diverged, 1 skipped"
    assert print_outcomes(outcomes[:1], 1, None) == 0
    assert print_outcomes([], 3, None) == 0
    assert print_outcomes(outcomes[:1], 3, None) == 1  # two of which nothing was heard
    assert capsys.readouterr().out.endswith("sweep of 3: 1 done, 2 not started\n")


def test_only_the_folders_of_sweeps_that_were_killed_are_removed(tmp_path: Path) -> None:
    under_way = SweepFolder(tmp_path / ".set-sweep-1")
    under_way.make()
    for name in (".set-sweep-2", ".set-sweep-3", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / ".set-sweep-2" / "owner.lock").touch()  # as a killed process leaves it; 3 is another program's
    (tmp_path / "elsewhere" / "owner.lock").touch()
    (tmp_path / ".set-sweep-4").symlink_to("elsewhere")
    remove_abandoned(tmp_path)
    left = [".set-sweep-1", ".set-sweep-3", ".set-sweep-4", "elsewhere"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert (tmp_path / "elsewhere" / "owner.lock").exists()
    under_way.remove()
    assert not (tmp_path / ".set-sweep-1").exists()


@pytest.mark.parametrize("at", range(6))
def test_a_folder_whose_removal_was_cut_short_is_removed_by_the_next_sweep(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, left = os.unlink, iter(range(at))

    def dies(*arguments: Any, **named: Any) -> None:
        if next(left, None) is None:
            os._exit(137)
        unlink(*arguments, **named)

    def remove() -> None:
        folder = SweepFolder(tmp_path / ".set-sweep-1")
        folder.make()
        for number in range(5):
            folder.note(number, {})
        monkeypatch.setattr(os, "unlink", dies)
        folder.remove()

    assert in_child(remove) == 137
    assert len(list(tmp_path.glob(".set-sweep-1/*"))) == 6 - at
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_single_run_makes_no_temporary_folder(tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    program = f"import tempfile; tempfile.tempdir = {str(place)!r}\n{TRAIN}"
    (place / "watched").touch()
    before = place.stat().st_mtime_ns
    assert run_python("-c", program, *ONE_EPOCH, folder=tmp_path).returncode == 0
    assert place.stat().st_mtime_ns == before  # nothing was made there, nor removed


# --- what a command would do


def test_a_dry_run_says_what_would_be_done_and_does_nothing(set_train: Command, tmp_path: Path) -> None:
    assert set_train("seed=1", *ONE_EPOCH).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    result = set_train("--dry-run", *TWO_AT_ONCE, "seed=0,1", "dataset=digits,nips", *ONE_EPOCH)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [cells(line)[1] for line in lines[2:6]] == ["train", "skip", "skip: done", "skip"]
    assert re.search(r"seed=0 dataset=digits .* 620 │ +\d\d\d │ +\d+ │ +1,438 │ +1 ", lines[2])
    assert "nips has no labels" in lines[3]
    takes = r"about \d+ s \(from 1 earlier run\); up to \d MB on the disk"
    assert re.fullmatch(rf"4 in all: 1 train, 2 skip, 1 skip: done; {takes}; nothing was done", lines[6])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_one_run_has_its_exit_code(set_train: Command, tmp_path: Path) -> None:
    assert set_train("--dry-run", "dataset=cifar10").returncode == 0  # needs no data to be here
    result = set_train("--dry-run", "zeta=2")
    assert (result.returncode, "zeta: expected less than 1" in result.stdout.replace("should be", "")) == (2, True)
    assert set_train("--dry-run", "zeta=").returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["epsilon=range(1,1000000)"], "999,999"),
        ([*(f"{key}=1,2,3,4,5,6,7,8,9,10" for key in ("a", "b", "c", "d", "e", "f"))], "1,000,000"),
        (["epsilon=range(1,100000,0.5)", "-m"], "199,998"),
    ],
)
def test_a_sweep_of_too_many_runs_is_refused(arguments: list[str], count: str) -> None:
    with pytest.raises(ConfigError, match=f"a sweep of {count} runs: expected at most 100,000"):
        count_runs(arguments)


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["-m", "seed=range(0,100000)"], 100_000),
        (["-m", "seed=range(0,10,3)", "method=set,dense"], 8),
        (["a=[1,2]", "--help", "a=("], 1),
        (["x=glob(*)", "seed=1,2"], None),
        (["+sweep=paper15", "seed=1,2"], None),
    ],
)
def test_other_sweeps_are_counted(arguments: list[str], runs: int | None) -> None:
    assert count_runs(arguments) == runs


def test_a_range_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="a range without an end"):
        count_runs(["seed=range(0,1e400)"])


def without(plugin: str) -> str:
    return f"import sys; sys.modules['hydra_plugins.{plugin}'] = None\n{TRAIN}"


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    program = without("hydra_submitit_launcher")
    result = run_python("-c", program, "-m", "hydra/launcher=submitit_slurm", "seed=0,1", folder=tmp_path)
    assert result.returncode == 2
    assert "hydra/launcher=submitit_slurm is an extra: pip install 'set-cli[slurm]'" in result.stderr


def test_runs_at_once_need_no_plugin(tmp_path: Path) -> None:
    program = without("hydra_joblib_launcher")
    result = run_python("-c", program, *TWO_AT_ONCE, "dataset=digits,nips", *ONE_EPOCH, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "sweep of 2: 1 done, 1 skipped" in result.stdout


def test_no_runs_at_once_are_refused(set_train: Command, tmp_path: Path) -> None:
    result = set_train("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0", "seed=0,1")
    assert result.returncode == 2
    assert "hydra.launcher.n_jobs=0: expected a number of runs, or -1 for one on each core" in result.stderr
    assert list(tmp_path.iterdir()) == []


# --- one run on several processes

TORCHRUN = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*TORCHRUN, sys.executable, "-P", "-c", TRAIN, *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "SET_DATA_DIR"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_two_processes_train_one_run_as_one_does(
    torchrun: Callable[..., subprocess.CompletedProcess[str]], set_train: Command, tmp_path: Path
) -> None:
    """Batches of 479 of 1,438 rows: the last has one row, which one process sees."""
    import set_cli

    network = ("train.epochs=3", "train.batch_size=479", "train.lr=0.1", "model.hidden=[30,20]", "model.dropout=0")
    inputs = ("data.augment.crop=1", "data.augment.mixup=0.4", "train.class_weights=balanced")
    run = (*network, *inputs, "train.label_smoothing=0.1")
    assert set_train(*run, ONE_THREAD, "runs_dir=one").returncode == 0
    result = torchrun(*run, "runs_dir=two")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("done: set on digits") == 1
    one, two = (set_cli.load(next((tmp_path / name).glob("*/*/*"))) for name in ("one", "two"))
    assert one.path.name == two.path.name
    assert (one.metrics[["connections", "pruned", "regrown"]] == two.metrics[["connections", "pruned", "regrown"]]).all(
        axis=None
    )
    for epoch in one.snapshots:
        for name, pattern in one.topology(epoch).items():
            assert (pattern.indices == two.topology(epoch)[name].indices).all()
    assert two.metrics["train_loss"].tolist() == pytest.approx(one.metrics["train_loss"].tolist(), rel=1e-5)
    for (name, a), b in zip(one.model.state_dict().items(), two.model.state_dict().values(), strict=True):
        assert a.double().numpy() == pytest.approx(b.double().numpy(), abs=1e-5), name
    (start,) = read_json(two.path / "run.json")
    assert (start["processes"], start["threads"]) == (2, max(1, available_cores() // 2))


@pytest.mark.faults
def test_two_processes_train_with_adam_and_end_early_together(
    torchrun: Callable[..., subprocess.CompletedProcess[str]], set_train: Command, tmp_path: Path
) -> None:
    import set_cli

    run = ["train.epochs=9", "data.valid=200", "train.batch_size=400", "model.hidden=[30,20]", "model.dropout=0"]
    run += ("train.optimizer=adamw", "train.bias_correction=age", "train.lr=1e-9", "train.patience=2")
    assert set_train(*run, ONE_THREAD, "runs_dir=one").returncode == 0
    result = torchrun(*run, "runs_dir=two")
    assert result.returncode == 0, result.stderr
    one, two = (set_cli.load(next((tmp_path / name).glob("*/*/*"))) for name in ("one", "two"))
    assert len(one.metrics) == len(two.metrics) < 9
    assert "ended after epoch" in result.stdout
    for epoch in one.snapshots:
        for name, pattern in one.topology(epoch).items():
            assert (pattern.indices == two.topology(epoch)[name].indices).all()


@pytest.mark.faults
def test_processes_stop_together_and_go_on_alone(
    torchrun: Callable[..., subprocess.CompletedProcess[str]], set_train: Command, tmp_path: Path
) -> None:
    """Whatever ends the first ends the others; one process goes on, and says that it is not as it was."""
    result = torchrun("train.epochs=4000", "model.hidden=[20]", "progress=none", "time_limit=0.1")
    assert result.returncode == 1
    assert "time_limit=0.1: the run took more minutes; the same command resumes after epoch" in result.stderr
    (status,) = (tmp_path / "runs").rglob("status.json")
    assert json.loads(status.read_text())["status"] == "failed"
    one = ("train.epochs=4000", "model.hidden=[20]", "progress=none", "time_limit=0.05", "checkpoints.minutes=0")
    again = set_train(*one)
    assert "note: processes: 1, before 2: the run may not end with the bits" in again.stderr
    assert "resumes in epoch" in again.stderr  # between two steps, from where both of the others go on
    result = torchrun("train.epochs=4000", "model.hidden=[20]", "progress=none", "time_limit=0.1")
    assert "note: processes: 2, before 1: the run may not end with the bits" in result.stderr
    assert "time_limit=0.1: the run took more minutes" in result.stderr


@pytest.mark.faults
def test_a_sweep_is_no_run_of_several_processes(
    torchrun: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    result = torchrun("-m", "seed=0,1")
    assert "torchrun trains one run on several processes: expected no sweep (-m)" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_an_rbm_is_trained_by_one_process(torchrun: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = torchrun("model=rbm")
    assert "torchrun is for model=mlp and cnn; expected one process for model=rbm" in result.stderr
