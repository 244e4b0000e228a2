"""Measure this machine and write docs/benchmarks.md: `make benchmarks` (about ten minutes on an idle machine).

With SET_DATA_DIR the epochs of `set-train dataset=cifar10 model=mlp data.holdout=10000` are measured too.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from set_cli import native
from set_cli.bench.layers import LAYERS, why_no_sparselab
from set_cli.bench.measure import Row
from set_cli.bench.table import machine_line, render_markdown
from set_cli.bench.workloads import WORKLOADS
from set_cli.config import Augment
from set_cli.data.augment import draw_changes
from set_cli.data.catalog import CATALOG
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import unscaled
from set_cli.native.elementwise import Draws, activate, activate_backward
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import compiled, find_engine

TARGET = Path(__file__).resolve().parent.parent / "docs/benchmarks.md"
BIN = Path(sys.executable).parent
ROUNDS = 7


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    machine = machine_line(ROUNDS)
    sections = [
        INTRODUCTION.format(date=date.today(), machine=machine),
        steps(),
        beside(),
        epochs(),
        startup(),
        phases(),
        layers(),
        crossover(),
        instruction_sets(),
        waiting(),
        LIMITS,
    ]
    TARGET.write_text("\n\n".join(section.strip() for section in sections) + "\n")
    print(f"wrote {TARGET}")


def bench(*arguments: str, environment: Mapping[str, str] = os.environ) -> list[Row]:
    """set-bench in a process of its own."""
    command = [str(BIN / "set-bench"), "--format", "json", *arguments]
    print(" ".join(["set-bench", *arguments]), flush=True)
    result = subprocess.run(command, capture_output=True, check=True, env=environment)
    return [Row(**row) for row in json.loads(result.stdout)]


def markdown(rows: list[list[object]], headers: list[str]) -> str:
    sides = ["left"] + ["right"] * (len(headers) - 1)
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=sides))


def steps() -> str:
    steps = [name for name in WORKLOADS if name not in LAYERS]
    rows = bench("--repeats", str(ROUNDS), "--workload", *steps)
    single = bench("--repeats", "5", "--threads", "1", "--no-memory", "--workload", "cifar10_mlp", "mnist_mlp")
    million = next(row for row in rows if row.workload == "million" and row.engine == "native")
    per_connection = 1e6 * (million.peak_memory_mb or 0) / million.connections
    return (
        f"## Training steps and topology\n\n`set-bench --repeats {ROUNDS}`\n\n{render_markdown(rows)}\n"
        f"`million` has {million.connections:,} connections: {per_connection:.1f} bytes of peak memory for each, "
        "activations and optimiser included.\n\nOne thread, `set-bench --threads 1 --workload cifar10_mlp mnist_mlp`:"
        f"\n\n{render_markdown(single)}"
    )


def beside() -> str:
    """Steps while other programs compute on the machine."""
    networks = ("cifar10_mlp_relu", "mnist_mlp", "mnist_mlp_10", "higgs_mlp")
    arguments = (
        "--no-memory",
        "--repeats",
        "5",
        "--engine",
        "native",
        "dense",
        "--beside",
        "2",
        "--workload",
        *networks,
    )
    rows = bench(*arguments)
    return (
        "## Beside other programs\n\nTwo busy processes, `set-bench --beside 2`: `ms beside` is the mean over half a "
        f"second, `vs alone` how many times longer a step takes than alone.\n\n{render_markdown(rows)}"
    )


def layers() -> str:
    """A layer in anyone's network, beside what else there is for it."""
    rows = bench("--repeats", str(ROUNDS), "--threads", "1", "--no-memory", "--workload", "layer")
    missing = why_no_sparselab()
    peers = f" Without sparselab: {missing}." if missing else ""
    return (
        "## A layer alone\n\nTwo layers of n neurons with ReLU between, `layer_n_density_batch`: forward and backward, "
        "the gradient of the inputs included; one thread, no optimiser. `set-bench --threads 1 --workload layer`."
        f"{peers}\n\n"
        f"{render_markdown(rows)}"
    )


MNIST = ("dataset=mnist", "model=mlp")
CIFAR10 = ("dataset=cifar10", "model=mlp", "data.holdout=10000")
# One estimate of log Z, in the last epoch; what is compared is training.
MNIST_RBM = ("dataset=mnist_binary", "model=rbm", "model.hidden=[2500]", "model.cd_steps=1")
ONE_ESTIMATE = ("model.ais_last=quick", "model.ais_every=1000000")
PARTS = ("train_seconds", "evaluate_seconds", "evolve_seconds")
Epochs = dict[str, list[dict[str, float]]]  # by method: seconds of each part


