"""The CNN: the paper's parameter counts, its layers against torch's own, runs that resume bit for bit."""

from __future__ import annotations

import json
import math
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import set_cli
from set_cli.config import Config, Dataset, identity
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import load_data
from set_cli.errors import ConfigError, DataError, Interrupted, NotApplicable
from set_cli.models.activations import Activation, ReLU
from set_cli.models.cnn import Images, SparseConvolution, build_cnn, plan_cnn
from set_cli.models.counts import count_layers, count_totals, sparse_layers
from set_cli.sparse import SparseLinear
from set_cli.system.files import read_arrays, read_json
from set_cli.training.architectures import make_trainer
from set_cli.training.group import ALONE
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_pair, with_checksum
from set_cli.training.supervised import evaluate
from tests.builders import StopAt, reseal, science, train
from tests.conftest import Command, Compose

CIFAR10 = (3, 32, 32)
SMALL = (
    "model=cnn",
    "model.channels=[8,12]",
    "model.hidden=[40,30]",
    "epsilon=2",
    "train.epochs=3",
    "train.batch_size=100",
    "data.train_limit=500",
    "data.augment.flip=true",
    "data.augment.rotation=10",
)


def network(config: Config, shape: tuple[int, ...], engine: str = "native", classes: int = 10) -> nn.Sequential:
    epsilon = None if config.method.name == "dense" else config.epsilon
    plans = plan_cnn(config.model, epsilon, shape, classes)
    return build_cnn(plans, config.model, {plan.name: engine for plan in plans}, config.seed, shape)


def test_the_dense_network_has_exactly_the_papers_parameters(compose: Compose) -> None:
    model = network(compose("dataset=cifar10", "model=cnn", "method=dense"), CIFAR10)
    totals = count_totals(count_layers(model, 1))
    assert totals["convolution_parameters"] == 287_008
    assert totals["parameters"] - totals["convolution_parameters"] == 8_413_194
    assert totals["parameters"] == totals["dense_parameters"] == sum(p.numel() for p in model.parameters())
    each = [layer["convolution_weights"] + layer["biases"] for layer in count_layers(model, 1)[:6]]
    assert each == [896, 9_248, 18_496, 36_928, 73_856, 147_584]


@pytest.mark.parametrize("method", ["set", "fixprob"])
def test_the_sparse_network_has_the_papers_within_chance(method: str, compose: Compose) -> None:
    model = network(compose("dataset=cifar10", "model=cnn", f"method={method}"), CIFAR10)
    totals = count_totals(count_layers(model, 1))
    assert totals["convolution_parameters"] == 287_008
    # paper.md 4.4: 2 * 20 * 4096 expected, and the softmax with its biases; the paper's own draw is 184,842
    assert abs(totals["connections"] + 10 - 184_330) < 4 * 401
    assert totals["parameters"] == sum(p.numel() for p in model.parameters())
    assert totals["dense_parameters"] == 287_008 + 8_413_194
    assert list(sparse_layers(model)) == ["layer1", "layer2"]


@pytest.mark.parametrize(
    ("shape", "channels", "flattened"),
    [
        (CIFAR10, (32, 64, 128), 128 * 4 * 4),
        ((28, 28), (32, 64, 128), 128 * 3 * 3),
        ((16, 8), (32, 64, 128), 128 * 2),
        ((16, 16), (8,), 8 * 8 * 8),
        ((8, 8), (32, 64), 64 * 2 * 2),
        ((3, 33, 9), (4, 4), 4 * 8 * 2),
    ],
)
def test_sizes_follow_from_the_image(
    shape: tuple[int, ...], channels: tuple[int, ...], flattened: int, compose: Compose
) -> None:
    widths = ",".join(map(str, channels))
    config = compose("dataset=cifar10", "model=cnn", f"model.channels=[{widths}]", "model.hidden=[30,20]")
    model = network(config, shape, classes=7)
    assert model.get_submodule("layer1").in_features == flattened
    assert model(torch.rand(5, math.prod(shape))).shape == (5, 7)


def test_images_too_small_for_their_poolings_are_refused(compose: Compose) -> None:
    config = compose("model=cnn", "model.channels=[4,4,4,4]")
    with pytest.raises(
        NotApplicable, match=r"expected images of at least 16x16 for the 4 blocks of model.channels, found 8x8"
    ):
        train(config)
    assert not Path(config.runs_dir).exists()


