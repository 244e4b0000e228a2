"""What an architecture does with an epoch and with the parts it is measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Config
from set_cli.config.length import epochs_between_estimates
from set_cli.data.inputs import Inputs
from set_cli.models.rbm import RBM
from set_cli.system import streams
from set_cli.training import annealing, contrastive, supervised
from set_cli.training.class_weights import by_class
from set_cli.training.group import ALONE, Group
from set_cli.training.pace import Pace
from set_cli.training.passes import AfterStep, State
from set_cli.training.samples import Samples, contrastive_samples, supervised_samples

Scores = dict[str, dict[str, float]]  # by part, then by what was measured
Timed = Callable[[Callable[[], object]], float]  # does a piece of work and returns how many seconds it takes
TIMED_TEMPERATURES = 64  # of annealed importance sampling; a schedule has 1,000 or 14,500


class Trainer(Protocol):
    """Trains one epoch, or what is left of it, and returns its mean loss; measures the parts that are due after it.

    is_last      whether it may be the last epoch although it is not that of train.epochs
    resume_from  state of an interrupted epoch, from a checkpoint; empty at the start
    check        called every so often; may raise to stop

    threads  that the latest epoch took, where their number was chosen while it was trained
    """

    @property
    def threads(self) -> int | None: ...

    def train(
        self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep, resume_from: State
    ) -> float: ...

    def measure(
        self, parts: Mapping[str, Inputs], epoch: int, check: Callable[[], None], *, is_last: bool = False
    ) -> Scores: ...

    def look(self, inputs: Inputs, epoch: int, step: int) -> Samples:
        """What rules look at before an evolution after this step, by the name of the layer."""
        ...

    def measuring_seconds(
        self, parts: Mapping[str, Inputs], share: float, timed: Timed, check: Callable[[], None]
    ) -> float:
        """Estimate how long `measure` takes on `share` times as many rows as these parts have, from timed pieces."""
        ...


class Supervised:
    """Trains on the cross-entropy of labels, in one process or a group.

    evaluation_rows  rows that are measured at a time
    """

    def __init__(self, config: Config, model: nn.Module, evaluation_rows: int, group: Group = ALONE) -> None:
        self._config, self._model, self._rows, self._group = config, model, evaluation_rows, group
        self._parallel = group.parallel(model)
        self._pace = Pace(torch.get_num_threads(), tried=config.backend.threads is None)

    @property
    def threads(self) -> int | None:
        return self._pace.chosen

    def train(
        self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep, resume_from: State
    ) -> float:
        config, group, parallel = self._config, self._group, self._parallel
        rows = by_class(inputs, config.train.class_weights, config.seed, epoch)
        return supervised.train_epoch(
            self._model, rows, optimizer, config, epoch, after_step, resume_from, group, parallel, self._pace
        )

    def measure(
        self, parts: Mapping[str, Inputs], epoch: int, check: Callable[[], None], *, is_last: bool = False
    ) -> Scores:
        return {name: supervised.evaluate(self._model, part, check, self._rows) for name, part in parts.items()}

    def look(self, inputs: Inputs, epoch: int, step: int) -> Samples:
        return supervised_samples(self._model, inputs, self._config, epoch, step)

    def measuring_seconds(
        self, parts: Mapping[str, Inputs], share: float, timed: Timed, check: Callable[[], None]
    ) -> float:
        return timed(lambda: self.measure(parts, 1, check)) * share


class Contrastive:
    """Contrastive divergence: an RBM.

    base_bias  (n_visible,) of the base-rate model that estimates of log Z start from
    rows       the epochs so far, of a run that is resumed
    """

    def __init__(
        self, config: Config, model: RBM, base_bias: NDArray[np.float32], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        self._config, self._model, self._base_bias = config, model, base_bias
        self._best_on = "valid" if config.data.valid else "test"
        self._pace = Pace(torch.get_num_threads(), tried=config.backend.threads is None)
        key = f"{self._best_on}_log_probability"
        self._best = max((row[key] for row in rows if key in row), default=-math.inf)

    @property
    def threads(self) -> int | None:
        return self._pace.chosen

    def train(
        self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep, resume_from: State
    ) -> float:
        return contrastive.train_epoch(
            self._model, inputs, optimizer, self._config, epoch, after_step, resume_from, self._pace
        )

    def measure(
        self, parts: Mapping[str, Inputs], epoch: int, check: Callable[[], None], *, is_last: bool = False
    ) -> Scores:
        """What is due. An epoch that seems the best so far is estimated again as the last one is.

        The largest of many rough estimates would be the one that errs most.
        """
        model, epochs = self._config.model, self._config.train.epochs
        is_last |= epoch == epochs
        if epoch % epochs_between_estimates(model.ais_every, epochs) and not is_last:
            return {}
        scores = self._monitor(parts)
        schedule = model.ais_last if is_last else model.ais
        partition = self._estimate(epoch, schedule, check)
        is_rough = (schedule, model.ais_last) == ("quick", "paper") and partition.temperatures > 0
        if is_rough and -scores[self._best_on]["free_energy"] - partition.log_z > self._best:
            partition = self._estimate(epoch, model.ais_last, check)
        for score in scores.values():
            score |= {
                "log_probability": -score["free_energy"] - partition.log_z,
                "log_z_error": partition.standard_error,
                "effective_chains": partition.effective_chains,
                "chains_agree": partition.chains_agree,
                "temperatures": partition.temperatures,
            }
        self._best = max(self._best, scores[self._best_on]["log_probability"])
        return scores

    def look(self, inputs: Inputs, epoch: int, step: int) -> Samples:
        return contrastive_samples(self._model, inputs, self._config, epoch, step)

    def measuring_seconds(
        self, parts: Mapping[str, Inputs], share: float, timed: Timed, check: Callable[[], None]
    ) -> float:
        on_rows = timed(lambda: self._monitor(parts)) * share
        if self._is_exact:
            return on_rows + timed(lambda: annealing.enumerate_states(self._model, check))
        betas = np.linspace(0, 1, TIMED_TEMPERATURES + 1)
        per_temperature = timed(lambda: self._anneal(1, betas, check)) / TIMED_TEMPERATURES
        model = self._config.model
        names = {model.ais or "quick", model.ais_last or "quick"}  # each estimate may seem the best so far
        return on_rows + per_temperature * sum(len(annealing.schedule(name)) - 1 for name in names)

    def _monitor(self, parts: Mapping[str, Inputs]) -> Scores:
        return {name: contrastive.monitor(self._model, part, self._config.seed) for name, part in parts.items()}

    @property
    def _is_exact(self) -> bool:
        """Whether one side is small enough for log Z to be a sum over all its states."""
        return min(self._model.n_hidden, self._model.n_visible) <= annealing.EXACT_UNITS

    def _estimate(self, epoch: int, schedule: str | None, check: Callable[[], None]) -> annealing.Partition:
        if self._is_exact:
            return annealing.enumerate_states(self._model, check)
        assert schedule is not None
        return self._anneal(epoch, annealing.schedule(schedule), check)

    def _anneal(self, epoch: int, betas: NDArray[np.float64], check: Callable[[], None]) -> annealing.Partition:
        base = torch.from_numpy(self._base_bias).to(self._model.visible.bias.device)
        seed = streams.torch_seed(self._config.seed, "ais", epoch)
        return annealing.anneal(self._model, base, betas, annealing.CHAINS, seed, check)
