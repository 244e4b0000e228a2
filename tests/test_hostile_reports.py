"""Run folders by malice or age: set-report shows what they hold and does nothing they say."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import pty
import random
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from set_cli.analysis import measure as run_module
from set_cli.analysis.graph import GraphMeasures
from set_cli.analysis.measure import FILE, VERSION, keep_analysis, measure_run
from set_cli.analysis.power_law import Comparison as Rival
from set_cli.analysis.power_law import PowerLawFit
from set_cli.analysis.records import Analysis, DegreeRow, GraphRow, LayerRow, StrengthRow, TurnoverRow
from set_cli.commands.report import FORMATS
from set_cli.config import from_mapping
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, find_run_folders, read_run
from set_cli.report.diff import compare_two
from set_cli.report.drawing import Drawing, draw_report, experiment_drawings, topology_drawings
from set_cli.report.figures import write_figure
from set_cli.report.html import render_page
from set_cli.report.rows import COLUMNS, Comparison, compare
from set_cli.report.tables import READABLE, csv_text, render
from set_cli.report.topology import Topologies, analyze_runs, kept_topologies, render_topologies, tables
from set_cli.runs.summary import REPORTED
from set_cli.runs.topology import read_topology
from set_cli.system.files import sha256
from set_cli.system.terminal import printable, text_cells
from tests.conftest import INTERPRETER, ONE_THREAD, REPORT, compose_mapping
from tests.test_report import finished_run, report
from tests.test_run import train

SEED = int(os.environ.get("FAULT_SEED", "0"))
Arrays = dict[str, NDArray[Any]]

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


# --- Run folders, as somebody else may have written them -------------------------------------------------------------

HARMLESS = "x"  # no payload: what a page looks like without one


def on_disk(text: str) -> str:
    """What of the text a file name, or a name in an archive, can hold."""
    return "".join(c for c in text if c != "\0" and not "\ud800" <= c <= "\udfff")


def mend(path: Path, **changes: Any) -> Path:
    """summary.json with these changes and the checksums made right: whoever changes a file can do that too."""
    summary = json.loads((path / "summary.json").read_text()) | changes
    names = [*REPORTED, "checkpoint.npz", "degrees.npz"]
    names += [f"topology/{file.name}" for file in sorted((path / "topology").glob("*.npz"))]
    summary["sha256"] = {name: sha256(path / name) for name in names if (path / name).is_file()}
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def checksums(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((path / "summary.json").read_text())["sha256"]
    return found


def put_everywhere(path: Path, text: str, *, drawn: bool = False, metric: str | None = None) -> Path:
    """A finished run with this text in every string of every file that set-report reads, each with its place.

    drawn  with figures to be drawn, which take a second
    """

    def at(place: str) -> str:
        return f"{text}({place})"

    seed = json.loads((path / "summary.json").read_text())["seed"]
    config = {"seed": seed, "dataset": {"name": at("name")}, at("config key"): [at("config value"), {text: 1}]}
    (path / "config.json").write_text(json.dumps(config))
    (path / "params.json").write_text(json.dumps({at("layer"): text}))
    figures = {f"test_{metric or 'accuracy'}": 70.5} if drawn else {}
    rows = [{"epoch": epoch, text: text, **figures} for epoch in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    start: dict[str, Any] = {
        "command": ["set-train", at("command")],
        "folder": at("folder"),
        at("run key"): at("run value"),
    }
    start |= {"packages": {at("package"): at("version")}, "git": {"commit": at("commit")}, "cpu": at("cpu")}
    start |= {"layers": {at("layer"): {"engine": at("engine")}}, "data": [at("data")], "started": at("started")}
    (path / "run.json").write_text(json.dumps([start]))
    status = {"status": "done", "epoch": 2, "reason": at("done"), "host": text}
    (path / "status.json").write_text(json.dumps(status | {at("key"): text}))
    layer = on_disk(at("layer"))
    if drawn:
        degrees = np.array([[1, 2, 3, 0]] * 3, np.int32)
        arrays: Any = {f"{layer}/out_degree": degrees, f"{layer}/in_degree": degrees}
        np.savez(path / "degrees.npz", allow_pickle=False, **arrays)
    mend(
        path,
        dataset=at("dataset"),
        model=at("model"),
        method=at("method"),
        metric=metric or at("metric"),
        best_on=at("best_on"),
        settings={at("setting"): at("value"), "model.hidden": [at("item"), 1]},
        differences=[at("difference")],
        **{at("summary key"): at("summary value")},
    )
    keep_analysis(path, analysis_of(path, layer))
    return path


# Where the page shows the text as it is, and where as JSON, with its escapes.
SHOWN = ("dataset", "model", "method", "metric", "best_on", "setting", "value", "item", "difference",
         "layer", "reason")  # fmt: skip
SHOWN_AS_JSON = ("name", "config key", "config value", "run key", "run value", "package", "version", "commit", "cpu",
                 "engine", "data", "started")  # fmt: skip


def analysis_of(path: Path, layer: str) -> Analysis:
    """One row in each table, whatever was trained; of this run's files."""
    sums = checksums(path)
    snapshots = [f"topology/{file.name}" for file in sorted((path / "topology").glob("*.npz"))]
    rival = Rival(1.5, 0.2)
    measures = GraphMeasures(8, 2, 7, 1.5, 0.75, 8, 1)
    return Analysis(
        version=VERSION,
        sources={name: sums.get(name, "") for name in ("degrees.npz", "checkpoint.npz", *snapshots)},
        degrees=[DegreeRow(layer=layer, side="inputs", epoch=1, neurons=4, mean=1.5, deviation=0.5, largest=3,
                           without=1, paper_p=0.25, power_law=PowerLawFit(2.5, 1, 3, 0.1, 0.6, 625, rival, None))],
        layers=[LayerRow(layer=layer, epoch=1, inputs=4, outputs=4, connections=6, kept=0.5, kept_by_chance=0.4,
                         explored=0.6, clustering=0.1, random_clustering=None)],
        graphs=[GraphRow(layers=[layer, layer], epoch=1, measures=measures, random=measures)],
        turnover=[TurnoverRow(layer=layer, epoch=1, before=0, kept=0.5, kept_by_chance=0.4)],
        strength=[StrengthRow(layer=layer, inputs=[2, 0], strengths=[1.5, 0.5])],
    )  # fmt: skip


def hostile_runs(root: Path, text: str, number: int = 0, **how: Any) -> tuple[Path, Path]:
    """A finished run and a failed one, this text in every string and in the names of their folders."""
    folder = root / f"{number:03d}"
    name = on_disk(text)
    done = put_everywhere(finished_run(folder, number, 70, 71, name=f"done {name}"), text, **how)
    failed = finished_run(folder, number, 70, 71, name=f"failed {name}")
    status = {"status": "failed", "epoch": text, "reason": f"{text}(reason)", "again": text}
    (failed / "status.json").write_text(json.dumps(status))
    shutil.copy(done / "run.json", failed)
    return done, failed


def page_of(root: Path) -> str:
    comparison = report(root)
    return render_page(comparison, kept_topologies(comparison.counted))


def everything(root: Path) -> Comparison:
    """The comparison, once every page that needs no figure has been made of it."""
    comparison: Comparison = report(root)
    kept = kept_topologies(comparison.counted)
    for form in FORMATS:
        text = page_of(root) if form == "html" else render(comparison, form)
        assert_no_control(text if form == "html" else text + render_topologies(kept, form))
    return comparison


