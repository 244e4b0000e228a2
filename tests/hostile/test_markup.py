"""What is in a run folder is text in Markdown and LaTeX tables."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from set_cli.report.tables import TABLE_COLUMNS, render
from set_cli.report.topology import kept_topologies, render_topologies, tables
from set_cli.system.terminal import text_cells
from tests.builders import report
from tests.hostile.payloads import PAYLOADS
from tests.hostile.runs import comparison_of, hostile_runs

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


MARKUP = [
    *PAYLOADS, "a|b", "|", "||", "`|`", "\\", "\\|", "x\\", "\\\\|x", "[x](//evil.example)", "![x](//e.example/x)",
    "[x]: //evil.example", "[x][y] [^1]", "<https://evil.example>", "https://evil.example/x?a=b", "www.evil.example",
    "WWW.EVIL.EXAMPLE", "x@evil.example", "mailto:x@evil.example", "``x``", "`", "```", "*x*", "**x**", "_x_", "__x__",
    "x_y_z", "~~x~~", "~", "==x==", "^x^", "$x$", "$$x$$", "\\(x\\)", "@user", "#1", "# x", "- x", "+ x", "1. x", "> x",
    "---", "===", "| --- |", ":---:", "&amp;", "&copy;", "&#0;", "x  ", "  x", "x\ny", "x\r\n| y |\n|---|", "x\ty",
    ":smile:", "GH-1", "user/repo#1", "<b>x</b>", "\\<b>", "\\*x*", "*", "!", "![", "](", "\x1b[31m",
]  # fmt: skip


def read_markdown(flavour: str, text: str) -> list[list[list[str]]]:
    """The cells of every table, line by line; in them is text and nothing else, between them nothing but headlines."""
    found: list[list[list[str]]] = []
    rows: list[list[str]] | None = None
    for token in MarkdownIt(flavour).enable(["table", "strikethrough"]).parse(text):
        match token.type:
            case "table_open":
                rows = []
                found.append(rows)
            case "table_close":
                rows = None
            case "tr_open":
                assert rows is not None
                rows.append([])
            case "inline":
                children = token.children or []
                headline = {"strong_open", "strong_close"} if rows is None else set()
                assert {child.type for child in children} <= {"text"} | headline, token.content
                if rows is not None:
                    rows[-1].append("".join(child.content for child in children))
            case kind:
                assert re.fullmatch(r"(thead|tbody|tr|th|td|table|paragraph)_(open|close)", kind), kind
    return found


# CommonMark with tables; GitHub's, which makes links of bare addresses, where its part for that is installed.
NO_LINKS = pytest.mark.skipif(find_spec("linkify_it") is None, reason="linkify-it-py is not installed")
READERS = ["commonmark", pytest.param("gfm-like", marks=NO_LINKS)]


@pytest.mark.parametrize("flavour", READERS)
def test_what_markdown_shows_is_what_was_put_in(flavour: str, tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, MARKUP)
    columns, lines = text_cells(TABLE_COLUMNS, comparison.configurations)
    (table,) = read_markdown(flavour, render(comparison, "markdown"))
    assert table[0] == [column.title for column in columns]
    # A cell loses the spaces at its ends, in Markdown as in a table before it.
    assert table[1:] == [[cell.strip() for cell in line] for line in lines]


@pytest.mark.parametrize("flavour", READERS)
def test_markdown_of_topologies_shows_what_was_put_in(flavour: str, tmp_path: Path) -> None:
    for number, text in enumerate(MARKUP):
        hostile_runs(tmp_path, text, number)
    kept = kept_topologies(report(tmp_path).counted)
    expected = [[[cell.strip() for cell in line] for line in text_cells(columns, rows)[1]]
                for _, columns, rows in tables(kept) if rows]  # fmt: skip
    found = [table[1:] for table in read_markdown(flavour, render_topologies(kept, "markdown"))]
    assert found == expected


# What LaTeX takes for more than a character, also where only its place makes it so: a bracket or a star after the
# end of a row is that command's own, and so is a bracket after booktabs' rules.
LATEX = [
    *PAYLOADS, r"\input{secret}", r"\immediate\write18{touch owned}", r"\openout1=owned \write1{x}", "a & b", "50 %",
    "$x$", "$$", "#1", "_", "^", "~", "{", "}", "}{", "\\", "\\\\", "\\\\ \\hline", r"\end{tabular}", r"\def\x{}",
    "^^5cinput{secret}", "\\^^M", "--", "---", "``x''", "\"x\"", "?`", "!`", "<x>", "|", "-", "'", "\u202eabc",
    "\x1b[31m", "ε ζ ±", "é ß 手写 😀", r"\verb|x|", r"\catcode`\$=12", "x" * 200,
]  # fmt: skip
AT_A_START = ["[x]", "[1cm]", "[", "[]", "*", "*[x]", "**", "(x)", "(lr){1-2}", "=", "- x", "\\", "{", "}", "&", "%"]


def compile_latex(folder: Path, table: str) -> None:
    """As in a paper: pdfLaTeX stops at the first error. Nothing is read or written beside it."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed: the table cannot be compiled")
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\n\\end{document}\n" % table  # noqa: UP031 - braces
    (folder / "paper.tex").write_text(document)
    (folder / "secret.tex").write_text("SECRET")
    options = ("-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "-recorder")
    result = subprocess.run([program, *options, "paper.tex"], cwd=folder, capture_output=True, timeout=100)
    log = result.stdout.decode(errors="replace")
    assert result.returncode == 0, [line for line in log.splitlines() if line.startswith(("!", "l."))]
    assert "secret" not in (folder / "paper.fls").read_text()
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "secret.tex", *(f"paper.{suffix}" for suffix in ("tex", "aux", "log", "pdf", "fls")),
    }  # fmt: skip


@pytest.mark.parametrize("payloads", [LATEX, AT_A_START], ids=["anywhere", "at a start"])
def test_latex_compiles_whatever_a_run_is_called(payloads: list[str], tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path / "runs", payloads)
    compile_latex(tmp_path, render(comparison, "latex"))


def test_no_row_of_latex_is_an_argument_of_the_command_before_it(tmp_path: Path) -> None:
    """What compiles all the same: a star after the end of a row is that command's, and is gone from the table."""
    for number, start in enumerate(AT_A_START):
        # One at a time is the first row, after the header's rule.
        text = render(comparison_of(tmp_path / str(number), [start, f"{start}x"]), "latex")
        assert not re.search(r"(\\\\|\\(top|mid|bottom)rule)\s*[\[*]", text), text


def test_latex_of_topologies_compiles_whatever_a_layer_is_called(tmp_path: Path) -> None:
    for number, text in enumerate([*LATEX[:-1], *AT_A_START]):
        hostile_runs(tmp_path / "runs", text, number)
    kept = kept_topologies(report(tmp_path / "runs").counted)
    compile_latex(tmp_path, render_topologies(kept, "latex"))
