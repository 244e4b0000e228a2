"""No cell of a CSV is a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest

from set_cli.report.rows import ROW_KEYS
from set_cli.report.tables import csv_text, render
from set_cli.report.topology import kept_topologies, render_topologies
from set_cli.system.terminal import printable
from tests.builders import finished_run, report
from tests.hostile.runs import assert_no_control, comparison_of, hostile_runs

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


FORMULAS = [
    space + formula
    for formula in (
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "=",
        "-",
        "=1,2",
        '=HYPERLINK("//x";"y")',
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20SUM(A1)",
        "\ufe661",
        "\ufe62\uff11",
        "\ufe63x",
        "\ufe6bx",
    )
    for space in ("", " ", "\t", "\n", "\r", "\r\n\t ", "\x0b", "\u00a0", "\u3000")
]


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet would compute it, which takes signs of any width."""
    return unicodedata.normalize("NFKC", cell).lstrip().startswith(("=", "+", "-", "@")) or cell[:1] in ("\t", "\r")


def test_no_cell_of_csv_is_a_formula_and_every_number_is_one(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, FORMULAS)
    lines = list(csv.reader(io.StringIO(render(comparison, "csv"), newline="")))
    assert lines[0] == ROW_KEYS
    assert len(lines) == len(FORMULAS) + 1
    for row, line in zip(comparison.rows, lines[1:], strict=True):
        for column, cell in zip(ROW_KEYS, line, strict=True):
            if isinstance(row[column], str):
                assert not is_formula(cell), cell
                # What leads to the sign is shown, or an apostrophe: nothing of the text is lost.
                assert cell in (f"'{printable(row[column])}", printable(row[column]))
                assert_no_control(cell)
            elif row[column] is not None:
                assert float(cell) == row[column]


def test_negative_numbers_stay_numbers_in_csv(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, -83.25, -82.5, dataset="dna", model="rbm", epsilon=11.0, metric="log_probability")
    finished_run(tmp_path, 0, 70, 71)
    text = render(report(tmp_path), "csv")
    assert ",-83.25," in text
    assert f",{71 - 74.84}\n" in text  # the difference to the paper
    assert "'" not in text


def test_csv_of_topologies_has_no_formula_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a path begins with what the user's folder is called
    for number, text in enumerate(FORMULAS):
        hostile_runs(Path("=runs"), text, number)
    kept = kept_topologies(report(Path("=runs")).counted)
    lines = list(csv.reader(io.StringIO(render_topologies(kept, "csv"), newline="")))
    assert len(lines) > len(FORMULAS)
    for line in lines[1:]:
        assert line[0].startswith("'=runs")
        for cell in line[:-1]:
            assert not is_formula(cell), cell
    assert ",-1.5\n" in csv_text([{"a": "x", "b": -1.5}], ["a", "b"])