def assert_no_control(text: str) -> None:
    """Nothing that a terminal obeys: of what is not printable only the ends of lines."""
    found = {c for c in text if c != "\n" and not c.isprintable()}
    assert not found, sorted(found)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SAMPLES", 4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SET-MLP with two sparse layers and snapshots, as it was trained."""
    folder = tmp_path_factory.mktemp("trained")
    overrides = ("train.epochs=1", "model.hidden=[12,9]", "snapshots.every=1", "progress=none", ONE_THREAD)
    return train(from_mapping(compose_mapping(*overrides, f"runs_dir={folder}/runs"))).path


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """The same, the test's own, in runs/."""
    path = tmp_path / "runs" / "digits" / "mlp" / trained.name
    shutil.copytree(trained, path)
    return path


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as SVG only: what breaks one breaks the other, and a PNG takes as long again."""

    def save(figure: Figure, path: Path) -> None:
        if path.suffix == ".svg":
            write_figure(figure, io.BytesIO(), "svg")

    monkeypatch.setattr("set_cli.report.drawing.save_figure", save)


def counted(path: Path) -> FinishedRun:
    run = read_run(path)
    assert isinstance(run, FinishedRun), run
    return run


def set_report(*arguments: str | bytes, folder: Path, code: int = 0) -> tuple[str, str]:
    """set-report in a child process: what it wrote, byte for byte, where run_python would make newlines of returns.

    Strict UTF-8, as a terminal's; in the C locale Python lets through what it cannot encode.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("SET_DATA_DIR", INTERPRETER)}
    command = [sys.executable, "-P", "-c", REPORT, *arguments]
    environment = kept | {"PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=100)
    out, err = result.stdout.decode(), result.stderr.decode()
    assert "Traceback" not in err, err
    assert result.returncode == code, err
    return out, err


# --- I1: a page is text ----------------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='x",
    '" onfocus="alert(1)" autofocus x="',
    "javascript:alert(1)",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</pre></code></summary></details></td></table><h1>x</h1>",
    "<!--",
    "--><b>x</b>",
    "]]>",
    "<![CDATA[<b>x</b>]]>",
    "<?php echo 1 ?>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;b&#62;x &quot;&apos;",
    "{{7*7}}",
    "{% for x in range(9) %}x{% endfor %}{# x",
    "${7*7} #{7*7} %(x)s {0} %n",
    '<base href="//evil.example/">',
    '<meta http-equiv="refresh" content="0;url=//evil.example">',
    'x" srcset="//evil.example/x',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    "<svg/onload=alert(1)//",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "`${alert(1)}` \\x3cb\\x3e",
    "<plaintext><xmp><noscript><textarea><template>",
]

# Every element of page.html, with every attribute that it has there.
ALLOWED = {
    "html": "lang", "head": "", "meta": "charset http-equiv name content", "title": "", "style": "", "body": "",
    "a": "class href", "header": "", "h1": "", "p": "class", "nav": "aria-label", "main": "",
    "section": "id class data-filter", "h2": "", "h3": "", "div": "class tabindex role aria-label", "table": "",
    "thead": "", "tbody": "", "tr": "", "th": "scope class", "td": "class", "ul": "", "li": "", "dl": "", "dt": "",
    "dd": "", "code": "", "pre": "", "details": "", "summary": "", "span": "class", "sup": "", "em": "",
    "svg": "class viewbox width height aria-hidden", "rect": "class width height", "figure": "", "picture": "",
    "source": "media srcset", "img": "src alt loading", "figcaption": "", "script": "",
}  # fmt: skip
PICTURE = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """What a browser would make of a page: elements in their order, text, and what is in scripts and styles."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.own: list[tuple[str, str]] = []  # (script or style, content)
        self.parts: list[str] = []
        self.others: list[str] = []  # comments, declarations, instructions
        self.feed(content)
        self.close()
        self.text = "".join(self.parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.own.append((self.cdata_elem, data))
        else:
            self.parts.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def pictures(self) -> list[bytes]:
        addresses = [attrs[name] for _, attrs in self.elements for name in ("src", "srcset") if name in attrs]
        return [base64.b64decode(address.removeprefix(PICTURE), validate=True) for address in addresses]


def assert_inert(content: str) -> Page:
    """One script and one style, those that the policy names; nothing else that does anything; all of it known."""
    page = Page(content)
    assert page.others == ["doctype html"]
    for tag, attributes in page.elements:
        assert tag in ALLOWED, tag
        assert set(attributes) <= set(ALLOWED[tag].split()), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name, value in attributes.items():
            if name == "href":
                assert re.fullmatch(r"#[a-z-]+", value), value
            if name in ("src", "srcset"):
                assert re.fullmatch(re.escape(PICTURE) + r"[A-Za-z0-9+/]+=*", value), value[:100]
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["script"], tags["style"], tags["title"]) == (1, 1, 1)
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    names = [a["http-equiv"] for tag, a in page.elements if "http-equiv" in a]
    assert (len(policies), names) == (1, ["Content-Security-Policy"])
    rules = dict(rule.strip().partition(" ")[::2] for rule in policies[0].split(";"))
    expected = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    for kind in ("script", "style"):
        own = "".join(data for tag, data in page.own if tag == kind)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        expected[f"{kind}-src"] = f"'sha256-{digest}'"
    assert rules == expected
    return page


def test_a_page_shows_every_string_of_every_file_as_text(tmp_path: Path) -> None:
    for number, payload in enumerate(PAYLOADS):
        hostile_runs(tmp_path, payload, number)
    page = assert_inert(page_of(tmp_path))
    for number, payload in enumerate(PAYLOADS):
        for place in SHOWN:
            assert f"{payload}({place})" in page.text, (payload, place)
        assert shlex.quote(f"{payload}(command)") in page.text  # as one types it
        for place in SHOWN_AS_JSON:
            assert json.dumps(f"{payload}({place})") in page.text, (payload, place)
        for what in ("done", "failed"):
            assert str(Path(f"{number:03d}", "cifar10", "mlp", f"{what} {payload}")) in page.text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_page_has_the_same_elements_with_and_without_a_payload(payload: str, tmp_path: Path) -> None:
    pages = []
    for text, folder in ((payload, tmp_path / "a"), (re.sub("[^/]", "x", payload), tmp_path / "b")):
        hostile_runs(folder, text)
        pages.append(assert_inert(page_of(folder)))
    assert pages[0].elements == pages[1].elements


# --- and so are its pictures -----------------------------------------------------------------------------------------

DRAWN = [
    "<script>alert(1)</script>",
    '"><image href="//evil.example/x" onload="alert(1)"/>',
    "--><script>alert(1)</script><!--",
    "]]></style><a xlink:href='javascript:alert(1)'>x</a>",
    r"$\frac{1}{0}$ \input{x} $",
    "&lt;b&gt; &amp; <![CDATA[x]]>",
]


def assert_still(picture: bytes) -> None:
    """An SVG that runs nothing and loads nothing: no script, no event, no address but of its own parts and pixels."""
    for element in ET.fromstring(picture).iter():
        tag = element.tag.rpartition("}")[2]
        assert tag not in ("script", "foreignObject", "iframe", "a", "animate", "set", "handler"), tag
        for name, value in element.attrib.items():
            bare = name.rpartition("}")[2].lower()
            assert not bare.startswith("on"), name
            if bare in ("href", "src"):
                assert value.startswith(("#", "data:image/png;base64,")), value[:100]
            for address in re.findall(r"url\(([^)]*)\)", value):
                assert address.startswith("#"), value
        assert tag != "style" or not re.search(r"@import|url\(", element.text or "")


def test_the_pictures_of_a_page_run_and_load_nothing(tmp_path: Path) -> None:
    for number, payload in enumerate(DRAWN):
        hostile_runs(tmp_path, payload, number, drawn=True, metric="accuracy")
    page = assert_inert(page_of(tmp_path))
    assert len(page.pictures()) == 2 * 2 * len(DRAWN)  # curves and degrees, for light and for dark pages
    for picture in page.pictures():
        assert_still(picture)


def test_figures_in_files_run_and_load_nothing_and_stay_in_their_folder(tmp_path: Path) -> None:
    runs = []
    for number, payload in enumerate(("<script>alert(1)</script>", "../../../x", "/etc/x\n\x1b[31m")):
        path = finished_run(tmp_path / "runs", number, 70, 71, name=f"run{number}")
        runs.append(counted(put_everywhere(path, payload, drawn=True, metric="accuracy")))
    before = set(tmp_path.rglob("*"))
    made, missing = draw_report(runs, tmp_path / "figures")
    assert missing == []
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "figures", *made}
    assert {path.parent for path in made} == {tmp_path / "figures"}
    assert len(set(made)) == len(made) == 2 * 2 * len(runs)  # none over another one of the same name
    for path in made:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
        if path.suffix == ".svg":
            assert_still(path.read_bytes())


def test_letters_that_a_font_lacks_are_no_warning(tmp_path: Path) -> None:
    path = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "手写 😀", drawn=True, metric="accuracy")
    made, _ = draw_report([counted(path)], tmp_path / "figures")
    assert len(made) == 4


@pytest.mark.usefixtures("quick_figures")
def test_no_figure_is_written_over_another_one(tmp_path: Path) -> None:
    """Of runs whose names differ in characters only that a file's name does not take."""
    names = ["run<1", "run>1", "run|1"]
    runs = []
    for number, name in enumerate(names):
        path = finished_run(tmp_path / "runs", number, 70, 71, name=name)
        runs.append(counted(put_everywhere(path, f"x{name}", drawn=True, metric="accuracy")))
    made, missing = draw_report(runs, tmp_path / "figures")
    assert len(set(made)) == len(made) == 2 * 2 * len(runs)
    assert missing == []


