"""Find run folders and read them: finished runs whose files are as they were written, and why the others are not."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from set_cli.errors import DataError
from set_cli.runs.folder import is_run_folder, read_status, was_killed
from set_cli.runs.summary import LARGEST_ROWS, REPORTED, SUMMARY, VERSION, altered_figures
from set_cli.system.files import canonical_json, read_json, sha256

Types = Mapping[str, type | tuple[type, ...]]

# What every summary has, from the first version on: a run without one of these is unreadable.
SUMMARY_TYPES: Types = {
    "dataset": str,
    "model": str,
    "method": str,
    "epsilon": (float, int, type(None)),
    "zeta": (float, int, type(None)),
    "seed": int,
    "settings": dict,
    "metric": str,
    "last": (float, int),
    "best": (float, int),
    "best_on": str,
    "connections": int,
    "connections_final": int,
    "parameters": int,
    "dense_parameters": int,
    "seconds_per_epoch": (float, int),
    "peak_memory_mb": (float, int),
}
# What a later version added: None where an older run lacks it, checked like the others where it is there.
LATER_SUMMARY_TYPES: Types = {
    "version": int,
    "digest": str,
    "ended": (str, type(None)),
    "averaged": float,
    "seconds_per_evolution": (float, int),
    "evolution_memory_mb": (float, int),
}

NEVER_NEGATIVE = (
    "connections",
    "connections_final",
    "parameters",
    "dense_parameters",
    "seconds_per_epoch",
    "peak_memory_mb",
    "seconds_per_evolution",
    "evolution_memory_mb",
    "version",
)
LARGEST = 1e18  # of a figure
LONGEST_NAME = 200  # characters of a name
MOST_SHOWN = 1000  # characters of a reason


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that counts; group is its configuration without the seed, as text; versions of set_cli and torch."""

    path: Path
    group: str
    summary: Mapping[str, Any]
    versions: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that does not count, and why: its status, 'altered' or 'unreadable'.

    group, seed  of its configuration, where that can be read: whose row it is missing in
    """

    path: Path
    why: str
    detail: str
    group: str | None = None
    seed: int | None = None


def find_run_folders(folders: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Every run folder in or below these folders, once, in the order of their names; and what cannot be looked into."""
    found: dict[str, Path] = {}
    closed: list[LeftOut] = []

    def note(error: OSError) -> None:
        closed.append(LeftOut(Path(error.filename), "unreadable", error.strerror or str(error)))

    for folder in folders:
        waiting = [os.fspath(folder)]
        while waiting:  # not os.walk: it calls itself, and folders can be deeper than Python goes
            name = waiting.pop()
            try:
                with os.scandir(name) as entries:
                    inside = list(entries)
                folders_inside = [entry for entry in inside if entry.is_dir()]
            except OSError as error:
                note(error)
                continue
            # Its folders are looked into as well: a stray file of that name must not hide the runs beside it.
            if is_run_folder({entry.name for entry in inside} - {entry.name for entry in folders_inside}):
                found.setdefault(os.path.realpath(name), Path(name))
            else:
                links = [Path(entry.path) for entry in folders_inside if entry.is_symlink()]
                closed += [LeftOut(link, "skipped", "a symbolic link; name the folder it leads to") for link in links]
            waiting += [entry.path for entry in folders_inside if not entry.is_symlink()]
    return sorted(found.values(), key=_natural), closed


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sort key by which s2 comes before s10."""
    parts = re.split(r"([0-9]{1,18})", str(path))
    return [(i % 2 == 1, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def read_run(path: Path) -> FinishedRun | LeftOut:
    """The finished run in this folder, or why it does not count. Never raises for what a folder holds."""
    links = [name for name in ("status.json", SUMMARY, *REPORTED) if (path / name).is_symlink()]
    if links:  # to files from outside, of which the report would show parts
        return LeftOut(path, "unreadable", f"{', '.join(links)}: expected a file, found a symbolic link")
    try:
        status = read_status(path)
        if status != "done":
            why = "killed" if status == "running" and was_killed(path) else status or "not started"
            return LeftOut(path, why, _reason(path), *_configuration(path))
        summary = _read_summary(path)
        changed = [name for name in REPORTED if _sha256(path / name) != summary["sha256"].get(name)]
        changed = changed or altered_figures(path, summary)
        if changed:
            return LeftOut(path, "altered", f"{', '.join(changed)} changed after the run", *_configuration(path))
        config = read_json(path / "config.json")
        if not isinstance(config, dict):
            raise DataError(f"{path / 'config.json'}: expected a configuration")
        group = _group(config)
    except (DataError, OSError, ValueError, RecursionError) as error:
        return LeftOut(path, "unreadable", str(error), *_configuration(path))
    return FinishedRun(path, group, {**dict.fromkeys(LATER_SUMMARY_TYPES), **summary}, _versions(path))


def _sha256(path: Path) -> str:
    return sha256(path, LARGEST_ROWS, follow=False)


def _group(config: Mapping[str, Any]) -> str:
    return canonical_json({key: value for key, value in config.items() if key != "seed"})


def _configuration(path: Path) -> tuple[str | None, int | None]:
    """Group and seed of a run that does not count; None where its configuration cannot be read."""
    try:
        config = read_json(path / "config.json")
        seed = config.get("seed") if isinstance(config, dict) else None
        if isinstance(seed, int) and not isinstance(seed, bool):
            return _group(config), seed
    except (DataError, OSError, ValueError, RecursionError):
        pass
    return None, None


def _versions(path: Path) -> tuple[str, str] | None:
    """Versions of set_cli and torch in the run's last start; None where its record cannot be read."""
    try:
        last = read_json(path / "run.json")[-1]
        return str(last["set_cli"]), str(last.get("packages", {}).get("torch"))
    except (DataError, LookupError, TypeError, AttributeError):
        return None


