"""set-data: where the data sets come from, what is here, is it intact, put my file in place."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

import set_cli
from set_cli.commands.endings import Group, one_sentence
from set_cli.config import DATASETS
from set_cli.config.guesses import did_you_mean
from set_cli.errors import ConfigError, DataError, NotApplicable, SetError
from set_cli.system.terminal import Column, printable, render_table, terminal_width

if TYPE_CHECKING:
    from set_cli.data.card import Card
    from set_cli.data.state import State


RESUMES = "the same command resumes what is missing"


def _terminate(number: int, frame: object) -> None:
    click.echo(f"set-data: interrupted; {RESUMES}", err=True)
    sys.exit(128 + signal.SIGTERM)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default: SET_DATA_DIR, else ./datasets.")
@click.version_option(set_cli.__version__, message="set-data %(version)s")
@click.pass_context
def main(ctx: click.Context, data_dir: Path | None) -> None:
    """The data sets: the paper's fifteen, the bundled digits, and your own files.

    set-train fetches what it needs by itself; this is for looking, for fetching ahead, and for files of your own.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a script's `&` has it ignored
    from set_cli.data.files import data_folder

    ctx.obj = data_folder(None if data_dir is None else str(data_dir))


@main.command("list")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def list_sets(data_dir: Path, form: str) -> None:
    """What there is, and what of it is here and intact (every file's checksum is compared)."""
    with one_sentence("set-data", interrupted=RESUMES):
        rows = [_row(name, data_dir) for name in DATASETS]
        if form == "json":
            click.echo(json.dumps(rows, indent=2))
            return
        keys = ("name", "features", "train", "valid", "test", "classes", "status")
        click.echo(render_table([_column(key) for key in keys], rows, terminal_width()), nl=False)
        click.echo(f"in {data_dir.absolute()}; `set-data show NAME` says more", err=True)


def _column(key: str) -> Column[dict[str, Any]]:
    def cell(row: dict[str, Any]) -> str:
        value = row[key]
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    return Column(key, cell, key not in ("name", "status"), 0 if key in ("name", "status") else None)


def _row(name: str, data_dir: Path) -> dict[str, Any]:
    if name == "custom":  # the user's own: dataset.path names the file
        facts = dict.fromkeys(("features", "train", "valid", "test", "classes", "shape"))
        return {"name": name, **facts, "status": "missing", "files": []}
    from set_cli.data.catalog import CATALOG
    from set_cli.data.state import inspect

    card = CATALOG[name]
    state = inspect(card, data_dir)
    for problem in state.problems[:1]:
        more = f"; {len(state.problems) - 1} more" if len(state.problems) > 1 else ""
        click.echo(printable(f"{name}: {problem}{more}"), err=True)
    facts = {key: getattr(card, key) for key in ("features", "train", "valid", "test", "classes")}
    shape = None if card.shape is None else list(card.shape)
    files = [path.as_posix() for path in state.files]
    return {"name": name, **facts, "shape": shape, "status": state.status, "files": files}


@main.command()
@click.argument("name")
@click.pass_obj
def show(data_dir: Path, name: str) -> None:
    """Everything about one data set: sizes, licence, citation, files, checksums, and what is here of it."""
    with one_sentence("set-data", interrupted=RESUMES):
        from set_cli.data.card_text import card_text
        from set_cli.data.state import inspect, still_missing

        card = _card(name)
        state = inspect(card, data_dir)
        _echo_markdown(card_text(card))
        missing = still_missing(card, data_dir, state.form)
        of = f" (missing: {missing})" if missing and state.status == "partial" else ""
        click.echo(f"Here: {state.status}{of}, in {(data_dir / card.folder).absolute()}")
        for problem in state.problems:
            click.echo(printable(f"  {problem}"))


def _echo_markdown(text: str) -> None:
    """Set on a terminal; as it is where something else reads it."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Markdown, TableElement
    from rich.table import Table

    class Folded(TableElement):
        """Text that is folded, not cut off, where an address is too long for its column."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for part in super().__rich_console__(console, options):
                for column in part.columns if isinstance(part, Table) else []:
                    column.overflow = "fold"
                yield part

    class Card(Markdown):
        elements: ClassVar = {**Markdown.elements, "table_open": Folded}

    Console().print(Card(text))


@main.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All sets that can be fetched (HIGGS alone is 2.8 GB).")
@click.option("--labels", is_flag=True, help="A form with labels, where the one for RBMs has none (web).")
@click.pass_obj
def fetch(data_dir: Path, names: tuple[str, ...], everything: bool, labels: bool) -> None:
    """Download data sets, or what is missing or damaged of them; an imported file stays."""
    with one_sentence("set-data", interrupted=RESUMES):
        from set_cli.data.catalog import CATALOG

        cards = [card for card in CATALOG.values() if not card.bundled] if everything else [_card(n) for n in names]
        if not cards:
            raise ConfigError("expected names of data sets, or --all; `set-data list` has the names")
        _each(cards, lambda card: _fetch(card, data_dir, labels))


