"""log Z of an RBM by annealed importance sampling, and exactly where one side is small.

Salakhutdinov and Murray, On the quantitative analysis of deep belief networks, ICML 2008.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from set_cli.models.rbm import RBM

EXACT_UNITS = 20  # of the smaller side: a million states
CHAINS = 100
# (from, step, to) of the inverse temperatures: 14,500 of them in the paper's schedule.
SCHEDULES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "quick": ((0.0, 1 / 200, 0.5), (0.5, 1 / 1000, 0.9), (0.9, 1 / 5000, 1.0)),
    "paper": ((0.0, 1 / 1000, 0.5), (0.5, 1 / 10_000, 0.9), (0.9, 1 / 100_000, 1.0)),
}


@dataclass(frozen=True, slots=True)
class Partition:
    """log Z (nats) with its standard error and the chains' effective number (0 and all where it is exact)."""

    log_z: float
    standard_error: float
    effective_chains: float


def schedule(name: str) -> NDArray[np.float64]:
    """The inverse temperatures from 0 to 1."""
    parts = [np.linspace(a, b, round((b - a) / step), endpoint=False) for a, step, b in SCHEDULES[name]]
    return np.append(np.concatenate(parts), 1.0)


@torch.no_grad()
def anneal(
    model: RBM, base_bias: Tensor, betas: NDArray[np.float64], chains: int, generator: torch.Generator
) -> Partition:
    """Estimate log Z by chains from the base-rate model to the RBM.

    base_bias  (n_visible,) visible biases of the base-rate model, whose hidden units are independent of them
    """
    bias = model.visible.bias
    v = (torch.rand(chains, model.n_visible, generator=generator, device=bias.device) < base_bias.sigmoid()).float()
    log_weights = torch.zeros(chains, dtype=torch.float64, device=bias.device)
    before = 0.0
    for beta in (float(b) for b in betas[1:]):
        inputs = model.hidden_input(v)
        shift = v @ (bias - base_bias)
        log_weights += (beta - before) * shift
        log_weights += (F.softplus(beta * inputs) - F.softplus(before * inputs)).sum(dim=1)
        h = draw((beta * inputs).sigmoid_(), generator)
        v = draw((beta * model.visible_input(h) + (1 - beta) * base_bias).sigmoid_(), generator)
        before = beta
    log_base = float(F.softplus(base_bias.double()).sum()) + model.n_hidden * math.log(2)
    return _combine(log_weights.cpu().numpy(), log_base)


def draw(p: Tensor, generator: torch.Generator) -> Tensor:
    """0 and 1 with these probabilities."""
    return (torch.empty_like(p).uniform_(generator=generator) < p).to(p.dtype)


def _combine(log_weights: NDArray[np.float64], log_base: float) -> Partition:
    """log of the mean weight, its standard error by the delta method, and the effective sample size."""
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    mean = weights.mean()
    error = float(weights.std(ddof=1) / mean / math.sqrt(len(weights))) if len(weights) > 1 else math.inf
    return Partition(log_base + float(top + math.log(mean)), error, float(weights.sum() ** 2 / (weights**2).sum()))


@torch.no_grad()
def enumerate_states(model: RBM) -> Partition:
    """log Z exactly, over all states of the smaller side; ValueError where that has more than EXACT_UNITS units."""
    by_hidden = model.n_hidden <= model.n_visible
    units = min(model.n_hidden, model.n_visible)
    if units > EXACT_UNITS:
        raise ValueError(f"expected a side of at most {EXACT_UNITS} units, found {model.n_visible} x {model.n_hidden}")
    powers = 2 ** torch.arange(units)
    log_z = torch.tensor(-math.inf, dtype=torch.float64)
    for start in range(0, 2**units, 4096):
        numbers = torch.arange(start, min(start + 4096, 2**units))
        states = ((numbers[:, None] & powers) > 0).to(model.visible.bias)
        if by_hidden:
            assert model.layer1.bias is not None
            terms = states @ model.layer1.bias + F.softplus(model.visible_input(states)).sum(dim=1)
        else:
            terms = -model.free_energy(states)
        log_z = torch.logaddexp(log_z, terms.double().logsumexp(dim=0).cpu())
    return Partition(float(log_z), 0.0, CHAINS)
