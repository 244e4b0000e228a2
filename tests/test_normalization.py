"""Normalisation layers and the activations beside ReLU and SReLU, against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import set_cli
from set_cli.config import from_mapping, identity
from set_cli.errors import ConfigError
from set_cli.models.activations import GELU, Activation, LeakyReLU
from set_cli.models.normalization import BatchNorm, LayerNorm
from set_cli.models.stack import SparseSequential
from set_cli.runs.summary import read_rows
from set_cli.sparse import SparseLinear
from tests.builders import MODELS, TINY, interrupted, science, train
from tests.conftest import Compose, compose_mapping


@pytest.mark.parametrize("shape", [(9, 5), (9, 5, 3, 4)])
def test_batch_norm_is_torchs(shape: tuple[int, ...]) -> None:
    own = BatchNorm(5)
    theirs: nn.Module = nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    for _ in range(3):
        x = 3 * torch.randn(shape) + 2
        torch.testing.assert_close(own(x), theirs(x))
    torch.testing.assert_close(own.eval()(x), theirs.eval()(x))
    assert torch.equal(own.running_var, theirs.get_buffer("running_var"))


def test_a_batch_of_one_row_is_normalised_with_the_averages() -> None:
    norm = BatchNorm(5)
    norm(torch.randn(8, 5))
    x, before = torch.randn(1, 5), norm.running_mean.clone()
    found = norm(x)
    assert torch.equal(found, norm.eval()(x))
    assert torch.equal(norm.running_mean, before)


def test_layer_norm_is_torchs() -> None:
    x = 3 * torch.randn(9, 5) + 2
    torch.testing.assert_close(LayerNorm(5)(x), F.layer_norm(x, (5,)))
    images = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(LayerNorm(5)(images), F.layer_norm(images, (5, 3, 4)))


def two_layers(activation: nn.Module) -> SparseSequential:
    layers = SparseLinear(20, 16, epsilon=5, seed=1), SparseLinear(16, 8, epsilon=5, seed=2)
    return SparseSequential(layers[0], activation, layers[1])


FUNCTIONS: dict[str, tuple[Callable[[], Activation], Callable[[Tensor], Tensor]]] = {
    "leaky": (lambda: LeakyReLU(16, 0.2, fused=True), lambda x: F.leaky_relu(x, 0.2)),
    "all-relu": (lambda: LeakyReLU(16, -0.6, fused=True), lambda x: torch.where(x > 0, x, -0.6 * x)),
    "gelu": (lambda: GELU(16, fused=True), F.gelu),
}


@pytest.mark.usefixtures("simd")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_and_its_gradient_are_torchs(name: str) -> None:
    make, function = FUNCTIONS[name]
    network = two_layers(make())
    x = torch.randn(50, 20, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    first, _, last = network
    found, expected = network(x), last(function(first(other)))
    torch.testing.assert_close(found, expected)
    dy = torch.randn_like(found)
    (of_x,), (of_other,) = torch.autograd.grad(found, [x], dy), torch.autograd.grad(expected, [other], dy)
    torch.testing.assert_close(of_x, of_other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dropout_takes_the_share_that_was_asked_for_and_scales_the_rest(name: str) -> None:
    make, function = FUNCTIONS[name]
    activation = make()
    activation.dropout = 0.25
    x = torch.randn(4000, 16)

    def columns(values: Tensor) -> Tensor:
        return values.t().contiguous().t()

    found = activation(columns(x))
    kept = found != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(found[kept], function(x)[kept] / 0.75)
    torch.testing.assert_close(activation.eval()(columns(x)), function(x))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_run_resumes_within_an_epoch_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS[model], "model.norm=batch", "model.activation=gelu", "model.dropout=0.2", "train.ema=0.8")
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120)))) == science(whole.path)
    row = read_rows(whole.path / "metrics.jsonl")[-1]
    averaged = set_cli.load(whole.path, averaged=True)
    assert any("running_mean" in name for name in averaged.model.state_dict())
    assert row["test_ema_loss"] != row["test_loss"]


def test_the_moving_means_are_averaged_with_the_weights(compose: Compose) -> None:
    words = (*TINY, *MODELS["mlp"], "model.norm=batch", "train.ema=0.8", "method=fixprob")
    path = train(compose(*words)).path
    row = read_rows(path / "metrics.jsonl")[-1]
    assert set_cli.load(path).evaluate()["loss"] == row["test_loss"]
    averaged = set_cli.load(path, averaged=True)
    assert averaged.evaluate()["loss"] == row["test_ema_loss"]
    means = [run.model.state_dict()["norm1.running_mean"] for run in (averaged, set_cli.load(path))]
    assert not torch.equal(*means)


def test_the_last_batch_of_an_epoch_may_be_one_row(compose: Compose) -> None:
    words = (*TINY, *MODELS["mlp"], "model.norm=batch", "data.train_limit=121")
    assert read_rows(train(compose(*words)).path / "metrics.jsonl")[-1]["train_loss"] < 10


REFUSED = {
    "model.norm is for model=mlp and model=cnn": ("model=rbm", "+model.norm=batch"),
    "model.slope is for model.activation=leaky_relu and all_relu": ("model.slope=0.1",),
    "model.activation=swish is not known": ("model.activation=swish",),
    "model.norm=instance is not known": ("model.norm=instance",),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_has_no_meaning_is_refused(sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(compose_mapping(*REFUSED[sentence]))
    assert str(caught.value).startswith(sentence)


def test_defaults_are_no_part_of_a_runs_identity(compose: Compose) -> None:
    ids = {identity(compose(*words)) for words in ((), ("model.norm=batch",), ("model.activation=gelu",))}
    assert len(ids) == 3
    assert identity(compose("model.norm=null", "model.slope=null")) in ids
