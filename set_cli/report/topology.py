"""What the finished runs' topologies have become: measured once a run, side by side in tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from set_cli.analysis.measure import keep_analysis, measure_run, read_analysis
from set_cli.analysis.overlap import Overlap, correlate_degrees, measure_overlap
from set_cli.analysis.power_law import Comparison as Rival
from set_cli.analysis.records import Analysis, DegreeRow, StrengthRow
from set_cli.config import method_facts, model_facts
from set_cli.errors import DataError, StorageError
from set_cli.report.collect import FinishedRun
from set_cli.report.rows import by_configuration
from set_cli.report.tables import csv_text
from set_cli.report.text import render_text
from set_cli.runs.topology import read_topology
from set_cli.system.terminal import Column

Tell = Callable[[FinishedRun, str], None]


@dataclass(frozen=True, slots=True)
class PairRow:
    """The last topologies of two runs of one configuration, layer by layer.

    inputs_correlation  Spearman's, of the degrees of the same inputs: of the first layer only, hidden neurons have no
                        names
    """

    first: Path
    second: Path
    layer: str
    overlap: Overlap
    inputs_correlation: float | None


@dataclass(frozen=True, slots=True)
class Topologies:
    """The analyses of runs by their folders, pairs of runs of one configuration, and what could not be analysed."""

    analyses: dict[Path, Analysis]
    pairs: list[PairRow]
    missing: list[str]


def analyze_runs(runs: Sequence[FinishedRun], tell: Tell = lambda run, what: None) -> Topologies:
    """Measure every run with a sparse layer, or read what was measured before, and compare runs of one configuration.

    tell  is called with what comes next: seconds to minutes lie between two calls
    """
    analyses: dict[Path, Analysis] = {}
    missing: list[str] = []
    for run in runs:
        checksums = run.summary["sha256"]
        if "degrees.npz" not in checksums or not method_facts(run.summary["method"]).is_sparse:
            continue
        try:
            analysis = read_analysis(run.path, checksums)
            if analysis is None:
                analysis = measure_run(run.path, checksums, lambda what, run=run: tell(run, what))  # type: ignore[misc]
                keep_analysis(run.path, analysis)
        except StorageError as error:
            missing.append(f"not kept: {error}")
        except DataError as error:
            missing.append(f"not analysed: {error}")
            continue
        assert analysis is not None
        analyses[run.path] = analysis
    pairs: list[PairRow] = []
    for members in by_configuration([run for run in runs if run.path in analyses]):
        for other in members[1:]:
            tell(other, f"overlap with {members[0].path.name}")
            try:
                pairs += pair_topologies(members[0], other)
            except (DataError, ValueError) as error:
                missing.append(f"not compared: {error}")
    return Topologies(analyses, pairs, missing)


def kept_topologies(runs: Iterable[FinishedRun]) -> Topologies:
    """What was measured before of the first run of each configuration; nothing is measured."""
    first = (members[0] for members in by_configuration(runs))
    found = ((run.path, read_analysis(run.path, run.summary["sha256"])) for run in first)
    return Topologies({path: analysis for path, analysis in found if analysis is not None}, [], [])


def pair_topologies(first: FinishedRun, second: FinishedRun) -> list[PairRow]:
    """The last topologies of two runs, layer by layer of one name.

    DataError where one cannot be read; ValueError for layers of different shapes.
    """
    ours, theirs = (read_topology(run.path, run.summary["sha256"]) for run in (first, second))
    rows = []
    for layer in ours.keys() & theirs.keys():
        a, b = ours[layer], theirs[layer]
        named = layer == "layer1" and model_facts(first.summary["model"]).sees_features
        correlation = correlate_degrees(a.out_degrees(), b.out_degrees()) if named else None
        rows.append(PairRow(first.path, second.path, layer, measure_overlap(a, b), correlation))
    return sorted(rows, key=lambda row: row.layer)


def run_name(path: Path) -> str:
    """data set/model/run: what says which run it is."""
    return "/".join(path.parts[-3:])


Placed = tuple[Path, Any]  # a row, and the run that it is of


def render_topologies(topologies: Topologies, form: str, width: int | None = None) -> str:
    """Tables for people, one after the other; json: every figure; csv: one figure a line."""
    if form == "json":
        return json.dumps(_as_json(topologies), indent=2, allow_nan=False) + "\n"
    if form == "csv":
        return csv_text(_figures(topologies), ["run", "table", "layer", "side", "epoch", "measure", "value"])
    parts = []
    for title, columns, rows in tables(topologies):
        text = render_text(columns, rows, form, width)
        if text:
            parts.append(_headline(title, form) + text)
    return "\n".join(parts)


def tables(topologies: Topologies) -> list[tuple[str, list[Column[Any]], list[Any]]]:
    """Title, columns and rows of each table."""
    placed = topologies.analyses.items()
    degrees = [(path, row) for path, analysis in placed for row in analysis.degrees]
    return [
        (_degrees_title(topologies), DEGREE_COLUMNS, degrees),
        ("Layers", LAYER_COLUMNS, [(path, row) for path, analysis in placed for row in analysis.layers]),
        ("Networks", GRAPH_COLUMNS, [(path, row) for path, analysis in placed for row in analysis.graphs]),
        ("Strongest inputs", STRENGTH_COLUMNS, [(path, row) for path, analysis in placed for row in analysis.strength]),
        ("Between runs", PAIR_COLUMNS, topologies.pairs),
    ]


def _degrees_title(topologies: Topologies) -> str:
    """Says how far the bootstrap's p can be trusted."""
    rows = [row for analysis in topologies.analyses.values() for row in analysis.degrees]
    fewest = min((row.power_law.samples for row in rows if row.power_law is not None), default=0)
    if fewest < 1:  # a kept analysis is a file that anybody may have written
        return "Degrees"
    return f"Degrees (Clauset's p: {fewest:,} samples each, standard error {0.5 / math.sqrt(fewest):.2f} at most)"


