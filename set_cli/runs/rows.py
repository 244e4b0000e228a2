"""The keys of the rows of metrics.jsonl and timing.jsonl, and whether the rows of a run that is resumed have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from set_cli.errors import DataError
from set_cli.runs.files import METRICS_FILE, TIMING_FILE
from set_cli.runs.summary import read_rows

MEASURED = ("loss", "accuracy", "reconstruction_loss", "pseudo_log_likelihood", "free_energy", "log_probability",
            "log_z_error", "temperatures", "effective_chains", "chains_agree")  # fmt: skip
AVERAGED = ("ema_loss", "ema_accuracy")  # of the averaged weights, where there are some
SCHEDULED = ("lr", "zeta")  # where they change in a run
METRICS_KEYS = {
    *SCHEDULED,
    *("epoch", "train_loss", "connections", "pruned", "pruned_zeros", "regrown"),
    *(f"{part}_{name}" for part in ("test", "valid") for name in (*MEASURED, *AVERAGED)),
}
TIMED = {"epoch", "train_seconds", "evaluate_seconds", "evolve_seconds", "peak_memory_mb"}
TIMING_KEYS = {*TIMED, "evolutions", "evolve_memory_mb", "threads", "paused"}


def check_rows(folder: Path, lengths: Mapping[str, int], epochs: int) -> None:
    """DataError where these bytes of metrics.jsonl and timing.jsonl are not one row an epoch with the keys of ours."""
    for name, known, needed in (
        (
            METRICS_FILE,
            METRICS_KEYS,
            {key for key in METRICS_KEYS if not key.startswith(("test_", "valid_"))} - {*SCHEDULED},
        ),
        (TIMING_FILE, TIMING_KEYS, TIMED),
    ):
        rows = read_rows(folder / name, lengths[name]) if lengths[name] else []
        if len(rows) != epochs:
            raise DataError(f"{folder / name}: expected the rows of {epochs} epochs, found {len(rows)}")
        for number, row in enumerate(rows, start=1):
            others = sorted((row.keys() - known) | (needed - row.keys()))
            if others or row["epoch"] != number:
                what = f"{', '.join(others):.100} is missing or unknown" if others else "it is of another epoch"
                raise DataError(f"{folder / name}, line {number}: damaged, {what}")
            if not all(isinstance(value, int | float) for value in row.values()):
                raise DataError(f"{folder / name}, line {number}: damaged, a value is no number")
