"""summary.json, written last: the figures that set-report reads, and the checksums of what they came from.

Runs are read by later versions of this program than the one that trained them, and by earlier ones. So a key keeps its
name and its meaning: a figure that is computed in another way gets another name. A key can be added: VERSION rises with
it, and readers take it as optional, since older runs lack it (`LATER_SUMMARY_TYPES` in report/collect.py).

From version 2 on a summary has a SHA-256 of itself (`digest`). The figures of an older one are computed again where it
is read, from the configuration, the rows and the counts that it was made from.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from set_cli.config import flatten
from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT
from set_cli.runs.degrees import FINAL
from set_cli.runs.files import METRICS_FILE, TIMING_FILE
from set_cli.system.files import parse_json, read_json, sha256, write_json
from set_cli.system.plain_files import open_plain

SUMMARY = "summary.json"
VERSION = 4  # of the keys; a summary without a version is older than 1 and has what 1 has, save the version
FIRST_WITH_DIGEST = 2
DIGEST = "digest"
METRICS = ("accuracy", "log_probability")  # percent, nats: of both more is better
# What a report reads is small and checked every time; set_cli.load checks what it reads.
REPORTED = ("config.json", "params.json", METRICS_FILE)
LARGEST_ROWS = 2**30  # bytes; a million epochs take about half of it


def read_rows(path: Path, length: int | None = None) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; DataError names the line that is not an object.

    length  bytes that are read, from its start; None: all
    """
    try:
        with open_plain(path, follow=False) as stream:
            content = stream.read(LARGEST_ROWS + 1 if length is None else length)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: could not be read ({error})") from None
    if len(content) > LARGEST_ROWS:
        raise DataError(f"{path}: expected at most {LARGEST_ROWS:,} bytes")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected a JSON object")
        rows.append(row)
    return rows


def check_unaltered(path: Path, name: str, checksums: Mapping[str, str], largest: int | None = None) -> None:
    """DataError where a finished run's file is not what the run wrote; no checksums: of a run that is not finished.

    largest  bytes that it may have
    """
    if checksums and sha256(path / name, largest, follow=False) != checksums.get(name):
        raise DataError(f"{path / name}: altered after the run; its SHA-256 is not the one in {SUMMARY}")


def metric_of(names: Iterable[str]) -> str:
    """The metric among these names of what was measured; ValueError where there is none."""
    names = set(names)
    for metric in METRICS:
        if metric in names:
            return metric
    raise ValueError(f"expected one of {METRICS} among {sorted(names)}")


def write_summary(
    folder: Path,
    scientific: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
    checksums: Mapping[str, str],
) -> dict[str, Any]:
    """Write and return the summary of a finished run.

    checksums  SHA-256 of the files, as the run has written them
    """
    rows, timing = read_rows(folder / METRICS_FILE), read_rows(folder / TIMING_FILE)
    summary = {
        "version": VERSION,
        "settings": dict(settings),
        **computed_figures(scientific, read_json(folder / "params.json")["total"], rows, timing),
        **figures,
        "sha256": {**checksums, **{name: sha256(folder / name, follow=False) for name in (CURRENT, FINAL)}},
    }
    summary[DIGEST] = digest_of(summary)
    write_json(folder / SUMMARY, summary)
    return summary


