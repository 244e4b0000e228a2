"""The analysis of a finished run: measured once, kept in its folder as analysis.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from set_cli.analysis.clustering import clustering, mean_clustering, shuffle_connections
from set_cli.analysis.graph import chains, measure_graph
from set_cli.analysis.overlap import join_positions, measure_overlap
from set_cli.analysis.paper_p import hidden_degrees, paper_p_value
from set_cli.analysis.power_law import SAMPLES, fit_power_law
from set_cli.analysis.records import Analysis, DegreeRow, GraphRow, LayerRow, Side, StrengthRow, TurnoverRow
from set_cli.analysis.strength import strength_from_checkpoint
from set_cli.config import model_facts
from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT
from set_cli.runs.degrees import FINAL, LARGEST_TOPOLOGY, Degrees, read_degrees
from set_cli.runs.files import snapshot_epochs, snapshot_name
from set_cli.runs.summary import check_unaltered
from set_cli.runs.topology import read_topology
from set_cli.sparse.pattern import Csr
from set_cli.system.files import LARGEST_JSON, read_arrays, read_json, write_json
from set_cli.system.plain_files import open_plain

FILE = "analysis.json"
VERSION = 3  # of what is measured and how; an analysis of another one is made anew
STRONGEST = 10  # inputs that are named
SHUFFLES = 3  # random layers beside each one
LARGEST = 1e12  # of what is counted or measured
SIDES: dict[str, Side] = {"out_degree": "inputs", "in_degree": "outputs"}

Checksums = Mapping[str, str]
Tell = Callable[[str], None]


def read_analysis(path: Path, checksums: Checksums) -> Analysis | None:
    """The analysis kept in this run's folder; None where there is none, or one of other files or another version.

    checksums  SHA-256 of the finished run's files by name, as in summary.json
    """
    try:
        with open_plain(path / FILE, follow=False) as stream:
            kept = Analysis.model_validate_json(stream.read(LARGEST_JSON))
    except (OSError, DataError, ValidationError, RecursionError):
        return None
    is_of_this_run = (kept.version, kept.sources) == (VERSION, _sources(path, checksums))
    return kept if is_of_this_run and _is_in_range(kept.model_dump()) else None


def _is_in_range(value: object) -> bool:
    """Whether every number in there is one that an analysis can have come to."""
    if isinstance(value, dict | list):
        return all(_is_in_range(part) for part in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= LARGEST


def keep_analysis(path: Path, analysis: Analysis) -> None:
    """Write analysis.json; StorageError where the folder does not take it."""
    write_json(path / FILE, analysis.model_dump(mode="json"))


def measure_run(path: Path, checksums: Checksums, tell: Tell = lambda what: None) -> Analysis:
    """Measure the topology of this finished run: seconds, for millions of connections minutes.

    checksums  as above
    tell       is called with the name of what comes next
    DataError where the run has no sparse layer, or its topology cannot be read.
    """
    tell("reading")
    degrees = read_degrees(path, checksums)
    epochs = snapshot_epochs(path, checksums)
    if not degrees or not epochs:
        raise DataError(f"{path}: no layer is sparse: there is no topology to analyse")

    def read(epoch: int) -> dict[str, Csr]:
        patterns = read_topology(path, checksums, epoch)
        _check_degrees(path, epoch, patterns, degrees)
        return patterns

    turnover, explored = _turnover(epochs, read, tell)
    layers, graphs = [], []
    inputs_of_data = "" if _has_convolutions(path) else "layer1"  # whose inputs are the data's, and have names
    first = read(epochs[0])
    for epoch in sorted({epochs[0], epochs[-1]}):
        patterns = read(epoch)
        tell(f"clustering and paths, epoch {epoch}")
        shuffled = {name: shuffle_connections(patterns[name], SHUFFLES, seed=i) for i, name in enumerate(patterns)}
        for name, pattern in patterns.items():
            layers.append(_layer_row(name, epoch, first[name], pattern, shuffled[name], explored[name, epoch]))
        for names in chains(patterns):
            both = ([patterns[name] for name in names], [shuffled[name][0] for name in names])
            hidden_inputs = names[0] != inputs_of_data
            measures, random = (measure_graph(one, hidden_inputs=hidden_inputs) for one in both)
            graphs.append(GraphRow(layers=names, epoch=epoch, measures=measures, random=random))
    return Analysis(
        version=VERSION,
        sources=_sources(path, checksums),
        degrees=_degree_rows(degrees, tell),
        layers=layers,
        graphs=graphs,
        turnover=turnover,
        strength=_strength_rows(path, checksums, {inputs_of_data: first[inputs_of_data]})
        if inputs_of_data in first
        else [],
    )


def _sources(path: Path, checksums: Checksums) -> dict[str, str]:
    snapshots = [snapshot_name(epoch) for epoch in snapshot_epochs(path, checksums)]
    return {name: checksums.get(name, "") for name in (FINAL, CURRENT, *snapshots)}


def _check_degrees(path: Path, epoch: int, patterns: Mapping[str, Csr], degrees: Degrees) -> None:
    """DataError where a snapshot is not of the layers that the degrees are of: its shape decides what is allocated."""
    shapes = {name: pattern.shape for name, pattern in patterns.items()}
    sizes = {key: values.shape[1] for key, values in degrees.items()}
    expected = {f"{name}/{kind}": n for name, shape in shapes.items() for kind, n in zip(SIDES, shape, strict=True)}
    if expected != sizes:
        raise DataError(f"{path / snapshot_name(epoch)}: has other layers than {FINAL}")


def _degree_rows(degrees: Degrees, tell: Tell) -> list[DegreeRow]:
    """Degree rows of the start, of the last topology that was trained, and of what the last removal left."""
    found: list[tuple[str, Side, NDArray[np.int32]]] = []
    hidden = hidden_degrees(degrees)
    for name, values in degrees.items():
        layer, _, kind = name.rpartition("/")
        found.append((layer, SIDES[kind], values))
        if kind == "in_degree" and hidden[layer] is not values:  # else the next layer is dense, or there is none
            found.append((layer, "both", hidden[layer]))
    rows = []
    for layer, side, values in found:
        for epoch in sorted({0, max(0, len(values) - 2), len(values) - 1}):
            tell(f"power law, {layer} {side}, epoch {epoch}")
            now = values[epoch]
            rows.append(
                DegreeRow(
                    layer=layer,
                    side=side,
                    epoch=epoch,
                    neurons=len(now),
                    mean=float(now.mean()),
                    deviation=float(now.std()),
                    largest=int(now.max()),
                    without=int((now == 0).sum()),
                    paper_p=paper_p_value(now),
                    power_law=fit_power_law(now, samples=SAMPLES),
                )
            )
    return rows


def _turnover(
    epochs: list[int], read: Callable[[int], dict[str, Csr]], tell: Tell
) -> tuple[list[TurnoverRow], dict[tuple[str, int], int]]:
    """What stayed between the snapshots, and by (layer, epoch) how many connections any of them until then had."""
    rows, explored = [], {}
    seen: dict[str, NDArray[np.int64]] = {}
    last: dict[str, Csr] = {}
    for before, epoch in zip([0, *epochs], epochs, strict=False):
        tell(f"overlap, epoch {epoch}")
        patterns = read(epoch)
        for name, pattern in patterns.items():
            positions = pattern.positions()
            seen[name] = join_positions(seen[name], positions) if name in seen else positions
            explored[name, epoch] = len(seen[name])
            if name in last:
                overlap = measure_overlap(last[name], pattern)
                rows.append(
                    TurnoverRow(
                        layer=name,
                        epoch=epoch,
                        before=before,
                        kept=overlap.kept,
                        kept_by_chance=pattern.nnz / pattern.cells,
                    )
                )
        last = patterns
    return rows, explored


def _layer_row(name: str, epoch: int, first: Csr, pattern: Csr, shuffled: list[Csr], explored: int) -> LayerRow:
    return LayerRow(
        layer=name,
        epoch=epoch,
        inputs=pattern.shape[0],
        outputs=pattern.shape[1],
        connections=pattern.nnz,
        kept=measure_overlap(first, pattern).kept,
        kept_by_chance=pattern.nnz / pattern.cells,
        explored=explored / pattern.cells,
        clustering=clustering(pattern),
        random_clustering=mean_clustering(shuffled),
    )


def _has_convolutions(path: Path) -> bool:
    """Whether the layers lie behind convolutions: their inputs are hidden neurons then."""
    config = read_json(path / "config.json")
    try:
        return not model_facts(config["model"]["name"]).sees_features
    except (LookupError, TypeError):
        raise DataError(f"{path / 'config.json'}: expected a configuration with a model") from None


def _strength_rows(path: Path, checksums: Checksums, layers: Mapping[str, Csr]) -> list[StrengthRow]:
    """Strengths of the inputs of the layer that sees the data."""
    check_unaltered(path, CURRENT, checksums, LARGEST_TOPOLOGY)
    name = next(iter(layers))
    try:
        strengths = strength_from_checkpoint(read_arrays(path / CURRENT, LARGEST_TOPOLOGY), name, layers[name].shape)
    except ValueError as error:
        raise DataError(f"{path / CURRENT}: {name} is no sparse layer ({error})") from None
    if strengths is None:
        return []
    order = np.argsort(-strengths, kind="stable")[:STRONGEST]
    return [StrengthRow(layer=name, inputs=order.tolist(), strengths=strengths[order].tolist())]
