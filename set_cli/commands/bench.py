"""set-bench: measure this machine, engines side by side."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

import set_cli
from set_cli.commands.endings import Command, one_sentence
from set_cli.errors import ConfigError
from set_cli.system.machine import available_cores, prepare_for_torch
from set_cli.system.terminal import terminal_width

if TYPE_CHECKING:
    from set_cli.bench.measure import Row
    from set_cli.bench.workloads import Precision


class SeveralNames(Command):
    """Takes `--workload A B` for `--workload A --workload B`, likewise --engine."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        expanded: list[str] = []
        option = None
        for arg in args:
            if arg.startswith("-"):
                option = arg if arg in ("--workload", "--engine") else None
                expanded.append(arg)
            elif option and expanded[-1] != option:
                expanded += [option, arg]
            else:
                expanded.append(arg)
        return super().parse_args(ctx, expanded)


@click.command(cls=SeveralNames)
@click.option("--workload", "workloads", multiple=True, metavar="NAME...", help="Default: all.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME...",
    help="native, torch, triton, masked, dense, sparselab; default: all.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of activations; bfloat16 on a GPU.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Default: every core this process may use.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=7, show_default=True, help="Interleaved rounds.")
@click.option(
    "--beside",
    type=click.IntRange(0, 4096),
    default=0,
    metavar="N",
    help="Measure also while N other processes compute, as on a shared machine.",
)
@click.option("--memory/--no-memory", default=True, help="Also measure peak memory, a child process per engine.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.version_option(set_cli.__version__, message="set-bench %(version)s")
def main(
    workloads: tuple[str, ...],
    engines: tuple[str, ...],
    device: str,
    precision: Precision,
    threads: int | None,
    repeats: int,
    beside: int,
    memory: bool,
    form: str,
) -> None:
    """Time the engines side by side on whole training steps, the update by SGD with momentum included.

    Workloads: cifar10_mlp (SReLU, dropout), cifar10_mlp_relu, mnist_mlp, mnist_mlp_10 (the same in batches of 10, as
    the paper trains it), higgs_mlp, million (ReLU); cifar10_cnn, its
    convolutions dense; mnist_rbm (CD-1); evolve and init, with _million behind them also on that network; layer: two
    SparseLinear in a network of one's own, forward and backward without an update (layer_1024_0.01_32 for one of them:
    neurons, density, batch), there also beside the package `sparselab` where that is installed. `dense` is
    plain torch with SGD(fused=True), `masked` dense weights under a mask (torch.nn.utils.prune, of an RBM a mask on
    the gradient; not the engine of that name), `torch` its CSR products, `native` our kernels, `triton` those for a
    GPU; only `native` fuses SReLU and dropout, so cifar10_mlp_relu is what shows sparsity alone. Rounds are
    interleaved in one process; a ratio is the median over the rounds. On a GPU a step is a CUDA graph, as set-train has
    it, but not with torch's CSR products; each is waited for. vs dense 20 means twenty times faster than
    dense.

    --threads is the most that are used: as set-train, `native` takes fewer where more do not make it faster. With
    --beside, every round is done again while busy processes compute: `vs alone` 3 means that a step then takes three
    times as long as alone, the mean over half a second.
    """
    with one_sentence("set-bench", out_of_memory="choose smaller workloads with --workload"):
        rows = _measure(workloads, engines, device, precision, threads, repeats, beside, memory)
    from set_cli.bench.measure import as_json
    from set_cli.bench.table import render

    click.echo(as_json(rows) if form == "json" else render(rows, terminal_width()), nl=False)


def _measure(
    workloads: tuple[str, ...],
    engines: tuple[str, ...],
    device: str,
    precision: Precision,
    threads: int | None,
    repeats: int,
    beside: int,
    memory: bool,
) -> list[Row]:
    prepare_for_torch()
    # torch takes over a second to import: --help must not wait for it.
    from set_cli.bench.table import machine_line
    from set_cli.bench.workloads import ENGINES, GROUPS, WORKLOADS, why_not

    for kind, names, known in (("workload", workloads, (*WORKLOADS, *GROUPS)), ("engine", engines, ENGINES)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise click.UsageError(f"{kind} {unknown[0]} is not known: expected one of {', '.join(known)}")
    import torch

    from set_cli.bench.measure import measure

    torch.set_num_threads(threads or available_cores())
    torch.set_flush_denormal(True)
    place = torch.device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no GPU here; use --device cpu, or install torch built for CUDA")
    click.echo(machine_line(repeats, place), err=True)
    rows: list[Row] = []
    chosen = [each for name in workloads or WORKLOADS for each in GROUPS.get(name, (name,))]
    for workload in chosen:
        able = []
        for engine in engines or ENGINES:
            reason = why_not(workload, engine, place, precision)
            if reason is None:
                able.append(engine)
            else:
                click.echo(f"{workload} with {engine}: not run: {reason}", err=True)
        if able:
            rows += measure(workload, able, repeats, memory, _progress, place, precision, beside)
    _progress("")
    return rows


def _progress(line: str) -> None:
    """One line that replaces itself, on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)
