"""Part `training`: set-train on CIFAR-10 images, beside the CPU, repeated, killed and resumed, and timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu import images
from gpu.figures import Figures
from gpu.parts import Settings

PROGRAM = "import set_cli.commands.{0}; set_cli.commands.{0}.main()"
IMAGES, WHOLE_EPOCH, EPOCHS = 10_000, 40_000, 3
AT_ONCE = 5
AGREE = 0.02  # relative difference of the losses without dropout, whose draws differ between devices
WANTED_SECONDS = 0.6  # of an epoch of 40,000 images
COMMON = ("dataset=cifar10", "model=mlp", "method=set", "data.fetch=never", "progress=none", "snapshots.every=1")
REPEATABLE = ("backend.deterministic=true",)
NO_DROPOUT = ("model.dropout=0",)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left; error: the last line it said, where it failed."""

    folder: Path | None
    error: str = ""

    def rows(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name if self.folder is not None else None
        if path is None or not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    @property
    def losses(self) -> list[float]:
        return [row["train_loss"] for row in self.rows("metrics.jsonl")]

    @property
    def topology(self) -> dict[str, Any]:
        """The arrays of the last snapshot."""
        paths = sorted(self.folder.glob("topology/*.npz")) if self.folder is not None else []
        if not paths:
            return {}
        with np.load(paths[-1]) as arrays:
            return {name: arrays[name] for name in arrays.files}


class Runs:
    """Runs in folders of their own, on the images of this part."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.work = settings, Path(settings.work)
        self.limit = max(50, round(IMAGES * settings.scale))
        self.environment = os.environ | {"SET_DATA_DIR": str(self.work / "data")}
        self.few = {"OMP_NUM_THREADS": str(settings.threads)}

    def import_images(self) -> str:
        """Where the images come from."""
        self.work.joinpath("data").mkdir()
        folder = None if self.settings.data is None else Path(self.settings.data)
        source, said = self.work / images.NAME, "made up: no --data"
        if folder is not None and (folder / images.NAME).exists():
            source, said = folder / images.NAME, "images repeated"
        else:
            images.save(source, images.made_up(self.limit, 1), images.made_up(max(20, self.limit // 10), 2))
        batches = images.write_batches(source, self.work / "given")
        command = [sys.executable, "-P", "-c", PROGRAM.format("data"), "import", "cifar10", "--unverified"]
        done = subprocess.run(
            [*command, *map(str, batches)], cwd=self.work, env=self.environment, capture_output=True, text=True
        )
        print(done.stdout[-2000:], done.stderr[-2000:])
        if done.returncode:
            raise RuntimeError(f"set-data import ended with {done.returncode}: {done.stderr[-300:]}")
        return said

    def command(self, name: str, words: tuple[str, ...]) -> list[str]:
        program = [sys.executable, "-P", "-c", PROGRAM.format("train")]
        return [*program, *COMMON, f"train.epochs={EPOCHS}", f"runs_dir={self.work / name}", *words]

    def train(self, name: str, *words: str, alone: bool = False) -> Trained:
        environment = self.environment if alone else self.environment | self.few
        limit = () if any("train_limit" in word for word in words) else (f"data.train_limit={self.limit}",)
        threads = () if alone else (f"backend.threads={self.settings.threads}",)
        with (self.work / f"{name}.txt").open("ab") as log:
            command = self.command(name, (*limit, *threads, *words))
            code = subprocess.run(
                command, cwd=self.work, env=environment, stdout=log, stderr=log, check=False
            ).returncode
        return self.found(name, code)

    def found(self, name: str, code: int) -> Trained:
        records = list((self.work / name).rglob("metrics.jsonl"))
        if code == 0 and records:
            return Trained(records[0].parent)
        said = (self.work / f"{name}.txt").read_text(errors="replace").strip().splitlines() or [""]
        print(f"{name} ended with {code}:", *said[-25:], sep="\n", flush=True)
        return Trained(None, f"exit code {code}: {said[-1]}"[:80])

    def killed_and_resumed(self, name: str, *words: str) -> tuple[bool, Trained]:
        """Whether it was killed between its first epoch and its end, and what the same command made of it."""
        words = (f"data.train_limit={self.limit}", f"backend.threads={self.settings.threads}", *words)
        folder = self.work / name
        with (self.work / f"{name}.txt").open("ab") as log:
            child = subprocess.Popen(
                self.command(name, words), cwd=self.work, env=self.environment | self.few, stdout=log, stderr=log
            )
            while child.poll() is None and not any(map(epochs_recorded, folder.rglob("status.json"))):
                time.sleep(0.005)
            child.kill()
            killed = child.wait() < 0
        return killed, self.train(name, *words)


def main(settings: Settings) -> None:
    figures, runs = settings.new_figures(), Runs(settings)
    start = time.perf_counter()
    source = runs.import_images()
    print(f"images: {source}; imported in {time.perf_counter() - start:.1f} s", flush=True)
    on_gpu = settings.device == "cuda"
    engines = ("triton", "masked", "torch", "auto") if on_gpu else ("torch", "masked", "auto")
    exact = engines[0]  # whose bits repeat
    device = f"backend={settings.device}"
    with ThreadPoolExecutor(AT_ONCE if settings.scale == 1 else 1) as pool:
        repeatable = (device, f"backend.engine={exact}", *REPEATABLE)
        resumed = pool.submit(runs.killed_and_resumed, "resumed", *repeatable)
        twice = [pool.submit(runs.train, f"repeat{i}", *repeatable) for i in range(2)]
        plain = {
            "cpu": pool.submit(runs.train, "cpu_no_dropout", "backend=cpu", *NO_DROPOUT),
            exact: pool.submit(runs.train, "no_dropout", device, f"backend.engine={exact}", *NO_DROPOUT),
        }
        others = {"cpu": pool.submit(runs.train, "cpu", "backend=cpu")}
        for engine in engines:
            others[engine] = pool.submit(runs.train, engine, device, f"backend.engine={engine}")
        first, second = (future.result() for future in twice)
        compare(figures, "deterministic, twice", first, second)
        killed, again = resumed.result()
        if not killed:
            figures.add("killed after its first epoch", "ended before it was killed", held=False)
        compare(figures, "killed and resumed", first, again)
        beside(figures, "no dropout", {name: future.result() for name, future in plain.items()}, AGREE)
        beside(figures, "recipe", {name: future.result() for name, future in others.items()}, None)
    for engine in ("auto", exact):
        limit = f"data.train_limit={max(50, round(WHOLE_EPOCH * settings.scale))}"
        alone = runs.train(f"alone_{engine}", device, f"backend.engine={engine}", limit, alone=True)
        seconds = [row["train_seconds"] for row in alone.rows("timing.jsonl")][1:]
        shown = ", ".join(f"{value:.3f}" for value in seconds) or alone.error
        held = bool(seconds) and max(seconds) <= WANTED_SECONDS
        what, shown = f"epochs 2, 3 of 40,000 images, {engine}", f"{shown} ({source})"
        figures.add(what, shown, "s", f"<= {WANTED_SECONDS}", held, epochs=seconds)


def epochs_recorded(status: Path) -> int:
    """As the run's status says; it is replaced as a whole, never seen half written."""
    return int(json.loads(status.read_text()).get("epoch") or 0)


def compare(figures: Figures, what: str, one: Trained, other: Trained) -> None:
    """Whether two runs recorded the same bytes and end with the same connections."""
    if one.folder is None or other.folder is None:
        figures.add(what, one.error or other.error, wanted="equal", held=False)
        return
    rows = (one.folder / "metrics.jsonl").read_bytes() == (other.folder / "metrics.jsonl").read_bytes()
    mine, others = one.topology, other.topology
    connections = mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)
    connections &= bool(mine)
    said = f"metrics {'equal' if rows else 'differ'}, topology {'equal' if connections else 'differs'}"
    figures.add(what, said, wanted="equal", held=rows and connections)


def beside(figures: Figures, what: str, runs: dict[str, Trained], agree: float | None) -> None:
    """The epochs' losses beside each other, and how far each is from the CPU's."""
    expected = runs["cpu"].losses
    for name, run in runs.items():
        losses = run.losses
        if len(losses) != len(expected) or not losses:
            figures.add(f"{what}, {name}: losses", run.error or "none", wanted="losses", held=False)
            continue
        far = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
        shown = " ".join(f"{loss:.4f}" for loss in losses)
        if name == "cpu":
            figures.add(f"{what}, {name}: losses", shown, "nats", losses=losses)
        else:
            wanted, held = ("", None) if agree is None else (f"<= {agree:.0%}", far <= agree)
            figures.add(f"{what}, {name}: losses (from the CPU's)", f"{shown} ({far:.2%})", "nats", wanted, held)
