"""Evolve all sparse layers of a model, the optimiser's state following its connections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Config
from set_cli.models.counts import count_connections, sparse_layers
from set_cli.system import streams
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.averaging import start_averages
from set_cli.training.density import connections_after
from set_cli.training.schedules import evolution_due


@dataclass(frozen=True, slots=True)
class Change:
    """What the evolutions of an epoch did to all layers together.

    connections  there were before them
    pruned       of these, those of weight 0 included; zeros: the latter
    regrown      in other places
    zeta         of the last one; None where there was none
    """

    connections: int = 0
    pruned: int = 0
    zeros: int = 0
    regrown: int = 0
    zeta: float | None = None

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The figures in their order, for a checkpoint; -1 for no zeta."""
        zeta = -1.0 if self.zeta is None else self.zeta
        return np.array([self.connections, self.pruned, self.zeros, self.regrown, zeta])

    @classmethod
    def of_numbers(cls, numbers: NDArray[np.float64]) -> Change:
        """The change with these `numbers`."""
        connections, pruned, zeros, regrown = (int(count) for count in numbers[:4])
        zeta = float(numbers[4])
        return cls(connections, pruned, zeros, regrown, None if zeta < 0 else zeta)

    def then(self, later: Change) -> Change:
        """This and a later change of the same epoch."""
        sums = (self.pruned + later.pruned, self.zeros + later.zeros, self.regrown + later.regrown)
        return Change(self.connections, *sums, self.zeta if later.zeta is None else later.zeta)


def evolve_model(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    step: int = 1,
    steps: int = 1,
    *,
    ends: bool = False,
) -> Change:
    """Algorithm 1's step, where one is due after this step of an epoch; the final removal is not refilled.

    ends  whether the run ends after this epoch, maybe before train.epochs
    """
    connections = count_connections(model)
    due = evolution_due(config, epoch, step, steps, ends=ends)
    if due is None:
        return Change(connections)
    within = () if step == steps else (step,)
    pruned = zeros = regrown = 0
    for i, layer in enumerate(sparse_layers(model).values()):
        evolution = layer.evolve(
            due.zeta,
            optimizer=optimizer,
            seed=streams.generator(config.seed, "evolve", epoch, i, *within),
            refill=due.refill,
            connections=connections_after(config, due.progress, layer.in_features, layer.out_features),
            regrow_init=config.method.regrow_init,
            regrow_deviation=ARCHITECTURES[config.model.name].regrow_deviation,
            removal=config.method.removal,
            regrowth=config.method.regrowth,
        )
        if evolution is not None:
            start_averages(optimizer, layer.weight, evolution.source)
            pruned += evolution.pruned
            zeros += evolution.zeros
            regrown += evolution.regrown
    return Change(connections, pruned, zeros, regrown, due.zeta)
