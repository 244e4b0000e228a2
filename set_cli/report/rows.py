"""The comparison: one row per configuration without seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from set_cli.config import METHODS
from set_cli.report.apart import OF_ONE_METHOD, told_apart
from set_cli.report.collect import FinishedRun, LeftOut
from set_cli.report.paper import paper_value

# The keys of a row of JSON or CSV, in this order; scripts rely on them. (The table's columns: tables.TABLE_COLUMNS.)
ROW_KEYS = [
    "dataset",
    "model",
    "method",
    "epsilon",
    "zeta",
    "settings",
    "n",
    "metric",
    "last_mean",
    "last_std",
    "best_mean",
    "best_std",
    "best_on",
    "connections",
    "connections_final",
    "parameters",
    "dense_parameters",
    "seconds_per_epoch",
    "peak_memory_mb",
    "paper",
    "difference",
]

LOST = ("diverged", "failed", "killed")  # endings after which a mean is one over the survivors


@dataclass(frozen=True, slots=True)
class Configuration:
    """A row: its figures with exactly ROW_KEYS, its finished runs, and how each seed stands that has none."""

    row: dict[str, Any]
    members: list[FinishedRun]
    unfinished: Mapping[int, str]

    @property
    def figures(self) -> dict[str, Any]:
        """The row, with what a table has beside the keys that scripts rely on: averaged weights, cost of evolutions.

        None where a run lacks the figure: without averaged weights, without evolutions, or of an earlier version.
        """
        averaged = self._of_all("averaged")
        seconds, memory = self._of_all("seconds_per_evolution"), self._of_all("evolution_memory_mb")
        return self.row | {
            "averaged_mean": None if averaged is None else float(averaged.mean()),
            "averaged_std": None if averaged is None else _deviation(averaged),
            "seconds_per_evolution": None if seconds is None else float(seconds.median()),
            "evolution_memory_mb": None if memory is None else float(memory.max()),
        }

    def _of_all(self, name: str) -> pd.Series[float] | None:
        """A figure of every run; None where one lacks it."""
        values = pd.Series([run.summary.get(name) for run in self.members], dtype=float)
        return None if values.isna().any() else values

    @property
    def started(self) -> list[int]:
        """Every seed that was started, ascending."""
        return sorted({*self.unfinished, *(run.summary["seed"] for run in self.members)})

    @property
    def lost(self) -> list[str]:
        """How the seeds ended that nothing more will come of."""
        return [why for _, why in sorted(self.unfinished.items()) if why in LOST]

    @property
    def seeds_text(self) -> str:
        """'3', '2 of 3' where a seed did not finish, '2 of 3*' where one never will."""
        of = f" of {len(self.started)}" if self.unfinished else ""
        return f"{len(self.members)}{of}{'*' if self.lost else ''}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table, and what there is to say about it.

    configurations  its rows
    left_out        what did not count
    missing         seeds that a row lacks beside its peers and that were not started
    doubtful        runs that count but whose figures may be wrong, and why
    counted         the runs of which the rows are made
    """

    configurations: list[Configuration]
    left_out: list[LeftOut]
    missing: list[str]
    doubtful: list[str]
    counted: list[FinishedRun]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figures, each row with exactly ROW_KEYS."""
        return [configuration.row for configuration in self.configurations]


def compare(runs: Sequence[FinishedRun | LeftOut]) -> Comparison:
    """Group finished runs by configuration, with mean and sample standard deviation over the seeds.

    A seed counts once: of several copies (…, …-2, made with resume=never) the last given, the others are listed.
    Configurations that would look alike have what tells them apart among their settings.
    """
    left_out = [run for run in runs if isinstance(run, LeftOut)]
    latest: dict[tuple[str, int], FinishedRun] = {}
    for run in runs:
        if isinstance(run, FinishedRun):
            key = (run.group, run.summary["seed"])
            if key in latest:
                left_out.append(LeftOut(latest[key].path, "repeated", f"the same run again is in {run.path}"))
            latest[key] = run
    counted = told_apart(list(latest.values()))
    unfinished: dict[str, dict[int, str]] = defaultdict(dict)
    for run in left_out:
        if run.group is not None and run.seed is not None and (run.group, run.seed) not in latest:
            unfinished[run.group][run.seed] = run.why
    groups = by_configuration(counted)
    made = [Configuration(_row(members), members, unfinished.get(members[0].group, {})) for members in groups]
    made.sort(key=lambda configuration: _order(configuration.row))
    doubtful = [*_doubtful(counted), *_mixed(groups)]
    return Comparison(made, left_out, _missing_seeds(made), doubtful, counted)


def _row(runs: list[FinishedRun]) -> dict[str, Any]:
    frame = pd.DataFrame([dict(run.summary) for run in runs])
    first = runs[0].summary
    paper = paper_value(*(first[key] for key in ("dataset", "model", "method", "epsilon", "zeta")))
    best_mean = float(frame["best"].mean())
    row = {key: first[key] for key in ("dataset", "model", "method", "epsilon", "zeta", "metric", "best_on")} | {
        "settings": settings_text(first["settings"]),
        "n": len(frame),
        "last_mean": float(frame["last"].mean()),
        "last_std": _deviation(frame["last"]),
        "best_mean": best_mean,
        "best_std": _deviation(frame["best"]),
        "connections": round(frame["connections"].mean()),
        "connections_final": round(frame["connections_final"].mean()),
        "parameters": round(frame["parameters"].mean()),
        "dense_parameters": int(first["dense_parameters"]),
        "seconds_per_epoch": float(frame["seconds_per_epoch"].median()),
        "peak_memory_mb": float(frame["peak_memory_mb"].max()),
        "paper": None if paper is None else paper.value,
        "difference": None if paper is None else best_mean - paper.value,
    }
    return {key: row[key] for key in ROW_KEYS}


def _doubtful(runs: Sequence[FinishedRun]) -> list[str]:
    """One sentence a doubt, said once of all the runs that share it."""
    shared: dict[str, list[FinishedRun]] = {}
    for run in runs:
        for doubt in _doubts(run):
            shared.setdefault(doubt, []).append(run)
    return [
        f"{found[0].path}{f' and {len(found) - 1:,} more' * (len(found) > 1)}: {doubt}"
        for doubt, found in shared.items()
    ]


def _doubts(run: FinishedRun) -> Iterator[str]:
    differences = run.summary.get("differences")
    if isinstance(differences, list) and differences:
        changed = "; ".join(map(str, differences))
        yield f"interrupted, and resumed otherwise ({changed}): maybe not bit for bit the same"
    doubts = run.summary.get("doubts")
    yield from map(str, doubts if isinstance(doubts, list) else [])
    figures = [figure for figure in ("last", "best") if run.summary.get(f"{figure}_chains_agree") is False]
    if figures:
        yield f"few annealed chains carry log Z: {' and '.join(figures)} may be off by more than its error"


def _mixed(groups: Sequence[list[FinishedRun]]) -> list[str]:
    """Rows whose seeds were trained by other versions: their spread may be that of the versions."""
    sentences = []
    for runs in groups:
        for i, package in enumerate(("set_cli", "torch")):
            versions = sorted({run.versions[i] for run in runs if run.versions is not None})
            if len(versions) > 1:
                name = runs[0].path.parent / runs[0].path.name.rsplit("-s", 1)[0]
                sentences.append(f"{name}: seeds trained by other versions of {package} ({', '.join(versions)})")
    return sentences


def _deviation(values: pd.Series[float]) -> float | None:
    """Sample standard deviation; None for a single run, which says nothing about the spread."""
    deviation = float(values.std(ddof=1))
    return None if math.isnan(deviation) else deviation


def settings_text(settings: Mapping[str, Any]) -> str:
    """What differs from the pair's defaults, as one would type it."""
    return " ".join(f"{key}={_typed(value)}" for key, value in sorted(settings.items()))


