"""The command that trains a row of the comparison again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

PLAIN = re.compile(r"[A-Za-z0-9_./:%+-]+")  # a value that Hydra's grammar takes without quotes
KEY = re.compile(r"[A-Za-z0-9_.]+")


def reproduce_command(summary: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """`set-train …` for a run like this one with these seeds; several are a sweep.

    Everything else is the default of the data set and model, so the command means what it meant as long as the defaults
    do: the code's version is in the run's record. A custom file has to be named: `dataset.path` stands for it.
    """
    words = [f"{group}={_typed(summary[group])}" for group in ("dataset", "model", "method")]
    words += [f"{key}={_typed(summary[key])}" for key in ("epsilon", "zeta") if summary[key] is not None]
    words.append("seed=" + ",".join(map(str, seeds)))
    settings = {key: value for key, value in summary["settings"].items() if KEY.fullmatch(key)}
    own = settings.pop("data", None)  # whose data it was: no key of the configuration
    if summary["dataset"] == "custom":
        words.append(f"dataset.path={_typed(str(own).rpartition(':')[0])}")
    words += [f"{key}={_typed(value)}" for key, value in sorted(settings.items())]
    sweep = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["set-train", *sweep, *words])


def _typed(value: object) -> str:
    """As Hydra's grammar reads it; floats to the last digit."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return "[" + ",".join(map(_typed, value)) + "]"
        case str() if not PLAIN.fullmatch(value):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case _:
            return str(value)
