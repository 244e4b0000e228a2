"""A dense network with as many parameters as a sparse one: the baseline that says what sparsity itself is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from set_cli.config import Config, Model
from set_cli.models.mlp import LayerPlan

CLOSE = 1e-9  # of the widths' factor that is searched for
SRELU_PARAMETERS = 4  # per neuron; a normalisation has 2


def plan_shrunk(
    config: Config, sparse: Sequence[LayerPlan], plan: Callable[[Model], list[LayerPlan]]
) -> list[LayerPlan]:
    """Dense layers, the hidden ones all narrower by one factor: the widest that have no more parameters than `sparse`.

    sparse  layers of the network with the connections that epsilon or density says
    plan    makes dense plans of a model

    ValueError where even one neuron in each hidden layer has more parameters.
    """
    model, most = config.model, parameters(config.model, sparse)
    low, high, found = 0.0, 1.0, _narrowed(model, 0.0)
    if parameters(model, plan(found)) > most:
        raise ValueError(
            f"method=small_dense: one neuron in each hidden layer has more than the {most:,.0f} parameters that "
            f"{config.amount} asks for; take a larger one"
        )
    while high - low > CLOSE:
        middle = (low + high) / 2
        tried = _narrowed(model, middle)
        if parameters(model, plan(tried)) <= most:
            low, found = middle, tried
        else:
            high = middle
    reason = f"dense, narrower hidden layers with as many parameters as {config.amount}: {list(found.hidden)}"
    return [
        each if each.convolution else replace(each, reason=reason, stands_for=(wide.n_in, wide.n_out))
        for each, wide in zip(plan(found), plan(model), strict=True)
    ]


def _narrowed(model: Model, factor: float) -> Model:
    return model.model_copy(update={"hidden": tuple(max(1, round(factor * width)) for width in model.hidden)})


def parameters(model: Model, plans: Sequence[LayerPlan]) -> float:
    """Connections, biases and what activations and normalisations have, of all layers but dense convolutions."""
    per_neuron = SRELU_PARAMETERS * (model.activation == "srelu") + 2 * (model.norm is not None)
    layers = [plan for plan in plans if not plan.convolution]
    hidden = layers[:-1] if len(layers) > 1 else []  # the last one is the output; an RBM has one, without activation
    return sum(plan.connections_asked + plan.n_out for plan in layers) + per_neuron * sum(p.n_out for p in hidden)