def _reason(path: Path) -> str:
    """What status.json says about a run that is not done, each fact once: its folder is named beside it."""
    if not os.path.lexists(path / "status.json"):
        return ""
    status = read_json(path / "status.json")
    epoch, reason = f"epoch {status.get('epoch')}", str(status.get("reason") or "")
    before, _, rest = reason.partition(": ")
    if rest and os.path.basename(before) == path.name:  # as the run called its folder, from wherever it was started
        reason = rest
    if "epoch" not in reason:
        reason = f"{epoch}, {reason}" if reason else epoch
    return reason[:MOST_SHOWN]


def _read_summary(path: Path) -> Mapping[str, Any]:
    """The figures of a finished run, as they were sealed; DataError where one is missing or cannot be.

    Keys that are not known here are ignored: a later version may have written them. Its summary is read for the keys
    that are known, and refused only where one of them is gone.
    """
    summary = read_json(path / SUMMARY)
    if not isinstance(summary, dict) or not isinstance(summary.get("sha256"), dict):
        raise DataError(f"{path / SUMMARY}: expected a summary with checksums")
    for name in [*SUMMARY_TYPES, *(name for name in LATER_SUMMARY_TYPES if name in summary)]:
        _check_figure(path / SUMMARY, name, summary)
    if not summary["dense_parameters"]:
        raise DataError(f"{path / SUMMARY}: dense_parameters is out of range")
    for key, value in summary["settings"].items():
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            raise DataError(f"{path / SUMMARY}: settings has more than values and lists of them in {key!r:.60}")
    return summary


def _check_figure(file: Path, name: str, summary: Mapping[str, Any]) -> None:
    """DataError where the figure of that name is missing or cannot be."""
    value: Any = summary.get(name)
    expected = SUMMARY_TYPES[name] if name in SUMMARY_TYPES else LATER_SUMMARY_TYPES[name]
    is_right_type = isinstance(value, expected) and not isinstance(value, bool)
    if name not in summary or not is_right_type:
        raise DataError(f"{file}: {name} is missing or of the wrong type{_if_newer(summary)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{file}: {name} is not finite")
    is_number = isinstance(value, int | float) and name != "seed"
    if is_number and (abs(value) > LARGEST or (name in NEVER_NEGATIVE and value < 0)):
        raise DataError(f"{file}: {name} is out of range")
    if isinstance(value, str) and len(value) > LONGEST_NAME:
        raise DataError(f"{file}: {name} has more than {LONGEST_NAME} characters")


def _if_newer(summary: Mapping[str, Any]) -> str:
    """What to do about a figure that is missing because a later version of this program wrote the summary."""
    version = summary.get("version")
    if not isinstance(version, int) or not VERSION < version <= LARGEST:
        return ""
    return f"; a newer set_cli wrote this run (summary version {version}, known here: {VERSION}): report it with that"
