"""Signals in every phase of a run, and what a run is like after it ended badly. Reliability, J."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import set_cli.commands.hydra_compose
import set_cli.commands.train
import set_cli.experiment
import set_cli.training.record
import set_cli.training.session
from set_cli.runs.folder import locate
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from set_cli.training.divergence import Divergence
from set_cli.training.trainers import Supervised
from tests.builders import science, train
from tests.faults.command import Ending, command
from tests.faults.runs import configure, in_child

pytestmark = pytest.mark.faults
SEED = int(os.environ.get("FAULT_SEED", "0"))
ARGUMENTS = ("data.train_limit=120", "data.test_limit=60", "train.batch_size=40", "train.epochs=3",
             "model.hidden=[12,10]", "backend.threads=1", "progress=none")  # fmt: skip
PHASES: dict[str, tuple[Any, str]] = {
    "compose": (set_cli.commands.hydra_compose, "from_mapping"),
    "choose the device": (set_cli.experiment, "choose_device"),
    "load": (set_cli.experiment, "load_data"),
    "build": (set_cli.experiment, "build_network"),
    "begin the record": (set_cli.training.record, "load_checkpoint"),
    "train": (Divergence, "check"),
    "evolve": (set_cli.training.session, "evolve_model"),
    "save": (set_cli.training.record, "save_checkpoint"),
    "measure": (Supervised, "measure"),
    "finish": (set_cli.training.record, "write_summary"),
}


def at(phase: str, strike: Callable[[], object]) -> Callable[[], None]:
    """Do this when the phase is entered, once; to be called in the child."""

    def arrange() -> None:
        owner, name = PHASES[phase]
        original = getattr(owner, name)

        def struck(*arguments: Any, **named: Any) -> Any:
            setattr(owner, name, original)
            strike()
            return original(*arguments, **named)

        setattr(owner, name, struck)

    return arrange


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "here"
    folder.mkdir()
    assert command(folder, *ARGUMENTS).code == 0
    return science(run_of(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made


def run_of(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/*/*")
    return path


def goes_on(folder: Path, whole: dict[str, str]) -> None:
    ending = command(folder, *ARGUMENTS)
    assert ending.code == 0, ending
    assert science(run_of(folder)) == whole


def tell(ending: Ending, code: int) -> None:
    assert ending.code == code, ending
    assert "Traceback" not in ending.err
    assert len([line for line in ending.err.splitlines() if line.startswith("set-train: ")]) == 1, ending.err


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_every_phase(
    phase: str, number: int, folder: Path, whole: dict[str, str], record: dict[str, int]
) -> None:
    ending = command(folder, *ARGUMENTS, before=at(phase, send(number)))
    if phase == "finish":  # too late to stop: it is done
        assert ending.code == 0
    else:
        tell(ending, 128 + number)
    if (folder / "runs").exists() and phase != "finish":
        assert read_json(run_of(folder) / "status.json")["status"] == "interrupted"
    goes_on(folder, whole)
    if phase in ("train", "measure"):  # all of the epoch's steps are done by then
        assert read_json(run_of(folder) / "run.json")[-1]["resumed_after_rows"] == 120
    record["signals in every phase, right ending"] += 1
    slowest(record, ending.seconds)


def test_signals_at_random_moments(folder: Path, record: dict[str, int]) -> None:
    """A longer run, so that there is something to strike; how long it then takes to end is told, not tested."""
    rng = random.Random(SEED)
    print(f"FAULT_SEED={SEED}")
    for _ in range(30):
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        wait, sent = rng.uniform(0.02, 0.8), folder / "sent"

        def later(number: int = number, wait: float = wait, sent: Path = sent) -> None:
            parent = os.getpid()
            if os.fork() == 0:
                time.sleep(wait)
                sent.write_text(str(time.monotonic()))
                os.kill(parent, number)
                os._exit(0)

        ending = command(folder, *ARGUMENTS[:3], "train.epochs=4000", *ARGUMENTS[4:], before=later)
        ended = time.monotonic()
        tell(ending, 128 + number)
        record["signals at random moments, right ending"] += 1
        slowest(record, ended - float(sent.read_text()))


def slowest(record: dict[str, int], seconds: float) -> None:
    record["slowest end after a signal (ms)"] = max(record["slowest end after a signal (ms)"], round(1000 * seconds))


@pytest.mark.parametrize("gap", [0, 0.001, 0.01, 0.05])
@pytest.mark.parametrize("phase", ["train", "save", "evolve"])
def test_two_signals_end_at_once_and_damage_nothing(
    gap: float, phase: str, folder: Path, whole: dict[str, str], record: dict[str, int]
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(gap)
        os.kill(os.getpid(), signal.SIGTERM)

    assert command(folder, *ARGUMENTS, before=at(phase, twice)).code == 143
    goes_on(folder, whole)
    record["second signals"] += 1


def test_a_command_in_the_background_of_a_script_can_be_interrupted(folder: Path) -> None:
    """Such a shell starts it with SIGINT ignored."""

    def ignored() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        at("train", send(signal.SIGINT))()

    tell(command(folder, *ARGUMENTS, before=ignored), 130)


def test_a_terminal_that_is_gone_ends_nothing(folder: Path, whole: dict[str, str]) -> None:
    def gone() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        for number in (1, 2):
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, number)

    ending = command(folder, *ARGUMENTS[:-1], "progress=plain", before=at("train", gone))
    assert ending.code == 0
    assert science(run_of(folder)) == whole


def test_stopped_and_continued_is_the_same_but_for_its_times(folder: Path, whole: dict[str, str]) -> None:
    def pause() -> None:
        child = os.getpid()
        if os.fork() == 0:
            time.sleep(0.3)
            os.kill(child, signal.SIGCONT)
            os._exit(0)
        os.kill(child, signal.SIGSTOP)

    assert command(folder, *ARGUMENTS, before=at("train", pause)).code == 0
    assert science(run_of(folder)) == whole
    assert [row.get("paused") for row in read_rows(run_of(folder) / "timing.jsonl")] == [True, None, None]


@pytest.mark.parametrize("phase", PHASES)
def test_a_bug_in_every_phase_is_told_and_mended(
    phase: str, folder: Path, whole: dict[str, str], record: dict[str, int]
) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    ending = command(folder, *ARGUMENTS, before=at(phase, bug))
    assert ending.code == 1
    assert "Traceback" in ending.err
    assert "set-train: a bug (ZeroDivisionError): please report" in ending.err
    if any(folder.glob("runs/*/*/*/run.json")):
        path = run_of(folder)
        assert read_json(path / "status.json")["status"] == "failed"
        assert read_json(path / "status.json")["reason"] == "ZeroDivisionError: a bug"
        assert "ZeroDivisionError: a bug" in (path / "error.txt").read_text()
    goes_on(folder, whole)
    record["bugs in every phase, told and mended"] += 1


def test_two_fresh_runs_are_the_same_in_another_locale_and_by_another_clock(tmp_path: Path) -> None:
    """Neither hash seed, language, time of day nor speed is in a result."""
    paths = []
    for name in ("one", "two"):
        config = configure("mlp", "set", tmp_path / name)

        def elsewhere(name: str = name) -> None:
            os.environ.update(LC_ALL="tr_TR.UTF-8", PYTHONHASHSEED="7", TZ="Asia/Kathmandu")
            if name == "two":
                clock = time.time
                time.time = lambda: 2 * clock()
                time.perf_counter = time.time
            train(configure("mlp", "set", tmp_path / name))

        assert in_child(elsewhere) == 0
        paths.append(locate(config)[0])
    assert science(paths[0]) == science(paths[1])
