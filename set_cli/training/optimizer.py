"""The optimiser of the paper: SGD with momentum, weight decay on the connection weights only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from set_cli.config import Train
from set_cli.models.counts import connection_layers


def connection_weights(model: nn.Module) -> list[Tensor]:
    """The weights on connections: what weight decay and L1 act on (as Keras' kernel regularisers do)."""
    return [layer.weight for _, layer in connection_layers(model)]


def build_optimizer(model: nn.Module, config: Train) -> torch.optim.SGD:
    """SGD over all parameters of the model; biases and activation parameters are not decayed."""
    decayed = connection_weights(model)
    others = [p for p in model.parameters() if all(p is not weight for weight in decayed)]
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=True,
    )


def add_l1_gradient(weights: list[Tensor], strength: float) -> None:
    """Add strength * sign(w) to the gradients: the subgradient of strength * |w| that leaves a 0 alone."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad.add_(weight.detach().sign(), alpha=strength)


def momentum_arrays(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by '<parameter name>/<state name>'."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_momentum(model: nn.Module, optimizer: torch.optim.Optimizer, arrays: dict[str, Tensor]) -> None:
    """Put back what `momentum_arrays` returned, onto the parameters' devices."""
    parameters = dict(model.named_parameters())
    for key, value in arrays.items():
        name, _, state = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][state] = value.to(parameter.device)
