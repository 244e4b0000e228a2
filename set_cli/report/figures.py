"""Pictures of a trained network's connections; each function draws one, as PNG, SVG or PDF by the file's name."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from set_cli.errors import ConfigError
from set_cli.system.files import write_atomic

FORMATS = ("png", "svg", "pdf")
PICTURE_INCHES = 2.4
FILTER_INCHES = 0.6


def draw_filters(
    filters: NDArray[np.float32], shape: Sequence[int], path: str | os.PathLike[str], *, count: int = 64
) -> None:
    """The receptive fields of hidden units, those with the largest weights first, as pictures side by side.

    filters  (n_hidden, n_visible) weights, 0 where there is no connection: `RBM.filters()`
    shape    (height, width) of the visible units
    Red is positive, blue negative, white 0 or no connection; each picture has its own scale. ConfigError for a shape
    that the visible units do not have, a count below 1, and other file names than PNG, SVG and PDF.
    """
    if count < 1:
        raise ConfigError(f"count: expected at least 1 hidden unit to draw, found {count}")
    height, width = _check_shape(shape, filters.shape[1])
    order = np.argsort(-np.square(filters).sum(axis=1), kind="stable")[:count]
    columns = math.ceil(math.sqrt(len(order)))
    figure = Figure(figsize=(columns * FILTER_INCHES, math.ceil(len(order) / columns) * FILTER_INCHES))
    for place, unit in enumerate(order, start=1):
        axes = figure.add_subplot(math.ceil(len(order) / columns), columns, place)
        limit = float(np.abs(filters[unit]).max()) or 1.0
        picture = np.where(filters[unit] == 0, np.nan, filters[unit]).reshape(height, width)
        axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        _frame(axes)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.08, 0.08)
    save_figure(figure, path)


def draw_input_degrees(
    degrees: Mapping[int, NDArray[np.int32]], shape: Sequence[int], path: str | os.PathLike[str]
) -> None:
    """How many connections every visible unit has, after these epochs side by side (the paper's Fig. 4).

    degrees  by epoch, (n_visible,): `TrainedRun.input_degrees`
    shape    (height, width) of the visible units
    One scale for all, from 0. ConfigError as `draw_filters`.
    """
    if not degrees:
        raise ConfigError("expected the degrees of at least one epoch")
    pictures = {epoch: values.reshape(_check_shape(shape, len(values))) for epoch, values in degrees.items()}
    largest = max(int(picture.max()) for picture in pictures.values())
    figure = Figure(figsize=(PICTURE_INCHES * len(pictures) + 0.8, PICTURE_INCHES + 0.4), layout="constrained")
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for place, (epoch, picture) in zip(axes, pictures.items(), strict=True):
        image = place.imshow(picture, cmap="viridis", vmin=0, vmax=largest, interpolation="nearest")
        place.set_title(f"epoch {epoch}" if epoch else "start")
        _frame(place)
    figure.colorbar(image, ax=list(axes), label="connections", fraction=0.05)
    save_figure(figure, path)


def _check_shape(shape: Sequence[int], units: int) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1 or math.prod(shape) != units:
        raise ConfigError(f"expected the height and width of {units} visible units, found {tuple(shape)}")
    return int(shape[0]), int(shape[1])


def _frame(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save as PNG, SVG or PDF by the file's name, the same bytes for the same figure; ConfigError for other names."""
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise ConfigError(f"{path}: expected a file name that ends in {', '.join(FORMATS)}")
    content = BytesIO()
    write_figure(figure, content, form)
    write_atomic(Path(path), lambda stream: stream.write(content.getvalue()))


# Every colour that is not a figure's own is set here, so that a dark page can replace it (`html.DARK_COLORS`).
# The names of SVG's parts are made from a salt: without a fixed one they would differ every time.
INK = "#1a1a1a"
LOOKS: dict[Any, Any] = dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
) | {"svg.hashsalt": "set"}


def write_figure(figure: Figure, stream: BinaryIO, form: str, *, transparent: bool = False) -> None:
    """Write a figure as PNG, SVG or PDF; ticks and their labels are made only now."""
    metadata = {"Date": None} if form == "svg" else None
    with rc_context(LOOKS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in letters that the font lacks: boxes
        figure.savefig(stream, format=form, dpi=150, metadata=metadata, transparent=transparent)
