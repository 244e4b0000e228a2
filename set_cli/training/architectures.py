"""The architectures: one entry each says how it is planned, built, trained and measured, and what it costs.

To add one, write its plan, its model and its trainer, and give them an entry here; what can be said of it without torch
(which data it needs, which keys are its own) is an entry in config/keys.py. No other module asks for an architecture's
name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Config, Model
from set_cli.config.length import epochs_between_estimates
from set_cli.data.card import Card
from set_cli.data.prepare import DataSet, training_mean
from set_cli.models import memory
from set_cli.models.cnn import build_cnn, plan_cnn
from set_cli.models.mlp import LayerPlan, Wire, build_mlp, plan_mlp
from set_cli.models.rbm import RBM, build_rbm, log_odds, plan_rbm
from set_cli.sparse.initial import INITIAL_DEVIATION
from set_cli.sparse.linear import REGROW_DEVIATION
from set_cli.training import contrastive, supervised
from set_cli.training.group import Group
from set_cli.training.trainers import Contrastive, Supervised, Trainer

EVALUATION_VALUES = 2**24  # of a layer's outputs at a time
EVALUATED_IMAGES = 100  # rows: images grow on their way through convolutions


@dataclass(frozen=True, slots=True)
class Ends:
    """What a network stands between: features (of this shape, if they are images) and outputs."""

    features: int
    outputs: int
    shape: Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Start:
    """What initial weights depend on beside the plan.

    mean, rows  of the training data; mean is empty where the architecture needs no probabilities
    n_chains    of persistent contrastive divergence
    """

    seed: int
    mean: NDArray[np.float32]
    rows: int
    n_chains: int


Plan = Callable[[Model, float | None, Ends], list[LayerPlan]]
Build = Callable[[list[LayerPlan], Model, Mapping[str, str], Ends, Start, Wire], nn.Module]
BaseBias = Callable[[], NDArray[np.float32]]
MakeTrainer = Callable[[Config, nn.Module, BaseBias, Sequence[Mapping[str, Any]], Group], Trainer]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is done with one architecture.

    plan             the layers, for an epsilon (None: all dense); ValueError where the data's ends do not suit it
    build            the model with its initial weights
    trainer          makes what trains an epoch and measures parts, given the bias (features,) of the base-rate model
                     that estimates of log Z start from, and the epochs so far
    evaluation_rows  rows that are measured at a time
    measured_every   epochs from one measurement to the next, given the configuration's keys of `model` and the number
                     of epochs
    chance_loss      training loss (nats) of guessing, of data like this
    regrow_deviation standard deviation of a new connection's random value
    step_values      values of one row that a training step has in memory at its peak
    annealed_rows    rows of the widest layer's outputs that annealed chains amount to
    can_be_shared    whether several processes can train one network (torchrun)
    smaller          keys that make a network smaller which is too large
    """

    plan: Plan
    build: Build
    trainer: MakeTrainer
    evaluation_rows: Callable[[Config], int]
    measured_every: Callable[[Mapping[str, Any], int], int]
    chance_loss: Callable[[Card], float]
    regrow_deviation: float
    step_values: Callable[[Sequence[LayerPlan], Sequence[int] | None], float]
    annealed_rows: int
    can_be_shared: bool
    smaller: tuple[str, ...]


def _plan_cnn(model: Model, epsilon: float | None, ends: Ends) -> list[LayerPlan]:
    return plan_cnn(model, epsilon, _shape(ends), ends.outputs)


def _build_cnn(
    plans: list[LayerPlan], model: Model, engines: Mapping[str, str], ends: Ends, start: Start, wire: Wire
) -> nn.Module:
    return build_cnn(plans, model, engines, start.seed, _shape(ends), wire)


def _shape(ends: Ends) -> Sequence[int]:
    if ends.shape is None:
        raise ValueError("expected images")
    return ends.shape


