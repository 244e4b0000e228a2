"""The figures of a report, one function each: what the paper draws, readable in print and in greyscale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle, product
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from set_cli.analysis.images import border_and_centre
from set_cli.analysis.paper_p import hidden_degrees, paper_p_value
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun
from set_cli.report.figures import LOOKS
from set_cli.report.rows import by_configuration, label, order_of
from set_cli.runs.summary import read_rows

# Apart in print too: each method has a line, a marker and a grey of its own.
STYLES: dict[str, dict[str, Any]] = {
    "dense": {"color": "#9a9a9a", "linestyle": ":", "marker": "s"},
    "fixprob": {"color": "#c4661f", "linestyle": "--", "marker": "^"},
    "set": {"color": "#1f3f77", "linestyle": "-", "marker": "o"},
    "small_dense": {"color": "#5e5e5e", "linestyle": ":", "marker": "D"},
    "magnitude_pruned": {"color": "#8a6d00", "linestyle": "--", "marker": "v"},
    "snfs": {"color": "#6a3d9a", "linestyle": "--", "marker": "P"},
    "rigl": {"color": "#b22222", "linestyle": "-", "marker": "s"},
    "itop": {"color": "#2e7d32", "linestyle": "-.", "marker": "^"},
    "mest": {"color": "#00838f", "linestyle": "-.", "marker": "v"},
    "granet": {"color": "#d81b60", "linestyle": "--", "marker": "D"},
    "ctre": {"color": "#795548", "linestyle": "-.", "marker": "P"},
    "cht": {"color": "#3f6fb5", "linestyle": ":", "marker": "o"},
    "chts": {"color": "#1565c0", "linestyle": "--", "marker": "o"},
    "chtss": {"color": "#0d2f66", "linestyle": "-.", "marker": "o"},
}
OTHER = {"color": "#000000", "linestyle": "-.", "marker": "x"}
AXES = {"accuracy": "test accuracy (%)", "log_probability": "test log-probability (nats)"}
LARGEST_EPOCH = 10**9
LARGEST = 1e100  # of what is drawn: axes have no room for more
MOST_SHOWN = 40  # characters of a name
MOST_LINES = 12  # in one figure
MOST_LAYERS = 12  # beside each other
MOST_POINTS = 200  # of a run whose p is drawn
MARKERS = ("o", "^", "s", "d", "x")  # of the layers whose p stands in one figure
MOST_FRAMES, FRAME_MS = 60, 120


@rc_context(LOOKS)
def plot_curves(runs: Sequence[FinishedRun]) -> Figure:
    """The metric over the epochs, one line per configuration (mean over seeds, band to the extremes), and connections:
    the paper's Fig. 2, 5 and 7.

    Of more than twelve configurations the best of each method and the next best, after the last epoch. DataError where
    a run's metrics cannot be read.
    """
    configurations = by_configuration(runs)
    ordered = sorted(foremost(configurations), key=lambda members: order_of(members[0].summary))
    figure = Figure(figsize=(8, max(3.6, 0.35 * len(ordered))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    labels = []
    for members in ordered:
        summary = members[0].summary
        metric, style = f"test_{summary['metric']}", STYLES.get(summary["method"], OTHER)
        epochs, values = _series(members, metric)
        labels.append(_plain(label(summary)) + (f" (n={len(members)})" if len(members) > 1 else ""))
        left.plot(
            epochs, values.mean(axis=0), label=labels[-1], markevery=max(1, len(epochs) // 8), markersize=4, **style
        )
        if len(members) > 1:
            left.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.2, lw=0)
    left.set(xlabel="epoch", ylabel=_axis(ordered[0][0].summary["metric"]))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
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
        xlim=(max(1.0, min(connections)) / 3, max(1.0, *connections) * 30),
    )
    right.set_yticklabels([_plain(members[0].summary["method"], 16) for members in ordered])
    right.invert_yaxis()
    some = "" if len(ordered) == len(configurations) else f", {len(ordered)} of {len(configurations)} configurations"
    figure.suptitle(_title(ordered[0][0].summary) + some, fontsize="medium")
    return figure


def foremost(configurations: Sequence[list[FinishedRun]]) -> list[list[FinishedRun]]:
    """The configurations that can be told apart in one figure: the best of each method and the next best."""
    ranked = sorted(configurations, key=lambda members: -float(np.mean([run.summary["last"] for run in members])))
    first_of_each = {members[0].summary["method"]: members for members in reversed(ranked)}
    chosen = list(first_of_each.values())[:MOST_LINES]
    return chosen + [members for members in ranked if members not in chosen][: MOST_LINES - len(chosen)]


@rc_context(LOOKS)
def plot_degrees(degrees: Mapping[str, NDArray[np.int32]]) -> Figure:
    """How many neurons have at least so many connections, on logarithmic axes: of each layer, at three moments.

    degrees  '<layer>/out_degree' of its inputs, '<layer>/in_degree' of its outputs, (epochs + 1, neurons)
    Of more than twelve layers the first twelve.
    """
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in degrees))[:MOST_LAYERS]
    figure = Figure(figsize=(3 * len(layers), 5.2), layout="constrained")
    places = figure.subplots(2, len(layers), squeeze=False)
    for (row, kind), (column, layer) in product(enumerate(("out_degree", "in_degree")), enumerate(layers)):
        axes, values = places[row][column], degrees[f"{layer}/{kind}"]
        for epoch, style in zip(moments(len(values), 3), (":", "--", "-"), strict=False):
            found = np.sort(values[epoch])
            share = 1 - np.arange(len(found)) / len(found)
            seen = found > 0  # a logarithm has no 0; how many those are stands beside
            zeros = f", {int((~seen).sum())} without" if not seen.all() else ""
            axes.step(
                found[seen], share[seen], style, color="black", where="post", label=f"{moment_text(epoch)}{zeros}"
            )
        axes.set_title(f"{_plain(layer, 16)}, {'outputs' if row else 'inputs'}", fontsize="medium")
        if values.any():  # else there is nothing that has a logarithm
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize="x-small", frameon=False)
        axes.grid(alpha=0.3)
    for axes in places[1]:
        axes.set_xlabel("connections k")
    for row in places:
        row[0].set_ylabel("share of neurons with k or more")
    return figure


@rc_context(LOOKS)
def plot_scale_free(run: FinishedRun, degrees: Mapping[str, NDArray[np.int32]]) -> Figure:
    """The metric over the epochs, and the p of the paper's one-tailed test of the hidden neurons' degrees: Fig. 3.

    Below 0.05 the paper reads the degrees as a power law (`analysis.paper_test`: not Clauset's test). DataError where
    the run's metrics cannot be read.
    """
    metric = run.summary["metric"]
    epochs, values = _series([run], f"test_{metric}")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    (curve,) = left.plot(epochs, values[0], "-", color=STYLES["set"]["color"], label=_axis(metric))
    handles = [curve]
    layers = list(hidden_degrees(degrees).items())[:MOST_LAYERS]
    for (layer, hidden), marker in zip(layers, cycle(MARKERS), strict=False):
        drawn = sorted({round(i * (len(hidden) - 1) / MOST_POINTS) for i in range(MOST_POINTS + 1)})
        p_values = [np.nan if p is None else p for p in (paper_p_value(hidden[epoch]) for epoch in drawn)]
        name = f"paper's p, neurons behind {_plain(layer)}"
        handles += right.plot(drawn, p_values, marker, color="#c4661f", markersize=4, fillstyle="none", label=name)
    right.axhline(0.05, color="#9a9a9a", linestyle=":", linewidth=1)
    left.set(xlabel="epoch", ylabel=_axis(metric))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(ylabel="p of the paper's one-tailed test", ylim=(-0.03, 1.03))
    figure.legend(handles=handles, fontsize="small", frameon=False, loc="outside lower center", ncols=2)
    left.set_title(f"{_title(run.summary)}, {_plain(label(run.summary))}", fontsize="medium")
    return figure


@rc_context(LOOKS)
def plot_input_maps(
    rows: Sequence[tuple[str, Mapping[int, NDArray[np.int32]]]], shape: tuple[int, int], of: int = 0
) -> Figure:
    """How many connections every pixel has, one network below the other, epoch beside epoch: Fig. 4.

    rows   a title and (height * width,) degrees by row of the record (`moment_text`); each on a scale from 0
    shape  (height, width)
    of     how many networks there are; said where more than are drawn
    Below each picture stand the mean degrees of its border and its centre.
    """
    columns = max(len(maps) for _, maps in rows)
    figure = Figure(figsize=(2.2 * columns + 1.2, 2.5 * len(rows)), layout="constrained")
    places = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, maps) in zip(places, rows, strict=True):
        largest = max(int(values.max()) for values in maps.values())
        for axes in line[len(maps) :]:
            axes.set_axis_off()
        for axes, (epoch, values) in zip(line, maps.items(), strict=False):
            image = axes.imshow(values.reshape(shape), cmap="viridis", vmin=0, vmax=largest, interpolation="nearest")
            border, centre = border_and_centre(values, shape)
            axes.set_title(moment_text(epoch), fontsize="small")
            axes.set_xlabel(f"border {border:.1f}, centre {centre:.1f}", fontsize="x-small")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(_plain(title), fontsize="small")
        figure.colorbar(image, ax=list(line[: len(maps)]), label="connections", fraction=0.05)
    if of > len(rows):
        figure.suptitle(f"{len(rows)} of {of} configurations", fontsize="medium")
    return figure


def input_movie(degrees: NDArray[np.int32], shape: tuple[int, int]) -> bytes:
    """The same map after every epoch, as an animated GIF of at most 60 pictures on one scale.

    degrees  (epochs + 1, height * width)
    """
    figure = Figure(figsize=(3.4, 2.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(
        degrees[0].reshape(shape), cmap="viridis", vmin=0, vmax=int(degrees.max()), interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    figure.colorbar(image, label="connections", fraction=0.045)
    frames = []
    for epoch in moments(len(degrees), MOST_FRAMES):
        image.set_data(degrees[epoch].reshape(shape))
        axes.set_title(moment_text(epoch), fontsize="medium")
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        frames.append(Image.fromarray(pixels).convert("RGB").quantize(160, dither=Image.Dither.NONE))
    content = BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return content.getvalue()


def _series(runs: Sequence[FinishedRun], metric: str) -> tuple[list[int], NDArray[np.float64]]:
    """The epochs in which all runs measured it, and (runs, epochs) values."""
    by_run = []
    for run in runs:
        rows = read_rows(run.path / "metrics.jsonl")
        try:
            by_run.append({int(row["epoch"]): float(row[metric]) for row in rows if metric in row})
            if any(not 0 <= epoch <= LARGEST_EPOCH for epoch in by_run[-1]):
                raise ValueError("an epoch beyond all runs")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{run.path}: metrics.jsonl has no figures to draw ({error})") from None
    epochs = sorted(set.intersection(*(set(values) for values in by_run)))
    values = np.array([[values[epoch] for epoch in epochs] for values in by_run])
    if not epochs or not (np.abs(values) < LARGEST).all():
        raise DataError(f"{runs[0].path}: metrics.jsonl has no figures to draw")
    return epochs, values


def moments(rows: int, most: int) -> list[int]:
    """Evenly spaced epochs from the start to the last topology that was trained (the last removal is after it)."""
    last = max(0, rows - 2)
    return sorted({round(i * last / max(1, most - 1)) for i in range(most)})


def moment_text(row: int) -> str:
    """When the network had the topology of this row of degrees: that after epoch 59's evolution is epoch 60's."""
    return f"epoch {row + 1}" if row else "start"


def _axis(metric: str) -> str:
    return AXES.get(metric, f"test {_plain(metric)}")


def _title(summary: Mapping[str, Any]) -> str:
    return f"{_plain(summary['dataset'])}, {_plain(summary['model'])}"


def _plain(text: str, most: int = MOST_SHOWN) -> str:
    """Short, and without what matplotlib would take for mathematics."""
    return "".join(c for c in text if c.isprintable() and c not in "$\\")[:most]
