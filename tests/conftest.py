"""Shared fixtures: a composed configuration, commands in a child process, real data, the compiled kernels."""

from __future__ import annotations

import copy
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import hydra
import numpy as np
import pytest
import torch
from hypothesis import settings
from omegaconf import OmegaConf

from set_cli import native
from set_cli.config import Config, from_mapping
from tests.faults.figures import FIGURES
from tests.warm import run_warm

np.seterr(all="raise")
# A test that takes long on a machine that does other things has not failed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Without a GPU the kernels written for one run under Triton's interpreter, which it asks for at its import.
INTERPRETER = "TRITON_INTERPRET"
if not torch.cuda.is_available():
    os.environ[INTERPRETER] = "1"

Compose = Callable[..., Config]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

# The tests' networks are too small for more: threads would only wait for each other.
ONE_THREAD = "backend.threads=1"

TRAIN = "import set_cli.commands.train; set_cli.commands.train.main()"
# A machine that has neither: None in sys.modules would do, did SciPy not look for torch there.
NO_TORCH = """
import sys
class Nowhere:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("torch", "hydra"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nowhere())
"""
REPORT = "import set_cli.commands.report; set_cli.commands.report.main()"


def compose_mapping(*overrides: str) -> Mapping[str, Any]:
    """What Hydra makes of these overrides, as plain containers."""
    # Folders are put in afterwards: Hydra takes 70 ms, and tests differ in their folders most of all.
    folders = [word for word in overrides if re.fullmatch(r"runs_dir=[\w/.-]+", word)]
    composed = copy.deepcopy(_composed(tuple(word for word in overrides if word not in folders)))
    for word in folders:
        composed["runs_dir"] = word.removeprefix("runs_dir=")
    return composed


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    with hydra.initialize_config_module("set_cli.conf", version_base="1.3"):
        composed = hydra.compose("train", overrides=list(overrides))
    return cast(dict[str, Any], OmegaConf.to_container(composed, resolve=False))


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """A checked configuration whose runs go to the test's own folder."""

    def make(*overrides: str) -> Config:
        return from_mapping(compose_mapping(f"runs_dir={tmp_path}/runs", "progress=none", ONE_THREAD, *overrides))

    return make


def plain_environment() -> dict[str, str]:
    """The environment of commands: no real data, no interpreted kernels."""
    return {key: value for key, value in os.environ.items() if key not in ("SET_DATA_DIR", INTERPRETER)}


def run_command(program: str, *arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in `folder`: a process that has imported what it needs, or, where variables are set, a new one."""
    if variables or not Path("/proc/self/fd").exists():
        return run_python("-c", program, *arguments, folder=folder, **variables)
    return run_warm(program, arguments, folder, plain_environment())


def run_python(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python child in `folder`, its output as text."""
    environment = plain_environment() | variables
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def set_train(tmp_path: Path) -> Command:
    """set-train in a child process, in the test's own folder."""
    return lambda *arguments, **variables: run_command(TRAIN, *arguments, folder=tmp_path, **variables)


@pytest.fixture
def set_report(tmp_path: Path) -> Command:
    """set-report in a child process, in the test's own folder."""
    return lambda *arguments: run_command(REPORT, *arguments, folder=tmp_path)


@pytest.fixture
def real_data() -> str:
    """The folder of real data, or a skip that says why."""
    folder = os.environ.get("SET_DATA_DIR")
    if not folder:
        pytest.skip("SET_DATA_DIR is not set: no real data here")
    return folder


@pytest.fixture(params=["portable", "avx2", "avx512"])
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this processor has, in turn."""
    core = native.core
    assert core is not None
    before = core.simd()
    if not core.use_simd(request.param):
        pytest.skip(f"this processor or this build has no {request.param}")
    yield request.param
    core.use_simd(before)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads also for the little work that tests have."""
    monkeypatch.setattr(native, "WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a test of `-m 'MARK or MARK'`: importing all takes ten seconds of each worker."""
    wanted = config.option.markexpr.split(" or ")
    if not all(map(str.isidentifier, wanted)) or not re.fullmatch(r"test_\w+\.py", collection_path.name):
        return None
    text = collection_path.read_text()
    return not any(f"mark.{name}" in text for name in wanted) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, or one process would be at the last while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this process's fault tests add up to the one that prints (pytest-xdist)."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = dict(FIGURES)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    FIGURES.update(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("faults")
        for name, count in FIGURES.items():
            terminalreporter.write_line(f"{name:45} {count:6,}")