def _fetch(card: Card, data_dir: Path, labels: bool = False) -> str:
    from set_cli.data.fetch import fetch, fetch_anew
    from set_cli.data.files import find
    from set_cli.data.readers.higgs import discard_conversions
    from set_cli.data.state import damaged_files, inspect
    from set_cli.system.progress import make_bar, note

    state = inspect(card, data_dir)
    form = state.form
    if form is None or (state.status in ("verified", "imported") and (form.labels or not labels)):
        return f"{card.name}: already here, {state.status}"
    if not form.can_be_fetched or (labels and not form.labels):
        usable = [form for form in card.forms if form.can_be_fetched and (form.labels or not labels)]
        if not usable:
            raise NotApplicable(
                f"{card.name}: no form with labels can be fetched; `set-data show {card.name}` has them"
            )
        form = usable[0]
    bar = make_bar("auto")
    if form.format == "higgs" and state.status == "damaged":
        discard_conversions(data_dir / card.folder, ())  # made again from the text
    damaged = damaged_files(card, form, data_dir)
    if damaged and form.archive is not None and find(data_dir / card.folder, form.archive) is None:
        damaged = [form.archive]  # single members are not published
    fetch_anew(card, form, data_dir, damaged, bar)
    fetch(card, form, data_dir, with_test=True, bar=bar, say=note)
    state = inspect(card, data_dir)
    if state.status == "damaged":  # files of another form, which nobody publishes with a checksum
        raise DataError("; ".join(state.problems))
    return f"{card.name}: fetched to {data_dir / card.folder}"


@main.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def verify(data_dir: Path, names: tuple[str, ...]) -> None:
    """Compare every checksum, read every row, and compare sizes, values and class balance with the card.

    Without names: all sets that are here.
    """
    with one_sentence("set-data", interrupted=RESUMES):
        from set_cli.data.catalog import CATALOG
        from set_cli.data.state import inspect

        cards = [_card(name) for name in names] or list(CATALOG.values())
        states = {card.name: inspect(card, data_dir) for card in cards}
        wanted = [card for card in cards if names or states[card.name].status != "missing"]
        _each(wanted, lambda card: _verify(card, states[card.name], data_dir))


def _verify(card: Card, state: State, data_dir: Path) -> str:
    from set_cli.data.bundled import bundled_digits
    from set_cli.data.prepare import binarize
    from set_cli.data.sources import missing_files, missing_sentence, read_source
    from set_cli.data.state import departures, describe_rows
    from set_cli.system.progress import make_bar

    if state.status == "damaged":
        raise DataError("; ".join(state.problems) or f"{card.name}: damaged")
    if state.form is None:
        parts = bundled_digits()[0]
    else:
        form = state.form
        missing = missing_files(card, form, data_dir / card.folder, with_test=state.status == "missing")
        if missing:
            raise DataError(missing_sentence(card, form, data_dir, missing, ""))
        whole = state.status != "partial"
        parts = read_source(card, form, data_dir, with_test=whole, bar=make_bar("auto")).parts
    if card.kind == "binary" and card.folder_name:  # made binary from another set's files
        parts = {split: binarize(part, "sample", i) for i, (split, part) in enumerate(parts.items())}
    lines = [f"{card.name}: {state.status}; {describe_rows(parts)}"]
    return "\n".join([*lines, *(f"  note: {sentence}" for sentence in departures(card, parts))])


@main.command("import")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Take a file whose checksum is not the catalogue's; it is pinned.")
@click.pass_obj
def import_own(data_dir: Path, name: str, files: tuple[Path, ...], unverified: bool) -> None:
    """Put your own copy of a data set in place, in any format in which it is published.

    A file with the catalogue's checksum counts as fetched. Any other needs --unverified: it is checked for the data
    set's shape, its own checksum is pinned, and every run and table that uses it says so.
    """
    with one_sentence("set-data", interrupted=RESUMES):
        from set_cli.data.imports import import_files
        from set_cli.data.state import inspect, still_missing
        from set_cli.system.progress import make_bar

        card = _card(name)
        if card.bundled:
            raise ConfigError(f"{name} comes with scikit-learn; there is nothing to import")
        taken = import_files(card, data_dir, list(files), unverified=unverified, bar=make_bar("auto"))
        for file in taken:
            word = "the published file" if file.verified else "imported, its checksum pinned"
            click.echo(printable("; ".join([f"{name}: {file.path}: {word}", *file.notes])))
        state = inspect(card, data_dir)
        missing = still_missing(card, data_dir, state.form)
        click.echo(f"{name} is now {state.status}" + (f"; still missing: {missing}" if missing else ""))


def _card(name: str) -> Card:
    from set_cli.data.catalog import CATALOG

    if name == "custom":
        raise ConfigError("custom is a file of your own: `set-train dataset=custom dataset.path=FILE`")
    if name not in CATALOG:
        near = did_you_mean(name, CATALOG)
        raise ConfigError(f"data set {name!r} is not known{near} (`set-data list` has the names)")
    return CATALOG[name]


def _each(cards: list[Card], work: Callable[[Card], str]) -> None:
    """Do it for every data set; one that fails does not stop the others, and the first failure's code is the exit's."""
    code = 0
    for card in cards:
        try:
            click.echo(work(card))
        except SetError as error:
            click.echo(printable(f"set-data: {error}"), err=True)
            code = code or error.exit_code
    if code:
        sys.exit(code)
