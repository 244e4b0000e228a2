"""The estimator's network: the layers of a run, trained by a run's epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from set_cli.config import Config
from set_cli.data.drawn import Drawn
from set_cli.data.scaling import Scaling, rows_at_once
from set_cli.errors import DivergedError
from set_cli.estimator.rows import CPU
from set_cli.models.counts import count_connections, count_layers, count_totals
from set_cli.models.mlp import build_mlp, plan_mlp
from set_cli.sparse.engines import choose
from set_cli.system import streams
from set_cli.training.architectures import evaluation_rows
from set_cli.training.evolution import evolve_model
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pace import Pace
from set_cli.training.supervised import is_finite, train_epoch


class Network:
    """A model under training, with its optimiser.

    losses  mean training loss (nats) of each epoch so far
    """

    def __init__(self, config: Config, features: int, classes: int) -> None:
        plans = plan_mlp(config.model, config.epsilon if config.method.is_sparse else None, features, classes)
        engines = {
            plan.name: choose("auto", (plan.n_in, plan.n_out), plan.probability, torch.float32, CPU).engine.name
            for plan in plans
            if plan.sparse
        }
        self.model = build_mlp(plans, config.model, engines, config.seed)
        self.optimizer = build_optimizer(self.model, config.train)
        self.built_as = _structure(config, features, classes)
        self.losses: list[float] = []
        self._pace: Pace | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pace"}  # another machine has another

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_pace": None}

    def continue_as(self, config: Config, features: int, classes: int) -> None:
        """Train with other settings from here on; ValueError where they ask for another network."""
        if _structure(config, features, classes) != self.built_as:
            raise ValueError(
                "warm_start: expected the features, the classes and the parameters of the network (hidden_layer_sizes, "
                "activation, dropout, method, epsilon, density) of the earlier fit, found others; "
                "warm_start=False starts anew"
            )
        decayed, others = self.optimizer.param_groups
        for group in (decayed, others):
            group |= {"lr": config.train.lr, "momentum": config.train.momentum}
        decayed["weight_decay"] = config.train.weight_decay

    def train(self, config: Config, rows: Drawn) -> float:
        """Train an epoch and return its mean loss; DivergedError where that makes no sense."""
        epoch = len(self.losses) + 1
        rows.draw(streams.generator(config.seed, "data", epoch, 1))
        threads, is_open = torch.get_num_threads(), config.backend.threads is None
        if self._pace is None or self._pace.asked != (threads, is_open):
            self._pace = Pace(threads, tried=is_open)
        loss = train_epoch(
            self.model, rows, self.optimizer, config, epoch, lambda done, of, state: None, pace=self._pace
        )
        if not is_finite(self.model, [loss]):
            raise DivergedError(
                f"the loss or a weight became NaN or infinite in epoch {epoch}: expected a learning_rate that this "
                f"data bears, found {config.train.lr:g}; take a smaller one"
            )
        self.losses.append(loss)
        return loss

    def evolve(self, config: Config) -> None:
        """Prune and regrow; after the last epoch of the configuration what is removed is not refilled."""
        evolve_model(self.model, self.optimizer, config, len(self.losses))

    @property
    def connections(self) -> int:
        return count_connections(self.model)

    @property
    def density(self) -> float:
        """Connections as a share of those of the dense network."""
        totals = count_totals(count_layers(self.model, optimizer_copies=0))
        return float(totals["connections"] / totals["dense_equivalent"])

    @torch.no_grad()
    def probabilities(self, config: Config, x: Any, scaling: Scaling) -> NDArray[np.float32]:
        """(n, classes) of rows as they were given."""
        self.model.eval()
        n, features = x.shape
        at_once = min(evaluation_rows(config), rows_at_once(features))
        found = []
        for i in range(0, n, at_once):
            chunk = x[i : i + at_once]
            scaled = scaling(chunk.toarray() if issparse(chunk) else chunk)
            found.append(self.model(torch.from_numpy(scaled)).softmax(dim=1).numpy())
        return np.ascontiguousarray(np.concatenate(found))


def _structure(config: Config, features: int, classes: int) -> tuple[object, ...]:
    return config.model, config.method, config.epsilon, features, classes


@contextmanager
def computing(threads: int | None) -> Iterator[None]:
    """A context with so many threads (None: as they are), and torch as the kernels need it; afterwards as before.

    Numbers too small for their exponent are 0: momenta become so small, and slow. New parameters are float32, whatever
    the caller's own are.
    """
    flushes = bool((torch.tensor([1e-38], dtype=torch.float32) * 0.1).item() == 0)
    before, kind = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_flush_denormal(True)
    torch.set_default_dtype(torch.float32)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_default_dtype(kind)
        torch.set_flush_denormal(flushes)
        if threads is not None:
            torch.set_num_threads(before)