def computed_figures(
    scientific: Mapping[str, Any],
    totals: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What a summary says that follows from the configuration, the counts of params.json and the rows of all epochs.

    The best epoch is the best on the validation rows where there are any, else the best on the test rows (the paper's
    habit, and said so); its test accuracy is `best`.
    """
    timed = [row for row in timing if "paused" not in row] or timing
    metric = metric_of(key.removeprefix("test_") for key in rows[-1])
    best_on = "valid" if f"valid_{metric}" in rows[-1] else "test"
    # An RBM's log-probability is not estimated in every epoch.
    best = max((row for row in rows if f"{best_on}_{metric}" in row), key=lambda row: row[f"{best_on}_{metric}"])
    return {
        "dataset": scientific["dataset"]["name"],
        "model": scientific["model"]["name"],
        "method": scientific["method"]["name"],
        "epsilon": scientific.get("epsilon"),
        "zeta": scientific.get("zeta"),
        "seed": scientific["seed"],
        "metric": metric,
        "epochs": len(rows),
        "last": rows[-1][f"test_{metric}"],
        "best": best[f"test_{metric}"],
        "best_epoch": best["epoch"],
        "best_on": best_on,
        # Of an RBM's log-probabilities: the standard error of log Z, which the best of many estimates hides.
        "last_error": rows[-1].get("test_log_z_error"),
        "best_error": best.get("test_log_z_error"),
        # Whether enough chains carry these estimates (None: nothing was estimated).
        "last_chains_agree": rows[-1].get("test_chains_agree"),
        "best_chains_agree": best.get("test_chains_agree"),
        # Of the averaged weights, where there are some.
        **({"averaged": rows[-1][f"test_ema_{metric}"]} if f"test_ema_{metric}" in rows[-1] else {}),
        **{key: totals[key] for key in ("connections", "connections_final", "parameters", "dense_parameters")},
        "seconds_per_epoch": statistics.median(row["train_seconds"] + row["evolve_seconds"] for row in timed),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in timing),
        **_cost_of_evolutions(timing),
    }


def _cost_of_evolutions(timing: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Time and extra memory of an evolution; nothing where the run had none, or does not say."""
    evolved = [row for row in timing if "evolutions" in row]
    if not evolved:
        return {}
    timed = [row for row in evolved if "paused" not in row] or evolved
    memory = [row["evolve_memory_mb"] for row in evolved if "evolve_memory_mb" in row]
    return {
        "seconds_per_evolution": statistics.median(row["evolve_seconds"] / row["evolutions"] for row in timed),
        **({"evolution_memory_mb": max(memory)} if memory else {}),
    }


def digest_of(summary: Mapping[str, Any]) -> str:
    """SHA-256 of what a summary says, save the digest itself; ValueError where that is no strict JSON."""
    said = {key: value for key, value in summary.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode()).hexdigest()


def altered_figures(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """What a summary says that is not what the run wrote: 'summary.json', or figures of an older summary by name.

    DataError where nothing is there to compare an older one with.
    """
    version = summary.get("version")
    if summary.get(DIGEST) is not None or (isinstance(version, int) and version >= FIRST_WITH_DIGEST):
        return [] if summary.get(DIGEST) == digest_of(summary) else [SUMMARY]
    config = read_json(folder / "config.json")
    try:
        totals = read_json(folder / "params.json")["total"]
        computed = computed_figures(config, totals, read_rows(folder / METRICS_FILE), read_rows(folder / TIMING_FILE))
        return [*_other_figures(summary, computed), *_other_settings(summary["settings"], flatten(config))]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder}: no files from which the figures of {SUMMARY} could be ({error!s:.200})") from None


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run; DataError where it, or a file of REPORTED, is not what the run wrote."""
    summary = read_json(folder / SUMMARY)
    if not isinstance(summary, dict) or not isinstance(summary.get("sha256"), dict):
        raise DataError(f"{folder / SUMMARY}: expected a summary with checksums")
    altered = altered_figures(folder, summary)
    if altered:
        raise DataError(f"{folder / SUMMARY}: altered after the run ({', '.join(altered)})")
    for name in REPORTED:
        check_unaltered(folder, name, summary["sha256"])
    return summary


def _other_figures(summary: Mapping[str, Any], computed: Mapping[str, Any]) -> Iterator[str]:
    """Figures that are others; keys that came after the summary was written are not in it."""
    for key, value in computed.items():
        if key in summary and (summary[key] != value or type(summary[key]) is not type(value)):
            yield f"{key} in {SUMMARY}"


def _other_settings(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that the run did not have. Of the user's own data the checksum is known, not the file's name."""
    checksums = {"data": "dataset.checksum", "test_data": "dataset.test_checksum"}
    for key, value in settings.items():
        if key in checksums:
            is_right = str(value).endswith(f":{str(config.get(checksums[key]))[:8]}")
        else:
            is_right = key in config and config[key] == value and type(config[key]) is type(value)
        if not is_right:
            yield f"{key!r:.60} among the settings in {SUMMARY}"
