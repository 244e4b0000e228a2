"""set-train as a user types it: endings, exit codes, sweeps, installed anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import set_cli
from set_cli import native
from set_cli.config.reference import keys
from tests.builders import ONE_EPOCH, start, wait_for
from tests.conftest import ONE_THREAD, REPORT, TRAIN, Command, run_command, run_python

ROOT = Path(__file__).resolve().parent.parent


def one_sentence(stderr: str) -> str:
    """The only line on stderr."""
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    return lines[0]


def read_summary(folder: Path) -> dict[str, Any]:
    """Of the only run below it."""
    (path,) = folder.rglob("summary.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_trains_reports_and_skips(set_train: Command, set_report: Command, tmp_path: Path) -> None:
    first = set_train(*ONE_EPOCH)
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[1].startswith("epoch 1/1  loss ")
    assert lines[-3].startswith("done: set on digits, test accuracy ")
    kept = re.escape(f"{read_summary(tmp_path)['after_last_removal']['test']:.2f}")
    assert re.fullmatch(rf"\d+ connections, \d+ after the last removal \(test {kept} %\); \d+.\d\d s/epoch", lines[-2])
    assert re.fullmatch(r"compare: set-report; predict: set-predict runs/digits/mlp/\S+ FILE", lines[-1])
    folder = tmp_path / lines[-1].split()[-2]
    assert (folder / "train.log").read_text().splitlines() == lines
    assert (folder / "summary.json").exists()
    again = set_train(*ONE_EPOCH)
    assert again.returncode == 0
    assert again.stdout == f"already done, skipped: {folder.relative_to(tmp_path)}\n"
    command = json.loads((folder / "run.json").read_text())[0]["command"]
    assert command[1:] == list(ONE_EPOCH)
    (row,) = json.loads(set_report("--format", "json").stdout)
    assert (row["method"], row["n"], row["settings"]) == ("set", 1, "model.hidden=[20] train.epochs=1")


@pytest.mark.parametrize("command", ["set_cli.commands.train", "set_cli.commands.report"])
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_help_and_version_do_not_import_torch(command: str, flag: str, tmp_path: Path) -> None:
    program = f"import sys; sys.modules['torch'] = None; import {command}; sys.exit({command}.main())"
    result = run_python("-c", program, flag, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set_cli.__version__ in result.stdout if flag == "--version" else "Usage" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["epsilon=nan"], 2, "epsilon: expected a finite number, found nan"),
        (["zeta=1"], 2, "zeta: expected less than 1, found 1"),
        (["epsilom=3"], 2, "epsilom is not a configuration key; did you mean epsilon?"),
        (["+train._target_=os.system"], 2, "train._target_ is not a configuration key"),
        (
            ["dataset=cifar"],
            2,
            "dataset=cifar is not known: expected one of adult, caltech16, caltech28, cifar10, ",
        ),
        (["dataset=../../x"], 2, "dataset=../../x is not known: expected one of"),
        (["method=sett"], 2, "method=sett is not known: expected one of cht, chts, chtss, ctre, dense"),
        (["seed=0,1,2"], 2, "seed=0,1,2 has several values: add -m to sweep over them"),
        (["epsilon"], 2, "'epsilon': expected key=value"),
        (["modle=mlp"], 2, "modle is not a configuration key; did you mean model?"),
        (["hydra/launcher=jobli"], 2, "hydra/launcher=jobli is not known: expected one of basic"),
        (["hydra.run.dir=elsewhere"], 2, "hydra.run.dir: run folders are not Hydra's here"),
        (["++hydra.output_subdir=.hydra"], 2, "++hydra.output_subdir: run folders are not Hydra's here"),
        (["model=transformer"], 2, "model=transformer is not known: expected one of cnn, mlp"),
        (["=3"], 2, "'=3': expected key=value"),
        (["dataset=digits", "--epochs", "3"], 2, "--epochs is not an option; write train.epochs=3"),
        (["two\nlines"], 2, "'two"),
        (["lr=0.1"], 2, "lr is not a configuration key; did you mean train.lr?"),
        (
            ["train.optimizer=adam", "train.momentum=0.9"],
            2,
            "train.momentum is for train.optimizer=sgd, found train.opt",
        ),
        (["+epsilon=3"], 2, "+epsilon: the key is there already; write epsilon=… without +"),
        (["dataset=MNIST"], 2, "dataset=MNIST is not known: expected one of adult"),
        (["model=lenet"], 2, "model=lenet is not known: expected one of cnn, mlp, rbm; did you mean cnn?"),
        (["--cfg", "job", "--package", "nope"], 2, "package 'nope' not found in config"),
        (["--cfg", "job", "-m"], 2, "the command line cannot be composed: Only one of --run, --multirun, --cfg"),
        (["--config-dir", "nope"], 2, "the command line cannot be composed: Additional config directory"),
        (
            ["sparsity=0.9"],
            2,
            "sparsity is not a configuration key; density=0.1 is a sparsity of 90 % in each sparse layer",
        ),
        (["density=2"], 2, "density: expected less than 1, found 2"),
        (
            ["density=0.1", "evolve.epsilon_start=30"],
            2,
            "evolve.epsilon_start=30: expected evolve.density_start beside",
        ),
        (["evolve.density_start=0.1", "density=0.2"], 2, "evolve.density_start: expected at least density=0.2, found"),
        (
            ["method=snfs", "evolve.density_start=0.9"],
            2,
            "method.redistribution=gradient: expected connections that do",
        ),
        (
            ["method=chtss", "model.hidden=[1000,1000]", "density=0.01"],
            2,
            "method.regrowth=cannistraci_hebb_soft: expected at most 34,359,738,368 steps on paths of length three in "
            "a layer, found about ",
        ),
        (["method.regrowth=none"], 2, "method.regrowth=none: expected evolve.density_start or evolve.epsilon_start"),
        (["method.wiring=erk", "evolve.density_start=0.5"], 2, "method.wiring=erk: expected connections that do not"),
        (["method.removal=threshold", "evolve.density_start=0.9"], 2, "method.removal=threshold: expected connections"),
        (["data.dir=${oc.env:HOME}"], 2, "data.dir: expected a plain value"),
        (["--experimental-rerun=x"], 2, "--experimental-rerun is not available"),
        (["--experimental-re", "x"], 2, "--experimental-rerun is not available"),
        (["data.holdout=1438"], 2, "data.holdout and data.valid: expected fewer than the 1438 training rows"),
        (["resume=must"], 2, "resume=must: expected a run to resume in"),
        (["dataset=mnist", "data.fetch=never"], 3, "mnist: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k"),
        (
            ["dataset=cifar10", "data.holdout=9", "data.fetch=never"],
            3,
            "cifar10: cifar-10-batches-bin/data_batch_1.bin",
        ),
        (["model.hidden=[2000000000]"], 2, "model.hidden or epsilon=5 is too large: expected at most 2147483647"),
        (["model.hidden=[3000000,3000000]", "method=dense"], 7, "expected at least 100,585.5 GiB of free memory"),
        (["runs_dir=/proc/no"], 6, "/proc/no/digits/mlp/"),
        (["train.lr=1000000", *ONE_EPOCH], 4, "runs/digits/mlp/"),
    ],
)
def test_every_refusal_is_one_sentence_with_its_exit_code(
    arguments: list[str], exit_code: int, sentence: str, set_train: Command, tmp_path: Path
) -> None:
    result = set_train(*arguments)
    assert result.returncode == exit_code, result.stderr
    assert one_sentence(result.stderr).removeprefix("set-train: ").removeprefix("./").startswith(sentence)
    if exit_code in (2, 3, 7):
        assert list(tmp_path.iterdir()) == []  # nothing was created


def test_a_bug_shows_its_traceback(tmp_path: Path) -> None:
    program = f"import set_cli.runs.folder as f; f.folder_name = None; {TRAIN}"
    result = run_command(program, folder=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("set-train: a bug (TypeError)")


def test_hydras_own_switches_work(set_train: Command, tmp_path: Path) -> None:
    for line in (("--cfg", "job", "epsilon=7"), ("epsilon=7", "--cfg", "job"), ("epsilon=7", "-c", "job", "seed=3")):
        assert "epsilon: 7" in set_train(*line).stdout
    assert set_train("--info", "defaults").returncode == 0
    assert set_train("epsilon=7", "--info").returncode == 0
    assert "== Flags ==" in set_train("--hydra-help").stdout
    assert "complete" in set_train("-sc", "install=bash").stdout
    assert list(tmp_path.iterdir()) == []


def test_an_own_config_folder_adds_options(set_train: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "slow_set.yaml").write_text("name: set\nregrow_init: random\n")
    result = set_train("--config-dir", "mine", "method=slow_set", *ONE_EPOCH)
    assert result.returncode == 0, result.stderr
    (config,) = (tmp_path / "runs").rglob("config.json")
    assert json.loads(config.read_text())["method"] == {"name": "set", "regrow_init": "random"}


def test_flags_stand_anywhere(set_train: Command) -> None:
    result = set_train("dataset=digits", "-m", "seed=0,1", *ONE_EPOCH)
    assert (result.returncode, result.stderr) == (0, "")
    assert "sweep of 2: 2 done" in result.stdout
    again = set_train("seed=0,1", *ONE_EPOCH, "--multirun", "--dry-run")
    assert "2 in all: 2 skip: done" in again.stdout


@pytest.mark.parametrize(
    "name", ["wine (1).csv", "eps=5.csv", "wine,v2.csv", "data[1]{x}.csv", "wéin's.csv", "1e5.csv"]
)
def test_a_file_of_any_name_is_read(name: str, set_train: Command, tmp_path: Path) -> None:
    rows = [f"{number},{number % 2},{number % 3}" for number in range(60)]
    (tmp_path / name).write_text("\n".join(["a,b,label", *rows]) + "\n")
    words = ("dataset=custom", f"dataset.path={name}", "data.holdout=15", "runs_dir=my runs (2)", *ONE_EPOCH)
    result = set_train(*words)
    assert (result.returncode, result.stderr.count("Error")) == (0, 0), result.stderr
    (start,) = (tmp_path / "my runs (2)").rglob("run.json")
    assert json.loads(start.read_text())[0]["command"][1:] == list(words)  # as it was typed


def test_a_sweep_over_files_stays_one(set_train: Command, tmp_path: Path) -> None:
    for name in ("a (1).csv", "b.csv"):
        (tmp_path / name).write_text("\n".join(["a,label", *(f"{n * len(name)},{n % 2}" for n in range(60))]) + "\n")
    result = set_train("-m", "dataset=custom", "dataset.path=a (1).csv,b.csv", "data.holdout=15", "--dry-run")
    assert "2 in all: 2 train" in result.stdout, result.stderr


def test_help_lists_every_key_with_its_meaning_and_its_value(set_train: Command) -> None:
    shown = set_train("--help").stdout
    for key in keys():
        assert f"  {key.typed}=" in shown
        assert key.meaning.split()[0] in shown
    assert "  train.epochs=60 " in shown
    assert max(map(len, shown.splitlines())) <= 80
    of_pair = set_train("dataset=dna", "model=rbm", "-h").stdout
    assert "  model.cd_steps=3 " in of_pair
    assert set_train("help").stdout == shown == set_train("nonsense=3", "--help").stdout


def test_a_dry_run_says_how_long_and_from_what(set_train: Command) -> None:
    new = set_train("--dry-run", *ONE_EPOCH).stdout
    assert re.search(r"1 in all: 1 train; about \d+ s \(from 20 timed steps\); ", new), new
    set_train(*ONE_EPOCH)
    known = set_train("--dry-run", *ONE_EPOCH, "seed=1", "train.epochs=3").stdout
    assert re.search(r"about \d+ s \(from 1 earlier run\); ", known), known
    assert "timed steps" in set_train("--dry-run", *ONE_EPOCH, "epsilon=3").stdout  # another plan


def test_a_sweep_runs_every_combination_and_a_failure_costs_one_run(set_train: Command, set_report: Command) -> None:
    sweep = ("-m", "method=set,dense", "train.lr=0.01,1000000", *ONE_EPOCH)
    result = set_train(*sweep)
    assert result.returncode == 1
    assert "sweep of 4: 2 done, 2 diverged" in result.stdout
    listed = [line for line in result.stdout.splitlines() if re.match(r"\d │ diverged +│ method", line)]
    assert len(listed) == 2
    assert all("loss or weights are no longer finite in epoch 1" in line for line in listed)
    again = set_train(*sweep)
    assert again.returncode == 1
    assert "sweep of 4: 2 already done, 2 diverged before" in again.stdout
    assert "retry_failed=true tries again" in again.stdout
    once_more = set_train(*sweep, "retry_failed=true")
    assert "sweep of 4: 2 already done, 2 diverged" in once_more.stdout.splitlines()
    report = set_report("--format", "json")
    assert [(row["method"], row["n"]) for row in json.loads(report.stdout)] == [("dense", 1), ("set", 1)]
    assert "not counted: 2 diverged" in report.stderr


def test_a_configuration_error_inside_a_sweep_is_listed(set_train: Command, tmp_path: Path) -> None:
    result = set_train("-m", "epsilon=2,nan,3", *ONE_EPOCH)
    assert result.returncode == 1
    assert "sweep of 3: 2 done, 1 failed (exit code 2)" in result.stdout
    starts = [json.loads(path.read_text()) for path in tmp_path.rglob("run.json")]
    assert {start[0]["command"][2] for start in starts} == {"epsilon=2,nan,3"}  # the line that was typed
    assert "epsilon: expected a finite number, found nan" in result.stdout


def test_a_baseline_is_trained_once_in_an_epsilon_zeta_sweep(set_train: Command) -> None:
    result = set_train("-m", "method=dense", "epsilon=2,3", "zeta=0.1,0.2", *ONE_EPOCH)
    assert "sweep of 4: 1 done, 3 already done" in result.stdout


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_and_the_same_command_goes_on(number: int, exit_code: int, tmp_path: Path) -> None:
    arguments = ("train.epochs=25", "model.hidden=[20]", ONE_THREAD)
    process = start(tmp_path, *arguments)
    wait_for(tmp_path, "runs/digits/mlp/*/metrics.jsonl")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert "the same command resumes in epoch" in one_sentence(stderr)
    result = run_command(TRAIN, *arguments, folder=tmp_path)
    assert result.returncode == 0
    assert re.search("resuming after [0-9,]+ rows of epoch", result.stdout)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_a_sweep_stops_its_run_and_starts_no_other(number: int, exit_code: int, tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "seed=0,1,2", "train.epochs=4000", "model.hidden=[20]", ONE_THREAD)
    wait_for(tmp_path, "runs/digits/mlp/*/metrics.jsonl")
    os.killpg(process.pid, number)  # as a terminal does: to every process of the group
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code, stderr
    assert "sweep of 3: 1 interrupted, 2 not started" in stdout
    (status,) = tmp_path.glob("runs/digits/mlp/*/status.json")
    assert json.loads(status.read_text())["status"] == "interrupted"


def test_a_signal_before_training_begins_ends_in_one_sentence(tmp_path: Path) -> None:
    program = (
        "import os, signal, set_cli.commands.hydra_compose as c, set_cli.commands.train as t; compose = c.plain\n"
        "def late(composed):\n    c.plain = compose\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return compose(composed)\n"
        "c.plain = late; t.main()"
    )
    result = run_command(program, folder=tmp_path)
    assert result.returncode == 143
    assert one_sentence(result.stderr) == "set-train: interrupted by SIGTERM; this run had not started"
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_ends_well_in_spite_of_a_signal_still_ends_the_sweep(tmp_path: Path) -> None:
    program = (
        "import os, set_cli.sweeps.launch as j, set_cli.commands.train as t; real = j.run_in_child\n"
        "def too_late(*arguments):\n    code = real(*arguments)\n    os.kill(os.getpid(), 15)\n    return code\n"
        "j.run_in_child = too_late; t.main()"
    )
    result = run_command(program, "-m", "seed=0,1", *ONE_EPOCH, folder=tmp_path)
    assert result.returncode == 143
    assert "sweep of 2: 1 done, 1 not started" in result.stdout


def test_a_bug_in_one_job_costs_one_run_of_a_sweep(tmp_path: Path) -> None:
    program = (
        "import set_cli.sweeps.launch as j, set_cli.commands.train as t; real = j.run_in_child\n"
        "def broken(config, *rest):\n    return 1 / config.seed and real(config, *rest)\n"
        "j.run_in_child = broken; t.main()"
    )
    result = run_command(program, "-m", "seed=0,1", *ONE_EPOCH, folder=tmp_path)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "sweep of 2: 1 failed (exit code 1), 1 done" in result.stdout


def test_a_run_that_is_killed_costs_one_run_of_a_sweep(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1", "train.epochs=30", "model.hidden=[20]", ONE_THREAD)
    process = start(tmp_path, *arguments)
    wait_for(tmp_path, "runs/digits/mlp/*/metrics.jsonl")
    (status,) = tmp_path.glob("runs/digits/mlp/*/status.json")
    os.kill(json.loads(status.read_text())["pid"], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "sweep of 2: 1 failed (SIGKILL), 1 done" in stdout, stderr
    assert "killed by SIGKILL (so the system ends what takes too much memory)" in stdout
    assert json.loads(status.read_text())["status"] == "failed"
    again = run_command(TRAIN, *arguments, folder=tmp_path)  # maybe others took the memory: it is tried again
    assert "sweep of 2: 1 done, 1 already done" in again.stdout


def test_a_closed_pipe_does_not_end_training(tmp_path: Path) -> None:
    process = start(tmp_path, "train.epochs=10", "model.hidden=[20]", ONE_THREAD)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    (log,) = (tmp_path / "runs").rglob("train.log")
    assert log.read_text().splitlines()[-3].startswith("done: set on digits")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], list(ONE_EPOCH)])
def test_a_pipe_that_is_closed_at_once_is_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    run_command(TRAIN, *ONE_EPOCH, folder=tmp_path)  # so that the last of the three says "already done"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-c", TRAIN, *arguments]
    with os.fdopen(writing, "w") as closed:
        result = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.stderr == ""


def test_progress_none_prints_the_result_only(set_train: Command) -> None:
    assert len(set_train("progress=none", *ONE_EPOCH).stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("variables", "spins"),
    [
        ({}, "1000" if native.core is None else "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_idle_threads_sleep_unless_the_user_says_otherwise(
    variables: dict[str, str], spins: str | None, tmp_path: Path
) -> None:
    program = f"import atexit, os; atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT'))); {TRAIN}"
    result = run_python("-c", program, *ONE_EPOCH, folder=tmp_path, **variables)
    assert result.stdout.splitlines()[-1] == str(spins)


def test_rich_progress_shows_loss_accuracy_connections_and_time(set_train: Command) -> None:
    shown = set_train("progress=rich", *ONE_EPOCH, COLUMNS="200", TTY_COMPATIBLE="1", TERM="xterm").stdout
    for part in ("epoch 1/1", "loss", "test", "connections", "left"):
        assert part in shown


@pytest.mark.slow  # it compiles the kernels again
def test_the_wheel_works_from_any_folder(tmp_path: Path) -> None:
    """Configuration included: the wheel's own conf/, not the source tree's."""
    source = tmp_path / "source"
    left_behind = shutil.ignore_patterns(".*", "runs", "datasets", "build", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=left_behind)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(installed)], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    check = f"import set_cli; assert set_cli.__file__.startswith({str(installed)!r}), set_cli.__file__; "
    result = run_python("-c", check + TRAIN, *ONE_EPOCH, folder=elsewhere, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    report = run_python("-c", check + REPORT, "--format", "html", folder=elsewhere, PYTHONPATH=str(installed))
    assert "All rows: digits, mlp, " in report.stdout  # with the page's own files from the wheel


def test_a_finished_run_is_skipped_without_torch_and_its_backend(set_train: Command, tmp_path: Path) -> None:
    assert set_train(*ONE_EPOCH).returncode == 0
    program = f"import sys; sys.modules['torch'] = None; {TRAIN}"
    again = run_python("-c", program, *ONE_EPOCH, "backend=cuda", folder=tmp_path)
    assert (again.returncode, again.stdout.startswith("already done, skipped: ")) == (0, True), again.stderr
