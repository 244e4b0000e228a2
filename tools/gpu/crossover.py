"""Part `crossover`: from which density on dense products are faster, by size. Passes are replayed as CUDA graphs."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import torch
from torch import Tensor

from gpu.device import median_seconds, random_pattern
from gpu.parts import Settings
from set_cli.sparse.engines import Engine, find_engine, interpreted
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.training.devices import prepare

SIZES = ((512, 100), (1024, 100), (2048, 100), (4096, 100), (8192, 100), (16384, 100), (4096, 1000))
DENSITIES = (0.003, 0.01, 0.03, 0.1, 0.3)
REPLAYS = 10


def main(settings: Settings) -> None:
    figures, device = settings.new_figures(), torch.device(settings.device)
    prepare(device, deterministic=False)
    on_gpu = device.type == "cuda"
    engines = [find_engine(name) for name in (("triton", "masked") if on_gpu or interpreted() else ("torch", "masked"))]
    for n, batch in SIZES:
        n = max(64, round(n * settings.scale))
        what = f"n={n} batch {batch}: masked / {engines[0].name}"
        if figures.has(what):
            continue
        cells, detail = [], {}
        for density in DENSITIES:
            try:
                pattern = random_pattern(n, n, density, device)
                times = {engine.name: seconds(engine, pattern, batch, device) for engine in engines}
            except Exception as error:  # the other densities are worth having
                traceback.print_exc()
                cells.append(f"{density:.1%} failed ({type(error).__name__})")
                continue
            sparse, dense = times.values()
            cells.append(f"{density:.1%} {dense / sparse:.2f}")
            detail[str(density)] = {name: value * 1e6 for name, value in times.items()}
        figures.add(what, ", ".join(cells), "times", us=detail)


def seconds(engine: Engine, pattern: DevicePattern, batch: int, device: torch.device) -> float:
    """Of forward and both gradients of one layer."""
    n_in, n_out = pattern.shape
    values, bias = torch.randn(len(pattern.indices), device=device), torch.zeros(n_out, device=device)
    x, dy = (engine.arrange(torch.randn(batch, n, device=device)) for n in (n_in, n_out))

    def work() -> list[Tensor | None]:
        y = engine.spmm(x, values, bias, pattern)
        if engine.gradients is not None:
            return [y, *engine.gradients(x, dy, values, pattern)]
        return [y, engine.spmm_t(dy, values, pattern), engine.sddmm(x, dy, pattern), dy.sum(dim=0)]

    if device.type != "cuda":
        return median_seconds(work, device, 2)
    return median_seconds(captured(work, device).replay, device, REPLAYS)


def captured(work: Callable[[], object], device: torch.device) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(2):  # builds kernels and derives structures, which a capture cannot
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph
