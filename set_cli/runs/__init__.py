"""Run folders: one per run, every file written whole or not at all. Needs no torch.

Called, `set_cli.runs(folder)`, it lists the runs in a folder as a DataFrame.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class _Runs(ModuleType):
    """The module as a function. Python puts a module that is imported into its package under its own name: in the place
    of the function `set_cli.runs`, which it then has to be."""

    def __call__(self, folder: str | os.PathLike[str] = "runs") -> pd.DataFrame:
        from set_cli.trained.listing import list_runs

        return list_runs(folder)


sys.modules[__name__].__class__ = _Runs
