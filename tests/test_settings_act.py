"""Every setting of the training changes what is trained: none is read and then forgotten."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from set_cli.config import Config, from_mapping
from set_cli.data.inputs import Inputs
from set_cli.training.architectures import make_trainer
from set_cli.training.evolution import evolve_model
from set_cli.training.group import ALONE
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from tests.builders import digits
from tests.conftest import compose_mapping

CPU = torch.device("cpu")
NETWORKS = {
    "mlp": ("model=mlp", "model.hidden=[30,20]"),
    "cnn": ("model=cnn", "model.channels=[4,6]", "model.hidden=[20]"),
    "rbm": ("model=rbm", "model.hidden=[30]"),
}
SMALL = (
    "data.train_limit=200",
    "train.batch_size=50",
    "train.weight_decay=0",
    "train.momentum=0.5",
    "train.l1=0",
    "epsilon=3",
    "model.init=glorot",
    "train.epochs=3",
)
EVERYWHERE = (
    "seed=1",
    "epsilon=2",
    "zeta=0.1",
    "method.removal=magnitude",
    "method=fixprob",
    "method=dense",
    "train.batch_size=40",
    "train.lr=0.003",
    "train.momentum=0.9",
    "train.nesterov=true",
    "train.momentum=null",
    "train.momentum=null train.optimizer=adam",
    "train.weight_decay=0.1",
    "train.l1=0.01",
    "train.clip=0.001",
    "train.schedule=cosine",
    "train.schedule=linear",
    "train.schedule=exponential",
    "train.schedule=step",
    "train.schedule=step train.lr_steps=[0.2]",
    "train.schedule=step train.lr_factor=0.5",
    "train.schedule=cosine train.lr_end=0.005",
    "train.warmup=1",
    "evolve.every=2",
    "evolve.until=0.4",
    "evolve.until=0.4 evolve.final=until",
    "evolve.schedule=cosine",
    "evolve.schedule=linear",
    "evolve.epsilon_start=9",
    "evolve.epsilon_start=9 evolve.epsilon_schedule=sigmoid",
    "evolve.epsilon_start=9 evolve.epsilon_until=0.3",
    "data.train_limit=150",
)
IMAGES = (
    "data.augment.rotation=10",
    "data.augment.shift=0.1",
    "data.augment.flip=true",
    "data.augment.crop=2",
    "data.augment.cutout=3",
)
LABELS = (
    "data.augment.mixup=0.4",
    "train.label_smoothing=0.1",
    "train.class_weights=balanced",
    "train.class_weights=[1,1,1,1,1,2,1,1,1,1]",
)
LAYERS = ("model.init=sparse_fan_in", "model.dropout=0.5", "method.regrow_init=random")
ACTIVATIONS = (
    "model.activation=gelu",
    "model.activation=leaky_relu",
    "model.activation=leaky_relu model.slope=0.5",
    "model.activation=all_relu",
    "model.norm=batch",
    "model.norm=layer",
)
OF_ADAM = (
    "train.optimizer=adamw",
    "train.weight_decay=0",
    "train.lr=0.01",
    "train.betas=[0.5,0.999]",
    "train.betas=[0.9,0.9]",
    "train.adam_eps=0.001",
    "train.bias_correction=age",
    "train.l1=0.01",
    "train.clip=0.001",
)
OF_MODEL = {
    "mlp": ("model.activation=relu", "data.scaling=standardize", *ACTIVATIONS, *LAYERS, *IMAGES, *LABELS),
    "cnn": ("model.activation=srelu", "model.sparse_convolutions=true", "model.norm=batch", *LAYERS, *IMAGES, *LABELS),
    "rbm": ("model.cd_steps=3", "model.persistent=true", "model.init=normal", "method.regrow_init=zero"),
}


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", *words))


@cache
def trained(*words: str) -> dict[str, Tensor]:
    """The weights after two epochs with an evolution between them."""
    config = composed(*words)
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    trainer, inputs = make_trainer(config, data, model, [], ALONE), Inputs(data.train, data, CPU)
    for epoch in (1, 2):
        trainer.train(inputs, optimizer, epoch, lambda *_: None, {})
        evolve_model(model, optimizer, config, epoch)
    return dict(model.named_parameters())


@pytest.mark.parametrize(
    ("model", "word"), [(model, word) for model in NETWORKS for word in (*EVERYWHERE, *OF_MODEL[model])]
)
def test_it_changes_the_weights(model: str, word: str) -> None:
    default = trained(*NETWORKS[model], *SMALL)
    changed = trained(*NETWORKS[model], *SMALL, *word.split())
    assert any(
        name not in changed or changed[name].shape != value.shape or not torch.equal(changed[name], value)
        for name, value in default.items()
    )


@pytest.mark.parametrize("word", OF_ADAM)
def test_it_changes_the_weights_with_adam(word: str) -> None:
    words = (*NETWORKS["mlp"], *SMALL, "train.momentum=null", "train.optimizer=adam", "train.weight_decay=0.1")
    default, changed = trained(*words), trained(*words, *word.split())
    name = next(name for name in default if name.endswith("weight"))
    assert default[name].shape != changed[name].shape or not torch.equal(default[name], changed[name])


def test_the_weights_repeat() -> None:
    """Else the test above would pass whatever a setting does."""
    words = (*NETWORKS["mlp"], *SMALL)
    first, again = trained(*words), trained.__wrapped__(*words)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_rows_are_moved_anew_in_every_epoch() -> None:
    losses = {}
    for flip in ("true", "false"):
        config = composed(*NETWORKS["mlp"], *SMALL, "train.lr=1e-30", "model.dropout=0", f"data.augment.flip={flip}")
        data = digits(config)
        model = build_network(config, data, CPU).model
        optimizer, trainer = build_optimizer(model, config.train), make_trainer(config, data, model, [], ALONE)
        inputs = Inputs(data.train, data, CPU)
        losses[flip] = [trainer.train(inputs, optimizer, epoch, lambda *_: None, {}) for epoch in (1, 2)]
    assert losses["false"][0] == pytest.approx(losses["false"][1], rel=1e-6)  # the order alone differs
    assert losses["true"][0] != pytest.approx(losses["true"][1], rel=1e-5)
