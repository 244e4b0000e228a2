"""The figures of a report: what the paper draws, of the runs that a comparison is made of; readable in greyscale."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from set_cli.data.entries import CATALOG
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun
from set_cli.report.figures import draw_input_degrees, save_figure
from set_cli.report.rows import METHODS, settings_text
from set_cli.runs.degrees import read_degrees
from set_cli.runs.summary import read_rows
from set_cli.storage import make_folder

# Apart in print too: each method has a line, a marker and a grey of its own.
STYLES: dict[str, dict[str, Any]] = {
    "dense": {"color": "#9a9a9a", "linestyle": ":", "marker": "s"},
    "fixprob": {"color": "#c4661f", "linestyle": "--", "marker": "^"},
    "set": {"color": "#1f3f77", "linestyle": "-", "marker": "o"},
}
OTHER = {"color": "#000000", "linestyle": "-.", "marker": "x"}
AXES = {"accuracy": "test accuracy (%)", "log_probability": "test log-probability (nats)"}
FORMATS = ("png", "svg")
MOST_SHOWN = 40  # characters of a name
MOMENTS = 5  # of a run that are drawn side by side


def draw_report(runs: Sequence[FinishedRun], folder: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure there is something for, as PNG and SVG; the files, and why others could not be drawn.

    <data set>-<model>[-n]-curves  the metric over the epochs, methods side by side, and connections (Fig. 2, 5, 7)
    <run>-degrees  in- and out-degrees of each sparse layer at the start, in the middle and at the end
    <run>-inputs   connections of every pixel at five moments (Fig. 4), for data of images

    StorageError where the folder cannot be written.
    """
    make_folder(folder)
    made: list[Path] = []
    missing: list[str] = []
    experiments: dict[tuple[str, str, str], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        key = (run.summary["dataset"], run.summary["model"], settings_text(run.summary["settings"]))
        experiments[key].append(run)
    counts: dict[str, int] = defaultdict(int)
    for (dataset, model, _), members in sorted(experiments.items()):
        name = _file_name(f"{dataset}-{model}")
        counts[name] += 1
        number = f"-{counts[name]}" if counts[name] > 1 else ""
        try:
            made += draw_curves(members, folder / f"{name}{number}-curves")
        except DataError as error:
            missing.append(str(error))
    for run in _first_of_each(runs):
        try:
            made += _draw_topology(run, folder)
        except DataError as error:
            missing.append(str(error))
    return made, missing


def draw_curves(runs: Sequence[FinishedRun], path: Path) -> list[Path]:
    """The metric over the epochs, one line per configuration (mean over seeds, band to the extremes); its connections.

    path  without a suffix. DataError where a run's metrics cannot be read.
    """
    groups: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    ordered = sorted(groups.values(), key=lambda members: _order(members[0]))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    labels = []
    for members in ordered:
        summary = members[0].summary
        metric, style = f"test_{summary['metric']}", STYLES.get(summary["method"], OTHER)
        epochs, values = _series(members, metric)
        labels.append(_label(summary, len(members)))
        left.plot(
            epochs, values.mean(axis=0), label=labels[-1], markevery=max(1, len(epochs) // 8), markersize=4, **style
        )
        if len(members) > 1:
            left.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.2, lw=0)
    left.set(xlabel="epoch", ylabel=AXES[ordered[0][0].summary["metric"]])
    left.grid(alpha=0.3)
    left.legend(fontsize="small", frameon=False)
    connections = [float(np.mean([run.summary["connections"] for run in members])) for members in ordered]
    colors = [STYLES.get(members[0].summary["method"], OTHER)["color"] for members in ordered]
    bars = right.barh(range(len(ordered)), connections, color=colors)
    right.bar_label(bars, [f"{count:,.0f}" for count in connections], padding=2, fontsize="small")
    right.set(
        xscale="log",
        xlabel="connections",
        yticks=range(len(ordered)),
        xlim=(min(connections) / 3, max(connections) * 30),
    )
    right.set_yticklabels([_plain(members[0].summary["method"], 16) for members in ordered])
    right.invert_yaxis()
    figure.suptitle(
        f"{_plain(ordered[0][0].summary['dataset'])}, {_plain(ordered[0][0].summary['model'])}", fontsize="medium"
    )
    return _save(figure, path)


def draw_degrees(degrees: Mapping[str, NDArray[np.int32]], path: Path) -> list[Path]:
    """How many neurons have at least so many connections, on logarithmic axes: of each layer, at three moments.

    degrees  '<layer>/out_degree' of its inputs, '<layer>/in_degree' of its outputs, (epochs + 1, neurons)
    path     without a suffix
    """
    names = sorted(degrees)
    figure = Figure(figsize=(3 * max(1, len(names) // 2), 5.2), layout="constrained")
    places = figure.subplots(2, max(1, len(names) // 2), squeeze=False)
    for i, name in enumerate(names):
        layer, _, kind = name.rpartition("/")
        axes = places[0 if kind == "out_degree" else 1][i // 2]
        values = degrees[name]
        for epoch, style in zip(_moments(len(values), 3), (":", "--", "-"), strict=False):
            found = np.sort(values[epoch])
            share = 1 - np.arange(len(found)) / len(found)
            seen = found > 0  # a logarithm has no 0; how many those are stands beside
            zeros = f", {int((~seen).sum())} without" if not seen.all() else ""
            axes.step(found[seen], share[seen], style, color="black", where="post", label=f"epoch {epoch}{zeros}")
        axes.set(
            xscale="log", yscale="log", title=f"{_plain(layer)}, {'inputs' if kind == 'out_degree' else 'outputs'}"
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize="x-small", frameon=False)
        axes.grid(alpha=0.3)
    for axes in places[1]:
        axes.set_xlabel("connections k")
    for row in places:
        row[0].set_ylabel("share of neurons with k or more")
    return _save(figure, path)


def _draw_topology(run: FinishedRun, folder: Path) -> list[Path]:
    degrees = read_degrees(run.path, run.summary["sha256"])
    if not degrees:
        return []
    name = _file_name("-".join(run.path.parts[-3:]))
    made = draw_degrees(degrees, folder / f"{name}-degrees")
    card, pixels = CATALOG.get(run.summary["dataset"]), degrees.get("layer1/out_degree")
    if card is None or card.shape is None or pixels is None or pixels.shape[1] != card.features:
        return made
    size = card.shape[-2] * card.shape[-1]
    of_pixels = pixels.reshape(len(pixels), -1, size).sum(axis=1)  # of all colours
    maps = {epoch: of_pixels[epoch] for epoch in _moments(len(of_pixels), MOMENTS)}
    for form in FORMATS:
        made.append(folder / f"{name}-inputs.{form}")
        draw_input_degrees(maps, card.shape[-2:], made[-1])
    return made


def _series(runs: Sequence[FinishedRun], metric: str) -> tuple[list[int], NDArray[np.float64]]:
    """The epochs in which all runs measured it, and (runs, epochs) values."""
    by_run = []
    for run in runs:
        rows = read_rows(run.path / "metrics.jsonl")
        try:
            by_run.append({int(row["epoch"]): float(row[metric]) for row in rows if metric in row})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{run.path}: metrics.jsonl has no figures to draw ({error})") from None
    epochs = sorted(set.intersection(*(set(values) for values in by_run)))
    values = np.array([[values[epoch] for epoch in epochs] for values in by_run])
    if not epochs or not np.isfinite(values).all():
        raise DataError(f"{runs[0].path}: metrics.jsonl has no figures to draw")
    return epochs, values


def _first_of_each(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """One run of each configuration: that of the smallest seed."""
    first: dict[str, FinishedRun] = {}
    for run in runs:
        if run.group not in first or run.summary["seed"] < first[run.group].summary["seed"]:
            first[run.group] = run
    return list(first.values())


def _moments(rows: int, most: int) -> list[int]:
    """So many epochs, evenly from the start to the last topology that was trained (the last removal is after it)."""
    last = max(0, rows - 2)
    return sorted({round(i * last / max(1, most - 1)) for i in range(most)})


def _order(run: FinishedRun) -> tuple[int, float, float]:
    method = run.summary["method"]
    place = METHODS.index(method) if method in METHODS else len(METHODS)
    return place, run.summary["epsilon"] or 0, run.summary["zeta"] or 0


def _label(summary: Mapping[str, Any], seeds: int) -> str:
    parts = [f"{sign}={summary[key]:g}" for sign, key in (("ε", "epsilon"), ("ζ", "zeta")) if summary[key] is not None]
    return _plain(" ".join([summary["method"], *parts])) + (f" (n={seeds})" if seeds > 1 else "")


def _plain(text: str, most: int = MOST_SHOWN) -> str:
    """Short, and without what matplotlib would take for mathematics."""
    return "".join(c for c in text if c.isprintable() and c not in "$\\")[:most]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:150]


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_name(f"{path.name}.{form}") for form in FORMATS]
    for file in files:
        save_figure(figure, file)
    return files
