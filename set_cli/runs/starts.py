"""What a run that is resumed is compared with: the starts before, the data and how the network got its rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from set_cli.errors import DataError
from set_cli.runs.checkpoint import Checkpoint
from set_cli.runs.environment import differences
from set_cli.runs.inputs import INPUTS, RunInputs, read_inputs
from set_cli.system.files import read_json


def read_starts(path: Path, checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of run.json, and a sentence where they are lost and the checkpoint's copy of the last one is taken.

    DataError where there is no copy: nobody knows then on which data the run was trained.
    """
    try:
        starts = read_json(path / "run.json")
        differences(starts[-1], starts[-1])  # has all that this start is compared with
        check_same_data(path, starts[-1]["checksums"], dict(starts[-1]["checksums"]))
        return list(starts), []
    except (DataError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"run.json is missing or damaged ({error!s:.100})".replace(f"{path}/", "")
    if checkpoint.start:
        return [dict(checkpoint.start)], [f"{reason}: of the earlier starts only the last one is known"]
    raise DataError(
        f"{path}: {reason}; it says on which data the run was trained: put it back from a copy, or train again from "
        "the start with resume=never"
    )


def check_same_data(path: Path, before: Mapping[str, str], checksums: Mapping[str, str]) -> None:
    """DataError where the run that is to be resumed was trained on other data."""
    if before != checksums:
        changed = ", ".join(
            sorted(name for name in before.keys() | checksums if before.get(name) != checksums.get(name))
        )
        raise DataError(
            f"{path}: {changed} changed since this run started; put it back, or start again with resume=never"
        )


def check_same_inputs(path: Path, inputs: RunInputs) -> None:
    """DataError where the network would get other values of the same rows than before the run was interrupted."""
    before = None
    with suppress(DataError):  # missing in older runs; a damaged one is written anew
        before = read_inputs(path)
    if before is not None and not before.agrees_with(inputs):
        raise DataError(
            f"{path / INPUTS}: rows were scaled or named otherwise when this run started; resume it with the version "
            "of set_cli that started it, or train it again with resume=never"
        )