def test_a_metric_that_nobody_knows_is_no_traceback(tmp_path: Path) -> None:
    """Drawn or named as not drawn: its rows are there, under a name that has no axis of ours."""
    done, _ = hostile_runs(tmp_path, "x", drawn=True, metric="<b>recall</b>")
    assert "<b>recall</b>" in assert_inert(page_of(tmp_path)).text
    draw_report([counted(done)], tmp_path / "figures")


# --- I2: Markdown and LaTeX ------------------------------------------------------------------------------------------

MARKUP = [
    *PAYLOADS, "a|b", "|", "||", "`|`", "\\", "\\|", "x\\", "\\\\|x", "[x](//evil.example)", "![x](//e.example/x)",
    "[x]: //evil.example", "[x][y] [^1]", "<https://evil.example>", "https://evil.example/x?a=b", "www.evil.example",
    "WWW.EVIL.EXAMPLE", "x@evil.example", "mailto:x@evil.example", "``x``", "`", "```", "*x*", "**x**", "_x_", "__x__",
    "x_y_z", "~~x~~", "~", "==x==", "^x^", "$x$", "$$x$$", "\\(x\\)", "@user", "#1", "# x", "- x", "+ x", "1. x", "> x",
    "---", "===", "| --- |", ":---:", "&amp;", "&copy;", "&#0;", "x  ", "  x", "x\ny", "x\r\n| y |\n|---|", "x\ty",
    ":smile:", "GH-1", "user/repo#1", "<b>x</b>", "\\<b>", "\\*x*", "*", "!", "![", "](", "\x1b[31m",
]  # fmt: skip


def comparison_of(root: Path, texts: Sequence[str]) -> Comparison:
    """Of runs with these texts, one each, in every text of the table."""
    for number, text in enumerate(texts):
        path = finished_run(root, number, 70, 71, name=f"run{number}")
        mend(path, dataset=text, model=text, method=text, metric=text, best_on=text, settings={"x": text, text: "x"})
        (path / "config.json").write_text(json.dumps({"seed": number, "number": number}))
        mend(path)
    comparison: Comparison = report(root)
    assert len(comparison.rows) == len(texts)
    return comparison


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
    columns, lines = text_cells(READABLE, comparison.configurations)
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


# --- I3: CSV ---------------------------------------------------------------------------------------------------------

FORMULAS = [
    space + formula
    for formula in ("=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "=", "-", "=1,2", '=HYPERLINK("//x";"y")')
    for space in ("", " ", "\t", "\n", "\r", "\r\n\t ", "\x0b", "\u00a0", "\u3000")
]


def test_no_cell_of_csv_is_a_formula_and_every_number_is_one(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, FORMULAS)
    lines = list(csv.reader(io.StringIO(render(comparison, "csv"), newline="")))
    assert lines[0] == COLUMNS
    assert len(lines) == len(FORMULAS) + 1
    for row, line in zip(comparison.rows, lines[1:], strict=True):
        for column, cell in zip(COLUMNS, line, strict=True):
            if isinstance(row[column], str):
                assert not cell.lstrip().startswith(("=", "+", "-", "@")), cell
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
            assert not cell.lstrip().startswith(("=", "+", "-", "@")), cell
    assert ",-1.5\n" in csv_text([{"a": "x", "b": -1.5}], ["a", "b"])


# --- I4: terminals ---------------------------------------------------------------------------------------------------

CONTROLS = [
    "\x1b[31mred", "\x1b]0;owned\x07", "\x1bP+q\x1b\\", "\x9b31mred", "\x90\x9c", "\u202eabc", "\u2066x\u2069",
    "\u200f\u061c", "\x00", "\r", "\x08\x7f", "\x85\u2028\u2029", "\ufeff\u200b\u00ad", "\ud800", "\udfff\ud83d",
    "\U000e0041\U000f0000", "\ufffe", "\t", "\n", "\x0c\x1a",
]  # fmt: skip


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with all of these in every string, and folders whose names are no UTF-8."""
    folder = tmp_path_factory.mktemp("steering")
    for number, payload in enumerate(("".join(CONTROLS), *CONTROLS)):
        hostile_runs(folder / "runs", payload, number, drawn=number == 0, metric="accuracy" if number == 0 else None)
    for number, name in enumerate((b"\xff\x1b[31m", b"\xe2\x82", b"\xc3\x28\x9b", "ü\x1b".encode("latin-1"))):
        root = Path(os.fsdecode(os.fsencode(folder / "runs" / "bytes") + b"/" + name))
        hostile_runs(root, "x", number)
        (finished_run(root, number, 70, 71, name="altered") / "metrics.jsonl").write_text("{}")
        (finished_run(root, number, 70, 71, name="unreadable") / "summary.json").write_text("\x1b[31m")
        done = finished_run(root, number + 10, 70, 71, name="no start")  # run.json is missing: the page says so
        assert not (done / "run.json").exists()
    (folder / "runs" / "link\x1b[31m").symlink_to(folder)
    return folder


@pytest.mark.parametrize("arguments", [*((form,) for form in FORMATS), ("html", "--topology")])
def test_what_is_in_run_folders_cannot_steer_a_terminal(arguments: tuple[str, ...], steering: Path) -> None:
    for text in set_report("runs", "--format", *arguments, folder=steering):
        assert_no_control(text)


@pytest.mark.parametrize("form", ["csv", "html"])
def test_what_is_in_run_folders_can_be_written_to_a_file(form: str, steering: Path, tmp_path: Path) -> None:
    _, err = set_report("runs", "--format", form, "--output", str(tmp_path / "page"), folder=steering)
    assert_no_control(err)
    assert_no_control((tmp_path / "page").read_bytes().decode())


def test_the_sentence_of_an_error_cannot_steer_a_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\u202e"
    (finished_run(tmp_path / name, 0, 70, 71) / "metrics.jsonl").write_text("{}")
    out, err = set_report(name, "--strict", folder=tmp_path, code=3)
    assert_no_control(out + err)
    assert "--strict: 1 run folders altered or not to be read" in err
    out, err = set_report("diff", name, name, folder=tmp_path, code=3)
    assert_no_control(out + err)
    assert "expected a run folder" in err


def test_what_cannot_be_drawn_cannot_steer_a_terminal(steering: Path, tmp_path: Path) -> None:
    root = next((steering / "runs" / "bytes").iterdir())
    (tmp_path / "runs").symlink_to(root)
    out, err = set_report("runs/", "--figures", "figures", folder=tmp_path)
    assert_no_control(out + err)
    assert "not drawn" in err


def test_a_difference_cannot_steer_a_terminal(steering: Path) -> None:
    names = [os.fsencode(path) for path in sorted((steering / "runs").rglob("status.json"))]
    folders = [os.path.dirname(name) for name in names]
    done = [folder for folder in folders if b"/mlp/done" in folder]
    failed = [folder for folder in folders if b"/mlp/failed" in folder]
    for pair in ((done[0], failed[0]), (failed[-1], done[-1])):
        out, err = set_report("diff", *pair, folder=steering)
        assert_no_control(out + err)
    out, err = set_report("diff", os.path.dirname(done[-1]), done[0], folder=steering, code=3)
    assert_no_control(out + err)


def test_a_bar_on_a_terminal_shows_no_escapes_of_a_folders_name(tmp_path: Path) -> None:
    """Its own it may have. Two runs of one configuration: their overlap is the step that it names."""
    for seed in (0, 1):
        path = finished_run(tmp_path / "runs", seed, 70, 71, name=f"{seed}\x1b]0;owned\x07")
        np.savez(path / "degrees.npz")
        keep_analysis(mend(path), analysis_of(path, "layer1"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-c", REPORT, "runs", "--topology"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += (part := os.read(ours, 65536))
            except OSError:  # the child's end is closed
                break
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"overlap with" in shown
    assert b"\x1b]0;" not in shown, shown


# --- I5: what is no file ---------------------------------------------------------------------------------------------

KINDS = ["symbolic link", "pipe", "device", "folder"]


def replace(path: Path, kind: str, elsewhere: Path) -> None:
    """Something else in the file's place; the link leads to the very same file, which is elsewhere now."""
    elsewhere.mkdir()
    moved = elsewhere / path.name
    if path.exists():
        shutil.move(path, moved)
    match kind:
        case "symbolic link":
            path.symlink_to(moved)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["status.json", "summary.json", *REPORTED])
