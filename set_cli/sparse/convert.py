"""Make the linear layers of any module sparse, and dense again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from set_cli.sparse.linear import SparseLinear

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of one linear layer.

    shape        (n_in, n_out)
    connections  of the sparse layer in its place; None where it was left as it is
    why          it was left
    """

    name: str
    shape: Shape
    connections: int | None = None
    why: str = ""

    @property
    def weights(self) -> int:
        return self.shape[0] * self.shape[1]

    def __str__(self) -> str:
        size = f"{self.shape[0]:,} x {self.shape[1]:,}"
        if self.connections is None:
            return f"{self.name} ({size}): left dense, {self.why}"
        return f"{self.name} ({size}): {self.connections:,} connections, density {self.connections / self.weights:.3g}"


def sparsify(
    model: nn.Module,
    density: float,
    *,
    skip: Sequence[str] = (),
    distribution: str = "uniform",
    keep: str = "largest",
    engine: str = "auto",
    seed: int | np.random.Generator | None = 0,
    quiet: bool = False,
) -> list[Replaced]:
    """Put a SparseLinear in the place of every nn.Linear in the model; print what was done, and return it.

    density       share of the replaced layers' weights that stay, above 0 and at most 1
    skip          names of layers to leave, or of modules all of whose layers are left ('head', 'encoder.layers.0')
    distribution  'uniform': this density in every layer; 'erk': Erdős-Rényi, a layer's density proportional to
                  (n_in + n_out) / (n_in * n_out), with the same number of connections in all (as one epsilon for all
                  layers); a layer that this fills stays full
    keep          'largest' or 'random': which weights stay, as in `SparseLinear.from_dense`
    engine, seed  of the new layers

    Subclasses of nn.Linear, whose owner may read the weights itself (nn.MultiheadAttention), and layers whose weight
    another module shares (tied embeddings) are left. An optimiser that was made before trains the old weights: make it
    afterwards. Raises ValueError for a density, a distribution or a name to skip that is not there.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density: expected a number above 0, at most 1, got {density}")
    _check_names(model, skip)
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    # A layer that is in several places has several names.
    found = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)}
    left = {name: why for name, layer in found.items() if (why := _why_left(name, layer, skip, owners))}
    chosen = {id(layer): layer for name, layer in found.items() if name not in left}
    shapes = [(layer.in_features, layer.out_features) for layer in chosen.values()]
    shares = dict(zip(chosen, _densities(shapes, density, distribution), strict=True))
    rng = np.random.default_rng(seed)
    made: dict[int, SparseLinear] = {}
    report: dict[int, Replaced] = {}
    for name, layer in found.items():
        at = id(layer)
        if name not in left and at not in made:
            made[at] = SparseLinear.from_dense(layer, shares[at], keep=keep, engine=engine, seed=rng)
        if name not in left:
            _replace(model, name, made[at])
        count = made[at].nnz if name not in left else None
        report.setdefault(at, Replaced(name, (layer.in_features, layer.out_features), count, left.get(name, "")))
    if not quiet:
        print(*report.values(), _total(list(report.values())), sep="\n")
    return list(report.values())


def densify(model: nn.Module) -> None:
    """Put an nn.Linear that computes the same in the place of every SparseLinear in the model.

    Raises ValueError for a subclass, whose own forward an nn.Linear does not have, and where the model itself is the
    layer (`to_dense`).
    """
    if isinstance(model, SparseLinear):
        raise ValueError("expected a model that has sparse layers, got a SparseLinear itself; use its to_dense()")
    replace_sparse(model, SparseLinear.to_dense)


def replace_sparse(model: nn.Module, make: Callable[[SparseLinear], nn.Module]) -> nn.Module:
    """Put what `make` returns in the place of every SparseLinear in the model; the model, or what stands for it."""
    made: dict[int, nn.Module] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, SparseLinear):
            if type(layer) is not SparseLinear:
                raise ValueError(
                    f"{name or 'the model'}: expected a SparseLinear, got its subclass {type(layer).__name__}"
                )
            if id(layer) not in made:
                made[id(layer)] = make(layer)
            if not name:
                return made[id(layer)]
            _replace(model, name, made[id(layer)])
    return model


def _check_names(model: nn.Module, skip: Sequence[str]) -> None:
    if isinstance(skip, str):
        raise ValueError(f"skip: expected a list of names, such as [{skip!r}], got {skip!r}")
    names = {name for name, _ in model.named_modules()}
    for name in skip:
        if name not in names:
            raise ValueError(f"skip: expected names of modules, of which {name!r} is none")


def _why_left(name: str, layer: nn.Linear, skip: Sequence[str], owners: Counter[int]) -> str:
    """Why this layer is not replaced; empty where it is."""
    if any(name == other or name.startswith(f"{other}.") for other in skip):
        return "as asked"
    if not name:
        return "it is the model itself; use SparseLinear.from_dense"
    if type(layer) is not nn.Linear:
        return f"it is a {type(layer).__name__}"
    if owners[id(layer.weight)] > 1:
        return "another module shares its weight"
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        return "its weight is computed from others"
    return ""


def _densities(shapes: Sequence[Shape], density: float, distribution: str) -> list[float]:
    """The density of each layer."""
    if distribution == "uniform":
        return [density] * len(shapes)
    if distribution != "erk":
        raise ValueError(f"distribution: expected 'uniform' or 'erk', got {distribution!r}")
    sizes = np.array([n_in * n_out for n_in, n_out in shapes], np.float64)
    neurons = np.array([n_in + n_out for n_in, n_out in shapes], np.float64)
    is_full = np.zeros(len(shapes), bool)
    while True:  # what a full layer cannot take goes to the others
        wanted = density * sizes.sum() - sizes[is_full].sum()
        epsilon = wanted / neurons[~is_full].sum() if not is_full.all() else 0.0
        found = np.where(is_full, 1.0, epsilon * neurons / sizes)
        if np.all(found <= 1):
            return [float(share) for share in found]
        is_full |= found > 1


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent_name, _, own = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, own, new)
    if isinstance(parent, nn.TransformerEncoderLayer):
        # Its fast path for inference multiplies dense matrices; this is what torch looks at to leave it.
        parent.activation_relu_or_gelu = 0


def _total(report: Sequence[Replaced]) -> str:
    done = [row for row in report if row.connections is not None]
    kept, weights = sum(row.connections or 0 for row in done), sum(row.weights for row in done)
    share = f", density {kept / weights:.3g}" if weights else ""
    return f"{len(done)} of {len(report)} linear layers are sparse: {kept:,} of their {weights:,} weights{share}"
