"""What of a comparison is drawn, and into which files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from set_cli.config import method_facts, model_facts
from set_cli.data.catalog import CATALOG
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun
from set_cli.report.figures import save_figure
from set_cli.report.plots import (
    foremost,
    input_movie,
    moments,
    plot_curves,
    plot_degrees,
    plot_input_maps,
    plot_scale_free,
)
from set_cli.report.rows import by_configuration, experiment_of, label, settings_text
from set_cli.runs.degrees import read_degrees
from set_cli.system.files import make_folder, write_atomic

ALT_TEXTS = {
    "curves": "the test metric over the epochs, a line for each configuration; beside it bars of their connections",
    "inputs": "how many connections every pixel has, at the start, in the middle and at the end of training",
    "degrees": "the share of neurons with at least so many connections, on logarithmic axes, a panel for each layer, a "
    "line for each of three moments",
    "scale-free": "the test metric over the epochs, and the p of the paper's test of a power law",
}

MAPS = 3  # of a run: at the start, in the middle, at the end


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that can be drawn: what it shows, its files without suffix, what draws it (a GIF: its bytes).

    words  what is to be seen, for those who do not see it
    draw raises DataError where the runs' files do not hold what is to be drawn.
    """

    title: str
    name: str
    draw: Callable[[], Figure | bytes]
    words: str
    suffixes: tuple[str, ...] = ("png", "svg")


