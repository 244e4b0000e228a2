"""set-report: compare the runs in one or more folders, study their topologies, or tell two runs apart."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import set_cli
from set_cli.commands.endings import Command, one_sentence
from set_cli.errors import DataError
from set_cli.system.terminal import printable, terminal_width

if TYPE_CHECKING:
    from set_cli.report.collect import FinishedRun
    from set_cli.report.rows import Comparison

FORMATS = ["table", "markdown", "latex", "csv", "json", "html"]
ENDINGS = {".html": "html", ".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex", ".txt": "table"}
MOST_OUTCOMES = 3  # experiments of which a terminal has a sentence
MOST_SENTENCES = 20  # of a kind on stderr; what does not count is always listed whole


def main() -> None:
    """`set-report diff A B` is a command of its own; a folder of that name is ./diff."""
    if sys.argv[1:2] == ["diff"]:
        diff(sys.argv[2:], prog_name="set-report diff")
    report(prog_name="set-report")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="table, markdown, latex and html are for people; csv and json have every figure. Default: by the ending of "
    "--output, else table.",
)
@click.option("--columns", metavar="NAME,…|all", help="Of the table, markdown or latex: these columns, in this order.")
@click.option("--sort", metavar="[-]NAME", help="Sort the rows by this column, ascending; with - before it descending.")
@click.option(
    "--topology",
    is_flag=True,
    help="Analyse the topologies instead: degrees and power laws, clustering, paths, overlap. Takes seconds to minutes "
    "a run, once.",
)
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw curves, degree distributions, the paper's test and input maps into this folder, as PNG, SVG and GIF.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write to this file instead of stdout; {', '.join(ENDINGS)} say in which format.",
)
@click.option("--strict", is_flag=True, help="Exit with 3 where a run folder is altered or cannot be read.")
@click.option("--watch", is_flag=True, help="Show the table again every few seconds, with the runs that are under way.")
@click.version_option(set_cli.__version__, message="set-report %(version)s")
def report(
    folders: tuple[Path, ...],
    form: str | None,
    columns: str | None,
    sort: str | None,
    topology: bool,
    figures: Path | None,
    output: Path | None,
    strict: bool,
    watch: bool,
) -> None:
    """Compare the runs in FOLDERS (default: runs). `set-report diff RUN RUN` tells two runs apart.

    One row per configuration, mean and standard deviation over its seeds; "last" is the test metric after the last
    epoch, "best" that of the best epoch, chosen on the rows named in "best on" (test: the paper's habit). "connections"
    are those during training, "final" those after the last removal. "paper" stands where the paper reports this data
    set, model, method, ε and ζ. "n" is the number of seeds that finished, "2 of 3" where others were started. What does
    not count (failed, running, altered, …) is listed on stderr.
    """
    folders = tuple(map(_folder, folders)) or (Path("runs"),)
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing and not watch:
        raise click.UsageError(f"{missing[0]}: no such folder; set-train makes runs/")
    if watch and (output or figures or topology or columns or sort or form or not sys.stdout.isatty()):
        raise click.UsageError("--watch shows the table on a terminal: expected no --format, --output or other pages")
    form = _form(form, output)
    names = [name.strip() for name in columns.split(",")] if columns else []
    if (names or sort) and (topology or form == "html"):
        raise click.UsageError("--columns and --sort are for the comparison: expected no --topology and no html")
    with one_sentence("set-report", interrupted="what was analysed is kept"):
        if watch:
            from set_cli.report.watch import watch_runs

            watch_runs(folders)
            return
        comparison = _compare(folders)
        width = terminal_width() if output is None else None
        text = _text(comparison, form, topology, width, names, sort)
        if output is None:
            click.echo(text, nl=False)
        else:
            from set_cli.system.files import write_atomic

            write_atomic(output, lambda stream: stream.write(text.encode()))
        if figures is not None:
            _draw(comparison, figures)
        _say_what_is_left_out(comparison, folders)
        if form not in ("json", "csv"):
            _say_what_came_out(comparison)
        _fail_if_strict(comparison, strict)


def _folder(path: Path) -> Path:
    """The folder that is meant: `runs_dir=c1`, as set-train takes it, is c1."""
    name = str(path)
    return Path(name.removeprefix("runs_dir=") or ".") if name.startswith("runs_dir=") and not path.exists() else path


def _form(form: str | None, output: Path | None) -> str:
    """The format that was asked for, by name or by the ending of the file; UsageError where they contradict."""
    ending = "" if output is None else output.suffix.lower()
    if not ending or (ending == ".txt" and form is not None):  # any of them is text
        return form or "table"
    of_ending = ENDINGS.get(ending)
    if of_ending is None and form is None:
        raise click.UsageError(f"--output {output}: expected an ending out of {', '.join(ENDINGS)}, or --format")
    if form is not None and of_ending is not None and form != of_ending:
        raise click.UsageError(f"--output {output} is {of_ending}, --format is {form}: expected one of the two")
    return form or str(of_ending)


def _fail_if_strict(comparison: Comparison, strict: bool) -> None:
    broken = [run for run in comparison.left_out if run.why in ("altered", "unreadable")]
    if strict and broken:
        raise DataError(f"--strict: {len(broken)} run folders altered or not to be read, the first {broken[0].path}")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("first", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, file_okay=False, path_type=Path))
def diff(first: Path, second: Path) -> None:
    """What differs between the runs in two folders: configuration, environment, outcome, topology."""
    with one_sentence("set-report", interrupted="what was analysed is kept"):
        from set_cli.report.diff import compare_two

        click.echo(compare_two(first, second, terminal_width()), nl=False)


def _compare(folders: tuple[Path, ...]) -> Comparison:
    # pandas takes half a second to import: --help must not wait for it.
    from set_cli.report.collect import find_run_folders, read_run
    from set_cli.report.rows import compare

    paths, closed = find_run_folders(folders)
    return compare([*map(read_run, paths), *closed])


def _text(
    comparison: Comparison, form: str, topology: bool, width: int | None, names: Sequence[str], sort: str | None
) -> str:
    from set_cli.report.tables import render

    if not topology:
        if form != "html":
            return render(comparison, form, width, names, sort)
        from set_cli.report.html import render_page
        from set_cli.report.topology import kept_topologies

        return render_page(comparison, kept_topologies(comparison.counted))
    from set_cli.report.topology import analyze_runs, render_topologies

    with _progress(comparison.counted) as tell:
        topologies = analyze_runs(comparison.counted, tell)
    for sentence in topologies.missing:
        _note(f"  {sentence}")
    if form == "html":
        from set_cli.report.html import render_page

        return render_page(comparison, topologies)
    return render_topologies(topologies, form, width)


@contextmanager
def _progress(runs: Sequence[FinishedRun]) -> Iterator[Callable[[FinishedRun, str], None]]:
    """Show progress: on a terminal a bar that counts runs and says what is measured, elsewhere a line per run."""
    places = {run.path: i for i, run in enumerate(runs)}
    if not sys.stderr.isatty():
        said: set[Path] = set()

        def say(run: FinishedRun, what: str) -> None:
            if run.path not in said:
                said.add(run.path)
                _note(f"analysing {run.path} ({places[run.path] + 1} of {len(runs)})")

        yield say
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(runs))

        def show(run: FinishedRun, what: str) -> None:
            bar.update(task, completed=places[run.path], description=escape(printable(f"{run.path.name}: {what}")))

        yield show


def _draw(comparison: Comparison, folder: Path) -> None:
    from set_cli.report.drawing import draw_report

    made, missing = draw_report(comparison.counted, folder)
    _note(f"{len(made)} figures in {folder}")
    for sentence in missing:
        _note(f"  not drawn: {sentence}")


def _say_what_is_left_out(comparison: Comparison, folders: tuple[Path, ...]) -> None:
    """Print on stderr what was found and not counted."""
    from set_cli.report.significance import compare_methods, in_words

    if not comparison.rows:
        _note(f"no finished run found in {', '.join(map(str, folders))}; set-train trains one")
    counts = Counter(run.why for run in comparison.left_out)
    if counts:
        _note("not counted: " + ", ".join(f"{n} {why}" for why, n in counts.items()))
    lines = [f"{run.why}: {run.path}" + (f" ({run.detail})" if run.detail else "") for run in comparison.left_out]
    for line in [*lines, *(f"missing: {sentence}" for sentence in comparison.missing)]:
        _note(f"  {line}")
    for title, sentences in (
        ("counted, but doubtful:", comparison.doubtful),
        ("methods, over the same seeds:", [in_words(found) for found in compare_methods(comparison.counted)]),
    ):
        if sentences:
            _note(title)
        for line in sentences[:MOST_SENTENCES]:
            _note(f"  {line}")
        if len(sentences) > MOST_SENTENCES:
            _note(f"  and {len(sentences) - MOST_SENTENCES} more; --format html has them all")


def _say_what_came_out(comparison: Comparison) -> None:
    """Print the outcome of a few experiments in words, and how many seeds would tell more."""
    from set_cli.report.outcome import outcomes_in_words
    from set_cli.report.reproduce import sweep_command
    from set_cli.report.significance import too_few_in_words, too_few_seeds

    outcomes = outcomes_in_words(comparison.configurations)
    for sentence in outcomes if len(outcomes) <= MOST_OUTCOMES else []:
        click.echo(_wrapped(sentence), err=True)
    too_few = too_few_seeds(comparison.counted)
    for found in too_few[:1]:
        runs = [members[0] for members in found.members]
        folder = _runs_dir(runs[0].path)
        command = sweep_command(runs, found.needed, None if folder == "runs" else folder)
        _note(too_few_in_words(found) + (":" if command else ""))
        if command:  # on a line of its own, to be copied
            _note(f"  {command}")
    if len(too_few) > 1:
        _note(f"and so it is in {len(too_few) - 1} more comparisons")


def _wrapped(sentence: str) -> str:
    """Folded between words where a terminal has no room for it."""
    if not sys.stderr.isatty():
        return printable(sentence)
    width = shutil.get_terminal_size().columns
    return "\n".join(textwrap.wrap(printable(sentence), width, break_long_words=False))


def _runs_dir(path: Path) -> str:
    """The folder that set-train's runs_dir is for this run: of runs/digits/mlp/set-… it is runs."""
    return str(path.parent.parent.parent)


def _note(line: str) -> None:
    click.echo(printable(line), err=True)
