"""The command that trains a row of the comparison again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from set_cli.data.catalog import CATALOG
from set_cli.data.files import data_folder
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun
from set_cli.system.files import read_json

PLAIN = re.compile(r"[A-Za-z0-9_./:%+-]+")  # a value that Hydra's grammar takes without quotes
KEY = re.compile(r"[A-Za-z0-9_.]+")
FILES = {"data": "dataset.path", "test_data": "dataset.test_path"}  # settings that name a file of one's own


def reproduce_command(summary: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """`set-train …` for a run like this one with these seeds; several are a sweep.

    Everything else is the default of the data set and model, so the command means what it meant as long as the defaults
    do: the code's version is in the run's record. Files of one's own have their names only: where they lay is private.
    """
    sweep = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["set-train", *sweep, *_words(summary, summary["method"], f"seed={','.join(map(str, seeds))}")])


def sweep_command(runs: Sequence[FinishedRun], seeds: int, runs_dir: str | None = None) -> str | None:
    """`set-train -m …` for the first so many seeds of all these configurations; what is trained already is skipped.

    runs  one of each configuration; files and folders of data are named as they were given to the run

    None where no single command means all of them and nothing else: they differ in more than the method.
    """
    summaries = [run.summary for run in runs]
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
    places = _places(runs[summaries.index(first)].path)
    words = _words(first, methods, f"seed=range({seeds})", quoted=False, places=places)
    return shlex.join(["set-train", "-m", *words, *([f"runs_dir={_typed(runs_dir)}"] if runs_dir else [])])


def _words(
    summary: Mapping[str, Any], method: str, seeds: str, *, quoted: bool = True, places: Mapping[str, str] | None = None
) -> list[str]:
    """places  where the data lay, by key; a file that is not among them has its name"""
    words = [f"{group}={_typed(summary[group])}" for group in ("dataset", "model")]
    words.append(f"method={_typed(method) if quoted else method}")
    words += [f"{key}={_typed(summary[key])}" for key in ("epsilon", "zeta") if summary[key] is not None]
    words.append(seeds)
    settings = {key: value for key, value in summary["settings"].items() if KEY.fullmatch(key)}
    own = {key: settings.pop(name) for name, key in FILES.items() if name in settings}  # no keys of the configuration
    given, card, usual = places or {}, CATALOG.get(summary["dataset"]), str(data_folder(None))
    if summary["dataset"] == "custom":
        words += [f"{key}={_typed(given.get(key) or str(named).rpartition(':')[0])}" for key, named in own.items()]
    elif card and not card.bundled and given.get("data.dir", usual) != usual:
        words.append(f"data.dir={_typed(given['data.dir'])}")
    return words + [f"{key}={_typed(value)}" for key, value in sorted(settings.items())]


def _places(path: Path) -> dict[str, str]:
    """Paths of the run's data, by key, as its record has them; runs of older versions have none.

    What is relative to another folder than the current one is found from here, if it is there.
    """
    try:
        start = read_json(path / "run.json")[-1]
        options, folder = dict(start["options"]), str(start.get("folder", "."))
    except (DataError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    given = {key: options.get(key) for key in (*FILES.values(), "data.dir")}
    return {key: _from_here(place, folder) for key, place in given.items() if isinstance(place, str) and place}


def _from_here(place: str, folder: str) -> str:
    there = Path(folder, place)
    try:
        is_elsewhere = Path(folder) != Path.cwd() and there.exists()
    except (OSError, ValueError):
        is_elsewhere = False
    return str(there) if is_elsewhere else place


def _typed(value: object) -> str:
    """The value as Hydra's grammar reads it; floats to the last digit."""
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
