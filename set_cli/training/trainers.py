"""What an architecture does with an epoch and with the parts it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from set_cli import streams
from set_cli.config import Config
from set_cli.data.inputs import Inputs
from set_cli.models.rbm import RBM
from set_cli.training import annealing, contrastive, supervised

Scores = dict[str, dict[str, float]]  # by part, then by what was measured
AfterStep = Callable[[int, int], None]


class Trainer(Protocol):
    """train one epoch (its mean loss); measure the parts after it (epoch: decides what is due)."""

    def train(self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep) -> float: ...

    def measure(self, parts: Mapping[str, Inputs], epoch: int) -> Scores: ...


class Supervised:
    """Cross-entropy on labels: an MLP."""

    def __init__(self, config: Config, model: nn.Module) -> None:
        self._config, self._model = config, model

    def train(self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep) -> float:
        return supervised.train_epoch(self._model, inputs, optimizer, self._config, epoch, after_step)

    def measure(self, parts: Mapping[str, Inputs], epoch: int) -> Scores:
        return {name: supervised.evaluate(self._model, part) for name, part in parts.items()}


class Contrastive:
    """Contrastive divergence: an RBM. base_bias: of the base-rate model that estimates of log Z begin with."""

    def __init__(self, config: Config, model: RBM, base_bias: NDArray[np.float32]) -> None:
        self._config, self._model, self._base_bias = config, model, base_bias

    def train(self, inputs: Inputs, optimizer: torch.optim.Optimizer, epoch: int, after_step: AfterStep) -> float:
        return contrastive.train_epoch(self._model, inputs, optimizer, self._config, epoch, after_step)

    def measure(self, parts: Mapping[str, Inputs], epoch: int) -> Scores:
        epochs = self._config.train.epochs
        is_due = epoch % self._config.model.epochs_between_estimates(epochs) == 0 or epoch == epochs
        partition = self._estimate(epoch) if is_due else None
        return {
            name: contrastive.monitor(self._model, part, self._config.seed, partition) for name, part in parts.items()
        }

    def _estimate(self, epoch: int) -> annealing.Partition:
        if min(self._model.n_hidden, self._model.n_visible) <= annealing.EXACT_UNITS:
            return annealing.enumerate_states(self._model)
        bias = self._model.visible.bias
        generator = torch.Generator(bias.device).manual_seed(streams.torch_seed(self._config.seed, "ais", epoch))
        base = torch.from_numpy(self._base_bias).to(bias.device)
        assert self._config.model.ais is not None
        betas = annealing.schedule(self._config.model.ais)
        return annealing.anneal(self._model, base, betas, annealing.CHAINS, generator)
