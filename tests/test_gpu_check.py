"""tools/gpu_check.py where there is no GPU: what it says, keeps, kills and counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu import images, roofline
from gpu.budget import Budget, run_limited
from gpu.device import random_pattern
from gpu.figures import MOST_LINES, Figure, Figures, read_figures, table
from gpu.install import unpack
from gpu.parts import PARTS
from gpu.suite import run_tests
from gpu_check import run_one

from set_cli.sparse.pattern import check_pattern
from tests.conftest import INTERPRETER

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "gpu_check.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if key != INTERPRETER}
    hidden = plain | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, env=hidden, capture_output=True, text=True, timeout=120)


def test_without_a_gpu_every_part_is_skipped_and_the_table_says_so(tmp_path: Path) -> None:
    done = run(str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "out" / "table.txt").read_text()
    assert written in done.stdout
    assert [line.split()[0] for line in written.splitlines() if "skipped: no GPU" in line] == list(PARTS)
    assert f"torch {torch.__version__}" in written


def test_a_part_that_runs_leaves_figures_log_and_details(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(str(out), "--device", "cpu", "--scale", "0.001", "--parts", "crossover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {"table.txt", "figures.json", "details.tar.gz", "crossover.log"}
    rows = json.loads((out / "figures.json").read_text())
    assert len(rows) == 2  # so small that all sizes are the same; two batches
    assert all(set(row["detail"]["us"]) == {"0.003", "0.01", "0.03", "0.1", "0.3"} for row in rows)
    with tarfile.open(out / "details.tar.gz") as archive:
        assert archive.getnames() == []


def test_a_part_is_not_begun_without_its_least_time(tmp_path: Path) -> None:
    options = Namespace(device="cuda", data=None, scale=1.0, cpu_threads=1)
    least = PARTS["products"].least
    (figure,) = run_one("products", options, TOOL, tmp_path, tmp_path, Budget(least - 1), has_gpu=True)
    assert (figure.value, figure.held) == ("not run: no time", False)


def test_what_hangs_is_killed_with_its_children_and_the_next_command_runs(tmp_path: Path) -> None:
    child = "import time; time.sleep(600)"
    parent = (
        f"import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', {child!r}]); "
        "print(c.pid, flush=True); time.sleep(600)"
    )
    log, start = tmp_path / "log", time.monotonic()
    assert run_limited([sys.executable, "-c", parent], 2, log, os.environ, tmp_path) is None
    assert time.monotonic() - start < 30
    pid = int(log.read_text())
    end = time.monotonic() + 10
    with suppress(ProcessLookupError):
        while time.monotonic() < end and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            os.kill(pid, 0)
            time.sleep(0.05)
        pytest.fail("the child lives") if time.monotonic() >= end else None
    assert run_limited([sys.executable, "-c", "raise SystemExit(3)"], 60, log, os.environ, tmp_path) == 3


def test_a_budget_runs_out() -> None:
    assert 9 < Budget(10).left <= 10
    assert Budget(-1).left < 0


def test_figures_are_written_as_they_come_and_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    assert read_figures(path) == []
    Figures("part", path).add("speed", 0.123456, "s", "<= 1", True, seconds=[1, 2])
    Figures("part", path).add("count", 1234567)
    assert read_figures(path) == [
        Figure("part", "speed", "0.1235", "s", "<= 1", True),
        Figure("part", "count", "1,234,567"),
    ]
    assert Figures("part", path).has("spe")
    assert not Figures("part", path).has("speeds")


@pytest.mark.parametrize("count", [3, MOST_LINES - 2, MOST_LINES - 1, 200])
def test_a_table_has_at_most_its_lines_and_keeps_what_did_not_hold(count: int) -> None:
    figures = [Figure("part", f"figure {i}", "1") for i in range(count)] + [Figure("part", "bad", "2", held=False)]
    lines = table(["header"], figures).splitlines()
    assert len(lines) <= MOST_LINES
    assert sum("NOT HELD" in line for line in lines) == 1
    shown = sum("figure " in line for line in lines)
    left_out = [line for line in lines if line.startswith("...")]
    assert (f"and {count - shown} figures more" in left_out[0]) if left_out else shown == count


def test_the_bytes_of_products_are_those_counted_by_hand() -> None:
    n_in, n_out, connections, batch = 7, 5, 11, 3
    rows = connections * batch * 4
    assert roofline.spmm_bytes(n_in, n_out, connections, batch) == rows + connections * 12 + n_out * batch * 4
    assert roofline.spmm_t_bytes(n_in, n_out, connections, batch) == rows + connections * 8 + n_in * batch * 4
    assert roofline.sddmm_bytes(n_in, n_out, connections, batch) == rows + connections * 8 + n_in * batch * 4
    both = rows + connections * 12 + (7 + 7 + 5) * batch * 4
    assert roofline.gradients_bytes(n_in, n_out, connections, batch) == both
    half = connections * batch * 2 + connections * 12 + n_out * batch * 2
    assert roofline.spmm_bytes(n_in, n_out, connections, batch, 2) == half
    layers = [(7, 5, 11), (5, 4, 6)]
    assert roofline.step_bytes(layers, batch) == 17 * (2 * (4 * batch + 12) + 20) + (7 + 5 + 4) * batch * 4


@pytest.mark.parametrize("density", [0.003, 0.3])
def test_a_random_pattern_is_valid_and_as_dense_as_asked_for(density: float) -> None:
    pattern = random_pattern(300, 200, density, torch.device("cpu"))
    check_pattern(pattern.csr)
    assert len(pattern.indices) == pytest.approx(density * 60_000, rel=0.2)


def test_images_come_back_as_they_were_packed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3072), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    folder = tmp_path / images.FOLDER
    folder.mkdir()
    (folder / images.BATCHES[0]).write_bytes(images.content_of(pixels, labels))
    (folder / images.TEST).write_bytes(images.content_of(pixels[:5], labels[:5]))
    command = [sys.executable, str(ROOT / "tools" / "gpu_data.py"), str(tmp_path), str(tmp_path / "packed")]
    assert "12 images" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    written = images.write_batches(tmp_path / "packed" / images.NAME, tmp_path / "out")
    assert [path.name for path in written] == [*images.BATCHES, images.TEST]
    for path in written:
        expected = 5 if path.name == images.TEST else 12
        found_pixels, found_labels = images.rows_of(path.read_bytes())
        np.testing.assert_array_equal(found_pixels, pixels[:expected])
        np.testing.assert_array_equal(found_labels, labels[:expected])


def test_a_wheel_is_unpacked_where_python_finds_it_and_nowhere_else(tmp_path: Path) -> None:
    wheel, site = tmp_path / "x.whl", tmp_path / "site"
    names = ("x/__init__.py", "x-1.data/platlib/y.py", "x-1.data/scripts/run", "../outside.py")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "1")
    unpack(wheel, site)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.py")} == {"site/x/__init__.py", "site/y.py"}
    assert not list(tmp_path.rglob("run"))


def test_results_of_tests_are_read_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        "import time\nimport pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "@pytest.mark.skip(reason='no')\ndef test_left_out(): pass\n"
        "def test_slow(): time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_some.py"]
    seen, code = run_tests(command, tmp_path, 4)
    results = {name.rpartition("::")[2]: result for name, result in seen.items()}
    assert results == {"test_good": "PASSED", "test_bad": "FAILED", "test_left_out": "SKIPPED"}
    assert code != 0