def epochs() -> str:
    """Whole epochs of set-train, two runs of SET around every one of the dense network."""
    if not os.environ.get("SET_DATA_DIR"):
        return "## Whole epochs\n\nNot measured: SET_DATA_DIR was not set."
    cifar10, mnist, rbm = in_turn(*CIFAR10), in_turn(*MNIST), in_turn(*MNIST_RBM, *ONE_ESTIMATE)
    share = statistics.median(e["evolve_seconds"] / sum(e[part] for part in PARTS) for e in cifar10["set"])
    steps = (PARTS[0], PARTS[2])
    return EPOCHS.format(
        cifar10=" ".join(CIFAR10),
        cifar10_table=seconds_table(cifar10, PARTS),
        cifar10_ratio=times_faster(cifar10, PARTS),
        share=100 * share,
        mnist=" ".join(MNIST),
        mnist_table=seconds_table(mnist, PARTS),
        mnist_ratio=times_faster(mnist, PARTS),
        rbm=" ".join(MNIST_RBM),
        rbm_table=seconds_table(rbm, steps),
        rbm_ratio=times_faster(rbm, steps),
    )


def in_turn(*base: str) -> Epochs:
    """Runs of SET and of the dense network in turn; the first epoch of each warms up and does not count."""
    seconds: Epochs = {"set": [], "dense": []}
    dataset, model = (name.partition("=")[2] for name in base[:2])
    with tempfile.TemporaryDirectory() as folder:
        for method, count, seed in [("set", 4, 0), ("dense", 2, 0), ("set", 4, 1), ("dense", 2, 1), ("set", 4, 2)]:
            command = [*base, f"method={method}", f"train.epochs={count}", f"seed={seed}", f"runs_dir={folder}"]
            print("set-train", *command, flush=True)
            subprocess.run([str(BIN / "set-train"), *command, "progress=none"], check=True, capture_output=True)
            (run,) = Path(folder, dataset, model).glob(f"{method}-*s{seed}-*")
            seconds[method] += [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()[1:]]
    return seconds


def whole(found: list[dict[str, float]], parts: Sequence[str]) -> float:
    return statistics.median(sum(epoch[part] for part in parts) for epoch in found)


def times_faster(seconds: Epochs, parts: Sequence[str]) -> float:
    return whole(seconds["dense"], parts) / whole(seconds["set"], parts)


def seconds_table(seconds: Epochs, parts: Sequence[str]) -> str:
    rows: list[list[object]] = []
    for method, found in seconds.items():
        each = [statistics.median(epoch[part] for epoch in found) for part in parts]
        rows.append([method, len(found), *(f"{value:.3f}" for value in (*each, whole(found, parts)))])
    return markdown(rows, ["method", "epochs", *(f"{part.partition('_')[0]} s" for part in parts), "epoch s"])


