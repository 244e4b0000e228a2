"""The restricted Boltzmann machine, its connections sparse (or dense): Bernoulli visible and hidden units."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from set_cli import native
from set_cli.config import Model
from set_cli.models.mlp import LayerPlan, Wire, plan_layer, wire_at_random
from set_cli.native.units import Connections
from set_cli.sparse import SparseLinear
from set_cli.sparse.initial import INITIAL_DEVIATION
from set_cli.system import streams

NAME = "layer1"
SMOOTHING = 5  # counts added to a visible unit's, as Salakhutdinov and Murray's base-rate model


class VisibleBias(nn.Module):
    """One bias per visible unit."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.from_numpy(values))


class RBM(nn.Module):
    """p(v, h) = exp(v W h + b v + c h) / Z over 0/1 vectors v (n_visible) and h (n_hidden).

    layer1   the connections W (n_visible, n_hidden) with the hidden biases c
    visible  the visible biases b
    chains   (n_chains, n_hidden) hidden units of persistent chains, where there are any; they start at 0, from which
             the first visible units are draws from the data's means

    Forward gives the probabilities of the hidden units. Nothing here is differentiated by autograd: contrastive
    divergence computes its own gradients (`set_gradients`). Mocanu et al. 2018, Methods; Hinton 2002.
    """

    chains: Tensor | None

    def __init__(self, layer: SparseLinear | nn.Linear, visible_bias: NDArray[np.float32], n_chains: int = 0) -> None:
        super().__init__()
        self.layer1 = layer
        self.visible = VisibleBias(visible_bias)
        self.register_buffer("chains", native.new_columns(n_chains, self.n_hidden).zero_() if n_chains else None)

    @property
    def n_visible(self) -> int:
        return self.layer1.in_features

    @property
    def n_hidden(self) -> int:
        return self.layer1.out_features

    @torch.no_grad()
    def forward(self, v: Tensor) -> Tensor:
        """(n, n_visible) to the probabilities (n, n_hidden) that the hidden units are 1."""
        return self.hidden_input(v).sigmoid()

    @torch.no_grad()
    def reconstruct(self, v: Tensor) -> Tensor:
        """(n, n_visible) to the visible units' probabilities given those of the hidden ones (mean field)."""
        return self.visible_input(self(v)).sigmoid()

    @torch.no_grad()
    def free_energy(self, v: Tensor) -> Tensor:
        """(n,) nats: -log of the sum over h of exp(v W h + b v + c h); log p(v) = -free_energy - log Z."""
        return -(v @ self.visible.bias) - F.softplus(self.hidden_input(v)).sum(dim=1)

    def hidden_input(self, v: Tensor) -> Tensor:
        """v W + c (n, n_hidden)."""
        layer = self.layer1
        self.check_units(v, self.n_visible)
        if isinstance(layer, SparseLinear):
            engine = layer.engine
            return engine.spmm(engine.arrange(v), layer.weight, layer.bias, layer.device_pattern())
        return F.linear(v, layer.weight, layer.bias)

    def visible_input(self, h: Tensor) -> Tensor:
        """h W^T + b (n, n_visible)."""
        layer = self.layer1
        self.check_units(h, self.n_hidden)
        if isinstance(layer, SparseLinear):
            engine = layer.engine
            return engine.spmm_t(engine.arrange(h), layer.weight, layer.device_pattern()).add_(self.visible.bias)
        return torch.addmm(self.visible.bias, h, layer.weight)

    def filters(self) -> NDArray[np.float32]:
        """(n_hidden, n_visible) weights, 0 where there is no connection: each hidden unit's receptive field."""
        layer, weight = self.layer1, self.layer1.weight.detach().cpu().numpy()
        if not isinstance(layer, SparseLinear):
            return weight.copy()
        filters = np.zeros((self.n_hidden, self.n_visible), np.float32)
        pattern = layer.pattern
        filters[pattern.indices, np.repeat(np.arange(self.n_visible), pattern.out_degrees())] = weight
        return filters

    def compiled(self) -> Connections | None:
        """This RBM for the kernels that do a whole step; None where its layer is not theirs."""
        layer = self.layer1
        if not isinstance(layer, SparseLinear) or layer.engine.name != "native":
            return None
        assert layer.bias is not None
        tensors = [parameter.detach() for parameter in (layer.weight, layer.bias, self.visible.bias)]
        if not (native.takes(*tensors) and all(tensor.is_contiguous() for tensor in tensors)):
            return None
        pattern = layer.device_pattern()
        return Connections(pattern.compiled, pattern.shape, *tensors)

    def check_units(self, x: Tensor, units: int) -> None:
        """ValueError where the engines would take these units for others."""
        weight = self.layer1.weight
        if x.ndim != 2 or x.shape[1] != units or x.dtype != weight.dtype or x.device != weight.device:
            raise ValueError(
                f"expected (n, {units}) units as {weight.dtype} on {weight.device}, got {tuple(x.shape)} as {x.dtype} "
                f"on {x.device}"
            )

    def set_gradients(self, v0: Tensor, h0: Tensor, v1: Tensor, h1: Tensor) -> None:
        """Gradients of the log-probability, negated, from the data's and the model's statistics.

        v0, h0  (n, ...) visible units and probabilities of the hidden ones, of the data
        v1, h1  (m, ...) likewise, of the model: after CD's steps, or of persistent chains
        """
        v = torch.cat([v0, v1])
        h = torch.cat([h0 / -len(v0), h1 / len(v1)])
        layer = self.layer1
        if isinstance(layer, SparseLinear):
            # Positive minus negative statistics at the connections, in one pass over them.
            engine = layer.engine
            layer.weight.grad = engine.sddmm(engine.arrange(v), engine.arrange(h), layer.device_pattern())
        else:
            layer.weight.grad = h.t() @ v
        assert layer.bias is not None
        layer.bias.grad = h.sum(dim=0)
        self.visible.bias.grad = v1.mean(dim=0) - v0.mean(dim=0)


