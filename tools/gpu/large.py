"""Part `large`: a million hidden neurons, two billion connections, and runs that do not fit."""

from __future__ import annotations

import gc
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gpu import roofline
from gpu.device import copy_bandwidth, median_seconds, synchronize
from gpu.figures import Figures
from gpu.parts import Settings, failed
from set_cli.bench.workloads import NETWORKS, SETTINGS
from set_cli.config import Config, from_mapping
from set_cli.models.mlp import plan_mlp
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import interpreted
from set_cli.training.devices import prepare
from set_cli.training.graphs import record
from set_cli.training.loss import cross_entropy
from set_cli.training.network import estimate_memory
from set_cli.training.optimizer import build_optimizer, drop_gradients

LAYERS, WIDTH, EPSILON, BATCH, CLASSES = 8, 500_000, 260, 32, 10
STEPS, ZETA = 20, 0.3
MOST_BYTES = 80e9  # that the process may have on any card
BUILDERS = 8  # threads: numpy leaves Python's lock while it draws
HOST_BYTES_OF_A_BUILDER = 12e9
TRAIN = "import set_cli.commands.train; set_cli.commands.train.main()"
# The run believes that the whole card is free, as mem_get_info says, and gets less: what a neighbour would do.
CONFINED = "import torch; torch.cuda.set_per_process_memory_fraction({}); " + TRAIN
NO_ROOM = ("dataset=digits", "model=mlp", "train.epochs=1", "progress=none", "backend=cuda")
OUT_OF_MEMORY = 7  # exit code


def main(settings: Settings) -> None:
    figures, device = settings.new_figures(), torch.device(settings.device)
    end = time.monotonic() + settings.seconds - 8
    prepare(device, deterministic=False)
    if not figures.has("million"):
        try:
            million(figures, settings, device)
        except Exception as error:  # two billion connections are worth trying all the same
            failed(figures, "million", error)
    with ThreadPoolExecutor(1) as beside:  # while the layers are drawn on the CPU
        exits = beside.submit(out_of_memory, settings) if device.type == "cuda" else None
        billions(figures, settings, device, end, exits)


def engine_of(device: torch.device) -> str:
    return "triton" if device.type == "cuda" or interpreted() else "torch"


def peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def million(figures: Figures, settings: Settings, device: torch.device) -> None:
    network = NETWORKS["million"]
    widths = tuple(max(CLASSES, round(n * settings.scale)) for n in network.widths[:-1])
    network = replace(network, widths=(*widths, CLASSES))
    bandwidth = copy_bandwidth(device)
    start, before = time.perf_counter(), peak(device)
    model = network.build(engine_of(device))
    built = time.perf_counter() - start
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    model.to(device)
    optimizer = build_optimizer(model, SETTINGS)
    step = step_of(model, optimizer, network.widths[0], network.n_batch, device)
    for _ in range(2):  # the first one makes the momenta only when its activations are gone
        step()
    most = peak(device)
    work: Callable[[], None] = record(step).replay if device.type == "cuda" else step
    with_graph = peak(device)
    seconds = median_seconds(work, device)
    sparse = [m for m in model.modules() if isinstance(m, SparseLinear)]
    layers = [(m.in_features, m.out_features, m.nnz) for m in sparse]
    connections = sum(layer[2] for layer in layers)
    moved = roofline.step_bytes(layers, network.n_batch)
    share = moved / seconds / bandwidth
    figures.add(
        "million: a step (its bytes copied)",
        f"{1e3 * seconds:.3f} ({1e3 * moved / bandwidth:.3f}, {share:.0%})",
        "ms",
        connections=connections,
        built_seconds=built,
        copy_bandwidth=bandwidth,
    )
    if device.type == "cuda":
        taken = most - before
        cells = f"{taken / 1e9:.3f} ({taken / connections:.1f}), recorded {(with_graph - before) / 1e9:.3f}"
        figures.add("million: peak memory", cells, "GB (B/conn)")
    else:
        taken = 0
    words = [f"model.hidden=[{','.join(map(str, widths[1:]))}]", "model.activation=relu", "model.dropout=0"]
    words += [f"epsilon={network.epsilon}", f"train.batch_size={network.n_batch}"]
    words += [f"backend={device.type}", f"backend.engine={engine_of(device)}"]
    config = compose(*words)
    plans = plan_mlp(config.model, network.epsilon, widths[0], CLASSES)
    estimate = estimate_memory(config, plans, device, 100_000, 0, None)
    ratio = f"; expected / measured {estimate.expected / taken:.2f}" if taken else ""
    figures.add(
        "million: memory by the estimate", f"{estimate.least / 1e9:.3f} to {estimate.expected / 1e9:.3f}{ratio}", "GB"
    )


def compose(*words: str) -> Config:
    with hydra.initialize_config_module("set_cli.conf", version_base="1.3"):
        composed = hydra.compose("train", overrides=["dataset=digits", "model=mlp", *words])
    return from_mapping(cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=False)))


