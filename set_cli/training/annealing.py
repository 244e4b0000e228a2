"""log Z of an RBM by annealed importance sampling, and exactly where one side is small.

Salakhutdinov and Murray, On the quantitative analysis of deep belief networks, ICML 2008.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from set_cli import native
from set_cli.models.rbm import RBM
from set_cli.native import units
from set_cli.training.sampling import Sampler

EXACT_UNITS = 20  # of the smaller side: a million states
CHAINS = 100
# Where fewer carry the estimate it is off by more than its standard error says. More are no proof: chains that all
# miss a mode agree.
FEW_CHAINS = 10
# (from, step, to) of the inverse temperatures: 14,500 of them in the paper's schedule.
SCHEDULES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "quick": ((0.0, 1 / 200, 0.5), (0.5, 1 / 1000, 0.9), (0.9, 1 / 5000, 1.0)),
    "paper": ((0.0, 1 / 1000, 0.5), (0.5, 1 / 10_000, 0.9), (0.9, 1 / 100_000, 1.0)),
}


TEMPERATURES_AT_ONCE = 64  # between two looks at whether the run is to end


@dataclass(frozen=True, slots=True)
class Partition:
    """log Z (nats) with its standard error, the chains' effective number, and the temperatures they went through.

    Where log Z is exact: no error, all chains, no temperatures.
    """

    log_z: float
    standard_error: float
    effective_chains: float
    temperatures: int

    @property
    def chains_agree(self) -> bool:
        return self.effective_chains >= FEW_CHAINS


def schedule(name: str) -> NDArray[np.float64]:
    """The inverse temperatures from 0 to 1."""
    parts = [np.linspace(a, b, round((b - a) / step), endpoint=False) for a, step, b in SCHEDULES[name]]
    return np.append(np.concatenate(parts), 1.0)


@torch.no_grad()
def anneal(
    model: RBM,
    base_bias: Tensor,
    betas: NDArray[np.float64],
    chains: int,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> Partition:
    """Estimate log Z by chains from the base-rate model to the RBM.

    base_bias  (n_visible,) visible biases of the base-rate model, whose hidden units are independent of them
    check      called every so often; may raise to stop
    """
    if base_bias.shape != (model.n_visible,):  # the kernels see addresses only
        raise ValueError(f"expected {model.n_visible} visible biases, got shape {tuple(base_bias.shape)}")
    sampler = Sampler(seed, base_bias.device)
    v = sampler.values(base_bias.sigmoid().expand(chains, -1))
    moving = _chains(model, base_bias, v, sampler, seed)
    temperatures = torch.from_numpy(betas).float()
    for start in range(0, len(temperatures) - 1, TEMPERATURES_AT_ONCE):
        moving.move(temperatures[start : start + TEMPERATURES_AT_ONCE + 1])
        check()
    log_base = float(F.softplus(base_bias.double()).sum()) + model.n_hidden * math.log(2)
    return _combine(moving.log_weights().cpu().numpy(), log_base, len(betas) - 1)


class Chains(Protocol):
    """Annealed chains; units.SparseChains and units.DenseChains are the kernels'."""

    def move(self, betas: Tensor, /) -> None: ...

    def log_weights(self) -> Tensor: ...


def _chains(model: RBM, base: Tensor, v: Tensor, sampler: Sampler, seed: int) -> Chains:
    """The fastest there are for this RBM."""
    kernels = model.compiled()
    if kernels is not None:
        return units.SparseChains(kernels, base, native.to_columns(v), seed)
    layer = model.layer1
    if isinstance(layer, nn.Linear) and native.takes(layer.weight, layer.bias, model.visible.bias, base):
        biases = layer.bias.detach(), model.visible.bias.detach()
        return units.DenseChains(layer.weight.detach(), *biases, base, native.to_columns(v), seed)
    return TorchChains(model, base, v, sampler)


class TorchChains:
    """Annealed chains of any RBM, on any device."""

    def __init__(self, model: RBM, base_bias: Tensor, v: Tensor, sampler: Sampler) -> None:
        self._model, self._base, self._v, self._sampler = model, base_bias, v, sampler
        self._log_weights = torch.zeros(len(v), dtype=torch.float64, device=v.device)

    def move(self, betas: Tensor) -> None:
        model, base, v = self._model, self._base, self._v
        shift = model.visible.bias - base
        for before, beta in itertools.pairwise(betas.tolist()):
            inputs = model.hidden_input(v)
            self._log_weights += (beta - before) * (v @ shift)
            self._log_weights += (F.softplus(beta * inputs) - F.softplus(before * inputs)).sum(dim=1)
            h = self._sampler.units(beta * inputs)
            # beta (W h + b) + (1 - beta) base
            v = self._sampler.units((1 - beta) * base + beta * model.visible_input(h))
        self._v = v

    def log_weights(self) -> Tensor:
        return self._log_weights


def _combine(log_weights: NDArray[np.float64], log_base: float, temperatures: int) -> Partition:
    """log of the mean weight, its standard error by the delta method, and the effective sample size."""
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    mean = weights.mean()
    error = float(weights.std(ddof=1) / mean / math.sqrt(len(weights))) if len(weights) > 1 else math.inf
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Partition(log_base + float(top + math.log(mean)), error, effective, temperatures)


@torch.no_grad()
def enumerate_states(model: RBM, check: Callable[[], None] = lambda: None) -> Partition:
    """log Z exactly, over all states of the smaller side; ValueError where that has more than EXACT_UNITS units."""
    by_hidden = model.n_hidden <= model.n_visible
    smaller = min(model.n_hidden, model.n_visible)
    if smaller > EXACT_UNITS:
        raise ValueError(f"expected a side of at most {EXACT_UNITS} units, found {model.n_visible} x {model.n_hidden}")
    powers = 2 ** torch.arange(smaller)
    log_z = torch.tensor(-math.inf, dtype=torch.float64)
    for start in range(0, 2**smaller, 4096):
        numbers = torch.arange(start, min(start + 4096, 2**smaller))
        states = ((numbers[:, None] & powers) > 0).to(model.visible.bias)
        if by_hidden:
            assert model.layer1.bias is not None
            terms = states @ model.layer1.bias + F.softplus(model.visible_input(states)).sum(dim=1)
        else:
            terms = -model.free_energy(states)
        check()
        log_z = torch.logaddexp(log_z, terms.double().logsumexp(dim=0).cpu())
    return Partition(float(log_z), 0.0, CHAINS, 0)