def _build_rbm(
    plans: list[LayerPlan], model: Model, engines: Mapping[str, str], ends: Ends, start: Start, wire: Wire
) -> nn.Module:
    engine = engines.get(plans[0].name, "auto")
    return build_rbm(plans[0], model, engine, start.seed, start.mean, start.rows, start.n_chains, wire)


def _supervised(
    config: Config, model: nn.Module, base_bias: BaseBias, rows: Sequence[Mapping[str, Any]], group: Group
) -> Trainer:
    return Supervised(config, model, ARCHITECTURES[config.model.name].evaluation_rows(config), group)


def _contrastive(
    config: Config, model: nn.Module, base_bias: BaseBias, rows: Sequence[Mapping[str, Any]], group: Group
) -> Trainer:
    return Contrastive(config, cast(RBM, model), base_bias(), rows)


def _evaluation_rows(config: Config, fitting: int) -> int:
    """Rows of a batch of test rows; where layers are wide, at most those of a training batch."""
    return min(supervised.EVALUATION_ROWS, max(config.train.batch_size, fitting))


def _guessing_classes(card: Card) -> float:
    return math.log(max(2, card.classes))


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        plan=lambda model, epsilon, ends: plan_mlp(model, epsilon, ends.features, ends.outputs),
        build=lambda plans, model, engines, ends, start, wire: build_mlp(plans, model, engines, start.seed, wire),
        trainer=_supervised,
        evaluation_rows=lambda config: _evaluation_rows(config, EVALUATION_VALUES // max(config.model.hidden)),
        measured_every=lambda model, epochs: 1,
        chance_loss=_guessing_classes,
        regrow_deviation=REGROW_DEVIATION,
        step_values=memory.values_of_layers,
        annealed_rows=0,
        can_be_shared=True,
        smaller=("model.hidden",),
    ),
    "cnn": Architecture(
        plan=_plan_cnn,
        build=_build_cnn,
        trainer=_supervised,
        evaluation_rows=lambda config: _evaluation_rows(config, EVALUATED_IMAGES),
        measured_every=lambda model, epochs: 1,
        chance_loss=_guessing_classes,
        regrow_deviation=REGROW_DEVIATION,
        step_values=memory.values_of_layers,
        annealed_rows=0,
        can_be_shared=True,
        smaller=("model.channels", "model.hidden"),
    ),
    "rbm": Architecture(
        plan=lambda model, epsilon, ends: plan_rbm(model, epsilon, ends.features),
        build=_build_rbm,
        trainer=_contrastive,
        evaluation_rows=lambda config: contrastive.EVALUATION_ROWS,
        measured_every=lambda model, epochs: epochs_between_estimates(model.get("ais_every"), epochs),
        chance_loss=lambda card: math.log(2) * card.features,
        regrow_deviation=INITIAL_DEVIATION,
        step_values=memory.values_of_units,
        annealed_rows=memory.AIS_CHAINS,
        can_be_shared=False,
        smaller=("model.hidden",),
    ),
}


def evaluation_rows(config: Config) -> int:
    """Rows of a batch of test rows of the configuration's architecture."""
    return ARCHITECTURES[config.model.name].evaluation_rows(config)


def is_measured(model: Mapping[str, Any], epochs: int, epoch: int) -> bool:
    """Whether the network is measured after this epoch of a run with these keys of `model`."""
    return epoch == epochs or epoch % ARCHITECTURES[model["name"]].measured_every(model, epochs) == 0


def make_trainer(
    config: Config, data: DataSet, model: nn.Module, rows: Sequence[Mapping[str, Any]], group: Group
) -> Trainer:
    """What trains and measures the model; rows: the epochs so far, of a run that is resumed."""

    def base_bias() -> NDArray[np.float32]:
        return log_odds(training_mean(data), len(data.train))

    return ARCHITECTURES[config.model.name].trainer(config, model, base_bias, rows, group)
