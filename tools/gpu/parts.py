"""Which parts there are, what each gets, and what is said of it in the end. Standard library only."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu.figures import Figures


@dataclass(frozen=True, slots=True)
class Part:
    """limit: seconds after which it is killed; least: seconds without which it is not begun."""

    module: str
    limit: float
    least: float


PARTS = {
    "tests": Part("gpu.suite", 150, 40),
    "bench": Part("gpu.bench", 170, 30),
    "large": Part("gpu.large", 150, 60),
    "training": Part("gpu.training", 150, 60),
    "products": Part("gpu.products", 60, 20),
    "crossover": Part("gpu.crossover", 60, 20),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a part is told.

    root     of the repository
    work     an empty folder for its files; small ones come back in details.tar.gz
    data     the folder with cifar10_10000.npz, if any
    device   cuda, or cpu to try the parts without a GPU
    scale    of the sizes, below 1 to try the parts on a small machine
    seconds  after which it is killed
    threads  of the processes that compute on the CPU beside others
    """

    part: str
    root: str
    figures: str
    work: str
    data: str | None
    device: str
    scale: float
    seconds: float
    threads: int

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    def new_figures(self) -> Figures:
        return Figures(self.part, Path(self.figures))


def failed(figures: Figures, what: str, error: BaseException) -> None:
    """Note that this failed. After an error that spoils the whole process begin a new one, which leaves out what is
    there already."""
    traceback.print_exception(error)
    first = str(error).partition("\n")[0]
    figures.add(what, f"failed: {type(error).__name__} {first}"[:80], wanted="to run", held=False)
    if "CUDA error" in str(error) or "illegal memory access" in str(error):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_part(text: str) -> None:
    """Do what these settings say, in this process."""
    settings = Settings(**json.loads(text))
    importlib.import_module(PARTS[settings.part].module).main(settings)