def _headline(title: str, form: str) -> str:
    return {"markdown": f"**{title}**\n\n", "latex": f"% {title}\n"}.get(form, f"{title}\n")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _figure(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _law(row: DegreeRow, name: str, digits: int = 2) -> str:
    return "" if row.power_law is None else _figure(getattr(row.power_law, name), digits)


def _rival(row: DegreeRow, name: str) -> str:
    rival: Rival | None = None if row.power_law is None else getattr(row.power_law, name)
    return "" if rival is None else f"{rival.ratio:+.1f} (p {rival.p:.2f})"


def _of(title: str, cell: Callable[[Any], str], right: bool = True) -> Column[Placed]:
    return Column(title, lambda placed: cell(placed[1]), right)


RUN_COLUMN: Column[Placed] = Column("run", lambda placed: run_name(placed[0]), False)

DEGREE_COLUMNS = [
    RUN_COLUMN,
    _of("layer", lambda row: row.layer, False),
    _of("neurons", lambda row: row.side, False),
    _of("epoch", lambda row: str(row.epoch)),
    _of("how many", lambda row: f"{row.neurons:,}"),
    _of("mean", lambda row: f"{row.mean:.1f} ± {row.deviation:.1f}"),
    _of("largest", lambda row: f"{row.largest:,}"),
    _of("without", lambda row: f"{row.without:,}"),
    _of("paper's p", lambda row: _figure(row.paper_p)),
    _of("alpha", lambda row: _law(row, "alpha")),
    _of("x_min", lambda row: _law(row, "x_min", 0)),
    _of("tail", lambda row: _law(row, "tail", 0)),
    _of("distance", lambda row: _law(row, "distance", 3)),
    _of("Clauset's p", lambda row: _law(row, "p")),
    _of("to log-normal", lambda row: _rival(row, "log_normal")),
    _of("to exponential", lambda row: _rival(row, "exponential")),
]

LAYER_COLUMNS = [
    RUN_COLUMN,
    _of("layer", lambda row: row.layer, False),
    _of("epoch", lambda row: str(row.epoch)),
    _of("shape", lambda row: f"{row.inputs:,} x {row.outputs:,}"),
    _of("connections", lambda row: f"{row.connections:,}"),
    _of("kept", lambda row: _share(row.kept)),
    _of("by chance", lambda row: _share(row.kept_by_chance)),
    _of("explored", lambda row: _share(row.explored)),
    _of("clustering", lambda row: _figure(row.clustering, 4)),
    _of("random", lambda row: _figure(row.random_clustering, 4)),
]

GRAPH_COLUMNS = [
    RUN_COLUMN,
    _of("layers", lambda row: " ".join(row.layers), False),
    _of("epoch", lambda row: str(row.epoch)),
    _of("neurons", lambda row: f"{row.measures.neurons:,}"),
    _of("components", lambda row: f"{row.measures.components:,}"),
    _of("in the largest", lambda row: _share(row.measures.largest / max(row.measures.neurons, 1))),
    _of("dead", lambda row: f"{row.measures.dead:,}"),
    _of("path length", lambda row: _figure(row.measures.path_length)),
    _of("random", lambda row: _figure(row.random.path_length)),
    _of("reachable", lambda row: _share(row.measures.reachable)),
]


def _strongest(row: StrengthRow) -> str:
    return ", ".join(f"{i} ({strength:.1f})" for i, strength in zip(row.inputs, row.strengths, strict=False))


STRENGTH_COLUMNS: list[Column[Placed]] = [
    RUN_COLUMN,
    _of("layer", lambda row: row.layer, False),
    _of("inputs, with the sum of their absolute weights", _strongest, False),
]

PAIR_COLUMNS: list[Column[PairRow]] = [
    Column("run", lambda row: run_name(row.first), False),
    Column("and", lambda row: row.second.name, False),
    Column("layer", lambda row: row.layer, False),
    Column("in common", lambda row: f"{row.overlap.common:,}", True),
    Column("by chance", lambda row: f"{row.overlap.expected:,.0f} ± {row.overlap.deviation:,.0f}", True),
    Column("inputs' degrees correlate", lambda row: _figure(row.inputs_correlation, 2), True),
]


def _as_json(topologies: Topologies) -> dict[str, Any]:
    runs = {
        str(path): analysis.model_dump(mode="json", exclude={"version", "sources"})
        for path, analysis in topologies.analyses.items()
    }
    pairs = [{**asdict(row), "first": str(row.first), "second": str(row.second)} for row in topologies.pairs]
    return {"runs": runs, "pairs": pairs}


def _figures(topologies: Topologies) -> list[dict[str, Any]]:
    """One figure a line, the tables' rows taken apart."""
    lines = []
    for path, analysis in topologies.analyses.items():
        for table in ("degrees", "layers", "graphs", "turnover"):
            for row in getattr(analysis, table):
                place = {"run": str(path), "table": table, "epoch": row.epoch}
                place |= {"layer": getattr(row, "layer", None), "side": getattr(row, "side", None)}
                if table == "graphs":
                    place["layer"] = " ".join(row.layers)
                values = row.model_dump(exclude={"layer", "layers", "side", "epoch"})
                lines += [{**place, "measure": name, "value": value} for name, value in _flat(values)]
        for strong in analysis.strength:
            place = {"run": str(path), "table": "strength", "layer": strong.layer, "side": "inputs"}
            strongest = zip(strong.inputs, strong.strengths, strict=False)
            lines += [{**place, "measure": f"input {i}", "value": strength} for i, strength in strongest]
    for pair in topologies.pairs:
        place = {"run": str(pair.first), "table": f"with {pair.second}", "layer": pair.layer}
        values = asdict(pair.overlap) | {"inputs_correlation": pair.inputs_correlation}
        lines += [{**place, "measure": name, "value": value} for name, value in values.items()]
    return lines


def _flat(values: object, prefix: str = "") -> list[tuple[str, Any]]:
    if is_dataclass(values) and not isinstance(values, type):
        values = asdict(values)
    if not isinstance(values, dict):
        return [(prefix, values)]
    return [pair for key, value in values.items() for pair in _flat(value, f"{prefix}.{key}" if prefix else key)]
