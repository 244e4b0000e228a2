"""Whether two versions of the code train the same numbers, bit for bit.

    python tools/same_numbers.py BEFORE AFTER    two checkouts, each with its own .venv

Trains RBM, MLP and CNN with each method on the bundled digits, with the set-train of each checkout, and MLPs on other
engines; interrupts nothing and downloads nothing. Compares the names of the run folders, metrics.jsonl, params.json,
the degrees, the topology snapshots and every array of the checkpoints. Exit code 1 where anything differs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

MODELS, METHODS, ENGINES = ("mlp", "cnn", "rbm"), ("set", "fixprob", "dense"), ("torch", "masked")
SHORT = ("train.epochs=3", "data.train_limit=300", "snapshots.every=1", "backend=cpu", "backend.threads=1")
QUIET = ("progress=none", "checkpoints.minutes=null")
RECORDS = ("metrics.jsonl", "params.json")
ARRAYS = ("checkpoint.npz", "checkpoint.prev.npz", "degrees.npz")
META = "meta"  # of a checkpoint: it counts the bytes of timing.jsonl, so it is never the same


def experiments() -> Iterator[tuple[str, ...]]:
    for model in MODELS:
        for method in METHODS:
            yield f"model={model}", f"method={method}"
    for engine in ENGINES:
        yield "model=mlp", "method=set", f"backend.engine={engine}"
    yield "model=mlp", "method=set", "zeta=0.1", "epsilon=3", "method.regrow_init=random"
    yield "model=cnn", "method=set", "model.sparse_convolutions=true"
    yield "model=rbm", "method=set", "model.persistent=true"


def train(checkout: Path, runs: Path) -> None:
    """Train every experiment with one version of the code."""
    command = str(checkout / ".venv" / "bin" / "set-train")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for words in experiments():
        subprocess.run(
            [command, "dataset=digits", *words, *SHORT, *QUIET, f"runs_dir={runs}"],
            cwd=runs,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # three epochs are too few to learn anything, and runs say so
        )


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line for each file or array that is not the same."""
    folders = {root: {path.parent.relative_to(root) for path in root.rglob("summary.json")} for root in (before, after)}
    yield from (f"only before: {folder}" for folder in sorted(folders[before] - folders[after]))
    yield from (f"only after: {folder}" for folder in sorted(folders[after] - folders[before]))
    for folder in sorted(folders[before] & folders[after]):
        yield from (
            f"{folder}/{name}: differs"
            for name in RECORDS
            if (before / folder / name).read_bytes() != (after / folder / name).read_bytes()
        )
        snapshots = sorted(f"topology/{path.name}" for path in (before / folder / "topology").glob("*.npz"))
        for name in (*ARRAYS, *snapshots):
            yield from _array_differences(before / folder / name, after / folder / name, f"{folder}/{name}")


def _array_differences(before: Path, after: Path, name: str) -> Iterator[str]:
    if before.exists() != after.exists():
        yield f"{name}: only {'before' if before.exists() else 'after'}"
    if not (before.exists() and after.exists()):
        return
    with np.load(before, allow_pickle=False) as old, np.load(after, allow_pickle=False) as new:
        yield from (f"{name}: {member}: not in both" for member in sorted(set(old) ^ set(new)))
        for member in sorted(set(old) & set(new) - {META}):
            a, b = old[member], new[member]
            if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
                yield f"{name}: {member}: differs"


@click.command()
@click.argument("before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(before: Path, after: Path) -> None:
    """Train with the code of BEFORE and of AFTER, and print what differs."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {checkout: Path(folder) / name for checkout, name in ((before, "before"), (after, "after"))}
        for checkout, path in runs.items():
            path.mkdir()
            train(checkout.resolve(), path)
        found = list(differences(runs[before], runs[after]))
        trained = len(list(runs[before].rglob("summary.json")))
    for line in found:
        click.echo(line)
    click.echo(f"{trained} runs, {len(found)} differences")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
