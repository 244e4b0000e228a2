"""SET: neural networks that are sparse from the first training step to the last (Mocanu et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from set_cli.loading import TrainedRun

__version__ = "0.1.0"


def load(folder: str | os.PathLike[str]) -> TrainedRun:
    """The trained run in `folder`: its model (a torch module), topology and metrics.

    Raises DataError where the folder holds no run that can be read.
    """
    from set_cli.loading import load_run  # torch takes over a second to import: only who needs a model pays

    return load_run(folder)