@pytest.mark.parametrize("dataset", ["dna", "higgs"])
def test_data_without_images_is_refused(dataset: str, compose: Compose) -> None:
    with pytest.raises(NotApplicable, match=f"{dataset} has no images, which model=cnn needs; use model=mlp"):
        check_pair(compose(f"dataset={dataset}", "model=cnn"))


def test_keys_of_another_architecture_are_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"model.channels is for model=cnn, which needs it"):
        compose("model=mlp", "+model.channels=[4]")
    with pytest.raises(ConfigError, match=r"model.dropout is for model=mlp and model=cnn, which need it"):
        compose("model=cnn", "model.dropout=null")


def doubles(model: nn.Sequential) -> dict[str, torch.Tensor]:
    return {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}


def reference(model: nn.Sequential, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network in torch's plainest operations, float64, without dropout."""
    images = model.get_submodule("images")
    assert isinstance(images, Images)
    y = x.double().reshape(len(x), *images.shape)
    for name, module in model.named_children():
        weight, bias = parameters.get(f"{name}.weight"), parameters.get(f"{name}.bias")
        if isinstance(module, SparseConvolution):
            assert weight is not None
            y = F.conv2d(y, kernels(module, weight), bias, padding=1)
        elif isinstance(module, SparseLinear):
            assert weight is not None
            assert bias is not None
            y = y @ dense(module, weight) + bias
        elif isinstance(module, nn.Conv2d):
            assert weight is not None
            y = F.conv2d(y, weight, bias, padding=1)
        elif isinstance(module, nn.Linear):
            assert weight is not None
            y = F.linear(y, weight, bias)
        elif isinstance(module, nn.MaxPool2d):
            y = F.max_pool2d(y, 2)
        elif isinstance(module, nn.Flatten):
            y = y.flatten(1)
        elif isinstance(module, ReLU):
            y = y.relu()
    return y


def dense(layer: SparseLinear, weight: torch.Tensor) -> torch.Tensor:
    """(n_in, n_out)."""
    at = torch.from_numpy(layer.pattern.positions())
    whole = weight.new_zeros(layer.in_features * layer.out_features)
    return whole.index_put((at,), weight).view(layer.in_features, layer.out_features)


def kernels(layer: SparseConvolution, weight: torch.Tensor) -> torch.Tensor:
    """(out, in, 3, 3) as torch's convolutions have them."""
    return dense(layer, weight).t().reshape(layer.out_features, -1, 3, 3)


@pytest.mark.parametrize("sparse", ["false", "true"])
@pytest.mark.parametrize("engine", ["native", "torch", "masked"])
@pytest.mark.parametrize("shape", [(3, 12, 9), (8, 8)])
def test_logits_and_gradients_are_those_of_torchs_own_layers(
    shape: tuple[int, ...], engine: str, sparse: str, compose: Compose
) -> None:
    config = compose("dataset=cifar10", "model=cnn", "model.channels=[6,8]", "model.hidden=[40,30]",
                     "epsilon=4", f"model.sparse_convolutions={sparse}")  # fmt: skip
    model = network(config, shape, engine).eval()
    assert any(isinstance(module, SparseConvolution) for module in model) == (sparse == "true")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    x, y = torch.randn(7, math.prod(shape)), torch.randint(10, (7,))
    parameters = doubles(model)
    logits, expected = model(x), reference(model, parameters, x)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-5)
    F.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
    F.cross_entropy(expected, y).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad.double(), parameters[name].grad, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("engine", ["native", "torch", "masked"])
