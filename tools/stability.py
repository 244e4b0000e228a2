"""Whether the default recipes are stable: every data set x model pair x method over many seeds.

    python tools/stability.py run --seeds 20 --seconds 4 out.jsonl    train (resumes where out.jsonl ends)
    python tools/stability.py table out.jsonl… > docs/stability.md    the table

Needs SET_DATA_DIR for the pairs of the catalogue; those whose files are not there are listed as not run. The compiled
kernels' variant is the one of SET_SIMD. Networks are trained in this process by the functions that set-train calls.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click
import hydra
import torch
from omegaconf import OmegaConf

from set_cli import native
from set_cli.config import Config, from_mapping
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import DivergedError, SetError
from set_cli.training.architectures import make_trainer
from set_cli.training.divergence import Divergence
from set_cli.training.doubts import doubts_at_end
from set_cli.training.evolution import evolve_model
from set_cli.training.group import ALONE
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_pair, with_checksum

PAIRS = Path(__file__).resolve().parent.parent / "conf" / "dataset_model"
METHODS = ("set", "fixprob", "dense")
CPU = torch.device("cpu")
LEAST_EPOCHS, MOST_ROWS, MOST_IMAGES = 2, 4000, 1000  # images: of a CNN
LATE = 4  # the epoch from which a rising loss is counted: the first ones start from random weights

Row = dict[str, Any]


def compose(pair: str, method: str, seed: int, *overrides: str) -> Config:
    dataset, _, model = pair.rpartition("_")
    words = [f"dataset={dataset}", f"model={model}", f"method={method}", f"seed={seed}", "backend=cpu", *overrides]
    composed = hydra.compose("train", overrides=words)
    config = from_mapping(cast(Mapping[str, Any], OmegaConf.to_container(composed, resolve=False)))
    check_pair(config)
    return with_checksum(config)


def train(config: Config, data: DataSet, seconds: float | None) -> Row:
    """One run's losses and last accuracy (or log-probability).

    seconds  of the processor after which the run ends with the epochs that it has, at least LEAST_EPOCHS; None: all
    """
    torch.manual_seed(config.seed)
    network = build_network(config, data, CPU)
    model, optimizer = network.model, build_optimizer(network.model, config.train)
    trainer = make_trainer(config, data, model, [], ALONE)
    divergence = Divergence(config, data.card, model, Path("run"))
    inputs, test = Inputs(data.train, data, CPU), Inputs(data.test, data, CPU)
    losses: list[float] = []
    row: Row = {"diverged": None, "rows": len(data.train)}
    start = time.process_time()
    for epoch in range(1, config.train.epochs + 1):
        try:
            losses.append(trainer.train(inputs, optimizer, epoch, lambda *_: None, {}))
            divergence.check(epoch, losses[-1])
        except DivergedError as error:
            row |= {"diverged": epoch, "why": str(error)}
            break
        spent = time.process_time() - start
        if seconds is not None and epoch >= LEAST_EPOCHS and spent * (epoch + 1) / epoch > seconds:
            break
        if epoch < config.train.epochs:
            evolve_model(model, optimizer, config, epoch)
    row |= {"epochs": len(losses), "seconds": round(time.process_time() - start, 2), "losses": losses}
    if row["diverged"] is None:
        found = trainer.measure({"test": test}, config.train.epochs, lambda: None)
        divergence.check(len(losses), losses[-1], found)
        last = {f"test_{name}": value for name, value in found["test"].items()}
        key = "test_log_probability" if config.model.name == "rbm" else "test_accuracy"
        row |= {"last": last[key], "at_chance": bool(doubts_at_end(config, data, last))}
    return row


def runs(pairs: list[str], methods: tuple[str, ...], seeds: int, limit: int) -> Iterator[tuple[str, str, int]]:
    """Seeds outermost: a sweep that is stopped has every pair."""
    for seed in range(seeds):
        for pair in pairs:
            for method in methods:
                if limit == 0 or seed < limit or pair.startswith("digits_mlp"):
                    yield pair, method, seed


@click.group()
def main() -> None:
    """Train every pair over many seeds, and make the table."""


@main.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seeds", default=20, show_default=True)
@click.option("--limit", default=0, help="Seeds of all pairs but digits x MLP; 0: as many.")
@click.option("--seconds", default=4.0, show_default=True, help="Of training a run, for all pairs but digits x MLP.")
@click.option("--threads", default=1, show_default=True)
@click.option("--pairs", help="Comma-separated; all by default.")
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option("--also", nargs=2, multiple=True, metavar="PAIR WORD", help="A set-train word of one pair's runs.")
def run(
    output: Path,
    seeds: int,
    limit: int,
    seconds: float,
    threads: int,
    pairs: str | None,
    methods: str,
    also: tuple[tuple[str, str], ...],
) -> None:
    """Train, one JSON line a run; what OUTPUT holds is not trained again."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    known = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    done = {(row["pair"], row["method"], row["seed"]) for row in known}
    chosen = pairs.split(",") if pairs else sorted(path.stem for path in PAIRS.glob("*.yaml"))
    variant = {"simd": native.describe().get("simd"), "threads": threads}
    missing: set[str] = set()
    loaded: dict[str, DataSet] = {}
    with hydra.initialize_config_module("set_cli.conf", version_base="1.3"), output.open("a") as lines:
        for pair, method, seed in runs(chosen, tuple(methods.split(",")), seeds, limit):
            if (pair, method, seed) in done or pair in missing:
                continue
            own = [word for named, word in also if named == pair]
            digits = pair == "digits_mlp"
            most = MOST_IMAGES if pair.endswith("_cnn") else MOST_ROWS
            short = [] if digits else [f"data.train_limit={most}", "data.test_limit=1000"]
            short += ["model.ais_last=quick"] if pair.endswith("_rbm") else []
            named = {word.partition("=")[0] for word in own}
            short = [word for word in short if word.partition("=")[0] not in named]
            try:
                config = compose(pair, method, seed, *own, "data.fetch=never", *short)
                key = repr((config.dataset, config.data))
                if key not in loaded:
                    loaded[key] = load_data(config.dataset, config.data, labels=config.model.facts.needs_labels)
                row = train(config, loaded[key], None if digits else seconds)
            except SetError as error:
                missing.add(pair)
                row = {"skipped": str(error)}
            lines.write(json.dumps({"pair": pair, "method": method, "seed": seed} | variant | row) + "\n")
            lines.flush()


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def table(inputs: tuple[Path, ...]) -> None:
    """Print Markdown: one row a pair, method, instruction set and number of threads."""
    groups: dict[tuple[str, str, str, int], list[Row]] = defaultdict(list)
    skipped: dict[str, str] = {}
    for path in inputs:
        for row in map(json.loads, path.read_text().splitlines()):
            if "skipped" in row:
                skipped[row["pair"]] = row["skipped"]
            else:
                groups[row["pair"], row["method"], row["simd"], row["threads"]].append(row)
    print("| pair | method | kernels | threads | n | rows | epochs | diverged | at chance | largest loss | last |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (pair, method, simd, threads), rows in sorted(groups.items()):
        ended = [row for row in rows if row["diverged"] is None]
        last = [row["last"] for row in ended]
        cells = [
            pair, method, simd, threads, len(rows), f"{rows[0]['rows']:,}", span([row["epochs"] for row in rows]),
            len(rows) - len(ended), sum(row["at_chance"] for row in ended),
            f"{max((largest(row['losses']) for row in ended), default=math.nan):.2f}",
            f"{statistics.fmean(last):.2f} ({min(last):.2f} to {max(last):.2f})" if last else "",
        ]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |")
    for pair, why in sorted(skipped.items()):
        print(f"\nNot run: {pair} ({why})")


def largest(losses: list[float]) -> float:
    """The largest training loss from the fourth epoch on; of a shorter run, that of its last epoch."""
    return max(losses[LATE - 1 :] or losses[-1:])


def span(values: list[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


if __name__ == "__main__":
    main()
