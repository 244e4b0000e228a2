"""set-predict: the predictions of a trained run for a file of rows, or for its own test rows."""

from __future__ import annotations

import io
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import set_cli
from set_cli.commands.endings import Command, one_sentence
from set_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from set_cli.trained.predictions import Predictions
    from set_cli.trained.run import TrainedRun

ENDINGS = (".csv", ".npz")


def main() -> None:
    """The command; exits with the codes of set_cli.errors."""
    predict(prog_name="set-predict")


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Print the warnings of a command that succeeded, one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        _note(f"set-predict: {warning.message}")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the predictions to this file, .csv or .npz, instead of stdout.",
)
@click.option(
    "--label", metavar="NAME", help="Column (or array) of FILE that holds the labels; default: as in training."
)
@click.option("--ignore-labels", is_flag=True, help="Predict only: the labels in FILE are not looked at.")
@click.option("--averaged", is_flag=True, help="With the averages of the weights, of a run with train.ema.")
@click.version_option(set_cli.__version__, message="set-predict %(version)s")
def predict(
    run: Path, file: Path | None, output: Path | None, label: str | None, ignore_labels: bool, averaged: bool
) -> None:
    """Predict the classes of the rows in FILE with the trained network in the folder RUN.

    FILE is of any format that dataset=custom reads (csv, npz, mat, svmlight, …), with the values that the training file
    had: they are scaled as in training. Columns are found by their names. One line a row: its number from 0, the
    prediction, the label if FILE has labels, and the probability of every class. Where there are labels, accuracy,
    figures of every class and the confusion matrix follow: on stderr, or on stdout where no predictions are there.

    Without FILE the run's own test rows are predicted (of an RBM: their log-probability is estimated), and the
    predictions are written with --output only.
    """
    if output is not None and output.suffix.lower() not in ENDINGS:
        raise click.UsageError(f"--output {output}: expected a name that ends in {' or '.join(ENDINGS)}")
    advice = "predict fewer rows at a time"
    with one_sentence("set-predict", interrupted="nothing was written", out_of_memory=advice), _warnings_told():
        from set_cli.system.machine import prepare_for_torch

        prepare_for_torch()
        from set_cli.trained.load import load_run  # torch takes over a second to import

        trained = load_run(run, averaged=averaged)
        if trained.status != "done":
            _note(f"note: {run} is not finished ({trained.status}): its newest checkpoint predicts")
        if not trained.n_classes:
            _tell_rbm(trained, file)
            return
        found = _predict(trained, file, label, ignore_labels=ignore_labels)
        to_stdout = file is not None and output is None
        if output is not None:
            _write(found, output)
        elif to_stdout:
            click.echo(_csv(found.as_frame()), nl=False)
        for note in found.notes:
            _note(f"note: {note}")
        _tell_figures(found, trained, err=to_stdout)


def _predict(run: TrainedRun, file: Path | None, label: str | None, *, ignore_labels: bool) -> Predictions:
    from set_cli.trained.predictions import predict_file, predict_test_rows

    if file is None:
        return predict_test_rows(run)
    try:
        return predict_file(run, file, label, ignore_labels=ignore_labels)
    except DataError as error:
        raise DataError(str(error) if str(file) in str(error) else f"{file}: {error}") from None


def _tell_rbm(run: TrainedRun, file: Path | None) -> None:
    if file is not None:
        raise ConfigError(
            f"{run.path}: an RBM has no classes to predict; in Python run.hidden(X), run.reconstruct(X) and "
            "run.log_probability(X) say what it has learned of rows, and without FILE its test rows are measured"
        )
    found = run.evaluate()
    click.echo(
        f"{found['rows']:,} rows ({found['tested_on']}): log-probability {found['log_probability']:.2f} nats, standard "
        f"error of log Z {found['log_z_error']:.2f}" + ("" if found["chains_agree"] else " (chains disagree)")
    )


def _tell_figures(found: Predictions, run: TrainedRun, *, err: bool) -> None:
    from set_cli.trained.figures import as_text

    figures = found.figures()
    if figures is None:
        if not err:
            click.echo(f"{len(found.predicted):,} rows predicted; no labels to compare them with")
        return
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    click.echo(f"{found.what}, ", nl=False, err=err)
    click.echo(as_text(figures, run.classes, width), nl=False, err=err)
    by_part = [f"{part} {percent:.2f} % of {rows:,} rows" for part, (percent, rows) in found.accuracies().items()]
    if by_part:
        click.echo(f"\naccuracy of each part of the file: {', '.join(by_part)}", err=err)


def _csv(frame: pd.DataFrame) -> str:
    """The predictions as CSV for stdout, on a terminal without control characters."""
    text = frame.to_csv(index=False)
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _write(found: Predictions, output: Path) -> None:
    from set_cli.system.files import write_arrays, write_atomic

    if output.suffix.lower() == ".npz":
        write_arrays(output, found.as_arrays(), compress=True)
    else:
        content = io.BytesIO()
        found.as_frame().to_csv(content, index=False)
        write_atomic(output, lambda stream: stream.write(content.getvalue()))
    _note(f"{len(found.predicted):,} predictions in {output}")


def _note(line: str) -> None:
    from set_cli.system.terminal import printable

    click.echo(printable(line), err=True)