def test_what_is_no_file_is_listed_and_nothing_waits_for_it(name: str, kind: str, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    path = finished_run(tmp_path / "runs", 1, 99, 99, name="bad")
    replace(path / name, kind, tmp_path / "elsewhere")
    comparison = everything(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]
    ((why, where, detail),) = [(run.why, run.path, run.detail) for run in comparison.left_out]
    assert (why, where) == ("unreadable", path)
    assert name in detail


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["degrees.npz", "topology/epoch_0001.npz", "checkpoint.npz", "topology"])
def test_a_topology_that_is_no_file_is_not_read(name: str, kind: str, own: Path, tmp_path: Path) -> None:
    """Its run is listed as unreadable; or it counts, and what was to be made of the file is named as missing."""
    replace(own / name, kind, tmp_path / "elsewhere")
    comparison = report(tmp_path / "runs")
    assert len(comparison.counted) + len(comparison.left_out) == 1
    topologies = analyze_runs(comparison.counted)
    assert not topologies.analyses
    (sentence,) = topologies.missing + [run.detail for run in comparison.left_out]
    assert name.partition("/")[0] in sentence
    if name == "degrees.npz" and comparison.counted:
        _, missing = draw_report(comparison.counted, tmp_path / "figures")
        (sentence,) = missing
        assert name in sentence


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_analysis_that_is_no_file_is_made_anew(kind: str, own: Path, tmp_path: Path) -> None:
    """Or its run is listed as unreadable. Neither is what it says shown, nor is it written to."""
    keep_analysis(own, analysis_of(own, "from elsewhere"))
    replace(own / FILE, kind, tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / FILE).read_bytes()
    comparison = report(tmp_path / "runs")
    assert "from elsewhere" not in render_page(comparison, kept_topologies(comparison.counted))
    topologies = analyze_runs(comparison.counted)
    assert list(topologies.analyses) + [run.path for run in comparison.left_out] == [own]
    assert all(FILE in sentence for sentence in [*topologies.missing, *(run.detail for run in comparison.left_out)])
    assert (tmp_path / "elsewhere" / FILE).read_bytes() == before


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_where_an_analysis_is_written_is_not_written_through(kind: str, own: Path, tmp_path: Path) -> None:
    """The name that is written first and renamed then: a link there must not lead the writing out of the folder."""
    (own / f"{FILE}.tmp").write_text("precious")
    replace(own / f"{FILE}.tmp", kind, tmp_path / "elsewhere")
    comparison = report(tmp_path / "runs")
    topologies = analyze_runs(comparison.counted)
    assert list(topologies.analyses) + [run.path for run in comparison.left_out] == [own]
    assert (tmp_path / "elsewhere" / f"{FILE}.tmp").read_text() == "precious"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_is_no_file_is_named_on_the_page(kind: str, tmp_path: Path) -> None:
    done = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    replace(done / "run.json", kind, tmp_path / "elsewhere")
    page = assert_inert(page_of(tmp_path / "runs"))
    assert "run.json" in page.text
    assert "x(command)" not in page.text
    assert "x(version)" not in page.text
    other = put_everywhere(finished_run(tmp_path / "other", 0, 70, 71), "x")
    with pytest.raises(DataError, match=r"run\.json"):
        compare_two(done, other)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "run.json", "status.json", "summary.json"])
def test_a_difference_shows_nothing_from_outside_the_folders(name: str, tmp_path: Path) -> None:
    """A link to a file of the reader's own: what it says must not come to stand in a report that is passed on."""
    first, second = (hostile_runs(tmp_path / "runs", "x", number)[0] for number in (0, 1))
    secret = {"python": "SECRET", "status": "failed", "reason": "SECRET", "epoch": "SECRET"}
    (tmp_path / "secret.json").write_text(json.dumps([secret] if name == "run.json" else secret))
    (first / name).unlink()
    (first / name).symlink_to(tmp_path / "secret.json")
    try:
        text = compare_two(first, second)
    except DataError as error:
        text = str(error)
    assert "SECRET" not in text
    assert "SECRET" not in page_of(tmp_path / "runs")


@pytest.mark.timeout(20)
def test_a_link_to_a_run_folder_outside_is_listed_not_followed(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    outside = finished_run(tmp_path / "outside", 1, 99, 99)
    (tmp_path / "runs" / "link").symlink_to(outside)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "cifar10" / "broken").symlink_to(tmp_path / "nowhere")
    comparison = everything(tmp_path / "runs")
    assert [(row["n"], row["best_mean"]) for row in comparison.rows] == [(1, 71)]
    assert sorted((run.why, run.path.name) for run in comparison.left_out) == [("skipped", "link"), ("skipped", "loop")]


# --- I6: what is too large, too deep or no number --------------------------------------------------------------------

# What is put into an object as the value of one more key, and whether strict JSON has room for it.
VALUES = {
    "deep lists": ("[" * 100_000, False),
    "deep objects": ('{"a":' * 100_000, False),
    "closed deep lists": ("[" * 100_000 + "]" * 100_000, False),
    "a key twice": ('1, "hostile": 2', False),
    "NaN": ("NaN", False),
    "Infinity": ("[Infinity]", False),
    "-Infinity": ('{"a": -Infinity}', False),
    "5,000 digits": ("1" * 5000, False),
    "no float's range": ("1e400", None),
    "a long string": ('"' + "x" * 2**20 + '"', None),
    "many digits": ("1" * 4000, None),
    "a short end": ('"', False),
    "bytes that are no text": ('"\xff\xfe"', False),
}


def inject(path: Path, value: str) -> None:
    """One more key, first in the file's first object."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"{", b'{"hostile": ' + value.encode("latin-1") + b", ", 1))


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["status.json", "summary.json", "config.json"])
def test_json_that_is_none_is_listed_as_unreadable(name: str, what: str, tmp_path: Path) -> None:
    value, fine = VALUES[what]
    finished_run(tmp_path, 0, 70, 71)
    bad = finished_run(tmp_path, 1, 99, 99, name="bad")
    if name == "config.json":
        inject(bad / name, value)
        mend(bad)
    else:
        inject(bad / name, value)
    comparison = everything(tmp_path)
    listed = [(run.why, run.path) for run in comparison.left_out]
    if fine is False:
        assert listed == [("unreadable", bad)]
    else:
        assert listed in ([], [("unreadable", bad)])
    assert sum(row["n"] for row in comparison.rows) + len(listed) == 2


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["run.json", FILE, "metrics.jsonl"])
def test_json_that_is_none_is_named_or_made_nothing_of(name: str, what: str, tmp_path: Path) -> None:
    """Where the run's figures do not come from it, the run counts all the same."""
    value, fine = VALUES[what]
    drawn = name == "metrics.jsonl"
    done, _ = hostile_runs(tmp_path / "runs", "x", drawn=drawn, metric="accuracy")
    if drawn:
        (done / "degrees.npz").unlink()
    inject(done / name, value)
    if name != FILE:
        keep_analysis(mend(done), analysis_of(done, "layer1"))
    comparison = report(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]
    kept = kept_topologies(comparison.counted)
    page = assert_inert(render_page(comparison, kept))
    if fine is False:
        assert name != FILE or not kept.analyses
        assert name != "run.json" or "could not be read" in page.text
        assert name != "metrics.jsonl" or (not page.pictures() and "metrics.jsonl" in page.text)
    for form in FORMATS[:-1]:
        assert_no_control(render_topologies(kept, form))


def test_json_of_any_depth_that_can_be_read_can_be_shown(tmp_path: Path) -> None:
    """Python's reader and its writer of JSON, and what goes through the value, do not give up at the same depth."""
    other = put_everywhere(finished_run(tmp_path / "other", 0, 70, 71), "x")
    path = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    for depth in [100, 500, *range(960, 1000, 8), 2000, 5000, 9000]:
        deep = ("[" * depth + "]" * depth) if depth % 4 else ('{"x":' * depth + "1" + "}" * depth)
        (path / "config.json").write_text(f'{{"x": {deep}}}')
        (path / "run.json").write_text(f'[{{"packages": {deep}, "command": [{deep}], "set_cli": {deep}}}]')
        mend(path)
        page_of(tmp_path / "runs")
        try:
            compare_two(path, other)
        except DataError:
            assert not isinstance(read_run(path), FinishedRun) or depth > 500


