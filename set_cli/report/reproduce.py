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
    sweep = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["set-train", *sweep, *_words(summary, summary["method"], f"seed={','.join(map(str, seeds))}")])


def sweep_command(summaries: Sequence[Mapping[str, Any]], seeds: int, runs_dir: str | None = None) -> str | None:
    """`set-train -m …` for the first so many seeds of all these configurations; what is trained already is skipped.

    None where no single command means all of them and nothing else: they differ in more than the method.
    """
    sparse = [summary for summary in summaries if summary["epsilon"] is not None]
    first = next((summary for summary in summaries if summary["zeta"] is not None), (sparse or summaries)[0])
    for key in ("epsilon", "zeta"):
        if len({summary[key] for summary in summaries} - {None}) > 1:
            return None
    keys = {key for summary in summaries for key in summary["settings"]}
    if any(summary["settings"].get(key, first["settings"].get(key)) != first["settings"].get(key)
           for key in keys for summary in summaries):  # fmt: skip
        return None
    methods = ",".join(dict.fromkeys(_typed(summary["method"]) for summary in summaries))
    words = _words(first, methods, f"seed=range({seeds})", quoted=False)
    return shlex.join(["set-train", "-m", *words, *([f"runs_dir={_typed(runs_dir)}"] if runs_dir else [])])


def _words(summary: Mapping[str, Any], method: str, seeds: str, *, quoted: bool = True) -> list[str]:
    words = [f"{group}={_typed(summary[group])}" for group in ("dataset", "model")]
    words.append(f"method={_typed(method) if quoted else method}")
    words += [f"{key}={_typed(summary[key])}" for key in ("epsilon", "zeta") if summary[key] is not None]
    words.append(seeds)
    settings = {key: value for key, value in summary["settings"].items() if KEY.fullmatch(key)}
    own = settings.pop("data", None)  # whose data it was: no key of the configuration
    if summary["dataset"] == "custom":
        words.append(f"dataset.path={_typed(str(own).rpartition(':')[0])}")
    return words + [f"{key}={_typed(value)}" for key, value in sorted(settings.items())]


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
