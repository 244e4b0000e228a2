"""How many connections a layer has in the course of a run that starts with more than epsilon asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from set_cli.config import Config, Evolve
from set_cli.models.mlp import LayerPlan
from set_cli.sparse.evolve import LEAST_CONNECTIONS
from set_cli.sparse.rules import connection_probability

STEEPNESS = 10  # of the sigmoid, over the time in which connections go


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


def connections_after(config: Config, progress: float, n_in: int, n_out: int) -> int | None:
    """How many connections a layer has after an evolution; None where it keeps as many as it had.

    progress  part of the run that is over
    """
    start = config.evolve.epsilon_start
    if start is None:
        return None
    first, last = (n_in * n_out * min(1.0, connection_probability(n_in, n_out, e)) for e in (start, config.epsilon))
    count = round(last + (first - last) * remaining_share(config.evolve, progress))
    return min(n_in * n_out, max(LEAST_CONNECTIONS, count))


def with_first_connections(plans: Sequence[LayerPlan], start: float) -> list[LayerPlan]:
    """The plans of sparse layers with the connections that they start with, at this epsilon."""
    return [_denser(plan, start) if plan.sparse else plan for plan in plans]


def _denser(plan: LayerPlan, start: float) -> LayerPlan:
    probability = min(1.0, connection_probability(plan.n_in, plan.n_out, start))
    return replace(plan, probability=probability, reason=f"{plan.reason}; at the start {probability:.3g}")


def mean_probability(config: Config, plan: LayerPlan) -> float:
    """The connection probability of a sparse layer, on an average over the run: what its engine has to suit."""
    if config.starting_epsilon == config.epsilon:
        return plan.probability
    last = connection_probability(plan.n_in, plan.n_out, config.epsilon)
    times = [(i + 0.5) / 100 for i in range(100)]
    share = sum(remaining_share(config.evolve, t) for t in times) / len(times)
    return last + (plan.probability - last) * share
