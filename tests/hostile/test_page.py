"""What is in a run folder is text on the page, and in its pictures: nothing of it runs or loads anything."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from set_cli.report.drawing import draw_report
from tests.builders import finished_run
from tests.hostile.html import assert_inert
from tests.hostile.payloads import PAYLOADS
from tests.hostile.runs import SHOWN, SHOWN_AS_JSON, counted, hostile_runs, page_of, put_everywhere

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


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
