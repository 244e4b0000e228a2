"""The report as one page that needs no network: tables, figures, and of every run what it was and how it went."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from importlib.resources import files
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

import set_cli
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, LeftOut
from set_cli.report.drawing import Drawing, experiment_drawings, topology_drawings
from set_cli.report.figures import write_figure
from set_cli.report.outcome import outcomes_in_words
from set_cli.report.reproduce import reproduce_command
from set_cli.report.rows import Comparison, Configuration, method_text, order_of, settings_text
from set_cli.report.shareable import Names, classes_text, shareable
from set_cli.report.significance import compare_methods, in_words, too_few_in_words, too_few_seeds
from set_cli.report.tables import TABLE_COLUMNS, legend
from set_cli.report.topology import Topologies, tables
from set_cli.system.files import read_json
from set_cli.system.terminal import Column, printable, share, text_cells

MOST_FIGURES = 12  # of each kind: a page that opens at once
MOST_RUNS = 2000  # whose configuration is on the page
MOST_ROWS = 2000  # of a table
MOST_OUTCOMES = 5  # sentences on the top
BAR = 200  # units of a bar's width

# The figures' colours on a dark page; what draws them uses these and no others (heat maps apart, which stay).
DARK_COLORS = {
    "#1a1a1a": "#e6e6e6",
    "#000000": "#e6e6e6",
    "#1f3f77": "#8ab4f8",
    "#c4661f": "#f0a35e",
    "#9a9a9a": "#a4a9b1",
    "#b0b0b0": "#4a4f57",
}


# The figures that one looks for first stand beside the names of the rows: a phone shows no more.
FIRST_TITLES = ("data set", "model", "method", "ε", "ζ", "last", "best", "n")
PAGE_COLUMNS = sorted(
    TABLE_COLUMNS,
    key=lambda column: FIRST_TITLES.index(column.title) if column.title in FIRST_TITLES else len(FIRST_TITLES),
)


class Part(NamedTuple):
    """A table of the page, columns without an entry left out, and in words how many rows are not on it.

    above  what all its rows have in common
    """

    title: str
    columns: list[Column[Any]]
    lines: list[list[str]]
    more: str
    above: str = ""


class Drawn(NamedTuple):
    """A figure as data addresses, for light and dark pages; in words for those who do not see it."""

    title: str
    words: str
    light: str
    dark: str


def render_page(comparison: Comparison, topologies: Topologies) -> str:
    """The whole report as HTML. Its one script and its one style are allowed by their hashes, everything else is text.

    What cannot be drawn is named on the page.
    """
    not_drawn: list[str] = []
    counted = comparison.counted
    figures, figures_left = _draw(experiment_drawings(counted), not_drawn)
    topology_figures, topology_left = _draw(topology_drawings(counted), not_drawn)
    configurations = sorted(comparison.configurations, key=_order)
    names = Names([*(run.path for run in counted), *(run.path for run in comparison.left_out)])
    style, script = (_asset(f"page.{kind}") for kind in ("css", "js"))
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_asset("page.html"))
    return page.render(
        title="Sparse Evolutionary Training: comparison of runs",
        lead=_lead(comparison),
        outcomes=[printable(sentence) for sentence in outcomes_in_words(configurations)[:MOST_OUTCOMES]],
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        comparison=_shared(_part("Comparison", PAGE_COLUMNS, comparison.configurations)),
        legend=legend(configurations),
        significance=[printable(in_words(found)) for found in compare_methods(counted)],
        too_few=[printable(too_few_in_words(found)) for found in too_few_seeds(counted)][:MOST_OUTCOMES],
        parameters=[_parameters(row) for row in comparison.rows],
        figures=figures,
        figures_left=figures_left,
        topology=[_part(*table) for table in tables(topologies) if table[2]],
        topology_figures=topology_figures,
        topology_left=topology_left,
        own_files=any(row["dataset"] == "custom" for row in comparison.rows),
        commands=[_command(configuration) for configuration in configurations],
        runs=[_run(run, names) for run in islice(_all_in_order(configurations), MOST_RUNS)],
        runs_left=f"{len(counted) - MOST_RUNS:,} more runs are in the tables only." if len(counted) > MOST_RUNS else "",
        left_out=_part("Not counted", _left_out(names), comparison.left_out),
        missing=[printable(names.in_words(line)) for line in comparison.missing],
        doubtful=[printable(names.in_words(line)) for line in comparison.doubtful],
        not_drawn=[printable(names.in_words(line)) for line in not_drawn],
        footer=f"Made by set-report {set_cli.__version__}.",
    )


def _asset(name: str) -> str:
    return files("set_cli.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing from anywhere but the pictures in the page, its one style and its one script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _lead(comparison: Comparison) -> str:
    runs, left, configurations = len(comparison.counted), len(comparison.left_out), len(comparison.configurations)
    data = sorted({printable(row["dataset"]) for row in comparison.rows})
    sets = f" on {', '.join(data)}" if len(data) <= 6 else f" on {len(data)} data sets"
    return (
        f"{runs:,} finished {'run' if runs == 1 else 'runs'} of {configurations:,} "
        f"{'configuration' if configurations == 1 else 'configurations'}{sets if data else ''}; "
        f"{f'{left:,} not counted' if left else 'none left out'}."
    )


def _part(title: str, columns: Sequence[Column[Any]], rows: Iterable[Any]) -> Part:
    rows = list(rows)
    kept, lines = text_cells(columns, rows[:MOST_ROWS])
    more = (
        f"{len(rows) - MOST_ROWS:,} more rows: --format csv instead of html has them all."
        if len(rows) > MOST_ROWS
        else ""
    )
    return Part(title, kept, lines, more)


def _shared(part: Part) -> Part:
    """What all rows have in common said once above them: a phone shows the first columns only."""
    above, columns, lines = share(part.columns, part.lines)
    return Part(part.title, columns, lines, part.more, ", ".join(above))


def _left_out(names: Names) -> list[Column[LeftOut]]:
    return [
        Column("why", lambda run: run.why, False),
        Column("run", lambda run: names.of(run.path), False),
        Column("detail", lambda run: names.in_words(run.detail), False),
    ]


def _name(summary: Any) -> str:
    settings = summary["settings"]
    text = settings if isinstance(settings, str) else settings_text(settings)
    return printable(" ".join(filter(None, (summary["dataset"], summary["model"], method_text(summary), text))))


def _parameters(row: dict[str, Any]) -> dict[str, str]:
    share = row["parameters"] / row["dense_parameters"]
    return {
        "name": _name(row),
        "connections": f"{row['connections']:,}",
        "final": f"{row['connections_final']:,}",
        "parameters": f"{row['parameters']:,}",
        "dense": f"{row['dense_parameters']:,}",
        "share": f"{100 * share:.2f} %",
        "width": f"{BAR * min(1.0, max(0.0, share)):.2f}",
    }


def _order(configuration: Configuration) -> tuple[object, ...]:
    row = configuration.row
    return row["dataset"], row["model"], row["settings"], order_of(row)


def _all_in_order(configurations: Sequence[Configuration]) -> Iterable[FinishedRun]:
    return (run for configuration in configurations for run in configuration.members)


def _command(configuration: Configuration) -> dict[str, str]:
    """Every seed that was started: the survivors alone would be another experiment."""
    summary = configuration.members[0].summary
    command = reproduce_command(summary, configuration.started)
    return {"name": _name(summary), "command": printable(command)}


def _run(run: FinishedRun, names: Names) -> dict[str, Any]:
    """What the page says of a run; a part that cannot be read says so in its place."""
    summary = run.summary
    classes = ""
    try:
        last = shareable(read_json(run.path / "run.json")[-1])
        command, environment = shlex.join(map(str, last.pop("command", []))), _pretty(last)
        classes = classes_text(last.get("data"))
    except (DataError, LookupError, TypeError, ValueError, RecursionError) as error:
        command, environment = "", printable(names.in_words(f"could not be read ({error})"))
    try:
        config = _pretty(read_json(run.path / "config.json"))
    except (DataError, RecursionError) as error:
        config = printable(names.in_words(str(error)))
    differences = summary.get("differences")
    return {
        "status": "done",
        "path": printable(names.of(run.path)),
        "result": f"last {summary['last']:.2f}, best {summary['best']:.2f}",
        "command": printable(command),
        "classes": printable(classes),
        "again": printable(reproduce_command(summary, [summary["seed"]])),
        "differences": [printable(str(line)) for line in differences] if isinstance(differences, list) else [],
        "config": config,
        "environment": environment,
    }


def _pretty(value: object) -> str:
    """Indented JSON, whose control characters are escapes: no text in it can look like another."""
    return json.dumps(value, indent=2, ensure_ascii=True)


def _draw(drawings: Iterable[Drawing], not_drawn: list[str]) -> tuple[list[Drawn], str]:
    """The first of these drawings that are no films; how many more there are, in words."""
    found = [drawing for drawing in drawings if drawing.suffixes != ("gif",)]
    drawn = []
    for drawing in found[:MOST_FIGURES]:
        try:
            figure = drawing.draw()
        except DataError as error:
            if str(error) not in not_drawn:
                not_drawn.append(str(error))
            continue
        assert isinstance(figure, Figure)
        light = _svg(figure)
        dark = light
        for color, on_dark in DARK_COLORS.items():
            dark = dark.replace(color, on_dark)
        drawn.append(Drawn(printable(drawing.title), printable(drawing.words), _address(light), _address(dark)))
    left = len(found) - MOST_FIGURES
    return drawn, f"{left} more: set-report --figures DIR draws them all." if left > 0 else ""


def _svg(figure: Figure) -> str:
    content = BytesIO()
    write_figure(figure, content, "svg", transparent=True)
    return content.getvalue().decode()


def _address(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