def _typed(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_typed(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(row: dict[str, Any]) -> tuple[object, ...]:
    return (row["dataset"], row["model"], row["settings"], order_of(row))


def order_of(summary: Mapping[str, Any]) -> tuple[int, float, float]:
    """A sort key for configurations of one experiment: the paper's order of methods, then epsilon and zeta."""
    method = [*METHODS, summary["method"]].index(summary["method"])
    return method, summary["epsilon"] or 0, summary["zeta"] or 0


def method_text(summary: Mapping[str, Any]) -> str:
    """'set ε=20 ζ=0.3', of a run's summary or of a row."""
    parts = [f"{sign}={summary[key]:g}" for sign, key in (("ε", "epsilon"), ("ζ", "zeta")) if summary[key] is not None]
    return " ".join([summary["method"], *parts])


def label(summary: Mapping[str, Any]) -> str:
    """What tells a configuration from others of its experiment: the method, and settings that only it has."""
    own = {key: value for key, value in summary["settings"].items() if key in OF_ONE_METHOD}
    return " ".join(filter(None, [method_text(summary), settings_text(own)]))


def experiment_of(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """Data set, model and settings: what configurations have in common that differ in their method only."""
    shared = {key: value for key, value in summary["settings"].items() if key not in OF_ONE_METHOD}
    return summary["dataset"], summary["model"], settings_text(shared)


def by_configuration(runs: Iterable[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs that differ in their seeds only, together, the smallest seed first."""
    groups: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    return [sorted(members, key=lambda run: run.summary["seed"]) for members in groups.values()]


def _missing_seeds(configurations: Sequence[Configuration]) -> list[str]:
    """Sentences about rows that belong together (same data set, model and settings) and have different seeds.

    What was started and did not finish is listed already.
    """
    peers: dict[tuple[str, str, str], list[Configuration]] = defaultdict(list)
    for configuration in configurations:
        peers[experiment_of(configuration.members[0].summary)].append(configuration)
    sentences = []
    for related in peers.values():
        all_seeds = {seed for configuration in related for seed in configuration.started}
        for configuration in related:
            lacking = sorted(all_seeds - set(configuration.started))
            if lacking:
                path = configuration.members[0].path
                seeds = ", ".join(map(str, lacking))
                sentences.append(f"{path.parent / path.name.rsplit('-s', 1)[0]}: no finished run with seed {seeds}")
    return sentences
