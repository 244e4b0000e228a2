"""Part `bench`: set-bench on the GPU, one workload after the other."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from gpu.parts import Settings, failed

WORKLOADS = (
    "cifar10_mlp_relu",
    "million",
    "cifar10_mlp",
    "mnist_mlp",
    "mnist_rbm",
    "higgs_mlp",
    "evolve",
    "cifar10_cnn",
)
IN_HALF = ("cifar10_mlp_relu", "cifar10_cnn", "million")
WITH_MEMORY = ("cifar10_mlp_relu", "million")
REPEATS = 5


def main(settings: Settings) -> None:
    from set_cli.commands.bench import main as set_bench

    figures = settings.new_figures()
    asked = [(name, "float32") for name in WORKLOADS] + [(name, "bfloat16") for name in IN_HALF]
    if settings.device == "cpu":
        asked = [("higgs_mlp", "float32")]
    for workload, precision in asked:
        words = ["--workload", workload, "--device", settings.device, "--format", "json"]
        words += ["--repeats", str(REPEATS if settings.scale == 1 else 1)]
        words += ["--memory" if workload in WITH_MEMORY and settings.scale == 1 else "--no-memory"]
        if precision != "float32":
            words += ["--precision", precision]
        what = f"{workload}, {precision}"
        if figures.has(what):
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):  # in this process: torch and CUDA start once
                set_bench.main(words, standalone_mode=False)
            rows: list[dict[str, Any]] = json.loads(said.getvalue())
        except (Exception, SystemExit) as error:  # whatever it is, the other workloads are worth having
            failed(figures, what, error)
            continue
        times = ", ".join(f"{row['engine']} {row['ms_median']:.3g}" for row in rows)
        memory = ", ".join(f"{row['engine']} {row['peak_memory_mb']:,.0f}" for row in rows if row["peak_memory_mb"])
        figures.add(what, times + (f"; MB: {memory}" if memory else ""), "ms", rows=rows)
