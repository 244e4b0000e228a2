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
from set_cli.system.terminal import Column, render_table, text_cells


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


COLUMNS: list[Column[Row]] = [
    Column("workload", lambda row: row.workload, False, 0),
    Column("engine", lambda row: row.engine, False, 0),
    Column("threads", lambda row: str(row.threads), True, 8, "threads: {}".format),
    Column("connections", lambda row: f"{row.connections:,}", True, 7),
    Column("ms median", lambda row: f"{row.ms_median:,.2f}", True, 1),
    Column("ms best", lambda row: f"{row.ms_best:,.2f}", True, 6),
    Column("vs dense", lambda row: _times(row.vs_dense), True, 2),
    Column("vs torch CSR", lambda row: _times(row.vs_torch_csr), True, 3),
    Column("peak MB", lambda row: "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f}", True, 4),
]


BESIDE: list[Column[Row]] = [
    Column("ms beside", lambda row: "" if row.ms_beside is None else f"{row.ms_beside:,.2f}", True, 5),
    Column("vs alone", lambda row: _times(row.vs_alone), True, 1),
]


def _columns(rows: Sequence[Row]) -> list[Column[Row]]:
    return COLUMNS + (BESIDE if any(row.ms_beside is not None for row in rows) else [])


def render(rows: Sequence[Row], width: int | None = None) -> str:
    """A table for a terminal of this width (None: as wide as it is); an empty cell is what did not run."""
    return render_table(_columns(rows), rows, width)


def render_markdown(rows: Sequence[Row]) -> str:
    """The same as a table of Markdown."""
    columns, cells = text_cells(_columns(rows), rows)
    sides = ["right" if column.right else "left" for column in columns]
    headers = [column.title for column in columns]
    return str(tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=sides)) + "\n"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
