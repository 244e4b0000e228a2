"""set-report: the comparison table of the runs in one or more folders."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

import set_cli
from set_cli.errors import SetError

if TYPE_CHECKING:
    from set_cli.report.rows import Comparison


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="table, markdown and latex are for people; csv and json have every figure.",
)
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw curves, degree distributions and input maps into this folder, as PNG and SVG.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of stdout.")
@click.version_option(set_cli.__version__, message="set-report %(version)s")
def main(folders: tuple[Path, ...], form: str, figures: Path | None, output: Path | None) -> None:
    """Compare the runs in FOLDERS (default: runs).

    One row per configuration, mean and standard deviation over its seeds; "last" is the test metric after the last
    epoch, "best" that of the best epoch, chosen on the rows named in "best on" (test: the paper's habit). "connections"
    are those during training, "final" those after the last removal. "paper" stands where the paper reports this data
    set, model, method, ε and ζ. What does not count (failed, running, altered, …) is listed on stderr.
    """
    folders = folders or (Path("runs"),)
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise click.UsageError(f"{missing[0]}: no such folder; set-train makes runs/")
    # pandas takes half a second to import: --help must not wait for it.
    from set_cli.report.collect import find_run_folders, read_run
    from set_cli.report.rows import compare
    from set_cli.report.tables import render

    try:
        paths, closed = find_run_folders(folders)
        comparison = compare([*map(read_run, paths), *closed])
        width = shutil.get_terminal_size().columns if output is None and sys.stdout.isatty() else None
        text = render(comparison, form, width)
        if output is None:
            click.echo(text, nl=False)
        else:
            _write(output, text)
        if figures is not None:
            _draw(comparison, figures)
    except SetError as error:
        click.echo(f"set-report: {error}", err=True)
        sys.exit(error.exit_code)
    _say_what_is_left_out(comparison, folders)


def _write(path: Path, text: str) -> None:
    from set_cli.storage import write_atomic

    write_atomic(path, lambda stream: stream.write(text.encode()))


def _draw(comparison: Comparison, folder: Path) -> None:
    from set_cli.report.curves import draw_report
    from set_cli.report.tables import printable

    made, missing = draw_report(comparison.counted, folder)
    click.echo(f"{len(made)} figures in {folder}", err=True)
    for sentence in missing:
        click.echo(f"  not drawn: {printable(sentence)}", err=True)


def _say_what_is_left_out(comparison: Comparison, folders: tuple[Path, ...]) -> None:
    """On stderr: nothing that was found is dropped silently."""
    from set_cli.report.tables import printable

    if not comparison.rows:
        click.echo(f"no finished run found in {', '.join(map(str, folders))}; set-train trains one", err=True)
    counts = Counter(run.why for run in comparison.left_out)
    if counts:
        click.echo("not counted: " + ", ".join(f"{n} {why}" for why, n in counts.items()), err=True)
    lines = [f"{run.why}: {run.path}" + (f" ({run.detail})" if run.detail else "") for run in comparison.left_out]
    for line in [*lines, *(f"missing: {sentence}" for sentence in comparison.missing)]:
        click.echo(f"  {printable(line)}", err=True)
    if comparison.doubtful:
        click.echo("counted, but doubtful:", err=True)
    for sentence in comparison.doubtful:
        click.echo(f"  {printable(sentence)}", err=True)
