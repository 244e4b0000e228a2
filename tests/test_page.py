"""The HTML report: what is on the page, and that a browser runs its script and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from set_cli.config import from_mapping
from set_cli.report import html
from set_cli.report.html import render_page
from set_cli.report.topology import Topologies, analyze_runs
from tests.builders import finished_run, report, train
from tests.conftest import NO_TORCH, ONE_THREAD, REPORT, compose_mapping, run_python

NOTHING = Topologies({}, [], [])


class Page(HTMLParser):
    """Text by section, and every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.captions: list[str] = []
        self._open: list[str] = []
        self._in_caption = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_caption = tag == "figcaption"
        if tag == "section":
            self._open.append(dict(attrs).get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            self.captions.append(data)
            self._in_caption = False
        if self._open:
            self.sections[self._open[0]] = self.sections.get(self._open[0], "") + data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for method in ("set", "dense"):
        for seed in (0, 1):
            overrides = ("train.epochs=2", "model.hidden=[20]", "progress=none", ONE_THREAD, f"method={method}")
            train(from_mapping(compose_mapping(*overrides, f"seed={seed}", f"runs_dir={folder}/runs")))
    return folder / "runs"


def test_the_page_says_everything_about_every_run(trained: Path) -> None:
    comparison = report(trained)
    page = Page(render_page(comparison, NOTHING))
    rows = page.sections["comparison"]
    assert f"{comparison.rows[1]['last_mean']:.2f} ± {comparison.rows[1]['last_std']:.2f}" in rows
    assert "2 of" not in rows  # the count of rows is the script's
    share = 100 * comparison.rows[1]["parameters"] / comparison.rows[1]["dense_parameters"]
    assert f"{share:.2f} %" in page.sections["parameters"]
    widths = [float(attributes["width"] or 0) for tag, attributes in page.tags
              if tag == "rect" and attributes["class"] == "part"]  # fmt: skip
    assert widths == pytest.approx([200, 2 * share], abs=0.01)
    again = "set-train -m dataset=digits model=mlp method=set epsilon=5.0 zeta=0.3 seed=0,1"
    assert again in page.sections["reproduce"]
    for run in comparison.counted:
        text = page.sections["runs"]
        assert "/".join(run.path.parts[-3:]) in text
        start = json.loads((run.path / "run.json").read_text())[-1]
        for shown in (start["cpu"], start["packages"]["torch"], start["checksums"].popitem()[1]):
            assert shown in text
        assert '"batch_size": 10' in text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    kinds = [caption.rpartition(": ")[2] for caption in page.captions]
    assert kinds == ["curves", "inputs", "degrees", "the paper's test"]
    assert all((attributes["src"] or "").startswith("data:image/svg+xml;base64,") for attributes in pictures)
    assert "Every run that was found is in the tables." in page.sections["left-out"]


def test_the_page_says_what_does_not_count(tmp_path: Path) -> None:
    finished_run(tmp_path, 0, 70, 71)
    finished_run(tmp_path, 1, 70, 71)
    finished_run(tmp_path, 0, 60, 61, "dense", last_chains_agree=False)
    failed = finished_run(tmp_path, 1, 60, 61, "dense")
    (failed / "status.json").write_text(json.dumps({"status": "failed", "epoch": 7, "reason": "disk full"}))
    page = Page(render_page(report(tmp_path), NOTHING))
    text = page.sections["left-out"]
    for said in ("failed", f"cifar10/mlp/{failed.name}", "epoch 7, disk full", "last may be off"):
        assert said in text
    assert "metrics.jsonl has no figures to draw" in text  # these runs have no curves
    assert "1 of 2*" in page.sections["comparison"]
    assert "* the mean of those that finished: 1 failed" in page.sections["comparison"]
    assert "method=dense seed=0,1" in page.sections["reproduce"]  # every seed that was started


def test_a_page_names_no_machine_and_no_folder_of_its_own(tmp_path: Path) -> None:
    """The command keeps the names of files, without the folders they are in."""
    for root in ("here", "there"):
        path = finished_run(tmp_path / root, 0, 70, 71, name=f"set-{root}-s0", settings={"x": root})
        command = ["/home/me/bin/set-train", "dataset.path=/home/me/wine.csv", f"runs_dir={tmp_path}/{root}", "seed=0"]
        command += ["data.dir='/home/me/data'", "dataset.test_path=/home/a.csv,/home/b.csv", "x=a/b"]
        start = {"command": command, "folder": "/home/me", "host": "mymachine", "pid": 4711, "cpu": "Zen 4"}
        start |= {
            "options": {"data.dir": "/home/me/data"},
            "data": {"classes": [{"name": "a", "train": 50, "test": 9}]},
        }
        (path / "run.json").write_text(json.dumps([start]))
    (tmp_path / "there/cifar10/mlp/set-there-s0/status.json").write_text('{"status": "failed", "epoch": 1}')
    page = render_page(report(tmp_path), NOTHING)
    for private in ("/home", "mymachine", "4711", str(tmp_path)):
        assert private not in page
    text = Page(page).sections
    again = "set-train dataset.path=wine.csv runs_dir=here seed=0 data.dir=data dataset.test_path=a.csv,b.csv x=a/b"
    assert again in text["runs"]
    assert "Classes and their training rows: a 50 (test: 9)" in text["runs"]
    assert "Zen 4" in text["runs"]
    assert "here/cifar10/mlp/set-here-s0" in text["runs"]
    assert "there/cifar10/mlp/set-there-s0" in text["left-out"]


def test_a_page_says_once_where_files_of_ones_own_must_be(tmp_path: Path) -> None:
    said = "Files of your own are named without their folders: put them in the current folder, or fill in their paths."
    assert said not in page_with(tmp_path / "digits", "digits", {})
    settings = {"data": "wine.zip:0123abcd", "test_data": "t.csv:4567abcd"}
    page = page_with(tmp_path / "own", "custom", settings)
    assert page.count(said) == 1
    assert "seed=0 dataset.path=wine.zip dataset.test_path=t.csv" in Page(page).sections["reproduce"]
    assert "/secret" not in page


def page_with(root: Path, dataset: str, settings: dict[str, str]) -> str:
    for method in ("set", "dense"):
        path = finished_run(root, 0, 70, 71, method, dataset, settings=settings)
        options = {"dataset.path": "/secret/wine.zip", "dataset.test_path": "/secret/t.csv"}
        (path / "run.json").write_text(json.dumps([{"options": options}]))
    return render_page(report(root), NOTHING)


def test_a_page_begins_with_what_came_out(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, seed, 70 + seed, 72)
        finished_run(tmp_path, seed, 68 + seed, 69, "dense")
    text = " ".join(unescape(re.sub("<[^>]*>", "", render_page(report(tmp_path), NOTHING))).split())
    assert "set ε=20 ζ=0.3 reaches 70.50 % with 2.1 % of dense's parameters: 2.00 points above dense." in text
    assert "2 seeds cannot tell these two methods apart; 6 can." in text
    assert "All rows: cifar10, mlp, 2 seeds, test accuracy in %, best on test." in text


def test_every_figure_of_a_page_is_said_in_words(trained: Path) -> None:
    page = Page(render_page(report(trained), NOTHING))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures
    assert all((attributes["alt"] or "").startswith("digits") for attributes in pictures)


def test_an_empty_comparison_is_a_page(tmp_path: Path) -> None:
    page = Page(render_page(report(tmp_path), NOTHING))
    assert "No finished run." in page.sections["comparison"]


def test_what_is_too_much_for_a_page_is_said(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_FIGURES", "MOST_RUNS", "MOST_ROWS"):
        monkeypatch.setattr(html, name, 1)
    page = Page(render_page(report(trained), NOTHING))
    assert "1 more: set-report --figures DIR draws them all." in page.sections["figures"]
    assert "1 more rows: --format csv" in page.sections["comparison"]
    assert "3 more runs are in the tables only." in page.sections["runs"]
    assert [tag for tag, _ in page.tags].count("details") == 1


def test_dark_pages_have_the_figures_in_other_colours(trained: Path) -> None:
    """Every colour that a curve is drawn in has its own on dark ground: none is forgotten."""
    import base64
    import re

    page = Page(render_page(report(trained), NOTHING))
    light = next(attributes["src"] for tag, attributes in page.tags if tag == "img")
    dark = next(attributes["srcset"] for tag, attributes in page.tags if tag == "source")
    assert light
    assert dark
    colors = [
        set(re.findall(r"#[0-9a-f]{6}\b", base64.b64decode(address.rpartition(",")[2]).decode()))
        for address in (light, dark)
    ]
    assert colors[0] <= html.DARK_COLORS.keys()
    assert colors[1] <= set(html.DARK_COLORS.values())


def test_topologies_are_on_the_page_once_they_were_analysed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("set_cli.analysis.measure.SAMPLES", 6)
    shutil.copytree(trained, tmp_path / "runs")
    comparison = report(tmp_path / "runs")
    analyze_runs(comparison.counted)
    page = Page((run_html(tmp_path)).read_text())
    text = page.sections["topology"]
    for said in (
        "Degrees",
        "6 samples each",
        "Clauset's p",
        "paper's p",
        "Layers",
        "explored",
        "Networks",
        "Strongest inputs",
    ):
        assert said in text


def run_html(folder: Path) -> Path:
    """The page as the command writes it, without torch."""
    result = run_python("-c", NO_TORCH + REPORT, "runs", "--format", "html", "--output", "report.html", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "report.html"


def test_a_browser_takes_the_pages_script(trained: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here to open the page in")
    shutil.copytree(trained, tmp_path / "runs")
    page = run_html(tmp_path)
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom",
               f"--user-data-dir={tmp_path}/profile", page.as_uri()]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    made = Page(result.stdout)
    assert "2 of 2 rows" in made.sections["comparison"]
    assert sum(tag == "button" for tag, _ in made.tags) > 20  # one for each column
    assert "Content Security Policy" not in result.stderr
