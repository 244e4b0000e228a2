"""The figures as a table, and the machine they belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from set_cli import native
from set_cli.bench.measure import Row

HEADERS = [
    "workload",
    "engine",
    "threads",
    "connections",
    "ms median",
    "ms best",
    "vs dense",
    "vs torch CSR",
    "peak MB",
]


def machine_line(repeats: int, device: torch.device | None = None) -> str:
    """What ran on what: GPU, processor, cores, versions, kernels, threads, load."""
    gpu = f"{torch.cuda.get_device_name(device)}; " if device is not None and device.type == "cuda" else ""
    kernels = ", ".join(f"{key} {value}" for key, value in native.describe().items())
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{gpu}{processor()}, {os.cpu_count()} cores, load {load}; torch {torch.__version__}, Python "
        f"{platform.python_version()}; kernels: {kernels}; {torch.get_num_threads()} threads, {repeats} rounds"
    )


def processor() -> str:
    """The processor's own name for itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def render(rows: Sequence[Row], form: str = "simple") -> str:
    """An aligned table; an empty cell is what did not run."""
    cells = [
        [
            row.workload,
            row.engine,
            row.threads,
            f"{row.connections:,}",
            f"{row.ms_median:,.2f}",
            f"{row.ms_best:,.2f}",
            _times(row.vs_dense),
            _times(row.vs_torch_csr),
            "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f}",
        ]
        for row in rows
    ]
    sides = ["left"] * 2 + ["right"] * 7
    return str(tabulate(cells, HEADERS, tablefmt=form, disable_numparse=True, colalign=sides)) + "\n"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
