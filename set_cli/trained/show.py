"""A run in six lines, and as a small table for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from set_cli.data.readers.guard import one_line
from set_cli.runs.summary import METRICS, metric_of
from set_cli.system.terminal import printable
from set_cli.trained.classes import in_words

if TYPE_CHECKING:
    from set_cli.trained.run import TrainedRun

UNITS = {"accuracy": "%", "log_probability": "nats"}


def as_text(run: TrainedRun) -> str:
    """Six lines without an end."""
    lines = describe(run)
    width = max(map(len, lines))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def as_html(run: TrainedRun) -> str:
    """A table; whatever is in the folder is text in it."""
    lines = describe(run)
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in lines.items()
    )
    return f"<table>{rows}</table>"


def describe(run: TrainedRun) -> dict[str, str]:
    """The six lines by what they are about."""
    config = run.config
    file = run.start.get("options", {}).get("dataset.path")
    data = [Path(file).name] if isinstance(file, str) else []
    parts = [" ".join([config["dataset"]["name"], *data]), config["model"]["name"], config["method"]["name"]]
    parts += [f"{sign}={config[key]:g}" for sign, key in (("ε", "epsilon"), ("ζ", "zeta")) if key in config]
    found = {
        "run": ", ".join([*parts, f"seed={config['seed']}"]),
        "state": _state(run),
        "test": _figures(run),
        "connections": _connections(run),
        "classes": f"{run.n_classes}: {in_words(run.classes)}" if run.n_classes else "none (an RBM needs no labels)",
        "folder": str(run.path),
    }
    return {name: one_line(value) if name != "folder" else printable(value) for name, value in found.items()}


def _state(run: TrainedRun) -> str:
    epochs = len(run.metrics)
    if run.status == "done":
        return f"done, {epochs} epochs"
    return f"{run.status or 'not started'}, not finished: the newest checkpoint, after epoch {epochs}"


def _figures(run: TrainedRun) -> str:
    summary = run.summary
    if summary:
        unit = UNITS.get(str(summary.get("metric")), "")
        left = summary.get("after_last_removal", {}).get("test")
        after = f", after the last removal {_number(left)} {unit}" if left is not None else ""
        return (
            f"{str(summary.get('metric')).replace('_', '-')} last {_number(summary.get('last'))} {unit}, "
            f"best {_number(summary.get('best'))} {unit} (epoch {summary.get('best_epoch')}, chosen on "
            f"{summary.get('best_on')}){after}"
        )
    return _so_far(run)


def _so_far(run: TrainedRun) -> str:
    """Figures of a run that is not finished, from metrics.jsonl."""
    names = [f"test_{metric}" for metric in METRICS if f"test_{metric}" in run.metrics]
    if not names:
        return "nothing was measured yet"
    metric = metric_of(name.removeprefix("test_") for name in names)
    values = run.metrics[f"test_{metric}"].dropna()
    unit = UNITS[metric]
    return f"{metric.replace('_', '-')} so far {values.iloc[-1]:.2f} {unit}, best {values.max():.2f} {unit}"


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "?"


def _connections(run: TrainedRun) -> str:
    total: Mapping[str, Any] = run.params["total"]
    final = total.get("connections_final")
    left = (
        f" in training, {final:,} after the last removal" if final is not None and final != total["connections"] else ""
    )
    return f"{total['connections']:,}{left}"
