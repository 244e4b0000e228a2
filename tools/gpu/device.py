"""Clocks, bandwidth and random patterns on the device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

from set_cli.sparse.engines.device_pattern import DevicePattern

WARM_SECONDS = 0.3  # an idle GPU runs at a sixth of its clock


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """Median of calls, each waited for; none is counted before the first one and a GPU's clocks are up."""
    begin, times = time.perf_counter(), list[float]()
    while len(times) < repeats:
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        end = time.perf_counter()
        if start > begin and (device.type != "cuda" or start - begin > WARM_SECONDS):
            times.append(end - start)
    return statistics.median(times)


def cold_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median on the GPU's own clock, the cache emptied before every call; on the CPU `median_seconds`."""
    if device.type != "cuda":
        return median_seconds(work, device, 3)
    from triton.testing import do_bench

    return float(do_bench(work, warmup=10, rep=60, return_mode="median")) / 1e3


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by a copy on the device, of 2 GiB where it is a GPU."""
    size = 2**31 if device.type == "cuda" else 2**27
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / median_seconds(lambda: target.copy_(source), device, 10)


def random_pattern(n_in: int, n_out: int, density: float, device: torch.device, seed: int = 0) -> DevicePattern:
    """About density * n_in * n_out connections, drawn and sorted on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    cells = n_in * n_out
    draws = math.ceil(-cells * math.log1p(-density))  # collisions leave density * cells of them
    positions = torch.randint(cells, (draws,), generator=generator, device=device)
    positions = positions.sort().values
    is_first = torch.ones_like(positions, dtype=torch.bool)
    is_first[1:] = positions[1:] != positions[:-1]
    positions = positions[is_first]
    rows, columns = positions // n_out, (positions % n_out).to(torch.int32)
    indptr = torch.zeros(n_in + 1, dtype=torch.int64, device=device)
    indptr[1:] = torch.bincount(rows, minlength=n_in).cumsum(0)
    return DevicePattern((n_in, n_out), indptr.to(torch.int32), columns)
