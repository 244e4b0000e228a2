"""What this machine lends to a process: its cores, and its GPUs as the driver lists them (torch is not asked)."""

from __future__ import annotations

import os
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")


def started_together() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(len(list(DRIVER.glob("*"))))]


def prepare_for_torch() -> None:
    """Environment variables that torch reads when it is first imported; what the user has set stays.

    GOMP_SPINCOUNT   waiting threads sleep after some 0.1 ms: by default they spin for milliseconds, which takes the
                     cores from everybody else (docs/benchmarks.md, "Waiting threads"). These are torch's threads, of
                     dense products; the compiled kernels have their own (native/src/team.hpp), and without those torch
                     waits so often that it gets a tenth of it.
    THP_MEM_ALLOC_ENABLE  tensors of megabytes on huge pages: rows are read at random, and the TLB is small
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        compiled = any(Path(__file__).parent.parent.glob("native/_core*"))
        os.environ.setdefault("GOMP_SPINCOUNT", "10000" if compiled else "1000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
