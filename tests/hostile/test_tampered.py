"""Topologies, weights, degrees and analyses that were tampered with are valid ones or refused."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from set_cli.analysis.measure import FILE, keep_analysis, measure_run
from set_cli.commands.report import FORMATS
from set_cli.report.collect import FinishedRun
from set_cli.report.drawing import Drawing, draw_report, experiment_drawings, topology_drawings
from set_cli.report.figures import write_figure
from set_cli.report.html import render_page
from set_cli.report.rows import compare
from set_cli.report.topology import Topologies, kept_topologies, render_topologies
from set_cli.runs.topology import read_topology
from tests.builders import finished_run
from tests.hostile.html import assert_inert
from tests.hostile.runs import assert_no_control, checksums, counted, mend, put_everywhere
from tests.hostile.tampering import SEED, Arrays, archive_of, arrays_of, assert_read_or_refused, flip, mutations, tally

# What waits for a pipe or reads a device waits for ever.
pytestmark = [pytest.mark.hostile, pytest.mark.timeout(120)]


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
