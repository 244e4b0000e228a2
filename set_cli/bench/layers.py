"""A layer in anyone's network: two of them with ReLU between, forward and backward, by size, density and batch.

No optimiser, and none of what set-train fuses: inputs and the gradient of the outputs are ordinary row-major tensors,
and the gradient of the inputs is computed too.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import prune

from set_cli.sparse import SparseLinear

SEED = 0
SPARSELAB = "sparselab"
# It recognises a layer's transpose by the id of an object, and would take a dead layer's for that of a new one.
KEPT: list[nn.Module] = []


@dataclass(frozen=True, slots=True)
class Layers:
    """n-n-n, both layers of this density, for batches of n_batch rows."""

    n: int
    density: float
    n_batch: int

    @property
    def name(self) -> str:
        return f"layer_{self.n}_{self.density:g}_{self.n_batch}"

    def build(self, engine: str) -> nn.Sequential:
        """`dense` is nn.Linear, `masked` that under a mask, `sparselab` that package's layer, others this engine."""
        return nn.Sequential(self._layer(engine, 0), nn.ReLU(), self._layer(engine, 1))

    def _layer(self, engine: str, number: int) -> nn.Module:
        if engine == SPARSELAB:
            layer: nn.Module = importlib.import_module(SPARSELAB).SparseLinear(
                self.n, self.n, sparsity=1 - self.density
            )
            return layer
        if engine == "dense":
            return nn.Linear(self.n, self.n)
        seed, name = SEED + number, "auto" if engine == "masked" else engine
        sparse = SparseLinear(self.n, self.n, density=self.density, engine=name, seed=seed)
        if engine != "masked":
            return sparse
        dense = sparse.to_dense()
        prune.custom_from_mask(dense, "weight", dense.weight.detach() != 0)  # type: ignore[no-untyped-call]
        return dense

    def prepare(self, engine: str, device: torch.device) -> tuple[Callable[[], None], int]:
        """A function that goes forward and backward once, and the number of connections."""
        torch.manual_seed(SEED)
        model = self.build(engine).to(device)
        x = torch.randn(self.n_batch, self.n, device=device, requires_grad=True)
        dy = torch.randn(self.n_batch, self.n, device=device)
        held = [x, *model.parameters()]

        def run() -> None:
            model(x).backward(dy)
            for tensor in held:
                tensor.grad = None

        if engine == SPARSELAB:
            KEPT.append(model)
        weights = [weight for name, weight in model.named_parameters() if not name.endswith("bias")]
        return run, sum(w.numel() if engine == "dense" else int(w.count_nonzero()) for w in weights)


def why_no_sparselab() -> str | None:
    """What is missing for the engine `sparselab`, a peer to compare with; None where nothing."""
    if importlib.util.find_spec(SPARSELAB) is None:
        return "the package sparselab is not installed (`pip install sparselab`)"
    return None


LAYERS = {
    layers.name: layers for layers in itertools.starmap(Layers, itertools.product((1024, 4096), (0.01, 0.1), (32, 128)))
}
