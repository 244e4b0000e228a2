"""Run folders as somebody else may have written them, and set-report for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from set_cli.analysis.graph import GraphMeasures
from set_cli.analysis.measure import VERSION, keep_analysis
from set_cli.analysis.power_law import Comparison as Rival
from set_cli.analysis.power_law import PowerLawFit
from set_cli.analysis.records import Analysis, DegreeRow, GraphRow, LayerRow, StrengthRow, TurnoverRow
from set_cli.commands.report import FORMATS
from set_cli.report.collect import FinishedRun, read_run
from set_cli.report.html import render_page
from set_cli.report.rows import Comparison
from set_cli.report.tables import render
from set_cli.report.topology import kept_topologies, render_topologies
from set_cli.runs.summary import REPORTED
from set_cli.system.files import sha256
from tests.builders import finished_run, report, write_sealed
from tests.conftest import INTERPRETER, REPORT

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
    write_sealed(path, summary)
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
