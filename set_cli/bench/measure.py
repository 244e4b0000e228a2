"""How it is measured: interleaved rounds in one process for times, one child process per engine for memory."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from set_cli.bench.beside import neighbours
from set_cli.bench.workloads import CPU, Precision, Task, prepare

SECONDS_PER_TURN = 0.15  # at least, of one engine in one round
MOST_CALLS = 200  # per turn
SECONDS_BESIDE = 0.5  # of one engine in one round beside others
WITH_NEIGHBOURS = ("ms_beside", "vs_alone")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result; times in milliseconds, vs_* how many times faster, memory in MB above imports.

    threads              that were used
    ms_beside, vs_alone  beside busy processes, where there were any: the mean, and how many times the mean alone
    """

    workload: str
    engine: str
    device: str
    threads: int
    connections: int
    ms_median: float
    ms_best: float
    vs_dense: float | None
    vs_torch_csr: float | None
    peak_memory_mb: float | None
    precision: str
    ms_beside: float | None = None
    vs_alone: float | None = None


def measure(
    workload: str,
    engines: Sequence[str],
    repeats: int,
    memory: bool,
    progress: Callable[[str], None],
    device: torch.device = CPU,
    precision: Precision = "float32",
    beside: int = 0,
) -> list[Row]:
    """Every engine in turn, `repeats` rounds; a round's time is the median of its calls, a ratio that of a round.

    beside  busy processes; every round is then done a second time while they compute
    """
    progress(f"{workload}: preparing {', '.join(engines)}")
    tasks = {engine: prepare(workload, engine, device, precision) for engine in engines}
    calls = {engine: _calls_per_turn(task) for engine, task in tasks.items()}
    rounds: dict[str, list[float]] = {engine: [] for engine in engines}
    best = dict.fromkeys(engines, float("inf"))
    means: dict[str, list[float]] = {engine: [] for engine in engines}
    busy: dict[str, list[float]] = {engine: [] for engine in engines}
    gc.collect()
    gc.disable()
    try:
        with neighbours(beside) as others:
            for number in range(repeats):
                progress(f"{workload}: round {number + 1} of {repeats}")
                for engine, task in tasks.items():
                    times = [_seconds(task) for _ in range(calls[engine])]
                    rounds[engine].append(statistics.median(times))
                    means[engine].append(statistics.fmean(times))
                    best[engine] = min(best[engine], *times)
                if beside:
                    progress(f"{workload}: round {number + 1} of {repeats}, {beside} busy processes beside it")
                    with others.computing():
                        for engine, task in tasks.items():
                            busy[engine].append(_mean_seconds(task))
    finally:
        gc.enable()
    connections = {engine: task.connections for engine, task in tasks.items()}
    threads = {engine: task.pace.threads if task.pace else torch.get_num_threads() for engine, task in tasks.items()}
    del tasks
    rows = []
    for engine in engines:
        progress(f"{workload}: memory of {engine}")
        rows.append(
            Row(
                workload,
                engine,
                device.type,
                threads[engine],
                connections[engine],
                round(1e3 * statistics.median(rounds[engine]), 4),
                round(1e3 * best[engine], 4),
                ratio(rounds, engine, "dense"),
                ratio(rounds, engine, "torch"),
                peak_memory(workload, engine, device, precision) if memory else None,
                precision,
                round(1e3 * statistics.median(busy[engine]), 4) if beside else None,
                _times_alone(means[engine], busy[engine]) if beside else None,
            )
        )
    return rows


def _seconds(task: Task) -> float:
    """Seconds of one step, or whatever the task does."""
    start = time.perf_counter()
    times = task.run()
    return (time.perf_counter() - start) / times


def _mean_seconds(task: Task) -> float:
    """Their mean over several turns of the system's scheduler: a median would not see the calls that were put aside."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS_BESIDE:
        done += task.run()
    return (time.perf_counter() - start) / done


def _times_alone(alone: Sequence[float], beside: Sequence[float]) -> float:
    return round(statistics.median(b / a for a, b in zip(alone, beside, strict=True)), 3)


def _calls_per_turn(task: Task) -> int:
    _seconds(task)  # caches, threads and lazy structures
    while task.pace is not None and not task.pace.is_settled:
        task.run()
    start = time.perf_counter()
    task.run()
    once = max(time.perf_counter() - start, 1e-6)
    return min(MOST_CALLS, max(1, round(SECONDS_PER_TURN / once)))


def ratio(rounds: dict[str, list[float]], engine: str, other: str) -> float | None:
    """Median over the rounds of how many times faster; None where the other did not run."""
    if other not in rounds:
        return None
    return round(statistics.median(b / a for a, b in zip(rounds[engine], rounds[other], strict=True)), 3)


def peak_memory(workload: str, engine: str, device: torch.device = CPU, precision: Precision = "float32") -> float:
    """MB (10^6 bytes) that building it and three steps add to a process with everything imported.

    Resident memory; on a GPU what torch has allocated there.
    """
    program = [sys.executable, "-P", "-m", "set_cli.bench.measure"]
    request = {
        "workload": workload,
        "engine": engine,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "precision": precision,
    }
    child = subprocess.run(program, input=json.dumps(request), capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise RuntimeError(f"{workload} with {engine}: the process that measures memory failed: {child.stderr.strip()}")
    return float(child.stdout)


def _grown_memory(workload: str, engine: str, device: torch.device, precision: Precision) -> float:
    """Peak memory of the work minus what was there before, measured in the child process."""
    if device.type != "cpu":
        task = prepare(workload, engine, device, precision)
        for _ in range(3):
            task.run()
        return torch.cuda.max_memory_allocated(device) / 1e6
    warm = torch.nn.Linear(64, 64)
    warm(torch.ones(64, 64)).sum().backward()
    torch.optim.SGD(warm.parameters(), lr=0.1, momentum=0.9, fused=True).step()
    before = _resident("VmRSS")
    reset = Path("/proc/self/clear_refs")
    with suppress(OSError):  # not on a Mac, nor in every container: then imports may hide a small peak
        reset.write_text("5")  # the peak starts again from what is resident now
    task = prepare(workload, engine)
    for _ in range(3):
        task.run()
    return (_resident("VmHWM") - before) / 1e6


def _resident(field: str) -> int:
    """Bytes from /proc/self/status; elsewhere than on Linux the peak of the whole process."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def as_json(rows: Sequence[Row]) -> str:
    """JSON of these rows; what was measured beside others only where something was."""
    found = [asdict(row) for row in rows]
    if all(row.ms_beside is None for row in rows):
        found = [{key: value for key, value in row.items() if key not in WITH_NEIGHBOURS} for row in found]
    return json.dumps(found, indent=2) + "\n"


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    torch.set_flush_denormal(True)
    print(_grown_memory(asked["workload"], asked["engine"], torch.device(asked["device"]), asked["precision"]))