FIGURES = {
    "last": ["1e400", "-1e400", "NaN", "1e19", "1" + 30 * "0", "null", "true", "[]", '"1"', "1" * 5000],
    "best": ["1e400", "1" * 400, "{}"],
    "epsilon": ["1e400", "1" * 400, '"20"', "false", "[20]"],
    "zeta": ["Infinity", "-1e19", '"x"'],
    "seed": ["0.5", "null", '"0"', "true", "1" * 5000],
    "connections": ["-1", "1e3", "1" + 30 * "0", "null"],
    "connections_final": ["-1", "1" + 30 * "0"],
    "parameters": ["-1", "0.5", "1" * 4000],
    "dense_parameters": ["0", "-1", "1" + 30 * "0", "null"],
    "seconds_per_epoch": ["-1", "-1e-9", "1e400", "null", '"8"'],
    "peak_memory_mb": ["-1", "1e400", "1e300"],
    "dataset": ["1", "null", "[]", '"' + "x" * 2**20 + '"'],
    "metric": ["null", "[]", '"' + "x" * 201 + '"'],
    "settings": ["null", "[]", '"x"', '{"a": {"b": 1}}', '{"a": [[1]]}', '{"a": NaN}'],
    "sha256": ["null", "[]", "{}", '{"config.json": 1, "params.json": [], "metrics.jsonl": null}'],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FIGURES.items() for value in values],
                         ids=lambda text: text[:20])  # fmt: skip