def plan_rbm(model: Model, epsilon: float | None, features: int) -> list[LayerPlan]:
    """The one layer: sparse with a connection probability below 1, else dense (epsilon None: always), and why."""
    (hidden,) = model.hidden
    return [plan_layer(NAME, features, hidden, epsilon)]


def build_rbm(
    plan: LayerPlan,
    model: Model,
    engine: str,
    seed: int,
    mean: NDArray[np.float32],
    rows: int,
    n_chains: int,
    wire: Wire = wire_at_random,
) -> RBM:
    """The RBM of this plan; its weights are drawn from their own stream of the seed.

    mean, rows  of the training data: a visible unit starts at the log-odds of its mean (Hinton's practical guide)
    n_chains    of persistent contrastive divergence, if the model asks for it
    """
    rng = streams.generator(seed, "init", 1)
    layer: SparseLinear | nn.Linear
    if plan.sparse:
        layer = SparseLinear(plan.n_in, plan.n_out, pattern=wire(plan, rng), init=model.init, engine=engine, seed=rng)
    else:
        layer = _dense_layer(plan.n_in, plan.n_out, model.init, rng)
    return RBM(layer, log_odds(mean, rows), n_chains if model.persistent else 0)


def log_odds(mean: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """log(p / (1 - p)) of smoothed means: the base-rate model of Salakhutdinov and Murray 2008."""
    p = (mean.astype(np.float64) * rows + SMOOTHING / 2) / (rows + SMOOTHING)
    return np.log(p / (1 - p)).astype(np.float32)


def _dense_layer(n_in: int, n_out: int, init: str, rng: np.random.Generator) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    with torch.no_grad():
        if init == "normal":
            draws = np.float32(INITIAL_DEVIATION) * rng.standard_normal((n_out, n_in), dtype=np.float32)
        else:
            limit = math.sqrt(6 / (n_in + n_out) if init == "glorot" else 6 / n_in)
            draws = np.float32(limit) * (2 * rng.random((n_out, n_in), dtype=np.float32) - 1)
        layer.weight.copy_(torch.from_numpy(draws))
        layer.bias.zero_()
    return layer
