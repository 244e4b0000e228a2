"""SET: neural networks that are sparse from the first training step to the last (Mocanu et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    import pandas as pd

    from set_cli.estimator.classifier import SETClassifier
    from set_cli.trained.run import TrainedRun

__version__ = "0.1.0"
__all__ = ["SETClassifier", "load", "runs"]


def __getattr__(name: str) -> Any:
    """Import torch and scikit-learn for the estimator only."""
    if name != "SETClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from set_cli.estimator.classifier import SETClassifier

    return SETClassifier


def load(folder: str | os.PathLike[str], *, averaged: bool = False) -> TrainedRun:
    """The trained run in `folder`: it predicts and evaluates; its model (a torch module), topology and metrics.

    averaged  with the average of the weights in their place, of a run with train.ema

    A run that is not finished is loaded as its newest checkpoint has it. Raises DataError where the folder holds no run
    that can be read.
    """
    from set_cli.trained.load import load_run  # torch takes over a second to import: only who needs a model pays

    return load_run(folder, averaged=averaged)


def runs(folder: str | os.PathLike[str] = "runs") -> pd.DataFrame:
    """One row for every run in or below `folder`: configuration, status, figures (as set-report's), path.

    Figures of runs that are not finished, or were altered, are missing; `reason` says why. Needs no torch. Raises
    DataError where there is no such folder.
    """
    from set_cli.trained.listing import list_runs

    return list_runs(folder)
