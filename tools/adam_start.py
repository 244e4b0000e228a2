"""Adam and connections that grow: bias correction by the training's step beside correction by a connection's age.

    python tools/adam_start.py run --dataset mnist --epochs 20 --seeds 3 out.jsonl   train (resumes where it ends)
    python tools/adam_start.py run --dataset cifar10 --rate 3e-4 out.jsonl data.holdout=10000
    python tools/adam_start.py table out.jsonl > table.md

Needs SET_DATA_DIR. The network is the data set's own MLP of `set-train`, without dropout; its connections evolve after
every epoch; accuracy is that of the test rows, on which nothing was chosen.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import hydra
import torch
from stability import CPU, compose
from torch import nn

from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet, load_data
from set_cli.sparse import Evolution
from set_cli.training.network import build_network

Row = dict[str, Any]
KINDS = ("step", "age")
BATCH, ZETA = 100, 0.3


@click.group()
def main() -> None:
    """Train with Adam, with and without correction by age, and make the table."""


@main.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dataset", required=True)
@click.option("--epochs", default=20, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--rate", default=1e-3, show_default=True)
@click.argument("overrides", nargs=-1)
def run(output: Path, dataset: str, epochs: int, seeds: int, rate: float, overrides: tuple[str, ...]) -> None:
    """Train every seed twice, and add a line for each training; OVERRIDES as `set-train` takes them."""
    hydra.initialize_config_module("set_cli.conf", version_base="1.3")
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    done = {(row["dataset"], row["rate"], row["seed"], row["kind"]) for row in rows}
    for seed in range(seeds):
        config = compose(f"{dataset}_mlp", "set", seed, "model.dropout=0", *overrides)
        data = load_data(config.dataset, config.data)
        for kind in KINDS:
            if (dataset, rate, seed, kind) not in done:
                row = {"dataset": dataset, "rate": rate, "seed": seed, "kind": kind}
                row |= train(build_network(config, data, CPU).model, data, kind, rate, epochs, seed)
                with output.open("a") as file:
                    print(json.dumps(row), file=file)


def train(model: nn.Module, data: DataSet, kind: str, rate: float, epochs: int, seed: int) -> Row:
    """Losses and test accuracies (percent) of the epochs, and the loss of the 100 steps after each evolution."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    evolution = Evolution(model, optimizer, ZETA, bias_correction=kind, seed=seed)
    rows, labels = tensors(data, data.train)
    losses, after, accuracies = [], [], []
    start = time.process_time()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        found = [step(model, optimizer, rows[some], labels[some]) for some in torch.split(order, BATCH)]
        losses.append(statistics.fmean(found))
        after.append(statistics.fmean(found[:100]))
        accuracies.append(accuracy(model, *tensors(data, data.test)))
        if epoch + 1 < epochs:
            evolution.evolve()
        evolution.steps += 1
    seconds = (time.process_time() - start) / epochs
    return {"losses": losses, "after": after, "accuracies": accuracies, "seconds": round(seconds, 2)}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    return 100 * float((torch.cat([model(x) for x in torch.split(rows, 1000)]).argmax(dim=1) == labels).float().mean())


def tensors(data: DataSet, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data.scaling(part.x)), torch.from_numpy(part.labels)


@main.command()
@click.argument("outputs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def table(outputs: tuple[Path, ...]) -> None:
    """Print means and standard deviations over the seeds."""
    groups: dict[tuple[str, float], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for path in outputs:
        for row in map(json.loads, path.read_text().splitlines()):
            groups[row["dataset"], row["rate"]][row["kind"]].append(row)
    for (dataset, rate), kinds in groups.items():
        epochs = len(kinds["step"][0]["losses"])
        print(f"\n{dataset}, rate {rate:g}, {len(kinds['step'])} seeds, {epochs} epochs\n")
        print(
            "| epoch | loss, by step | by age | of the first 100 steps, by step | by age | test, %, by step | by age |"
        )
        print("|---|---|---|---|---|---|---|")
        for epoch in sorted({e for e in (1, 2, 3, 5, 10, 20, 40, 100, epochs) if e <= epochs}):
            cells = [
                f"{spread([row[what][epoch - 1] for row in kinds[kind]], digits)}"
                for what, digits in (("losses", 4), ("after", 4), ("accuracies", 2))
                for kind in KINDS
            ]
            print(f"| {epoch} | {' | '.join(cells)} |")


def spread(values: list[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"


if __name__ == "__main__":
    main()
