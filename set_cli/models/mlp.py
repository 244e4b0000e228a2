"""The paper's multilayer perceptron: sparse (or dense) hidden layers, a dense output layer."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from set_cli.config import Model
from set_cli.models.activations import ALL_RELU_SLOPE, GELU, LEAKY_SLOPE, Activation, LeakyReLU, ReLU, SReLU
from set_cli.models.normalization import NORMALIZATIONS
from set_cli.models.stack import BatchContiguousLinear, SparseSequential
from set_cli.sparse import SparseLinear
from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules import Site, connection_probability
from set_cli.sparse.rules.wiring import random_wiring
from set_cli.system import streams


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer before it is built; connections_asked is epsilon * (n_in + n_out), or all of them.

    A convolution's n_in are the values of a patch; a dense one has weights, but no connections that anyone counts.
    filled  whether it is dense because epsilon asks for at least as many connections as there is room for
    stands_for  (n_in, n_out) of the layer in whose place it is, with fewer neurons (method=small_dense)
    """

    name: str
    n_in: int
    n_out: int
    sparse: bool
    probability: float
    reason: str
    convolution: bool = False
    filled: bool = False
    stands_for: tuple[int, int] | None = None

    @property
    def connections_asked(self) -> float:
        if self.convolution and not self.sparse:
            return 0
        return self.n_in * self.n_out * min(self.probability, 1)


Wire = Callable[[LayerPlan, np.random.Generator], Csr]
"""Draws the connections with which a sparse layer of this plan starts."""


def wire_at_random(plan: LayerPlan, rng: np.random.Generator) -> Csr:
    """The paper's: every pair is connected with the plan's probability."""
    return random_wiring(Site(plan.n_in, plan.n_out, plan.probability), rng)


def plan_layer(name: str, n_in: int, n_out: int, epsilon: float | None) -> LayerPlan:
    """A layer that is sparse where its connection probability is below 1 (epsilon None: never), and why."""
    probability = 1.0 if epsilon is None else connection_probability(n_in, n_out, epsilon)
    if epsilon is None:
        reason = "method dense"
    elif probability >= 1:
        reason = f"connection probability {probability:.3g} is 1 or more: dense, does not evolve (paper, Eq. 1)"
    else:
        reason = f"Erdos-Renyi with connection probability {probability:.3g} (paper, Eq. 1)"
    filled = epsilon is not None and probability >= 1
    return LayerPlan(name, n_in, n_out, probability < 1, probability, reason, filled=filled)


def plan_mlp(model: Model, epsilon: float | None, features: int, classes: int) -> list[LayerPlan]:
    """The layers of the MLP features-hidden-classes: which are sparse, which dense (epsilon None: all), and why."""
    widths = [features, *model.hidden]
    pairs = enumerate(itertools.pairwise(widths), start=1)
    plans = [plan_layer(f"layer{i}", n_in, n_out, epsilon) for i, (n_in, n_out) in pairs]
    # Dense in the paper's MLPs and in all its connection counts: ten outputs gain nothing from sparsity.
    plans.append(LayerPlan("output", widths[-1], classes, False, 1.0, "output layer: always dense, as in the paper"))
    return plans


def build_mlp(
    plans: list[LayerPlan], model: Model, engines: Mapping[str, str], seed: int, wire: Wire = wire_at_random
) -> nn.Sequential:
    """layer1, activation1 (with its dropout), …, output; (n_batch, features) to (n_batch, classes) logits.

    wire     draws the connections of a sparse layer
    engines  of the sparse layers, by name. Where one is native the batch stays contiguous through the whole network.
    Every layer draws from its own stream of the seed: `set` and `fixprob` start from the same network.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    add_layers(modules, plans, model, engines, seed, wire)
    return SparseSequential(modules)


def add_layers(
    modules: OrderedDict[str, nn.Module],
    plans: list[LayerPlan],
    model: Model,
    engines: Mapping[str, str],
    seed: int,
    wire: Wire = wire_at_random,
) -> None:
    """Put the layers of an MLP behind these modules; see `build_mlp`."""
    # Both read and write batches that are contiguous; only on the CPU do the kernels take activations too.
    batch_contiguous, fused = not {"native", "triton"}.isdisjoint(engines.values()), "native" in engines.values()
    for i, plan in enumerate(plans, start=1):
        rng = streams.generator(seed, "init", i)
        if plan.sparse:
            modules[plan.name] = SparseLinear(
                plan.n_in, plan.n_out, pattern=wire(plan, rng), init=model.init, engine=engines[plan.name], seed=rng
            )
        else:
            modules[plan.name] = _dense_layer(plan.n_in, plan.n_out, model.init, rng, batch_contiguous)
        if plan is not plans[-1]:
            rng = streams.generator(seed, "init", i, 1)
            if model.norm is not None:
                modules[f"norm{i}"] = NORMALIZATIONS[model.norm](plan.n_out)
            modules[f"activation{i}"] = make_activation(model, plan.n_out, model.dropout or 0.0, i, rng, fused)


def make_activation(
    model: Model, neurons: int, dropout: float, number: int, rng: np.random.Generator, fused: bool
) -> Activation:
    """The activation of the hidden layer of this number, counted from 1: All-ReLU's slope alternates its sign."""
    match model.activation:
        case "srelu":
            return SReLU(neurons, rng, dropout, fused=fused)
        case "leaky_relu":
            return LeakyReLU(neurons, LEAKY_SLOPE if model.slope is None else model.slope, dropout, fused=fused)
        case "all_relu":
            slope = ALL_RELU_SLOPE if model.slope is None else model.slope
            return LeakyReLU(neurons, slope if number % 2 else -slope, dropout, fused=fused)
        case "gelu":
            return GELU(neurons, dropout, fused=fused)
        case _:
            return ReLU(dropout, fused=fused)


def _dense_layer(n_in: int, n_out: int, init: str, rng: np.random.Generator, batch_contiguous: bool) -> nn.Linear:
    layer = (BatchContiguousLinear if batch_contiguous else nn.Linear)(n_in, n_out)
    limit = math.sqrt(6 / (n_in + n_out) if init == "glorot" else 6 / n_in)
    with torch.no_grad():
        draws = 2 * rng.random((n_out, n_in), dtype=np.float32) - 1
        layer.weight.copy_(torch.from_numpy(draws)).mul_(limit)
        layer.bias.zero_()
    return layer