def draw_report(runs: Sequence[FinishedRun], folder: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure there is something for, as PNG and SVG (the moving one GIF); the files, and why others could
    not be drawn.

    <data set>-<model>[-n]-curves  the metric over the epochs, methods side by side, and connections (Fig. 2, 5, 7)
    <data set>-<model>[-n]-inputs  connections of every pixel of SET networks at three moments (Fig. 4)
    <run>-scale-free  the metric and the p of the paper's test over the epochs (Fig. 3)
    <run>-degrees     in- and out-degrees of each sparse layer at the start, in the middle and at the end
    <run>-inputs      connections of every pixel, moving
    Of each configuration the run with the smallest seed is drawn. StorageError where the folder cannot be written.
    """
    make_folder(folder)
    made: list[Path] = []
    missing: list[str] = []
    taken: dict[str, int] = defaultdict(int)
    for drawing in [*experiment_drawings(runs), *topology_drawings(runs)]:
        taken[drawing.name] += 1  # two names can be one once they are file names
        name = drawing.name + (f"-{taken[drawing.name]}" if taken[drawing.name] > 1 else "")
        try:
            drawn = drawing.draw()
        except DataError as error:
            if str(error) not in missing:  # one file can be wanted for several figures
                missing.append(str(error))
            continue
        if isinstance(drawn, bytes):
            made.append(folder / f"{name}.gif")
            write_atomic(made[-1], lambda stream, drawn=drawn: stream.write(drawn))  # type: ignore[misc]
            continue
        for suffix in drawing.suffixes:
            made.append(folder / f"{name}.{suffix}")
            save_figure(drawn, made[-1])
    return made, missing


def experiment_drawings(runs: Sequence[FinishedRun]) -> Iterator[Drawing]:
    """Curves of each data set, model and settings, and for images the input maps of all widths."""
    experiments: dict[tuple[str, str, str], list[FinishedRun]] = defaultdict(list)
    widths: dict[tuple[str, str, str], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        place = (run.summary["dataset"], run.summary["model"])
        experiments[experiment_of(run.summary)].append(run)
        others = {key: value for key, value in run.summary["settings"].items() if key != "model.hidden"}
        if method_facts(run.summary["method"]).evolves and _picture_shape(run) is not None:
            widths[*place, settings_text(others)].append(run)
    for kind, groups in (("curves", experiments), ("inputs", widths)):
        counts: dict[str, int] = defaultdict(int)
        for (dataset, model, settings), members in sorted(groups.items()):
            name = _file_name(f"{dataset}-{model}")
            counts[name] += 1
            number = f"-{counts[name]}" if counts[name] > 1 else ""
            title = " ".join(filter(None, (dataset, model, settings)))
            draw = _curves(members) if kind == "curves" else _input_maps(members)
            yield Drawing(f"{title}: {kind}", f"{name}{number}-{kind}", draw, f"{title}: {ALT_TEXTS[kind]}")


def topology_drawings(runs: Sequence[FinishedRun]) -> Iterator[Drawing]:
    """Degrees of each sparse configuration; for one that evolves also the paper's test and maps of its inputs."""
    for run, *_ in by_configuration(runs):
        if not method_facts(run.summary["method"]).is_sparse:
            continue
        name = _file_name("-".join(run.path.parts[-3:]))
        title = "/".join(run.path.parts[-3:])
        yield Drawing(f"{title}: degrees", f"{name}-degrees", _degrees(run), f"{title}: {ALT_TEXTS['degrees']}")
        if not method_facts(run.summary["method"]).evolves:
            continue
        words = f"{title}: {ALT_TEXTS['scale-free']}"
        yield Drawing(f"{title}: the paper's test", f"{name}-scale-free", _scale_free(run), words)
        if _picture_shape(run) is not None:
            yield Drawing(
                f"{title}: inputs", f"{name}-inputs", _movie(run), f"{title}: {ALT_TEXTS['inputs']}", ("gif",)
            )


def _curves(members: list[FinishedRun]) -> Callable[[], Figure]:
    return lambda: plot_curves(members)


def _degrees(run: FinishedRun) -> Callable[[], Figure]:
    return lambda: plot_degrees(_read(run))


def _scale_free(run: FinishedRun) -> Callable[[], Figure]:
    return lambda: plot_scale_free(run, _read(run))


def _movie(run: FinishedRun) -> Callable[[], bytes]:
    return lambda: input_movie(*_pixels(run))


def _input_maps(members: list[FinishedRun]) -> Callable[[], Figure]:
    def draw() -> Figure:
        rows = []
        configurations = by_configuration(members)
        shape, without = (1, 1), None
        for run, *_ in foremost(configurations):
            try:
                pixels, shape = _pixels(run)
            except DataError as error:  # so many connections that the first layer is dense: the others have their rows
                without = error
                continue
            title = f"{label(run.summary)}, {_read(run)['layer1/in_degree'].shape[1]:,} hidden"
            rows.append((title, {epoch: pixels[epoch] for epoch in moments(len(pixels), MAPS)}))
        if not rows:
            raise without or DataError("no configuration: there are no maps of inputs to draw")
        return plot_input_maps(rows, shape, len(configurations))

    return draw


def _read(run: FinishedRun) -> dict[str, NDArray[np.int32]]:
    degrees = read_degrees(run.path, run.summary["sha256"])
    if not degrees:
        raise DataError(f"{run.path}: no layer is sparse: there are no degrees to draw")
    return degrees


def _picture_shape(run: FinishedRun) -> tuple[int, int] | None:
    """(height, width) of the data's pictures where the first layer is on them; None where there are none."""
    card = CATALOG.get(run.summary["dataset"])
    on_pixels = model_facts(run.summary["model"]).sees_features
    return None if card is None or card.shape is None or not on_pixels else (card.shape[-2], card.shape[-1])


def _pixels(run: FinishedRun) -> tuple[NDArray[np.int32], tuple[int, int]]:
    """(epochs + 1, height * width) connections of every pixel, of all its colours, and (height, width)."""
    shape = _picture_shape(run)
    pixels = _read(run).get("layer1/out_degree")
    if shape is None or pixels is None or pixels.shape[1] % (shape[0] * shape[1]):
        raise DataError(f"{run.path}: the first layer is not sparse, or not on pictures: no map of inputs")
    return pixels.reshape(len(pixels), -1, shape[0] * shape[1]).sum(axis=1, dtype=np.int32), shape


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:150]