def test_gradients_of_a_sparse_convolution_are_those_of_a_dense_one_at_the_connections(engine: str) -> None:
    layer = SparseConvolution(9 * 5, 12, epsilon=3, engine=engine, seed=0)
    assert 0 < layer.nnz < 9 * 5 * 12
    x = torch.randn(4, 5, 7, 6, requires_grad=True)
    error = torch.randn(4, 12, 7, 6)
    layer(x).backward(error)
    x64, w64 = x.detach().double().requires_grad_(), kernels(layer, layer.weight.detach().double()).requires_grad_()
    assert layer.bias is not None
    assert layer.weight.grad is not None
    b64 = layer.bias.detach().double().requires_grad_()
    F.conv2d(x64, w64, b64, padding=1).backward(error.double())  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x64.grad is not None
    assert w64.grad is not None
    at = torch.from_numpy(layer.pattern.positions())
    expected = w64.grad.reshape(12, -1).t().flatten()[at]
    torch.testing.assert_close(layer.weight.grad.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad.double(), x64.grad, rtol=1e-4, atol=1e-4)
    assert layer.bias.grad is not None
    torch.testing.assert_close(layer.bias.grad.double(), b64.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_dropout_on_images_is_independent_of_position_and_scaled(fused: bool) -> None:
    layer = ReLU(0.3, fused=fused)
    x = torch.ones(20, 5, 9, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer.reseed(3, x.device)
    y = layer(x)
    kept = y > 0
    assert abs(kept.double().mean().item() - 0.7) < 0.03
    torch.testing.assert_close(y[kept], torch.full((int(kept.sum()),), 1 / 0.7))
    for axis in range(4):  # no image, channel, row or column goes as a whole, nor stays
        share = kept.double().mean(dim=[a for a in range(4) if a != axis])
        assert share.min() > 0.4
        assert share.max() < 0.95
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())
    assert torch.equal(layer.eval()(x), x)
    layer.train().reseed(3, x.device)
    assert torch.equal(layer(x), y)


def test_dropout_stands_where_the_paper_has_it(compose: Compose) -> None:
    model = network(compose("dataset=cifar10", "model=cnn"), CIFAR10)
    dropouts = {name: module.dropout for name, module in model.named_children() if isinstance(module, Activation)}
    assert dropouts == {
        **{f"conv{i}_activation": 0.3 if i % 2 else 0.0 for i in range(1, 7)},
        "activation1": 0.3,
        "activation2": 0.3,
    }
    order = [name for name, _ in model.named_children()]
    assert order[1:6] == ["conv1", "conv1_activation", "conv2", "conv2_activation", "pool1"]


def test_weight_decay_is_on_convolutions_and_connections_only(compose: Compose) -> None:
    config = compose("dataset=cifar10", "model=cnn", "model.channels=[4]", "model.hidden=[40]")
    model = network(config, (8, 8))
    decayed, others = build_optimizer(model, config.train).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == [
        "layer1.weight", "output.weight", "conv1.weight", "conv2.weight",
    ]  # fmt: skip
    assert all(names[id(p)].endswith("bias") for p in others["params"])


def test_the_optimiser_takes_convolutions_in_the_kernels(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """One odd layout would send every parameter through torch's optimiser."""

    def of_torch(*arguments: Any) -> None:
        pytest.fail("a step of torch's optimiser")

    config = compose("dataset=cifar10", "model=cnn", "model.channels=[4]", "model.hidden=[40]")
    model = network(config, (8, 8))
    optimizer = build_optimizer(model, config.train)
    F.cross_entropy(model(torch.randn(9, 64)), torch.randint(10, (9,))).backward()  # type: ignore[no-untyped-call]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    monkeypatch.setattr(torch.optim.SGD, "step", of_torch)
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("method", ["set", "fixprob", "dense"])
def test_an_interrupted_cnn_resumes_bit_for_bit(method: str, compose: Compose, tmp_path: Path) -> None:
    overrides = (*SMALL, f"method={method}", "model.sparse_convolutions=true")
    whole = train(compose(*overrides))
    config = compose(*overrides, f"runs_dir={tmp_path}/other")
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            train(config, StopAt(epoch, signal.SIGTERM))
    assert science(train(config).path) == science(whole.path)


def test_sparse_convolutions_evolve_and_are_recorded_like_other_layers(compose: Compose) -> None:
    config = compose(*SMALL, "model.sparse_convolutions=true")
    path = train(config).path
    layers = {layer["name"]: layer for layer in read_json(path / "params.json")["layers"]}
    assert layers["conv4"]["kind"] == "sparse"
    run = set_cli.load(path)
    for name in (name for name, layer in layers.items() if layer["kind"] == "sparse"):
        n_in, n_out = layers[name]["shape"]
        first, second, last = (run.topology(epoch)[name] for epoch in (0, 2, 3))
        assert first.shape == last.shape == (n_in, n_out)
        assert first.nnz == layers[name]["connections"]
        assert last.nnz == layers[name]["connections_final"] < first.nnz
        assert np.setdiff1d(second.positions(), first.positions()).size  # connections that were not there


def test_a_loaded_cnn_is_the_trained_model(compose: Compose) -> None:
    config = compose(*SMALL)
    outcome = train(config)
    loaded = set_cli.load(outcome.path)
    data = load_data(Dataset(name="digits"), config.data)
    final = evaluate(loaded.model, Inputs(data.test, data, torch.device("cpu")))["accuracy"]
    assert final == outcome.summary["after_last_removal"]["test"]
    saved = read_arrays(outcome.path / "checkpoint.npz")
    for name, tensor in loaded.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), saved[f"model/{name}"])


