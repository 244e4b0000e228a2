"""Which epsilon gives a network the density that somebody has in mind: papers speak of sparsity, the key is epsilon."""

from __future__ import annotations

from set_cli.config import Config
from set_cli.data.catalog import CATALOG
from set_cli.training.network import plan_network

SMALLEST = 1e-9  # an epsilon that makes every layer sparse which can be
CLOSE = 1e-6


def epsilon_sentence(key: str, typed: str, config: Config) -> str:
    """'density is not a configuration key; density=0.1 is epsilon=9.36 for this network …'.

    key     density or sparsity, as it was typed
    typed   its value, or several of a sweep
    config  of the same command without it; ValueError for data that only its file describes
    """
    if config.dataset.name not in CATALOG:
        raise ValueError("the features of custom data are not known here")
    card = CATALOG[config.dataset.name]
    plans = plan_network(config.model, SMALLEST, card)
    layers = [(plan.n_in, plan.n_out) for plan in plans if plan.sparse]
    found = []
    for value in typed.split(","):
        number = float(value.strip().removesuffix("%")) / (100 if value.strip().endswith("%") else 1)
        density = 1 - number if key.rpartition(".")[2].lower() == "sparsity" else number
        if not 0 < density < 1:
            return f"{key} is not a configuration key, and {key}={value} is not between 0 and 1: epsilon sets it"
        found.append(f"{key}={value} is epsilon={epsilon_for(density, layers):.3g}")
    cells = sum(n_in * n_out for n_in, n_out in layers)
    return (
        f"{key} is not a configuration key, epsilon sets it: {', '.join(found)} for the {cells:,} possible connections "
        f"of the sparse layers of dataset={config.dataset.name} model={config.model.name}"
    )


def epsilon_for(density: float, layers: list[tuple[int, int]]) -> float:
    """The epsilon at which layers of (n_in, n_out) neurons have this share of their connections, all together.

    A layer has epsilon * (n_in + n_out) of them, and no more than n_in * n_out: densities differ from layer to layer.
    """
    wanted = density * sum(n_in * n_out for n_in, n_out in layers)
    low, high = 0.0, max(n_in * n_out / (n_in + n_out) for n_in, n_out in layers)
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        reached = sum(min(middle * (n_in + n_out), n_in * n_out) for n_in, n_out in layers)
        low, high = (middle, high) if reached < wanted else (low, middle)
    return high
