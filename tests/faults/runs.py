"""A tiny run, trained in forked children that may be struck down, and what must be the same afterwards."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from set_cli.config import Config, from_mapping
from set_cli.errors import SetError
from tests.builders import MODELS, TINY, train
from tests.conftest import compose_mapping
from tests.faults.shim import Faults, watched

METHODS = ("set", "fixprob", "dense")


def configure(model: str, method: str, runs_dir: Path, *more: str) -> Config:
    overrides = (*TINY, *MODELS[model], f"method={method}", "backend.threads=1", f"runs_dir={runs_dir}", *more)
    return from_mapping(compose_mapping(*overrides))


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked child that does this and ends as set-train would; minus the signal that ended it.

    Forked, for torch takes seconds to import; with one thread, for a child has no more of its parent's.
    """
    torch.set_num_threads(1)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SetError as error:
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def struck(config: Config, at: int, how: int | None) -> int:
    """The exit code of a run whose call number `at` to the file system goes wrong."""
    return in_child(lambda: _train_watched(config, at, how))


def _train_watched(config: Config, at: int, how: int | None) -> None:
    with watched(Faults(Path(config.runs_dir), at, how)):
        train(config)


def calls_of(config: Config) -> list[str]:
    """What an undisturbed run does to its files, in order."""
    with watched(Faults(Path(config.runs_dir), 0, None)) as faults:
        train(config)
    return faults.seen
