"""A two-layer GPT: dense, sparsified at 90 %, and sparsified with connections that evolve.

    python tools/gpt.py [--steps 500] [--width 256] [--density 0.1] [--device cpu] > table.md

Characters of Python's own manual (pydoc_data.topics, which every installation has); its last tenth is the validation
text. All networks see the same batches, in turn within every step, so that other work on the machine slows all alike.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from pydoc_data.topics import topics
from typing import Any

import click
import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.sparse import Evolution, SparseLinear, sparsify

ZETA, EVERY, UNTIL = 0.3, 25, 0.75


class Block(nn.Module):
    """A transformer block that normalises first (Radford et al. 2019): causal attention, then two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind()
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class GPT(nn.Module):
    """Characters (batch, length) to logits of the next ones (batch, length, symbols)."""

    def __init__(self, symbols: int, width: int, length: int, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        places = self.places(torch.arange(x.shape[1], device=x.device))
        logits: Tensor = self.head(self.norm(self.blocks(self.symbols(x) + places)))
        return logits


class Training:
    """One network with its optimiser, its losses and the seconds of its steps."""

    def __init__(self, model: nn.Module, steps: int, evolves: bool) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.evolution = None
        if evolves:
            zeta, until = lambda progress: ZETA / 2 * (1 + math.cos(math.pi * progress)), int(UNTIL * steps)
            self.evolution = Evolution(model, self.optimizer, zeta, every=EVERY, until=until, seed=0)

    def step(self, x: Tensor, y: Tensor) -> None:
        start = now(x.device)
        loss = nn.functional.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.evolution is not None:
            self.evolution.step()
        self.losses.append(loss.item())
        self.seconds.append(now(x.device) - start)

    @torch.no_grad()
    def validate(self, text: Tensor, length: int) -> float:
        rows = text[: (len(text) - 1) // length * length].view(-1, length)
        after = text[1 : rows.numel() + 1].view(-1, length)
        pairs = zip(rows.split(64), after.split(64), strict=True)  # type: ignore[no-untyped-call]
        total = [len(x) * nn.functional.cross_entropy(self.model(x).flatten(0, 1), y.flatten()) for x, y in pairs]
        return float(sum(total)) / len(rows)

    def held(self) -> int:
        """Bytes of parameters, gradients, the optimiser's state and the sparse layers' indices."""
        tensors = [*self.model.parameters(), *self.model.buffers(), *(p.grad for p in self.model.parameters())]
        states: list[Any] = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(t.numel() * t.element_size() for t in [*tensors, *states] if t is not None)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@click.command()
@click.option("--steps", default=500, show_default=True)
@click.option("--width", default=256, show_default=True)
@click.option("--length", default=64, show_default=True, help="Characters of a sequence.")
@click.option("--batch", default=16, show_default=True, help="Sequences.")
@click.option("--density", default=0.1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(steps: int, width: int, length: int, batch: int, density: float, device: str, threads: int) -> None:
    """Train the three networks side by side, and print a table."""
    torch.set_num_threads(threads)
    text = "".join(topics.values())
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([numbers[character] for character in text], device=device)
    train, valid = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :]
    trainings = {}
    for name in ("dense", "sparse", "sparse, evolving"):
        torch.manual_seed(0)
        model = GPT(len(numbers), width, length).to(device)
        if name != "dense":
            sparsify(model, density, skip=["head"], keep="random", quiet=True)
            for number, layer in enumerate(m for m in model.modules() if isinstance(m, SparseLinear)):
                layer.reset_parameters(number)
        trainings[name] = Training(model, steps, evolves=name.endswith("evolving"))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        starts = torch.randint(len(train) - length, (batch,), generator=generator)
        rows = (starts[:, None] + torch.arange(length + 1)).to(device)
        x, y = train[rows[:, :-1]], train[rows[:, 1:]]
        for training in trainings.values():
            training.step(x, y)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {native.describe()['simd']}"
    print(f"width {width}, {batch} sequences of {length}, {steps} steps; {where}, {threads} thread(s)\n")
    heads = ("network", "weights of its linear layers", "training loss, last 50 steps", "validation loss", "ms a step",
             "ratio to dense", "MB")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, training in trainings.items():
        layers = (m for m in training.model.blocks.modules() if isinstance(m, nn.Linear | SparseLinear))  # type: ignore[union-attr]
        ratio = statistics.median(d / s for d, s in zip(trainings["dense"].seconds, training.seconds, strict=True))
        cells = (
            f"{sum(layer.weight.numel() for layer in layers):,}", f"{statistics.fmean(training.losses[-50:]):.3f}",
            f"{training.validate(valid, length):.3f}", f"{1000 * statistics.median(training.seconds):.1f}",
            f"{ratio:.2f}x", f"{training.held() / 1e6:.1f}",
        )  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
