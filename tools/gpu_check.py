"""Check the GPU backend on a machine with a GPU, in one command and a limited time.

    python tools/gpu_check.py OUT [--wheels DIR] [--data DIR] [--seconds 440] [--parts a,b,...] [--cpu-threads N]

--wheels DIR  what tools/gpu_wheels.sh collected: a temporary environment is made of the running interpreter's
              packages (torch), these wheels and this repository. Without it the running interpreter is used as it is.
--data DIR    a folder with cifar10_10000.npz, which tools/gpu_data.py writes; without it the images are made up

Parts, the most important first: tests, bench, large, training, products, crossover. Each runs in its own process and
is killed at its limit; what is not begun for want of time is listed. OUT gets table.txt, figures.json, the log of
every part, and details.tar.gz. Exit code 0: all parts ran and everything wanted held.

This file needs the standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gpu.budget import Budget, run_limited
from gpu.figures import Figure, read_figures, table
from gpu.header import ask, header
from gpu.install import CARRIED, install_package, make_environment
from gpu.parts import PARTS, Settings, run_part

ROOT = Path(__file__).resolve().parent.parent
RESERVE = 3.0  # seconds, for the table and the archive
RAN = "seconds of the parts that ran"
SMALL_FILE, LARGEST_LOG = 2**20, 4 * 2**20  # bytes: what goes into the archive, and what is kept of a log


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check the GPU backend; see the head of this file.")
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=440)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--cpu-threads", type=int, default=2)
    # To try the parts where there is no GPU.
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--run-part", help=argparse.SUPPRESS)  # what the parts' own processes are started with
    options = parser.parse_args(arguments)
    if options.run_part:
        run_part(options.run_part)
        return 0
    if options.out is None:
        parser.error("expected the folder for the results")
    parts = options.parts.split(",")
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"part {unknown[0]} is not known: expected some of {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is killed, and the table written
    options.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.seconds - RESERVE)
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as work:
        return check(options, parts, Path(work), budget)


def check(options: argparse.Namespace, parts: list[str], work: Path, budget: Budget) -> int:
    start = time.monotonic()
    out: Path = options.out.resolve()
    python, kernels = Path(sys.executable), "of this environment"
    if options.wheels is not None:
        python, kernels = make_environment(work / "environment", options.wheels.resolve(), ROOT)
    found = ask(python, ROOT)
    if kernels == CARRIED and "missing" in found.get("kernels", ""):  # they do not load here
        kernels = install_package(python, work / "environment", ROOT, keep=False)
        found = ask(python, ROOT)
    head = header(found, ROOT, kernels, time.monotonic() - start)
    print("\n".join(head), flush=True)
    figures: list[Figure] = []
    if "error" in found:
        figures.append(Figure("install", "import of the package", "failed", held=False))
        (out / "install.log").write_text(found["error"])
        parts = []
    try:
        for name in parts:
            figures += run_one(name, options, python, work, out, budget, has_gpu=found["gpu"] is not None)
            (out / "table.txt").write_text(table(head, joined(figures)))
    finally:
        collect(out, work, parts)
        text = table(head, joined(figures))
        (out / "table.txt").write_text(text)
        print(text, flush=True)
    return int(any(figure.held is False for figure in figures))


def joined(figures: list[Figure]) -> list[Figure]:
    """One line for all parts that ran to their end."""
    ran = [figure.value for figure in figures if figure.what == RAN]
    return [f for f in figures if f.what != RAN] + [Figure("all", RAN, ", ".join(ran))] * bool(ran)


def run_one(
    name: str, options: argparse.Namespace, python: Path, work: Path, out: Path, budget: Budget, *, has_gpu: bool
) -> list[Figure]:
    """The figures of one part, that of its end included."""
    part = PARTS[name]
    if options.device == "cuda" and not has_gpu:
        return [Figure(name, "the part", "skipped: no GPU")]
    if budget.left < part.least:
        return [Figure(name, "the part", "not run: no time", held=False)]
    folder, log, path = work / name, out / f"{name}.log", out / f"{name}.json"
    folder.mkdir()
    log.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    limit = min(part.limit, budget.left)
    settings = Settings(
        part=name,
        root=str(ROOT),
        figures=str(path),
        work=str(folder),
        data=None if options.data is None else str(options.data.resolve()),
        device=options.device,
        scale=options.scale,
        seconds=limit,
        threads=options.cpu_threads,
    )
    command = [str(python), str(Path(__file__).resolve()), "--run-part", settings.as_text()]
    start = time.monotonic()
    code = run_limited(command, limit, log, environment(python, options.device), ROOT)
    seconds = f"{time.monotonic() - start:.0f}"
    if code == 0:
        end = Figure(name, RAN, f"{name} {seconds}")
    elif code is None:
        end = Figure(name, "the part", "killed at its limit", f"{seconds} s", "to end in time", False)
    else:
        last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        end = Figure(name, "the part", f"failed ({code}): {last}"[:90], f"{seconds} s", "exit code 0", False)
    return [*read_figures(path), end]


def environment(python: Path, device: str) -> dict[str, str]:
    """Of the parts: this interpreter first, and on a GPU nothing that makes Triton interpret."""
    left_out = ("PYTHONPATH", "SET_DATA_DIR", *["TRITON_INTERPRET"] * (device == "cuda"))
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    return kept | {"PATH": f"{python.parent}:{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1"}


def collect(out: Path, work: Path, parts: Sequence[str]) -> None:
    """All figures in one file, the logs cut to their ends, and the small files of the parts in one archive."""
    rows = []
    for name in parts:
        path, log = out / f"{name}.json", out / f"{name}.log"
        if path.exists():
            rows += json.loads(path.read_text())
            path.unlink()
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.write_bytes(log.read_bytes()[-LARGEST_LOG:])
    (out / "figures.json").write_text(json.dumps(rows, indent=1))
    built = work / "environment" / "built" / "install.log"
    if built.exists():
        shutil.copy(built, out / "install.log")
    with tarfile.open(out / "details.tar.gz", "w:gz", compresslevel=1) as archive:
        for name in parts:
            for path in sorted((work / name).rglob("*")):
                if path.is_file() and path.stat().st_size <= SMALL_FILE and path.suffix not in (".bin", ".npz"):
                    archive.add(path, path.relative_to(work))


if __name__ == "__main__":
    sys.exit(main())