def test_other_images_than_the_runs_are_refused_before_anything_is_built(compose: Compose) -> None:
    path = train(compose(*SMALL)).path
    params = read_json(path / "params.json")
    assert params["images"] == [1, 8, 8]
    for images in ([1, 1], [8], ["8", 8], [80, 80], [8, 12], [6000, 6000], None, 8):
        (path / "params.json").write_text(json.dumps(params | {"images": images}))
        reseal(path, "params.json")  # as one would who means to mislead
        tracemalloc.start()
        with pytest.raises(DataError, match="do not fit together"):
            set_cli.load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**27


def test_a_baseline_without_sparse_layers_is_trained_once(compose: Compose) -> None:
    one, other = (compose(*SMALL, "method=dense", f"model.sparse_convolutions={value}") for value in ("true", "false"))
    assert identity(one) == identity(other)
    assert identity(compose(*SMALL)) != identity(compose(*SMALL, "model.sparse_convolutions=true"))


def test_flat_images_whose_channels_come_last_are_refused(compose: Compose, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 12, 10, 3), dtype=np.uint8), rng.integers(0, 3, 60)
    flat = x.reshape(60, -1)
    np.savez(tmp_path / "last.npz", x_train=flat, y_train=y, x_test=flat, y_test=y, shape=[12, 10, 3])
    np.savez(tmp_path / "first.npz", x_train=np.moveaxis(x, 3, 1), y_train=y, x_test=np.moveaxis(x, 3, 1), y_test=y)
    small = ("dataset=custom", "model=cnn", "model.channels=[4]", "model.hidden=[20]", "train.epochs=1")
    with pytest.raises(
        NotApplicable, match=r"as \(channels, height, width\), such as \(3, 12, 10\), found \(12, 10, 3\)"
    ):
        train(with_checksum(compose(*small, f"dataset.path={tmp_path}/last.npz")))
    assert train(with_checksum(compose(*small, f"dataset.path={tmp_path}/first.npz"))).summary["metric"] == "accuracy"


def test_sparse_convolutions_start_within_the_dense_ones_limits(compose: Compose) -> None:
    sparse, whole = (
        network(compose("dataset=cifar10", "model=cnn", "epsilon=2", f"model.sparse_convolutions={value}"), CIFAR10)
        for value in ("true", "false")
    )
    for i in range(2, 7):
        layers = [model.get_submodule(f"conv{i}") for model in (sparse, whole)]
        assert isinstance(layers[0], SparseConvolution)
        limit = math.sqrt(6 / (layers[0].in_features + 9 * layers[0].out_features))
        for layer in layers:
            assert 0.97 * limit < float(layer.get_parameter("weight").detach().abs().max()) <= 1.001 * limit


@torch.no_grad()
def test_evaluation_takes_convolutions_in_small_batches(compose: Compose) -> None:
    config = compose(*SMALL, "train.batch_size=10")
    data = load_data(Dataset(name="digits"), config.data)
    seen: list[int] = []
    model = build_network(config, data, torch.device("cpu")).model
    model.register_forward_hook(lambda module, x, y: seen.append(len(y)))
    parts = {"test": Inputs(data.test, data, torch.device("cpu"))}
    make_trainer(config, data, model, [], ALONE).measure(parts, 1, lambda: None)
    assert max(seen) == 100


def test_set_train_says_what_to_use_instead(set_train: Command) -> None:
    done = set_train("dataset=dna", "model=cnn")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("dna has no images, which model=cnn needs; use model=mlp")
