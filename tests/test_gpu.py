"""What only a real GPU shows: products, evolution, whole runs, resuming, running out of memory."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import set_cli
from set_cli.config import Dataset, Train
from set_cli.data import inputs
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import load_data
from set_cli.errors import Interrupted, OutOfMemory
from set_cli.experiment import Outcome
from set_cli.models.activations import Activation
from set_cli.models.stack import BatchContiguousLinear
from set_cli.runs.summary import read_rows
from set_cli.sparse import SparseLinear
from set_cli.system.files import read_json
from set_cli.training import graphs
from set_cli.training.augmentation import Augmented
from set_cli.training.class_weights import by_class
from set_cli.training.graphs import can_record
from set_cli.training.loss import cross_entropy
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from tests.builders import StopAt, science, train
from tests.conftest import Compose
from tests.oracles import INSTALLED_ENGINES, dense_weight, tolerance

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
    # Where a backward's thread is the first to call cuBLAS in a process, torch says that it makes a context.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS:UserWarning"),
]
ON_GPU = sorted({*INSTALLED_ENGINES} - {"native"})
SMALL = ("backend=cuda", "train.epochs=3", "data.train_limit=600")
MODELS = {
    "mlp": ("model=mlp", "model.hidden=[60,40]"),
    "cnn": ("model=cnn", "model.channels=[16,32]", "model.hidden=[60,40]", "data.augment.rotation=10"),
    "rbm": ("model=rbm", "model.hidden=[60]", "model.ais_last=quick"),
}
INPUTS = (
    "data.augment.flip=true",
    "data.augment.crop=2",
    "data.augment.cutout=3",
    "data.augment.mixup=0.4",
    "train.label_smoothing=0.1",
    "train.class_weights=balanced",
)
AVERAGED = ("train.ema=0.9", "model.norm=batch", "model.activation=all_relu")
# Learns surely in three epochs, whatever the seed, without draws that differ between devices.
LEARNS = ("model.dropout=0", "model.init=sparse_fan_in", "train.batch_size=20", "train.lr=0.03")


def losses_of(outcome: Outcome) -> list[float]:
    return [row["train_loss"] for row in read_rows(outcome.path / "metrics.jsonl")]


@pytest.mark.parametrize("engine", ON_GPU)
@pytest.mark.parametrize(("n_in", "n_out", "n_batch"), [(7, 5, 1), (40, 30, 100), (3000, 2000, 300)])
def test_every_engine_matches_the_dense_float64_oracle(engine: str, n_in: int, n_out: int, n_batch: int) -> None:
    layer = SparseLinear(n_in, n_out, epsilon=3, engine=engine, seed=0).cuda()
    x = torch.randn(n_batch, n_in, generator=torch.Generator().manual_seed(1))
    dy = torch.randn(n_batch, n_out, generator=torch.Generator().manual_seed(2))
    on_gpu = x.cuda().requires_grad_()
    y = layer(on_gpu)
    y.backward(dy.cuda())
    weight = dense_weight(layer.pattern, layer.weight.detach().cpu().numpy())
    expected_dw = (x.double().numpy().T @ dy.double().numpy()).reshape(-1)[layer.pattern.positions()]
    for found, expected, terms in (
        (y, x.double().numpy() @ weight, n_in),
        (on_gpu.grad, dy.double().numpy() @ weight.T, n_out),
        (layer.weight.grad, expected_dw, n_batch),
    ):
        assert found is not None
        np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=0, atol=tolerance(terms, 16.0))


@pytest.mark.parametrize("n_in", [300, 4000, 4001, 500_000])
def test_a_narrow_layer_of_many_inputs_is_the_dense_product(n_in: int) -> None:
    layer = BatchContiguousLinear(n_in, 10).cuda()
    x = torch.randn(n_in, 32, device="cuda").t().requires_grad_()
    dy = torch.randn(32, 10, device="cuda")
    y = layer(x)
    y.backward(dy)
    x64, weight = x.detach().double(), layer.weight.detach().double()
    for found, expected, terms in (
        (y, x64 @ weight.t() + layer.bias.detach().double(), n_in),
        (x.grad, dy.double() @ weight, 10),
        (layer.weight.grad, dy.double().t() @ x64, 32),
        (layer.bias.grad, dy.double().sum(dim=0), 32),
    ):
        assert found is not None
        torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=tolerance(terms, 16.0))


def test_evolution_gives_the_cpus_connections() -> None:
    for size in (50, 2000):
        on_cpu, on_gpu = (SparseLinear(size, size, epsilon=10, seed=0) for _ in range(2))
        on_gpu.cuda()
        for epoch in range(3):
            for layer in (on_cpu, on_gpu):
                layer.evolve(0.3, seed=epoch, regrow_init="random")
            assert torch.equal(on_cpu.indptr, on_gpu.indptr.cpu())
            assert torch.equal(on_cpu.indices, on_gpu.indices.cpu())
            assert torch.equal(on_cpu.weight, on_gpu.weight.cpu())


@pytest.mark.parametrize("engine", ["auto", *ON_GPU])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_ends_near_the_cpus(model: str, engine: str, compose: Compose) -> None:
    overrides = (*SMALL, *MODELS[model], *(LEARNS if model != "rbm" else ()))
    found = train(compose(*overrides, f"backend.engine={engine}"))
    (start,) = read_json(found.path / "run.json")
    assert start["device"].startswith(torch.cuda.get_device_name())
    expected = train(compose(*overrides, "backend=cpu", "train.momentum=0.9000001"))  # a folder of its own
    if model == "rbm":  # whose units are drawn otherwise
        assert abs(found.summary["last"] - expected.summary["last"]) < 1.5
    else:
        np.testing.assert_allclose(losses_of(found)[0], losses_of(expected)[0], rtol=0.01)
        np.testing.assert_allclose(losses_of(found), losses_of(expected), rtol=0.05)
        assert losses_of(found)[-1] < 0.6 * losses_of(found)[0]
    assert found.summary["connections"] == expected.summary["connections"]
    assert set_cli.load(found.path).metrics.shape[0] == 3


@pytest.mark.parametrize("engine", sorted({*ON_GPU} - {"torch"}))
@pytest.mark.parametrize("model", MODELS)
def test_a_deterministic_run_repeats_and_resumes_bit_for_bit(
    model: str, engine: str, compose: Compose, tmp_path: Path
) -> None:
    overrides = (*SMALL, *MODELS[model], "backend.deterministic=true", f"backend.engine={engine}")
    whole = train(compose(*overrides))
    config = compose(*overrides, f"runs_dir={tmp_path}/other")
    with pytest.raises(Interrupted):
        train(config, StopAt(2, signal.SIGTERM))
    assert science(train(config).path) == science(whole.path)


@pytest.mark.parametrize("engine", sorted({*ON_GPU} - {"torch"}))
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("schedule", "optimizer"), [("constant", "sgd"), ("cosine", "sgd"), ("constant", "adamw"), ("cosine", "adam")]
)
def test_a_recorded_step_trains_as_one_whose_operations_are_started_one_by_one(
    schedule: str,
    optimizer: str,
    model: str,
    engine: str,
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recordings = []

    def record(*arguments: Any) -> torch.cuda.CUDAGraph:
        recordings.append(original(*arguments))
        return recordings[-1]

    original = graphs.record
    monkeypatch.setattr(graphs, "record", record)
    # Dropout, L1, clipping and a last batch that is smaller: all of a step's parts.
    overrides = (*SMALL, *MODELS[model], "backend.deterministic=true", f"backend.engine={engine}", "train.l1=1e-5")
    overrides += (
        f"train.schedule={schedule}",
        f"train.optimizer={optimizer}",
        "train.clip=5.0",
        "data.train_limit=650",
        *(["model.dropout=0.3", *INPUTS] if model != "rbm" else []),
        *(AVERAGED if model != "rbm" and schedule == "cosine" else []),
    )
    found = [
        science(train(compose(*overrides, f"backend.cuda_graphs={wanted}", f"runs_dir={tmp_path}/{wanted}")).path)
        for wanted in ("true", "false")
    ]
    assert found[0] == found[1]
    assert len(recordings) == 3  # one an epoch, since connections have moved


@pytest.mark.parametrize("model", MODELS)
def test_a_step_is_recorded_anew_when_connections_move_within_an_epoch(
    model: str, compose: Compose, tmp_path: Path
) -> None:
    overrides = (*SMALL, *MODELS[model], "backend.deterministic=true", "backend.engine=triton")
    overrides += ("evolve.every_steps=3", "evolve.epsilon_start=9", "epsilon=3")
    found = [
        science(train(compose(*overrides, f"backend.cuda_graphs={wanted}", f"runs_dir={tmp_path}/{wanted}")).path)
        for wanted in ("true", "false")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_a_run_resumes_within_an_epoch_bit_for_bit(wanted: str, compose: Compose, tmp_path: Path) -> None:
    overrides = (*SMALL, *MODELS["mlp"], "backend.deterministic=true", "model.dropout=0.3", "checkpoints.minutes=0")
    overrides += (f"backend.cuda_graphs={wanted}", "backend.engine=triton", "train.schedule=linear", "train.warmup=1.5")
    overrides += (*INPUTS, "data.augment.until=0.7")
    whole = train(compose(*overrides))
    config = compose(*overrides, f"runs_dir={tmp_path}/other")
    with pytest.raises(Interrupted):
        train(config, StopAt(2, signal.SIGTERM, rows=300))
    assert science(train(config).path) == science(whole.path)


@pytest.mark.parametrize("correction", ["step", "age"])
def test_a_run_with_adam_resumes_within_an_epoch_bit_for_bit(correction: str, compose: Compose, tmp_path: Path) -> None:
    overrides = (*SMALL, *MODELS["mlp"], "backend.deterministic=true", "backend.engine=triton", "train.warmup=1.5")
    overrides += ("train.optimizer=adamw", f"train.bias_correction={correction}")
    whole = train(compose(*overrides))
    config = compose(*overrides, f"runs_dir={tmp_path}/other")
    with pytest.raises(Interrupted):
        train(config, StopAt(2, signal.SIGTERM, rows=300))
    assert science(train(config).path) == science(whole.path)


def test_rows_that_stay_in_the_machines_memory_give_the_same_numbers(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*SMALL, *MODELS["cnn"], *INPUTS, "backend.deterministic=true")
    resident = train(compose(*overrides))
    monkeypatch.setattr(inputs, "RESIDENT", 0.0)
    assert science(train(compose(*overrides, f"runs_dir={tmp_path}/other")).path) == science(resident.path)


def test_rows_are_changed_and_mixed_as_on_the_cpu(compose: Compose) -> None:
    config = compose(*SMALL, *MODELS["cnn"], *INPUTS, "train.batch_size=100")
    data = load_data(Dataset(name="digits"), config.data)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(data.train)))
    for is_whole in (True, False):
        found = []
        for device in (torch.device("cpu"), torch.device("cuda")):
            rows = by_class(Inputs(data.train, data, device), "balanced", 0, 1)
            augmented = Augmented(config, rows, 1, order.to(device))
            x, y, mixed = augmented.batch(order[100:200].to(device), is_whole=is_whole)
            assert mixed is not None
            loss = cross_entropy(x[:, 20:30], y, 0.1, mixed)
            found.append([values.cpu() for values in (x, y, mixed.others, mixed.shares, loss)])
        for on_cpu, on_gpu in zip(*found, strict=True):
            torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=2e-5)


def test_a_hook_and_an_unknown_optimiser_stand_in_the_way_of_a_recording() -> None:
    layer = SparseLinear(20, 10, epsilon=2, seed=0)
    model = torch.nn.Sequential(layer).cuda()
    settings = Train(epochs=1, batch_size=1, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0, l1=0)
    optimizer = build_optimizer(model, settings)
    assert can_record(model, optimizer)
    assert not can_record(model, torch.optim.Adam(model.parameters()))
    hooks = [
        layer.register_forward_hook(lambda *_: None),
        optimizer.register_step_post_hook(lambda *_: None),
        layer.weight.register_hook(lambda gradient: gradient),  # type: ignore[no-untyped-call]
    ]
    for hook in hooks:
        assert not can_record(model, optimizer)
        hook.remove()
    assert can_record(model, optimizer)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("engine", ON_GPU)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_step_does_not_wait_for_the_gpu(model: str, engine: str, compose: Compose) -> None:
    config = compose(*SMALL, *MODELS[model], f"backend.engine={engine}")
    data, device = load_data(Dataset(name="digits"), config.data), torch.device("cuda")
    network = build_network(config, data, device).model.to(device).train()
    for activation in (module for module in network.modules() if isinstance(module, Activation)):
        activation.reseed(0, device)
    optimizer = build_optimizer(network, config.train)
    x, y = Inputs(data.train, data, device).batch(torch.arange(100))
    for mode in ("default", "error"):  # the first step derives structures and builds kernels
        torch.cuda.set_sync_debug_mode(mode)
        try:
            loss = cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("engine", ["masked", "triton"])
def test_bfloat16_learns_as_float32_does(engine: str, compose: Compose) -> None:
    overrides = (*SMALL, *MODELS["cnn"], *LEARNS, f"backend.engine={engine}")
    halves, expected = (
        losses_of(train(compose(*overrides, f"backend.precision={precision}"))) for precision in ("bfloat16", "float32")
    )
    assert halves != expected
    # After some steps of so small a CNN any rounding makes another curve; both must fall.
    np.testing.assert_allclose(halves[0], expected[0], rtol=0.06)
    assert max(losses[-1] / losses[0] for losses in (halves, expected)) < 0.6


def test_what_does_not_fit_is_refused_with_the_estimate(compose: Compose) -> None:
    with pytest.raises(OutOfMemory, match=r"expected at least .* GiB of free memory on the cuda"):
        train(compose("backend=cuda", "method=dense", "model.hidden=[200000,200000]"))