class Step:
    """A training step on one fixed batch; `loss` is the last one's, still on the device."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        self.model, self.optimizer, self.x, self.y = model, optimizer, x, y
        self.loss = x.new_zeros(())

    def __call__(self) -> None:
        loss = cross_entropy(self.model(self.x), self.y)
        drop_gradients(self.optimizer)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss = loss.detach()


def step_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, features: int, batch: int, device: torch.device
) -> Step:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(features, batch, generator=generator).to(device).t()  # the batch is contiguous
    y = torch.randint(CLASSES, (batch,), generator=generator).to(device)
    return Step(model, optimizer, x, y)


def billions(
    figures: Figures, settings: Settings, device: torch.device, end: float, exits: Future[dict[str, str]] | None
) -> None:
    """Layers whose connections fill most of 80 GB; half as many where they do not fit."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, MOST_BYTES / total))
    width = max(60, round(WIDTH * settings.scale))
    epsilon = min(EPSILON, width / 8)
    start = time.perf_counter()
    pool = ThreadPoolExecutor(builders())
    drawn = list(pool.map(lambda seed: draw(width, epsilon, seed, device), range(LAYERS)))
    pool.shutdown()
    synchronize(device)
    connections = sum(layer.nnz for layer in drawn)
    figures.add(f"billions: drawing {connections:,} connections", time.perf_counter() - start, "s")
    for name, code in exits.result().items() if exits is not None else ():
        figures.add(name, code, "exit code", str(OUT_OF_MEMORY), code == str(OUT_OF_MEMORY))
    while drawn:
        try:
            train_large(figures, drawn, width, device, end)
            return
        except torch.OutOfMemoryError as error:
            first = str(error).partition("\n")[0]
        figures.add(f"billions: {len(drawn)} layers", f"do not fit: {first}"[:80], wanted="to fit", held=False)
        for layer in drawn:
            layer.weight.grad = None
            layer.indices = layer.indices.view(-1)  # another object: what was derived is derived again
        del drawn[len(drawn) // 2 :]
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def builders() -> int:
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(BUILDERS, int(pages / HOST_BYTES_OF_A_BUILDER)))


def draw(width: int, epsilon: float, seed: int, device: torch.device) -> SparseLinear:
    layer = SparseLinear(width, width, epsilon=epsilon, init="sparse_fan_in", engine=engine_of(device), seed=seed).to(
        device
    )
    print(f"layer {seed}: {layer.nnz:,} connections", flush=True)
    return layer


def train_large(figures: Figures, drawn: list[SparseLinear], width: int, device: torch.device, end: float) -> None:
    connections = sum(layer.nnz for layer in drawn)
    modules: list[nn.Module] = [module for layer in drawn for module in (layer, nn.ReLU())]
    torch.manual_seed(0)
    model = nn.Sequential(*modules, nn.Linear(width, CLASSES, device=device))
    optimizer = build_optimizer(model, SETTINGS.model_copy(update={"lr": 0.01}))
    step = step_of(model, optimizer, width, BATCH, device)
    first = timed(step, device)
    times = [timed(step, device) for _ in range(STEPS // 2 - 1)]
    seconds = statistics.median(times)
    rate = roofline.step_bytes([(width, width, layer.nnz) for layer in drawn], BATCH) / seconds / 1e12
    what = f"billions: a step of {len(drawn)} layers (the first one; TB/s)"
    figures.add(what, f"{seconds:.3f} ({first:.2f}; {rate:.2f})", "s", times=times, connections=connections)
    report_memory(figures, "training", connections, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    drop_gradients(optimizer)
    evolved = []
    for number, layer in enumerate(drawn):
        if time.monotonic() > end:
            figures.add("billions: evolution", f"{number} of {len(drawn)} layers: no time", held=False)
            break
        start = time.perf_counter()
        layer.evolve(ZETA, optimizer=optimizer, seed=number, regrow_init="zero")
        synchronize(device)
        evolved.append(time.perf_counter() - start)
        print(f"layer {number} evolved in {evolved[-1]:.2f} s", flush=True)
    figures.add(f"billions: evolution of {len(evolved)} layers", sum(evolved), "s", times=evolved)
    report_memory(figures, "evolution", connections, device)
    if time.monotonic() > end:
        return
    first = timed(step, device)
    after = [timed(step, device) for _ in itertools.takewhile(lambda _: time.monotonic() < end, range(STEPS // 2 - 1))]
    loss = float(step.loss)
    seconds = statistics.median(after or [first])
    what = "billions: a step afterwards (first; loss)"
    shown = f"{seconds:.3f} ({first:.2f}; {loss:.4f})"
    figures.add(what, shown, "s", "a finite loss", math.isfinite(loss), times=after)


def report_memory(figures: Figures, what: str, connections: int, device: torch.device) -> None:
    if device.type == "cuda":
        taken = peak(device)
        cells = f"{taken / 1e9:.1f} ({taken / connections:.1f})"
        figures.add(f"billions: peak memory of {what}", cells, "GB (B/conn)", "<= 80 GB", taken <= MOST_BYTES)


def timed(step: Step, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - start


def out_of_memory(settings: Settings) -> dict[str, str]:
    """Exit codes of a run that the estimate refuses, and of one that runs out while it trains."""
    total = torch.cuda.get_device_properties(0).total_memory
    # Weights and indices of 20 million connections take 160 MB, training them three times that.
    confined = CONFINED.format(250e6 / total)
    deep = ("model.hidden=[20000,20000]", "epsilon=500", "backend.engine=triton")
    commands = {
        "no memory: refused by the estimate": (TRAIN, ("method=dense", "model.hidden=[200000,200000]")),
        "no memory: runs out while training": (confined, deep),
    }
    codes = {}
    for number, (name, (program, words)) in enumerate(commands.items()):
        folder = Path(settings.work) / f"memory{number}"
        command = [sys.executable, "-P", "-c", program, *NO_ROOM, *words, f"runs_dir={folder}"]
        done = subprocess.run(command, cwd=settings.work, capture_output=True, text=True, check=False)
        print(name, done.returncode, done.stderr[-1500:], sep="\n", flush=True)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        codes[name] = str(done.returncode) if done.returncode == OUT_OF_MEMORY else f"{done.returncode}: {last}"[:80]
    return codes
