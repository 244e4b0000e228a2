"""Evolve all sparse layers of a model, the optimiser's state following its connections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from set_cli.config import Config
from set_cli.models.counts import count_connections, sparse_layers
from set_cli.system import streams
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.schedules import is_final_removal, zeta_after


@dataclass(frozen=True, slots=True)
class Change:
    """What an evolution did to all layers together.

    connections  there were before it
    pruned       of these, those of weight 0 included; zeros: the latter
    regrown      in other places
    """

    connections: int = 0
    pruned: int = 0
    zeros: int = 0
    regrown: int = 0


def evolve_model(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: Config, epoch: int, *, ends: bool = False
) -> Change:
    """Algorithm 1's step after an epoch, where one is due; the final removal is not refilled.

    ends  whether the run ends after this epoch, maybe before train.epochs
    """
    connections = count_connections(model)
    zeta = zeta_after(config, epoch, ends=ends) if config.method.evolves else None
    if zeta is None:
        return Change(connections)
    pruned = zeros = regrown = 0
    for i, layer in enumerate(sparse_layers(model).values()):
        evolution = layer.evolve(
            zeta,
            optimizer=optimizer,
            seed=streams.generator(config.seed, "evolve", epoch, i),
            refill=not is_final_removal(config, epoch, ends=ends),
            regrow_init=config.method.regrow_init,
            regrow_deviation=ARCHITECTURES[config.model.name].regrow_deviation,
            removal=config.method.removal,
            regrowth=config.method.regrowth,
        )
        if evolution is not None:
            pruned += evolution.pruned
            zeros += evolution.zeros
            regrown += evolution.regrown
    return Change(connections, pruned, zeros, regrown)
