"""How many connections each layer has, at the start and in the course of a run in which they become fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from set_cli.config import Config, Evolve
from set_cli.models.cnn import TAPS
from set_cli.models.mlp import LayerPlan
from set_cli.sparse.evolve import LEAST_CONNECTIONS
from set_cli.sparse.rules import connection_probability

SMALLEST = 1e-9  # an epsilon that makes every layer sparse which can be
STEEPNESS = 10  # of the sigmoid, over the time in which connections go
CLOSE = 1e-6  # of an epsilon that is searched for, as a part of the largest one
KERNEL_SIDES = 6  # height and width of a 3x3 kernel, which ERK counts beside the channels


def remaining_share(evolve: Evolve, progress: float) -> float:
    """The share of the surplus of connections that is left, 1 at the start and 0 from `evolve.epsilon_until` on.

    progress  part of the run that is over

    cubic: (1 - t)^3, as in gradual magnitude pruning (Zhu and Gupta 2017, Eq. 1). sigmoid: slow, fast, slow, as the
    density of CHTss (Zhang et al. 2025), stretched so that it is 1 at the start and 0 at the end.
    """
    t = min(1.0, progress / evolve.epsilon_until)
    if evolve.epsilon_schedule == "cubic":
        return float((1 - t) ** 3)
    first, here = _falling(0.0), _falling(t)
    return (here - (1 - first)) / (2 * first - 1)


def _falling(t: float) -> float:
    return 1 / (1 + math.exp(STEEPNESS * (t - 0.5)))


def last_probability(config: Config, n_in: int, n_out: int) -> float:
    """The probability of a connection that a layer comes to, from epsilon or density; 1 or more: all of them."""
    return connection_probability(n_in, n_out, config.epsilon) if config.density is None else config.density


def first_probability(config: Config, n_in: int, n_out: int) -> float:
    """The probability of a connection with which a layer of a method that evolves starts, at most 1."""
    evolve, last = config.evolve, last_probability(config, n_in, n_out)
    if evolve.density_start is not None:
        last = max(last, evolve.density_start)
    if evolve.epsilon_start is not None:
        last = connection_probability(n_in, n_out, evolve.epsilon_start)
    return min(1.0, last)


def connections_after(config: Config, progress: float, n_in: int, n_out: int) -> int | None:
    """How many connections a layer has after an evolution; None where it keeps as many as it had.

    progress  part of the run that is over
    """
    if not config.evolve.falls:
        return None
    first = n_in * n_out * first_probability(config, n_in, n_out)
    last = n_in * n_out * min(1.0, last_probability(config, n_in, n_out))
    count = round(last + (first - last) * remaining_share(config.evolve, progress))
    return min(n_in * n_out, max(LEAST_CONNECTIONS, count))


def with_connections(plans: Sequence[LayerPlan], config: Config) -> list[LayerPlan]:
    """The plans with the connections of the start, and where `density` asks for them or ERK shares them out."""
    given = list(plans)
    if config.method.wiring == "erk":
        given = _erk(given, config)
    elif config.density is not None:
        given = [_with(plan, config.density, "density={:.3g}") for plan in given]
    if config.evolve.falls and config.method.evolves:
        given = [_denser(plan, config) for plan in given]
    return given


def _with(plan: LayerPlan, probability: float, reason: str) -> LayerPlan:
    if not plan.sparse:
        return plan
    if probability >= 1:
        reason = f"connection probability {probability:.3g} is 1 or more: dense, does not evolve"
        return replace(plan, sparse=False, probability=probability, reason=reason, filled=True)
    return replace(plan, probability=probability, reason=reason.format(probability))


def _erk(plans: list[LayerPlan], config: Config) -> list[LayerPlan]:
    """Erdős-Rényi-Kernel (Evci et al. 2020): as Eq. 1, a convolution's kernel counted by its sides, not its area."""
    sparse = [plan for plan in plans if plan.sparse]
    units = {plan.name: _units(plan) / (plan.n_in * plan.n_out) for plan in sparse}
    epsilon = config.epsilon
    if config.density is not None:
        epsilon = epsilon_for(config.density, [(plan.n_in * plan.n_out, _units(plan)) for plan in sparse])
    reason = "Erdos-Renyi-Kernel with connection probability {:.3g}"
    return [_with(plan, epsilon * units[plan.name], reason) if plan.sparse else plan for plan in plans]


def _units(plan: LayerPlan) -> int:
    """What ERK multiplies with epsilon: the neurons of both sides, of a convolution its channels and kernel sides."""
    return plan.n_in // TAPS + plan.n_out + KERNEL_SIDES if plan.convolution else plan.n_in + plan.n_out


def epsilon_for(density: float, layers: Sequence[tuple[int, int]]) -> float:
    """The epsilon at which layers have this share of their connections, all together.

    layers  (cells, units) of each: it has epsilon * units connections, and no more than cells
    """
    wanted = density * sum(cells for cells, _ in layers)
    low, high = 0.0, max(cells / units for cells, units in layers)
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        reached = sum(min(middle * units, cells) for cells, units in layers)
        low, high = (middle, high) if reached < wanted else (low, middle)
    return high


def _denser(plan: LayerPlan, config: Config) -> LayerPlan:
    if not plan.sparse:
        return plan
    probability = first_probability(config, plan.n_in, plan.n_out)
    return replace(plan, probability=probability, reason=f"{plan.reason}; at the start {probability:.3g}")


def mean_probability(config: Config, plan: LayerPlan) -> float:
    """The connection probability of a sparse layer, on an average over the run: what its engine has to suit."""
    if not (config.evolve.falls and config.method.evolves):
        return plan.probability
    last = last_probability(config, plan.n_in, plan.n_out)
    times = [(i + 0.5) / 100 for i in range(100)]
    share = sum(remaining_share(config.evolve, t) for t in times) / len(times)
    return last + (plan.probability - last) * share