def test_a_figure_out_of_range_or_of_another_kind_does_not_count(name: str, value: str, tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    bad = finished_run(tmp_path, 1, 99, 99, name="bad")
    summary = json.loads((bad / "summary.json").read_text())
    text = json.dumps(summary | {name: "@"}).replace('"@"', value)
    (bad / "summary.json").write_text(text)
    comparison = everything(tmp_path)
    assert [(row["n"], row["best_mean"]) for row in comparison.rows] == [(1, 71)]
    ((why, where),) = [(run.why, run.path) for run in comparison.left_out]
    assert (why in ("unreadable", "altered"), where) == (True, bad)


# Figures at the edges of what counts: every page can still be made of them.
EDGES: list[dict[str, Any]] = [
    {"last": 1e18, "best": -1e18},
    {"last": 5e-324, "best": -0.0, "epsilon": 5e-324, "zeta": 1e18},
    {"connections": 0, "connections_final": 0, "parameters": 0, "dense_parameters": 1},
    {"connections": 10**18, "parameters": 10**18, "dense_parameters": 1, "seconds_per_epoch": 10**18},
    {"seed": -(10**400)},
    {"seed": 10**4000, "epsilon": -1, "zeta": -1.5},
    {"settings": {"x": 10**4000, "y": [1e308, True, None, ""], "": "", "model.hidden": []}},
    {"settings": {"x": "y" * 2**20}},
    {"dataset": "", "model": "", "method": "", "metric": "", "best_on": ""},
    {"dataset": "x" * 200, "model": "x" * 200, "method": "x" * 200, "metric": "x" * 200},
    {"differences": {"x": 1}, "epochs": [], "last_chains_agree": "no", "best_epoch": None},
    {"differences": [None, [], {"x": "y"}, 10**4000]},
]


@pytest.mark.parametrize("changes", EDGES, ids=lambda changes: " ".join(changes))
def test_figures_at_their_limits_are_shown(changes: dict[str, Any], tmp_path: Path) -> None:
    first = put_everywhere(finished_run(tmp_path / "a", 0, 70, 71), "x", drawn=True, metric="accuracy")
    second = put_everywhere(finished_run(tmp_path / "a", 1, 70, 71), "x")
    mend(first, **changes)
    keep_analysis(first, analysis_of(first, "layer1"))
    comparison = everything(tmp_path / "a")
    assert sum(row["n"] for row in comparison.rows) == 2
    assert_no_control(compare_two(first, second))


METRICS = {
    "an epoch beyond all numbers": '{"epoch": 1e400, "test_accuracy": 1}',
    "an epoch of 400 digits": '{"epoch": %s, "test_accuracy": 1}' % ("1" * 400),
    "an epoch of 30 digits": '{"epoch": %s, "test_accuracy": 1}' % ("1" * 30),
    "a negative epoch of 400 digits": '{"epoch": -%s, "test_accuracy": 1}' % ("1" * 400),
    "a negative epoch": '{"epoch": -9, "test_accuracy": 1}',
    "an epoch that is none": '{"epoch": NaN, "test_accuracy": 1}',
    "a metric of 400 digits": '{"epoch": 1, "test_accuracy": %s}' % ("1" * 400),
    "a metric of 5,000 digits": '{"epoch": 1, "test_accuracy": %s}' % ("1" * 5000),
    "a metric beyond all numbers": '{"epoch": 1, "test_accuracy": 1e400}',
    "an enormous metric": '{"epoch": 1, "test_accuracy": 1e99}',
    "a tiny metric": '{"epoch": 1, "test_accuracy": 5e-324}',
    "no metric": '{"epoch": 1}',
    "no object": "[1]",
    "nothing": "",
    "no text": "\x00" * 100,
    "far epochs": '{"epoch": 0, "test_accuracy": 1}\n{"epoch": 999999999999, "test_accuracy": 2}',
}


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("what", METRICS)
def test_metrics_that_are_none_are_drawn_as_nothing(what: str, tmp_path: Path) -> None:
    path = put_everywhere(finished_run(tmp_path, 0, 70, 71), "x", drawn=True, metric="accuracy")
    (path / "metrics.jsonl").write_text(METRICS[what] + "\n")
    made, missing = draw_report([counted(mend(path, method="set"))], tmp_path / "figures")
    stems = {path.stem.rpartition("-")[2] for path in made} - {"degrees"}
    assert stems in ({"curves", "free"}, set())
    assert stems or any("metrics.jsonl" in sentence for sentence in missing)


def test_two_numbers_of_any_size_have_a_difference_or_none(tmp_path: Path) -> None:
    paths = [put_everywhere(finished_run(tmp_path, seed, 70, 71), "x") for seed in (0, 1)]
    numbers: list[list[Any]] = [[10**400, 0.5], [0.5, 10**400], [10**400, 10**400 + 1], [1e308, -1e308], [1, True]]
    for pair in numbers:
        for path, number in zip(paths, pair, strict=True):
            (path / "config.json").write_text(json.dumps({"seed": 0, "x": number}))
            mend(path)
        assert_no_control(compare_two(paths[0], paths[1]))


PEAK = """
import atexit
def peak():
    # Of this program alone: what resource.getrusage says starts with what the process was forked from.
    with open("/proc/self/status") as lines:
        print(next(line for line in lines if line.startswith("VmHWM:")).split()[1], file=open("peak", "w"))
atexit.register(peak)
"""


@pytest.mark.timeout(60)
def test_files_of_10_gigabytes_take_no_memory(tmp_path: Path) -> None:
    names = [*REPORTED, "status.json", "summary.json", "run.json", FILE]
    for seed, name in enumerate(names):
        path = finished_run(tmp_path / "runs", seed, 70, 71, name=f"run{seed}")
        with open(path / name, "ab") as stream:
            os.truncate(stream.fileno(), 10 * 10**9)
    command = [sys.executable, "-P", "-c", PEAK + REPORT, "runs", "--format", "html"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert "2 finished runs" in Page(result.stdout).text  # the tables need no run.json and no analysis
    assert "not counted: 5 unreadable" in result.stderr
    assert int((tmp_path / "peak").read_text()) < 500_000  # kB


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["degrees.npz", "topology/epoch_0001.npz", "checkpoint.npz"])
def test_a_topology_of_a_terabyte_is_refused_at_once(name: str, own: Path, tmp_path: Path) -> None:
    """Not after its checksum: that takes as long as the file is."""
    run = counted(own)
    try:
        os.truncate(own / name, 10**12)
    except OSError:
        pytest.skip("this file system has no files of a terabyte")
    topologies = analyze_runs([run])
    assert not topologies.analyses
    assert name in topologies.missing[0]
    if name == "degrees.npz":
        _, missing = draw_report([run], tmp_path / "figures")
        assert name in missing[0]


def test_folders_deeper_than_python_goes_are_no_traceback(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    made: list[str] = []
    try:
        deep = f"{tmp_path}/runs"
        while len(deep) < 3900:
            deep += "/d"
            os.mkdir(deep)
            made.append(deep)
        paths, closed = find_run_folders([tmp_path / "runs"])
        assert len(paths) == 1
        assert len(closed) <= 1
    finally:  # pytest does not get that deep either
        for path in reversed(made):
            os.rmdir(path)


@pytest.mark.parametrize("name", ["5²3", "①", "٣٤", "¼", "9" * 250, "-0", "1e9", "0x10", "..."])
def test_folders_are_sorted_whatever_their_numbers_are(name: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, seed, 70, 71, name=f"{name}{'x' * seed}")
    paths, closed = find_run_folders([tmp_path])
    assert (len(paths), closed) == (2, [])


@pytest.mark.timeout(60)
def test_a_sweep_of_a_hundred_configurations_is_drawn_on_a_page(own: Path) -> None:
    """Figures have no room for as many lines, nor for the input maps of as many networks; and no warning about it."""
    run = counted(own)
    runs = [FinishedRun(run.path, f"group {i}", {**run.summary, "epsilon": float(i + 1)}) for i in range(100)]
    for drawing in experiment_drawings(runs):
        figure = drawing.draw()
        assert isinstance(figure, Figure)
        assert max(figure.get_size_inches()) < 50
        write_figure(figure, io.BytesIO(), "svg")


@pytest.mark.parametrize("name", ["config.json", "status.json"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_stray_file_between_the_run_folders_hides_none_of_them(name: str, kind: str, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", 0, 70, 71)
    stray = tmp_path / "runs" / "cifar10" / name
    stray.mkdir() if kind == "folder" else stray.write_text("{}")
    comparison = report(tmp_path / "runs")
    assert [row["n"] for row in comparison.rows] == [1]


# --- I7: topologies that were tampered with --------------------------------------------------------------------------

HOSTILE_NUMBERS = [-1, -(2**31), 2**31 - 1, 0, 1, 7, 2**16, 2**30]
DTYPES = [
    "int64",
    "uint32",
    "int8",
    ">i4",
    "float32",
    "float64",
    "bool",
    "S3",
    "U4",
    "complex64",
    "datetime64[s]",
    "V4",
]
NAMES = ["", "/", "x", "layer1", "layer1/", "/indptr", "../../x/indptr", "layer1/indptr/indptr", "layer9/indices",
         "<script>/out_degree", "\x1b[31m/in_degree", "layer1/out_degree", f"layer{10**99}/out_degree"]  # fmt: skip


class Owned:
    """What unpickling it would do is seen in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def rewrite(content: bytes, rng: random.Random) -> bytes:
    """One byte of one array's file changed, the archive's own checksum right again."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            member = bytearray(old.read(name))
            if name == chosen:
                # Half of them in the header, which says what the rest is.
                place = rng.randrange(len(member) if rng.random() < 0.5 else min(len(member), 128))
                member[place] = rng.choice((member[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
            new.writestr(name, bytes(member))
    return made.getvalue()


def flip(content: bytes, rng: random.Random) -> bytes:
    """Bytes of the archive itself."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def change_values(array: NDArray[Any], rng: random.Random) -> NDArray[Any]:
    """A number out of its range or its order, an array of another kind or shape."""
    changed = array.copy()
    flat = changed.reshape(-1)
    place = rng.randrange(max(1, flat.size))
    match rng.randrange(9):
        case 0 if flat.size:
            flat[place] = np.array(rng.choice(HOSTILE_NUMBERS)).astype(flat.dtype)  # as much of it as fits
        case 1 if flat.size > 1:
            flat[place] = flat[place - 1]
        case 2 if flat.size > 1:
            flat[[place, place - 1]] = flat[[place - 1, place]]
        case 3:
            changed = flat[::-1].reshape(changed.shape)
        case 4:
            changed = changed.astype(rng.choice(DTYPES[:-1]))
        case 5:
            changed = flat.view(rng.choice(["V4", "<f4", "uint32", ">i4", "i2,i2"]))
        case 6:
            changed = rng.choice([flat[None], flat[:, None, None], flat[:0], np.array(3, np.int32), flat[:place]])
        case 7:
            changed = np.concatenate([flat, flat[:1]])
        case _:
            changed = np.full(changed.shape, rng.choice(HOSTILE_NUMBERS), np.int32)
    return np.ascontiguousarray(changed) if changed.ndim else changed


def restructure(arrays: Mapping[str, NDArray[Any]], rng: random.Random, owned: Path) -> bytes:
    """The archive with arrays that are other ones, missing, of other names, pickled, or no arrays at all."""
    changed = {name: array.copy() for name, array in arrays.items()}
    raw: dict[str, bytes] = {}
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not changed:
            break
        name = rng.choice(list(changed))
        match rng.randrange(10):
            case 0:
                del changed[name]
            case 1:
                changed[rng.choice(NAMES)] = changed.pop(name)
            case 2:
                changed[rng.choice(NAMES)] = changed[name]
            case 3:
                raw[name or "x"] = rng.choice([b"", b"x", b"\x93NUMPY", b"\x93NUMPY\x01\x00", bytes(9999)])
                del changed[name]
            case 4 if name.endswith("shape"):
                sizes = [[64, 2**31 - 1], [2**31 - 1, 2], [-1, 12], [0, 0], [2**62, 2**62], [64], [64, 12, 9], [1.5, 2]]
                changed[name] = np.array(rng.choice([*sizes, [float("nan"), 1], [float("inf"), 1], ["64", "x"]]))
            case 5 if rng.random() < 0.3:
                array = np.empty(2, object)
                array[:] = [Owned(owned), Owned(owned)]
                changed[name] = array
            case 6:
                other = rng.choice(list(changed))
                changed[name], changed[other] = changed[other], changed[name]
            case _:
                changed[name] = change_values(changed[name], rng)
    return archive_of(changed, raw, compress=rng.random() < 0.2)


def archive_of(arrays: Mapping[str, NDArray[Any]], raw: Mapping[str, bytes], compress: bool = False) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(content, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(content, "a") as archive:
        for name, data in raw.items():
            archive.writestr(name, data)
    return content.getvalue()


def arrays_of(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def mutations(path: Path, count: int, owned: Path) -> Iterator[bytes]:
    """A tenth of them with bytes of the archive changed, two fifths with bytes of an array, half with other arrays."""
    content, arrays = path.read_bytes(), arrays_of(path)
    for i in range(count):
        rng = random.Random(f"{SEED} {path.name} {i}")
        if i % 10 == 0:
            yield flip(content, rng)
        elif i % 10 < 5:
            yield rewrite(content, rng)
        else:
            yield restructure(arrays, rng, owned)


LONGEST = 1000  # characters of a sentence, as of a reason


def tally(attempts: Iterator[Callable[[], object]]) -> Counter[str]:
    """What came of them: 'read', 'refused' by the sentence of a DataError, or what nobody expects."""
    found: Counter[str] = Counter()
    for attempt in attempts:
        try:
            attempt()
            found["read"] += 1
        except DataError as error:
            found["refused" if len(str(error)) < LONGEST else f"a sentence of over {LONGEST} characters"] += 1
        except Exception as error:
            found[f"{type(error).__name__}: {error}"[:150]] += 1
    return found


def assert_read_or_refused(found: Counter[str], count: int) -> None:
    assert set(found) <= {"read", "refused"}, found
    assert sum(found.values()) == count


def test_a_topology_that_was_tampered_with_is_a_valid_one_or_refused(own: Path, tmp_path: Path) -> None:
    """5,000 of them, their checksums right."""
    count, file = 5000, own / "topology" / "epoch_0001.npz"

    def attempts() -> Iterator[Callable[[], object]]:
        for content in mutations(file, count, tmp_path / "owned"):
            file.write_bytes(content)
            sums = {"topology/epoch_0001.npz": hashlib.sha256(content).hexdigest()}
            yield lambda sums=sums: check(read_topology(own, sums, 1))  # type: ignore[misc]

    def check(patterns: Any) -> None:
        for pattern in patterns.values():
            positions = pattern.positions()
            assert len(positions) == pattern.nnz
            assert (np.diff(positions) > 0).all()
            assert ((positions >= 0) & (positions < pattern.cells)).all()
            assert ((pattern.indices >= 0) & (pattern.indices < pattern.shape[1])).all()

    found = tally(attempts())
    assert_read_or_refused(found, count)
    assert found["refused"] > count / 3
    assert found["read"] > 100
    assert not (tmp_path / "owned").exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["topology/epoch_0001.npz", "degrees.npz", "checkpoint.npz"])
def test_a_run_that_was_tampered_with_is_measured_or_refused(name: str, own: Path, tmp_path: Path) -> None:
    count = 150

    def attempts() -> Iterator[Callable[[], object]]:
        sums = checksums(own)
        for content in mutations(own / name, count, tmp_path / "owned"):
            (own / name).write_bytes(content)
            sums[name] = hashlib.sha256(content).hexdigest()
            yield lambda: keep_analysis(own, measure_run(own, sums))

    assert_read_or_refused(tally(attempts()), count)
    assert not (tmp_path / "owned").exists()


WEIGHTS: dict[str, Any] = {
    "not a number": np.full(9, np.nan, np.float32),
    "infinite": np.full(9, -np.inf, np.float32),
    "too large to add": np.full(9, 1e308),
    "texts": np.full(9, "x"),
    "complex": np.full(9, 1j),
    "dates": np.full(9, "2020-01-01", "datetime64[s]"),
    "integers": np.full(9, -(2**63)),
    "a table": np.ones((9, 2), np.float32),
    "one number": np.float32(1),
    "no array": b"no array",
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_none_are_measured_or_refused(what: str, own: Path) -> None:
    arrays, key = arrays_of(own / "checkpoint.npz"), "model/layer1.weight"
    count, value = len(arrays.pop(key)), WEIGHTS[what]
    raw = {key: value} if isinstance(value, bytes) else {}
    if not raw:
        arrays[key] = np.resize(value, (count, *np.shape(value)[1:])) if np.ndim(value) else value
    (own / "checkpoint.npz").write_bytes(archive_of(arrays, raw))
    run = counted(mend(own))
    with np.errstate(all="ignore"):  # as outside the tests
        found = tally(iter([lambda: keep_analysis(own, measure_run(own, run.summary["sha256"]))]))
    assert_read_or_refused(found, 1)


def int32(*rows: Sequence[int]) -> NDArray[np.int32]:
    return np.array(rows, np.int32)


# What is made of the degrees of two layers, 64 inputs, 12 and 9 hidden neurons; bytes are no arrays.
ONE = int32([1, 2, 3, 0])
DEGREES: dict[str, Callable[[Arrays], Mapping[str, NDArray[Any] | bytes]]] = {
    "an odd number of arrays": lambda own: {"a/out_degree": ONE, "b/in_degree": ONE, "b/out_degree": ONE},
    "no in-degrees": lambda own: {"layer1/out_degree": own["layer1/out_degree"]},
    "no out-degrees": lambda own: {"layer1/in_degree": ONE, "layer2/in_degree": ONE},
    "layers of other lengths": lambda own: {**own, "layer2/in_degree": own["layer2/in_degree"][:1]},
    "sides of other lengths": lambda own: {**own, "layer1/out_degree": own["layer1/out_degree"][:1]},
    "one row": lambda own: {name: values[:1] for name, values in own.items()},
    "no connections": lambda own: {name: 0 * values for name, values in own.items()},
    "the largest numbers": lambda own: {name: np.full_like(values, 2**31 - 1) for name, values in own.items()},
    "large numbers": lambda own: {name: values * 10**7 for name, values in own.items()},
    "one neuron": lambda own: {"layer1/out_degree": int32([1]), "layer1/in_degree": int32([1])},
    "equal degrees": lambda own: {name: 0 * values + 3 for name, values in own.items()},
    "other numbers than the topology": lambda own: {name: values[:, ::-1] for name, values in own.items()},
    "no name": lambda own: {"/out_degree": ONE, "/in_degree": ONE},
    "a name for mathematics": lambda own: {"$\\frac$/out_degree": ONE, "$\\frac$/in_degree": ONE},
    "a name of 10,000 letters": lambda own: {"x" * 10_000 + "/out_degree": ONE, "x" * 10_000 + "/in_degree": ONE},
    "a file that is no array": lambda own: {**own, "layer1/out_degree": b"no array"},
    "a file that is no array, and nothing else": lambda own: {"layer1/out_degree": b""},
    "a name that is twice there": lambda own: {**own, "layer1/in_degree.npy": b""},
    "60 layers": lambda own: {f"layer{i}/{kind}_degree": ONE for i in range(60) for kind in ("in", "out")},
}


def degrees_with(own: Path, arrays: Mapping[str, NDArray[Any] | bytes]) -> FinishedRun:
    raw = {name: value for name, value in arrays.items() if isinstance(value, bytes)}
    kept = {name: value for name, value in arrays.items() if not isinstance(value, bytes)}
    (own / "degrees.npz").write_bytes(archive_of(kept, raw))
    return counted(mend(own))


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("what", DEGREES)
def test_degrees_that_were_tampered_with_are_drawn_or_named(what: str, own: Path) -> None:
    run = degrees_with(own, DEGREES[what](arrays_of(own / "degrees.npz")))
    drawings = [
        drawing
        for drawing in (*experiment_drawings([run]), *topology_drawings([run]))
        if not drawing.name.endswith("-curves")
    ]  # which do not depend on them
    assert len(drawings) == 4

    def draw(drawing: Drawing) -> None:
        figure = drawing.draw()
        if isinstance(figure, Figure):
            write_figure(figure, io.BytesIO(), "svg")

    assert_read_or_refused(tally(partial(draw, drawing) for drawing in drawings), 4)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("what", DEGREES)
def test_degrees_that_were_tampered_with_are_measured_or_refused(what: str, own: Path) -> None:
    run = degrees_with(own, DEGREES[what](arrays_of(own / "degrees.npz")))
    assert_read_or_refused(tally(iter([lambda: keep_analysis(own, measure_run(own, run.summary["sha256"]))])), 1)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quick_figures")
def test_degrees_that_were_changed_at_random_are_drawn_or_named(own: Path, tmp_path: Path) -> None:
    count = 150

    def attempts() -> Iterator[Callable[[], object]]:
        for content in mutations(own / "degrees.npz", count, tmp_path / "owned"):
            (own / "degrees.npz").write_bytes(content)
            run = counted(mend(own))
            yield lambda run=run: draw_report([run], tmp_path / "figures")  # type: ignore[misc]

    assert_read_or_refused(tally(attempts()), count)
    assert not (tmp_path / "owned").exists()


@pytest.mark.usefixtures("quick_figures")
def test_an_archive_that_unpacks_to_much_is_refused(own: Path, tmp_path: Path) -> None:
    """By what it says of itself; one that lies about that is not unpacked beyond it."""
    content = io.BytesIO()
    zeros: Any = {f"layer1/{kind}_degree": np.zeros((2, 3_000_000), np.int32) for kind in ("out", "in")}
    np.savez_compressed(content, **zeros)
    assert len(content.getvalue()) < 400_000
    (own / "degrees.npz").write_bytes(content.getvalue())  # 48 MB: within the limits
    _, missing = draw_report([counted(mend(own))], tmp_path / "figures")
    assert all("degrees.npz" in sentence or str(own) in sentence for sentence in missing)
    for told in (2**34, 10):
        lying = io.BytesIO()
        with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("layer1/out_degree.npy", np.lib.format.magic(1, 0) + bytes(10_000_000))
            archive.filelist[0].file_size = told
        (own / "degrees.npz").write_bytes(lying.getvalue())
        _, missing = draw_report([counted(mend(own))], tmp_path / "figures")
        assert any("degrees.npz" in sentence for sentence in missing)
    shape = f"{{'descr': '<i4', 'fortran_order': False, 'shape': (1, {2**40}), }}".ljust(117) + "\n"
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little") + shape.encode()
    run = degrees_with(own, {"layer1/out_degree.npy": header})
    _, missing = draw_report([run], tmp_path / "figures")
    assert any("degrees.npz" in sentence for sentence in missing)


# Written for a leaf of an analysis: JSON as it stands, which json.dumps would not always write.
LEAVES = ["null", "true", "-1", "0", "1", "1e400", "-1e400", "NaN", "Infinity", "1" * 400, "1" * 5000, "1e308", "0.5",
          '""', '"\\ud800"', '"\\u001b[31m"', '"<script>"', "[]", "{}", "[[1]]", "[null]", '{"x": 1}']  # fmt: skip


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value something stands: objects and lists themselves too."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in parts for found in leaves(part, (*place, key)))]


def set_leaf(value: Any, place: tuple[Any, ...], rng: random.Random) -> None:
    for key in place[:-1]:
        value = value[key]
    kind = rng.randrange(8)
    if kind == 0:
        del value[place[-1]]
    elif kind == 1 and isinstance(value, dict):
        value["more"] = value[place[-1]]
    elif kind == 1:
        value += 3 * [value[place[-1]]]
    else:
        value[place[-1]] = f"@{rng.randrange(len(LEAVES))}@"


def tampered_analyses(text: str, count: int) -> Iterator[bytes]:
    for i in range(count):
        rng = random.Random(f"{SEED} analysis {i}")
        if i % 5 == 0:
            yield flip(text.encode(), rng)
            continue
        value = json.loads(text)
        for _ in range(rng.choice((1, 1, 1, 3))):
            set_leaf(value, rng.choice([place for place in leaves(value) if place]), rng)
        yield re.sub(r'"@(\d+)@"', lambda found: LEAVES[int(found[1])], json.dumps(value)).encode()


def test_a_kept_analysis_that_was_tampered_with_is_shown_or_made_anew(tmp_path: Path) -> None:
    """Every table, every format, and the page: of what a file says that is no analysis of ours."""
    path = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    run, count = counted(path), 600
    text = (path / FILE).read_text()
    kept = 0

    def show() -> None:
        nonlocal kept
        topologies: Topologies = kept_topologies([run])
        if not topologies.analyses:
            return
        kept += 1
        for form in FORMATS[:-1]:
            assert_no_control(render_topologies(topologies, form))
        if kept % 10 == 0:
            assert_inert(render_page(compare([run]), topologies))

    def attempts() -> Iterator[Callable[[], object]]:
        for content in tampered_analyses(text, count):
            (path / FILE).write_bytes(content)
            yield show

    assert_read_or_refused(tally(attempts()), count)
    assert kept > 20


# One by one, where chance might not find them: numbers that pydantic lets through and no page can show.
@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", "1" * 400, "-1", "1e308"])
@pytest.mark.parametrize("name", ["alpha", "x_min", "tail", "p", "ratio", "neurons", "largest", "path_length",
                                  "reachable", "dead", "mean", "kept", "explored", "strengths"])  # fmt: skip
def test_no_number_in_a_kept_analysis_breaks_a_page(name: str, number: str, tmp_path: Path) -> None:
    path = put_everywhere(finished_run(tmp_path / "runs", 0, 70, 71), "x")
    value = f"[{number}]" if name == "strengths" else number
    text, found = re.subn(rf'("{name}": )(\[[^\]]*\]|[^,\n}}]+)', lambda match: match[1] + value,
                          (path / FILE).read_text())  # fmt: skip
    assert found
    (path / FILE).write_text(text)
    kept = kept_topologies([counted(path)])
    for form in FORMATS[:-1]:
        render_topologies(kept, form)
    assert_inert(render_page(compare([counted(path)]), kept))


# --- I8, I9, I11: nothing altered counts, and nothing is dropped without a word --------------------------------------


def change_a_digit(path: Path) -> None:
    content = path.read_bytes()
    place = max(i for i, byte in enumerate(content) if 0x30 <= byte <= 0x39)
    digit = 0x30 + (content[place] - 0x30 + 1) % 10
    path.write_bytes(content[:place] + bytes([digit]) + content[place + 1 :])


@pytest.mark.parametrize("name", REPORTED)
def test_one_digit_altered_is_found_excluded_and_counted(name: str, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        path = finished_run(tmp_path / "runs", seed, 70 + seed, 71 + seed)
        (path / "params.json").write_text('{"total": {"connections": 381000}}')
        mend(path)
    change_a_digit(path / name)
    out, err = set_report("runs", "--format", "json", "--strict", folder=tmp_path, code=3)
    assert [(row["n"], row["last_mean"]) for row in json.loads(out)] == [(2, 70.5)]
    assert "not counted: 1 altered" in err
    assert f"altered: {path.relative_to(tmp_path)} ({name} changed after the run)" in err
    assert "--strict: 1 run folders altered" in err
    page = Page(page_of(tmp_path / "runs"))
    assert "1 not counted" in page.text
    assert f"{name} changed after the run" in page.text


@pytest.mark.parametrize(
    "name", ["degrees.npz", "topology/epoch_0000.npz", "topology/epoch_0001.npz", "checkpoint.npz"]
)
def test_a_topology_with_one_bit_altered_is_not_analysed(name: str, own: Path) -> None:
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    topologies = analyze_runs([counted(own)])
    assert not topologies.analyses
    (sentence,) = topologies.missing
    assert f"{name}: altered after the run" in sentence


# How many run folders of each kind, and how they come to be left out.
MIXTURE = {"running": 1, "interrupted": 3, "diverged": 2, "failed": 4, "altered": 2, "unreadable": 3, "skipped": 1,
           "repeated": 2, "not started": 1}  # fmt: skip


def mixture(root: Path) -> None:
    for seed in range(5):
        finished_run(root, seed, 70 + seed, 71 + seed, name=f"done-s{seed}")
    for why, count in MIXTURE.items():
        for i in range(count):
            # Of other figures and seeds: where one were averaged all the same, the mean would say so.
            path = finished_run(root, 2 + i if why == "repeated" else 100 + i, 1, 1, name=f"{why} {i}")
            match why:
                case "altered":
                    (path / "metrics.jsonl").write_text('{"epoch": 2}\n')
                case "unreadable":
                    (path / ("summary.json", "status.json", "summary.json")[i]).write_text("{")
                case "skipped":
                    path.rename(root.parent / "elsewhere")
                    path.symlink_to(root.parent / "elsewhere")
                case "not started":
                    (path / "status.json").unlink()
                case "repeated":  # the same configuration and seed: of its copies the last one counts
                    path.rename(path.with_name(f"before {i}"))
                case _:
                    status = {"status": why, "epoch": 1, "reason": f"because {i}"}
                    (path / "status.json").write_text(json.dumps(status))


def test_of_a_mixture_the_finished_runs_count_and_the_others_are_counted(tmp_path: Path) -> None:
    mixture(tmp_path / "runs")
    out, err = set_report("runs", "--format", "json", folder=tmp_path)
    (row,) = json.loads(out)
    assert (row["n"], row["last_mean"], row["best_mean"]) == (5, 72, 73)
    (line,) = [line for line in err.splitlines() if line.startswith("not counted: ")]
    parts = [part.partition(" ") for part in line.removeprefix("not counted: ").split(", ")]
    assert {why: int(count) for count, _, why in parts} == MIXTURE
    for why, count in MIXTURE.items():
        assert len(re.findall(rf"(?m)^  {why}: runs/", err)) == count
    page = Page(page_of(tmp_path / "runs"))
    assert f"{sum(MIXTURE.values())} not counted" in page.text
    for i in range(MIXTURE["failed"]):
        assert f"because {i}" in page.text


def test_runs_of_other_versions_are_not_averaged_without_a_word(tmp_path: Path) -> None:
    for seed, version in enumerate(("0.1.0", "0.1.0", "9.9.9")):
        path = finished_run(tmp_path, seed, 70, 71)
        (path / "run.json").write_text(json.dumps([{"set_cli": version, "python": "3.11.7", "command": []}]))
    comparison = report(tmp_path)
    assert len(comparison.rows) > 1 or comparison.doubtful or comparison.left_out


def test_one_damaged_folder_among_a_thousand_costs_one_line(tmp_path: Path) -> None:
    for seed in range(1000):
        path = finished_run(tmp_path / "runs", seed, 70, 71)
    (path / "summary.json").write_bytes(b"\xff" * 100)
    out, err = set_report("runs", "--format", "json", folder=tmp_path)
    assert [row["n"] for row in json.loads(out)] == [999]
    assert "not counted: 1 unreadable" in err
    assert f"unreadable: {path.relative_to(tmp_path)}" in err
    assert len(err.splitlines()) == 2
    out, err = set_report("runs", "--format", "json", "--strict", folder=tmp_path, code=3)
    assert [row["n"] for row in json.loads(out)] == [999]
    assert "--strict: 1 run folders" in err


# --- set-report diff -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [*PAYLOADS[:6], *CONTROLS])
def test_a_difference_of_two_hostile_runs_is_text(payload: str, tmp_path: Path) -> None:
    first, failed = hostile_runs(tmp_path, payload)
    second, _ = hostile_runs(tmp_path, HARMLESS, 1)
    for pair in ((first, second), (second, first), (first, first), (first, failed), (failed, second)):
        assert_no_control(compare_two(*pair))
    shown = compare_two(first, second)
    assert printable(f"{payload}(config key)") in shown
    assert printable(f"{payload}(package)") in shown


def test_a_difference_of_what_is_no_run_is_a_sentence(tmp_path: Path) -> None:
    run = put_everywhere(finished_run(tmp_path, 0, 70, 71), "x")
    for number, content in enumerate(("null", "1", '"x"', "[]", "{}", "[1]", "[[]]", '[{"packages": 1, "git": [{}]}]')):
        other = put_everywhere(finished_run(tmp_path / str(number), 0, 70, 71), "x")
        (other / "run.json").write_text(content)
        try:
            text = compare_two(run, other)
        except DataError as error:
            text = str(error)
        assert_no_control(text)
        assert "run.json" in text or "Environment" in text
