"""Evolve all sparse layers of a model, the optimiser's state following its connections."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from set_cli.config import Config, Method
from set_cli.errors import ConfigError
from set_cli.models.counts import connection_layers, count_connections, sparse_layers
from set_cli.sparse import SparseLinear
from set_cli.sparse.across import shared_out, without_unreached
from set_cli.sparse.evolve import share_to_remove
from set_cli.sparse.rules import REMOVAL, Options, Removal, View
from set_cli.system import streams
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.averaging import start_averages
from set_cli.training.density import connections_after
from set_cli.training.samples import Samples
from set_cli.training.schedules import Due, evolution_due
from set_cli.training.wiring import READS_DATA


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
    look: Callable[[], Samples] = dict,
    image: tuple[int, int, int] | None = None,
) -> Change:
    """Algorithm 1's step, where one is due after this step of an epoch; the final removal is not refilled.

    ends   whether the run ends after this epoch, maybe before train.epochs
    look   measures what rules look at, by the name of the layer; called where one does
    image  (channels, height, width) of the network's inputs; None where they are no images
    """
    connections = count_connections(model)
    due = evolution_due(config, epoch, step, steps, ends=ends)
    if due is None:
        return Change(connections)
    method, progress = config.method, min(1.0, due.progress / config.evolve.until)
    samples = look() if method.batches else {}
    options = Options(method.candidates, method.sensitivity, method.threshold)
    within = () if step == steps else (step,)
    turns = [
        Turn(
            layer,
            streams.generator(config.seed, "evolve", epoch, i, *within),
            connections_after(config, due.progress, layer.in_features, layer.out_features),
            {
                "last_step": samples.get(name),
                "options": options,
                "progress": progress,
                "image": image if name == READS_DATA else None,
            },
        )
        for i, (name, layer) in enumerate(sparse_layers(model).items())
    ]
    removals: list[str | Removal] = [method.removal] * len(turns)
    if method.removal_of_unreached or method.redistribution != "none":
        try:
            removals = decided_together(turns, method, due, read_by_next(model))
        except ValueError as error:
            raise ConfigError(f"the layers cannot evolve with method={method.name}: {error}") from None
    pruned = zeros = regrown = 0
    for (name, _), turn, removal in zip(sparse_layers(model).items(), turns, removals, strict=True):
        try:
            evolution = turn.layer.evolve(
                due.zeta,
                optimizer=optimizer,
                seed=turn.rng,
                refill=due.refill,
                connections=turn.connections,
                regrow_init=method.regrow_init,
                regrow_deviation=ARCHITECTURES[config.model.name].regrow_deviation,
                removal=removal,
                regrowth=method.regrowth,
                **turn.seen,
            )
        except ValueError as error:  # a rule that does not suit a layer of this size, or numbers as large as these
            raise ConfigError(f"{name} cannot evolve with method={method.name}: {error}") from None
        if evolution is not None:
            start_averages(optimizer, turn.layer.weight, evolution.source)
            pruned += evolution.pruned
            zeros += evolution.zeros
            regrown += evolution.regrown
    return Change(connections, pruned, zeros, regrown, due.zeta)


@dataclass(slots=True)
class Turn:
    """An evolution of one layer that is to come.

    connections  there are to be afterwards; None: as many as before
    seen         what its rules may look at, as arguments of `SparseLinear.evolve`
    """

    layer: SparseLinear
    rng: np.random.Generator
    connections: int | None
    seen: dict[str, Any]


def read_by_next(model: nn.Module) -> list[bool]:
    """Whether the outputs of each sparse layer but the last are the inputs of the next one.

    They are not where a dense layer is between them, or where a picture of each output is (behind a convolution).
    """
    layers = [layer for _, layer in connection_layers(model)]
    at = [i for i, layer in enumerate(layers) if isinstance(layer, SparseLinear)]
    return [
        after == before + 1 and layers[before].out_features == layers[after].in_features
        for before, after in itertools.pairwise(at)
    ]


def decided_together(
    turns: Sequence[Turn], method: Method, due: Due, is_read_by_next: Sequence[bool]
) -> list[str | Removal]:
    """The removal of each layer where it depends on the others; turns get the numbers that are to be afterwards."""
    views = [turn.layer.view(**turn.seen) for turn in turns]
    keeps = []
    for turn, view in zip(turns, views, strict=True):
        share = due.zeta
        if turn.connections is not None:
            share = share_to_remove(view.nnz, due.zeta, turn.connections, exactly=method.regrowth == "none")
        is_full = view.nnz == view.cells and turn.connections in (None, view.cells)
        keeps.append(
            torch.ones(view.nnz, dtype=torch.bool) if is_full else REMOVAL[method.removal](view, share, turn.rng)
        )
    if method.removal_of_unreached:
        keeps = without_unreached(views, keeps, is_read_by_next)
    if method.redistribution != "none" and due.refill:
        kept = [int(keep.sum()) for keep in keeps]
        wanted = sum(
            view.nnz if turn.connections is None else turn.connections for turn, view in zip(turns, views, strict=True)
        )
        scores = [_score(view, keep, method) for view, keep in zip(views, keeps, strict=True)]
        room = [view.cells - count for view, count in zip(views, kept, strict=True)]
        for turn, count, more in zip(turns, kept, shared_out(max(0, wanted - sum(kept)), scores, room), strict=True):
            turn.connections = count + more
    return [_as_decided(keep) for keep in keeps]


def _as_decided(keep: Tensor) -> Removal:
    return lambda view, zeta, rng: keep


def _score(view: View, keep: Tensor, method: Method) -> float:
    """The mean size of the kept connections' weights, or of their gradients."""
    found = view.weights if method.redistribution == "weight" else view.gradients_at(view.positions)
    score = float(found[keep].double().abs().mean()) if keep.any() else 0.0
    if not math.isfinite(score):
        raise ValueError("redistribution: expected finite gradients, got NaN or infinity; take a smaller learning rate")
    return score
