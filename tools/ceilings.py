"""Each kernel's share of what the caches of this machine deliver, as a table for docs/engines.md.

    python tools/ceilings.py

Needs a C compiler ($CC, cc). One thread; the best of many calls, of the kernels as of ceilings.c, which reads an array
as large as the matrix whose rows the kernel gathers, with the same vectors and as many multiply-adds for each. The
layer is the hidden one of MNIST's MLP, the RBM that of `set-bench`, both with batches of 100.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor

from set_cli import native
from set_cli.bench.workloads import MACHINES
from set_cli.native import records
from set_cli.native.units import new_contrast
from set_cli.sparse import SparseLinear

N_BATCH, NEURONS, EPSILON, CALLS, REPEATS = 100, 1000, 20, 500, 3
FLAGS = {
    "avx512": ["-mavx512f", "-DLANES=16"],
    "avx2": ["-mavx2", "-mfma", "-DLANES=8"],
    "portable": ["-DLANES=4"],
}


class Kernel(NamedTuple):
    """A kernel at work.

    run   calls it once
    rows  gathered rows of a matrix of `of` rows
    uses  multiply-adds with each number that is read
    """

    name: str
    run: Callable[[], object]
    rows: int
    of: int
    uses: int


def columns(neurons: int) -> Tensor:
    x = native.new_columns(N_BATCH, neurons)
    return x.copy_(torch.randn(N_BATCH, neurons, generator=torch.Generator().manual_seed(0)))


def of_layer() -> Iterator[Kernel]:
    """The products of a layer and its update."""
    core = native.core
    assert core is not None
    layer = SparseLinear(NEURONS, NEURONS, epsilon=EPSILON, seed=0)
    layer(torch.empty(0, NEURONS))  # derives the other order
    layer.weight.data.zero_()  # so that x, which is overwritten as in training, stays finite
    pattern = layer.device_pattern().compiled
    x, y, values = columns(NEURONS), columns(NEURONS), layer.weight.detach()
    dw, momentum = torch.zeros_like(values), torch.zeros_like(values)

    def product(by_output: bool) -> Callable[[], object]:
        record = records.Product(
            pattern=pattern,
            by_output=by_output,
            values=values.data_ptr(),
            bias=0,
            x=records.columns(x),
            y=records.columns(y),
            n_batch=N_BATCH,
        )
        return lambda: core.product(record, 1)

    def gradients(dx: Tensor | None) -> Callable[[], object]:
        record = records.Gradients(
            pattern=pattern,
            values=values.data_ptr(),
            x=records.columns(x),
            dy=records.columns(y),
            dx=records.columns(dx),
            dw=dw.data_ptr(),
            db=0,
            n_batch=N_BATCH,
        )
        return lambda: core.gradients(record, 1)

    descent = records.Descent(
        parameter=values.data_ptr(),
        gradient=dw.data_ptr(),
        momentum=momentum.data_ptr(),
        elements=values.numel(),
        decay=0.0,
    )

    def update(differentiate: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            differentiate()
            core.descend([descent], 0.0, 0.9, False, 1)

        return run

    nnz = values.numel()
    yield Kernel("forward", product(by_output=True), nnz, NEURONS, 1)
    yield Kernel("input gradient", product(by_output=False), nnz, NEURONS, 1)
    yield Kernel("weight gradient", gradients(None), nnz, NEURONS, 1)
    yield Kernel("weight gradient, update", update(gradients(None)), nnz, NEURONS, 1)
    yield Kernel("both gradients", gradients(x), nnz, NEURONS, 2)
    yield Kernel("both gradients, update", update(gradients(x)), nnz, NEURONS, 2)


def of_rbm() -> Iterator[Kernel]:
    """A step of contrastive divergence: five walks over the connections, and units with their draws between them."""
    core = native.core
    assert core is not None
    rbm = MACHINES["mnist_rbm"].build("native")
    found = rbm.compiled()
    assert found is not None
    v = columns(rbm.n_visible).gt_(0.8)
    step = new_contrast(found, v, None, 1, 0, 0)
    yield Kernel("contrast", lambda: core.contrast(step.record, 1), 5 * len(found.weight), rbm.n_hidden, 1)


def best(run: Callable[[], object]) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


@functools.cache
def ceiling(program: Path, neurons: int, uses: int) -> float:
    """GB/s, of a matrix of so many neurons."""
    n_bytes = 4 * neurons * native.new_columns(N_BATCH, 1).stride(1)
    rates: list[float] = []
    for _ in range(REPEATS):
        words = subprocess.run([program, str(n_bytes)], check=True, capture_output=True, text=True).stdout.split()
        rates.append(float(words[uses - 1]))
    return max(rates)


def compile_ceilings(simd: str, folder: Path) -> Path:
    program = folder / simd
    source = Path(__file__).with_suffix(".c")
    subprocess.run([os.environ.get("CC", "cc"), "-O3", *FLAGS[simd], source, "-o", program], check=True)
    return program


def main() -> None:
    if native.core is None:
        raise SystemExit("the kernels are not built: `make install` says why")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for simd in FLAGS:
            if not native.core.use_simd(simd):
                continue
            program = compile_ceilings(simd, Path(folder))
            # One after the other: a record has addresses only, and what is there lives as long as its generator.
            for kernel in itertools.chain(of_layer(), of_rbm()):
                rate = 4e-9 * N_BATCH * kernel.rows / best(kernel.run)
                most = ceiling(program, kernel.of, kernel.uses)
                rows.append([kernel.name, simd, f"{rate:.0f}", f"{most:.0f}", f"{rate / most:.0%}"])
    print(tabulate(rows, ["kernel", "`SET_SIMD`", "GB/s", "caches deliver", "share"], tablefmt="github"))


if __name__ == "__main__":
    main()