def startup() -> str:
    """From typing set-train to the end of the first epoch on the digits."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(5):
            start = time.perf_counter()
            command = [str(BIN / "set-train"), "train.epochs=1", f"seed={seed}", f"runs_dir={folder}", "progress=none"]
            subprocess.run(command, check=True, capture_output=True)
            found.append(time.perf_counter() - start)
    return (
        "## Start\n\n`set-train train.epochs=1` on the bundled digits, the whole process: "
        f"{statistics.median(found):.2f} s (median of {len(found)})."
    )


def milliseconds(work: Callable[..., object], *arguments: object, seconds: float = 0.3, **named: object) -> float:
    """Median of the calls that fit into that time, at least five."""
    work(*arguments, **named)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        work(*arguments, **named)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def phases() -> str:
    """The parts of a CIFAR10 step, each alone."""
    n_batch, widths = 100, (3072, 4000, 1000, 4000)
    rows: list[list[object]] = []
    for n_in, n_out in itertools.pairwise(widths):
        layer = SparseLinear(n_in, n_out, epsilon=20, engine="native", seed=0)
        pattern, weight = layer.device_pattern(), layer.weight.detach()
        x, dy = (native.new_columns(n_batch, n).normal_() for n in (n_in, n_out))
        forward = milliseconds(compiled.spmm, x, weight, torch.zeros(n_out), pattern)
        wants_dx = n_in != widths[0]
        backward = milliseconds(compiled.gradients, x, dy, weight, pattern, wants_dx=wants_dx)
        slopes = [torch.rand(n_out) for _ in range(4)]
        draws = Draws(0.3, 1, 2)
        _, kept = activate(dy, draws, slopes)
        act = milliseconds(activate, dy, draws, slopes)
        act_backward = milliseconds(activate_backward, dy, dy, draws, kept, slopes)
        moved = layer.nnz * native.row_stride(n_batch) * 4 / 1e6  # MB of neighbours' rows
        cells = (forward, moved / forward, backward, moved / backward, act, act_backward)
        rows.append([f"{n_in}x{n_out}", f"{layer.nnz:,}", *(f"{value:.3g}" for value in cells)])
    headers = ["layer", "connections", "forward ms", "GB/s", "backward ms", "GB/s", "SReLU+dropout ms", "backward ms"]
    rng, shape = np.random.default_rng(0), (3, 32, 32)
    part = Part(rng.integers(256, size=(1000, 3072), dtype=np.uint8), np.zeros(1000, np.int64))
    data = DataSet(CATALOG["cifar10"], part, None, part, unscaled(3072), "", {}, "bundled")
    inputs, chosen = Inputs(part, data, torch.device("cpu")), torch.randperm(1000)[:n_batch]
    changes = draw_changes(Augment(rotation=10.0, shift=0.1, flip=True), n_batch, shape, 0, 1)
    gather, moved_ms = milliseconds(inputs.batch, chosen), milliseconds(inputs.batch, chosen, changes)
    return (
        "## Phases of a CIFAR10 step\n\nBatch 100, each part alone and repeated, so its data lie in the caches; GB/s "
        f"is the traffic of neighbours' rows.\n\n{markdown(rows, headers)}\n\nBatch of inputs: {gather:.2f} ms "
        f"gathered and standardised, {moved_ms:.2f} ms with rotation, shift and flip."
    )


def crossover() -> str:
    """One layer, forward and backward, by density: our kernels, torch's CSR, dense products."""
    rows: list[list[object]] = []
    for n_in, n_out, n_batch in ((4000, 1000, 100), (3000, 3000, 100), (1000, 1000, 100), (1000, 1000, 10)):
        for density in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
            print(f"crossover {n_in}x{n_out} batch {n_batch} density {density}", flush=True)
            epsilon = density * n_in * n_out / (n_in + n_out)
            times: dict[str, list[float]] = {"native": [], "torch": [], "masked": []}
            works = {}
            for name in times:
                layer = SparseLinear(n_in, n_out, epsilon=epsilon, engine=name, seed=0)
                x = find_engine(name).arrange(torch.randn(n_batch, n_in)).requires_grad_()
                works[name] = lambda layer=layer, x=x: layer(x).sum().backward()
            for _ in range(3):
                for name, work in works.items():
                    times[name].append(milliseconds(work, seconds=0.1))
            ratio = {n: statistics.median(b / a for a, b in zip(times[n], times["masked"], strict=True)) for n in times}
            best = [f"{statistics.median(times[name]):.3g}" for name in times]
            shape = f"{n_in}x{n_out}, batch {n_batch}"
            rows.append([shape, f"{density:.0%}", *best, f"{ratio['native']:.2f}x", f"{ratio['torch']:.2f}x"])
    headers = ["layer", "density", "native ms", "torch ms", "masked ms", "native vs masked", "torch vs masked"]
    return (
        "## Crossover\n\nOne layer, forward and backward; `masked` scatters the weights into a dense matrix and "
        "multiplies that (MKL). Three interleaved rounds. `backend=auto` uses dense products above density "
        f"{_crossovers()}.\n\n{markdown(rows, headers)}"
    )


def _crossovers() -> str:
    from set_cli.sparse.engines import CROSSOVER

    return " and ".join(f"{value:g} where `{name}` is the sparse engine" for name, value in CROSSOVER.items())


def instruction_sets() -> str:
    rows: list[list[object]] = []
    for name in ("avx512", "avx2", "portable"):
        try:
            networks = ["--no-memory", "--workload", "cifar10_mlp", "mnist_mlp", "--engine", "native", "dense"]
            found = bench(*networks, "--repeats", "5", environment=os.environ | {"SET_SIMD": name})
        except subprocess.CalledProcessError:
            continue  # this processor does not have it
        cells = [f"{row.ms_median:.2f} ms, {row.vs_dense:.1f}x" for row in found if row.engine == "native"]
        rows.append([name, *cells])
    return "## Instruction sets\n\nA step, and against dense torch in the same process.\n\n" + markdown(
        rows, ["kernels", "cifar10_mlp", "mnist_mlp"]
    )


def waiting() -> str:
    """Digits epochs alone and with a second training beside it, by how long waiting threads spin."""
    rows: list[list[object]] = []
    for label, variables in (
        ("GOMP_SPINCOUNT=1000", {"GOMP_SPINCOUNT": "1000"}),
        ("GOMP_SPINCOUNT=10000 (set-train's)", {"GOMP_SPINCOUNT": "10000"}),
        ("OMP_WAIT_POLICY=passive", {"OMP_WAIT_POLICY": "passive"}),
        ("OMP_WAIT_POLICY=active", {"OMP_WAIT_POLICY": "active"}),
    ):
        print(label, flush=True)
        rows.append(
            [label, f"{_train_digits(variables, 1):.3f}", f"{_train_digits(variables, 2):.3f}", _cifar(variables)]
        )
    headers = ["waiting threads", "alone s", "two at once s", "cifar10_mlp step ms"]
    return (
        "## Waiting threads\n\nTorch's threads; the compiled kernels' own sleep after 0.05 ms. "
        f"An epoch on the digits (median "
        f"of 12), and a step of `set-bench`:\n\n{markdown(rows, headers)}"
    )


