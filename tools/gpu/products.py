"""Part `products`: the three sparse products alone, beside the bandwidth of a copy, and dense ones where they fit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpu import roofline
from gpu.device import cold_seconds, copy_bandwidth, random_pattern
from gpu.parts import Settings, failed
from set_cli.sparse.engines import find_engine, interpreted
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.training.devices import prepare

SHAPES = (  # n_in, n_out, epsilon, batch
    (500_000, 500_000, 10, 32),
    (500_000, 500_000, 10, 128),
    (65_536, 500_000, 10, 32),
    (65_536, 500_000, 10, 128),
    (200_000, 200_000, 50, 256),
    (3072, 4000, 20, 100),
    (4000, 1000, 20, 100),
    (1000, 4000, 20, 100),
    (784, 1000, 20, 100),
)
LARGEST_DENSE = 2**28
ORDER = "us of spmm/spmm_t/sddmm/both (of a copy's bandwidth)"
WANTED = 0.6  # of the copy's bandwidth, where the rows do not fit the cache


def main(settings: Settings) -> None:
    figures, device = settings.new_figures(), torch.device(settings.device)
    prepare(device, deterministic=False)
    bandwidth = copy_bandwidth(device)
    figures.add("copy bandwidth", bandwidth / 1e12, "TB/s")
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 2**25
    types = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    for n_in, n_out, epsilon, batch in SHAPES:
        n_in, n_out = (max(100, round(n * settings.scale)) for n in (n_in, n_out))
        density = min(epsilon * (n_in + n_out) / (n_in * n_out), 0.5)
        what = f"{n_in}x{n_out} b{batch}"
        if figures.has(what):
            continue
        cells, detail, least = [], {}, 1.0
        try:
            pattern = random_pattern(n_in, n_out, density, device)
            for dtype in types:
                found = measure(pattern, batch, dtype, device)
                kind = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
                shares = [size / seconds / bandwidth for seconds, size in found.values() if size]
                if n_in * batch * dtype.itemsize > cache:
                    least = min(least, *shares)
                detail[kind] = {name: {"us": seconds * 1e6, "bytes": size} for name, (seconds, size) in found.items()}
                times = "/".join(f"{seconds * 1e6:.0f}" for seconds, size in found.values() if size)
                cells.append(f"{kind} {times} ({'/'.join(f'{share:.0%}' for share in shares)})")
                dense = "/".join(f"{seconds * 1e6:.0f}" for seconds, size in found.values() if not size)
                cells += [f"masked {dense}"] if dense else []
        except Exception as error:  # the other shapes are worth having
            failed(figures, what, error)
            continue
        fits = n_in * batch * 4 <= cache
        wanted, held = ("", None) if fits else (f">= {WANTED:.0%}", least >= WANTED)
        figures.add(what, " ".join(cells), ORDER, wanted, held, **detail)


def measure(
    pattern: DevicePattern, batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, tuple[float, int]]:
    """Seconds of each product, and bytes; 0 for the dense ones of `masked`."""
    n_in, n_out = shape = pattern.shape
    engine = find_engine("triton" if device.type == "cuda" or interpreted() else "torch")
    nnz, value = len(pattern.indices), dtype.itemsize
    values, bias = torch.randn(nnz, device=device), torch.zeros(n_out, device=device)
    x, dy = (engine.arrange(torch.randn(batch, n, device=device).to(dtype)) for n in shape)
    work: dict[str, tuple[Callable[[], object], int]] = {
        "spmm": (lambda: engine.spmm(x, values, bias, pattern), roofline.spmm_bytes(*shape, nnz, batch, value)),
        "spmm_t": (lambda: engine.spmm_t(dy, values, pattern), roofline.spmm_t_bytes(*shape, nnz, batch, value)),
        "sddmm": (lambda: engine.sddmm(x, dy, pattern), roofline.sddmm_bytes(*shape, nnz, batch, value)),
    }
    if engine.gradients is not None:
        both = engine.gradients
        work["both"] = (lambda: both(x, dy, values, pattern), roofline.gradients_bytes(*shape, nnz, batch, value))
    if n_in * n_out <= LARGEST_DENSE:
        masked = find_engine("masked")
        work["masked spmm"] = (lambda: masked.spmm(x, values, bias, pattern), 0)
        work["masked spmm_t"] = (lambda: masked.spmm_t(dy, values, pattern), 0)
        work["masked sddmm"] = (lambda: masked.sddmm(x, dy, pattern), 0)
    return {name: (cold_seconds(call, device), size) for name, (call, size) in work.items()}