def _train_digits(variables: dict[str, str], at_once: int) -> float:
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    with tempfile.TemporaryDirectory() as folder:
        commands = [
            [str(BIN / "set-train"), "train.epochs=12", f"seed={seed}", f"runs_dir={folder}", "progress=none"]
            for seed in range(at_once)
        ]
        children = [subprocess.Popen(c, env=clean | variables, stdout=subprocess.DEVNULL) for c in commands]
        assert [child.wait() for child in children] == [0] * at_once
        lines = [line for path in Path(folder).rglob("timing.jsonl") for line in path.read_text().splitlines()]
    return float(statistics.median(json.loads(line)["train_seconds"] for line in lines))


def _cifar(variables: dict[str, str]) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    networks = ["--no-memory", "--workload", "cifar10_mlp", "--engine", "native"]
    return f"{bench(*networks, environment=clean | variables)[0].ms_median:.2f}"


INTRODUCTION = """
# Benchmarks

Written by `make benchmarks` (tools/benchmarks.py) on {date}. {machine}.

The host is shared and noisy: identical runs differ by a third. Ratios are medians over rounds in which the engines take
turns in one process; trust them before milliseconds. `ms best` is the fastest single call. `vs dense` 20x means twenty
times faster than dense torch (`SGD(fused=True)`, the same activations). Memory is what a process with everything
imported grows by at its peak, building the network and three steps included.
"""

EPOCHS = """
## Whole epochs

Runs of the two methods in turn, medians. `set-train {cifar10}` (40,000 training images: augmentation, SReLU, dropout,
shuffling, evaluation of 10,000 images, evolution):

{cifar10_table}

A SET epoch is **{cifar10_ratio:.1f} times faster** than a dense one; evolution is {share:.2f} % of it.

`set-train {mnist}` (60,000 training images in batches of 10):

{mnist_table}

A SET epoch is **{mnist_ratio:.1f} times faster** than a dense one.

`set-train {rbm}` (60,000 training images, epsilon 11), the measurement of test rows left out:

{rbm_table}

A SET epoch is **{rbm_ratio:.1f} times faster** than a dense one, whose sigmoids and draws are our kernels' too.
"""

LIMITS = """
## What bounds a step

Every connection costs one read of its neighbour's row of activations (448 bytes for a batch of 100) in the forward and
one in the backward. Two Zen 4 cores read 220 GB/s sequentially from L2 and 185 from L3: the products reach 60 to 100 %
of that when their data lie in the caches, so what is left to gain is traffic, not arithmetic (which is also why AVX2 is
nearly as fast as AVX-512). Within a whole step they are 20 to 40 % slower than alone: weights, momenta, gradients, both
index structures and the activations are some 20 MB, and the L3 is shared with other machines of the host.

Python does not bound the step of a small network any more: several are one call. A second thread makes it 1.2 to 1.5
times faster and not twice: half of the activations that a layer reads were written by the other core and lie in its
cache. Dividing the batch instead of the neurons would avoid that; it was not tried, since a sum over the batch would
then have to be in the same parts with one thread too. The dense step beside it varies by a half from run to run.

A layer alone (`layer_…`) is bound by the same traffic, a cache line in 0.6 ns on the Xeon that its table is from. Per
connection and 16 rows of the batch that is one line forward and one backward, and forward one more for the weight,
which lies in the other order. Small layers are bound by Python and torch's autograd: two cost 0.1 ms more than two of
nn.Linear whatever their size, and twice that where the data push the interpreter out of the caches. Tried and left out,
because it gained nothing: rows in pairs (sums that do not wait for each other), blocks that fit into L1, prefetches
below 16 MB, huge pages.

What the step does not do: no gradient of the network's input, no mask or gradient of dense size, no copy of activations
(dropout keeps one bit per value; the input's gradient of a layer overwrites its activations), no second walk over the
weights for the update, and one call from Python for up to 30 ms of steps.

A step of contrastive divergence (`mnist_rbm`) reads every connection's row five times: three products, and the
statistics of data and model; sigmoids, random numbers and draws are a third of it. Torch draws and sums in passes of
their own, two thirds of a step with its CSR products.

Tried and left out: bf16 activations (1.15x in a prototype), the momentum update inside the backward (its own pass is 5
to 7 % of a step, and this way any torch optimiser works).
"""

if __name__ == "__main__":
    main()
