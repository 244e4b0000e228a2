"""Where a run computes: the choice of device and engine, evolution as a GPU does it, no tensor left behind, memory."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from set_cli import native
from set_cli.config import Backend, Config, Dataset, identity, scientific
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import load_data
from set_cli.errors import ConfigError, OutOfMemory
from set_cli.experiment import run
from set_cli.models.cnn import build_cnn, plan_cnn
from set_cli.models.memory import training_bytes
from set_cli.models.mlp import LayerPlan, build_mlp, plan_mlp
from set_cli.runs.folder import locate
from set_cli.sparse import SparseLinear, engines
from set_cli.sparse.engines import choose
from set_cli.sparse.engines.device_pattern import positions, transpose
from set_cli.sparse.evolve import evolve
from set_cli.sparse.pattern import Csr
from set_cli.system.files import read_json
from set_cli.system.memory import left_in_group
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from set_cli.training import network
from set_cli.training.devices import choose_device, free_memory
from set_cli.training.loss import cross_entropy
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_pair
from set_cli.training.supervised import train_epoch
from tests.builders import layers
from tests.conftest import Compose, compose_mapping, run_python
from tests.oracles import INSTALLED_ENGINES, view_of

CPU, CUDA, META = (torch.device(name) for name in ("cpu", "cuda", "meta"))
FLOAT = torch.float32


def backend(name: str) -> Backend:
    return Backend(name=name, engine="auto", threads=None, deterministic=False, precision="float32")  # type: ignore[arg-type]


# --- which device


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected", "why"),
    [
        ("cpu", True, "cpu", "asked for"),
        ("cuda", True, "cuda", "asked for"),
        ("auto", True, "cuda", "auto: torch finds a GPU"),
        ("auto", False, "cpu", "auto: "),
    ],
)
def test_auto_takes_a_gpu_where_there_is_one(
    name: str, has_gpu: bool, expected: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    device, reason = choose_device(backend(name))
    assert device.type == expected
    assert reason.startswith(why)


def test_auto_is_the_cpu_for_the_engine_that_computes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device, why = choose_device(backend("auto").model_copy(update={"engine": "native"}))
    assert (device.type, why) == ("cpu", "auto: engine native computes there")


def test_a_gpu_asked_for_by_name_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="backend=cuda: torch finds no GPU here; use backend=cpu"):
        choose_device(backend("cuda"))


def test_the_record_says_which_device_and_why(compose: Compose) -> None:
    config = compose("train.epochs=1", "backend=cpu", "backend.deterministic=true")
    path = train(config)
    (start,) = read_json(path / "run.json")
    assert (start["device"], start["device_why"]) == ("cpu", "asked for")
    assert start["options"]["backend.deterministic"] is True
    assert start["expected_memory_bytes"] > 0


def train(config: Config) -> Path:
    with StopSignals() as stop:
        return run(config, {}, ["set-train"], NoView(), stop).path


def test_bfloat16_is_for_a_gpu_and_for_supervised_models(compose: Compose) -> None:
    config = compose("backend.precision=bfloat16")
    with pytest.raises(ConfigError, match=r"backend\.precision=bfloat16 is for a GPU; on the CPU expected float32"):
        choose_device(config.backend)
    with pytest.raises(ConfigError, match=r"backend\.precision: expected float32 for model=rbm"):
        check_pair(compose("dataset=mnist_binary", "model=rbm", "backend.precision=bfloat16"))
    assert identity(config) != identity(compose())
    assert scientific(compose("backend.precision=bfloat16", "method=dense"))["backend"] == {"precision": "bfloat16"}


@pytest.mark.parametrize("engine", sorted({*INSTALLED_ENGINES} - {"native"}))
def test_an_epoch_in_bfloat16_learns_with_float32_weights(engine: str, compose: Compose) -> None:
    """What a GPU does, here on the CPU: the loss of half-precision activations stays near that of float32."""
    losses = []
    for precision in ("float32", "bfloat16"):
        config = compose(f"backend.precision={precision}", f"backend.engine={engine}", "model.dropout=0",
                         "data.train_limit=60", "model.hidden=[20,20]", "train.batch_size=20")  # fmt: skip
        data = load_data(Dataset(name="digits"), config.data)
        model = network.build_network(config, data, CPU).model
        seen: list[torch.dtype] = []
        first = model.get_submodule("layer1")
        first.register_forward_hook(lambda layer, x, y, seen=seen: seen.append(y.dtype))
        optimizer = build_optimizer(model, config.train)
        inputs = Inputs(data.train, data, CPU)
        losses.append([train_epoch(model, inputs, optimizer, config, epoch, lambda *_: None) for epoch in (1,)])
        assert all(p.dtype == FLOAT and p.grad is not None and p.grad.dtype == FLOAT for p in model.parameters())
        halves = precision == "bfloat16" and engine in ("triton", "masked")
        assert set(seen) == {torch.bfloat16 if halves else FLOAT}
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
    assert losses[0] != losses[1]


# --- which engine


SMALL, LARGE = (4000, 1000), (2**14, 2**13)


@pytest.mark.parametrize(
    ("shape", "density", "engine", "why"),
    [
        (SMALL, 0.02, "triton", "density 0.02 is not above 0.15"),
        (LARGE, 0.02, "triton", "density 0.02 is not above 0.15"),
        (SMALL, 0.3, "masked", "density 0.3 is above 0.15"),
        (LARGE, 0.3, "masked", "density 0.3 is above 0.15"),
        ((2**17, 2**17), 0.3, "triton", "17,179,869,184 dense weights are above"),
    ],
)
def test_auto_on_a_gpu_is_sparse_below_the_crossover(
    shape: tuple[int, int], density: float, engine: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "why_missing", lambda name: None)
    monkeypatch.setattr(engines, "load_engine", lambda name: engines.ENGINES["masked"]()._replace(name=name))
    found, reason = choose("auto", shape, density, FLOAT, CUDA)
    assert found.name == engine
    assert why in reason


def test_auto_on_a_gpu_without_triton_is_cusparse_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(engines, "why_no_triton", engines.why_no_triton.__wrapped__)
    found, reason = choose("auto", LARGE, 0.01, FLOAT, CUDA)
    assert found.name == "torch"
    assert "triton is not installed" in reason
    found, reason = choose("auto", SMALL, 0.01, FLOAT, CUDA)
    assert found.name == "masked"
    assert "triton is not installed" in reason
    assert "4,000,000 dense weights are not above 67,108,864" in reason
    with pytest.raises(ValueError, match="engine triton: the package triton is not installed"):
        choose("triton", LARGE, 0.01, FLOAT, CUDA)


def test_auto_on_a_gpu_takes_cusparse_for_what_the_kernels_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "why_missing", lambda name: None)
    double = choose("auto", LARGE, 0.01, torch.float64, CUDA)
    assert double.engine.name == "torch"
    assert "take float32, bfloat16 and float16, this is torch.float64" in double.why
    other = choose("auto", LARGE, 0.01, FLOAT, torch.device("mps"))
    assert other.engine.name == "torch"
    assert "for NVIDIA GPUs, this is mps" in other.why


def test_kernels_that_do_not_start_are_a_reason_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    broken = engines.ENGINES["masked"]()._replace(spmm=fails)
    monkeypatch.setattr(engines, "load_engine", lambda name: broken)
    reason = engines.why_no_launch.__wrapped__(CPU)
    assert reason == "the kernels that gather rows do not start here (Failed to find C compiler.)"
    monkeypatch.setattr(engines, "load_engine", lambda name: engines.ENGINES["masked"]())
    assert engines.why_no_launch.__wrapped__(CPU) is None


def test_an_engine_is_refused_where_it_cannot_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="engine native computes on the CPU, not on cuda; use auto, triton, torch"):
        choose("native", SMALL, 0.01, FLOAT, CUDA)
    if "triton" in INSTALLED_ENGINES:
        monkeypatch.setattr(engines, "interpreted", lambda: False)
        with pytest.raises(ValueError, match=r"engine triton computes on a GPU .*; on the CPU use auto, native"):
            choose("triton", SMALL, 0.01, FLOAT, CPU)


def test_cusparse_is_refused_where_results_must_repeat(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("backend.engine=torch", "backend.deterministic=true")
    data = load_data(Dataset(name="digits"), config.data)
    with pytest.raises(ConfigError, match=r"do not repeat bit for bit; expected backend\.engine=triton or masked"):
        network.build_network(config, data, CUDA)
    assert network.build_network(config, data, CPU).choices  # MKL's do


def test_auto_says_aloud_what_it_had_to_do_without(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with native.without_kernels():
        train(compose("train.epochs=1"))
    said = capsys.readouterr().err
    assert "note: backend=auto: torch finds no GPU; training on the CPU" in said
    assert "note: backend.engine=auto: the compiled kernels are switched off" in said
    train(compose("train.epochs=1", "backend=cpu", "seed=5"))
    assert "note:" not in capsys.readouterr().err


# --- evolution as a GPU does it, here on the CPU's tensors


@given(layers())
def test_evolution_in_torch_is_the_cpus(layer: tuple[Csr, np.ndarray[Any, Any], float, int]) -> None:
    pattern, weights, zeta, seed = layer
    view = view_of(pattern, weights)
    for refill in (True, False):
        expected = evolve(view, zeta, np.random.default_rng(seed), refill=refill)
        with native.without_kernels():  # as on a GPU
            found = evolve(view, zeta, np.random.default_rng(seed), refill=refill)
        for name in ("indptr", "indices", "source"):
            assert getattr(found, name).dtype == torch.int32
            assert torch.equal(getattr(found, name), getattr(expected, name))
        assert (found.pruned, found.zeros, found.regrown) == (expected.pruned, expected.zeros, expected.regrown)


@given(layers())
def test_the_other_order_in_torch_is_the_cpus(layer: tuple[Csr, np.ndarray[Any, Any], float, int]) -> None:
    pattern = layer[0]
    structure = (torch.from_numpy(pattern.indptr.copy()), torch.from_numpy(pattern.indices.copy()))
    transposed, order = pattern.transposed_order()
    found = transpose(pattern.shape, *structure)
    for tensor, array in zip(found, (transposed.indptr, transposed.indices, order), strict=True):
        assert tensor.dtype == torch.int32
        np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(positions(pattern.shape, *structure).numpy(), pattern.positions())


@pytest.mark.parametrize("regrow_init", ["zero", "random"])
@pytest.mark.parametrize("refill", [True, False])
def test_a_layer_on_a_gpu_evolves_as_one_on_the_cpu(regrow_init: str, refill: bool) -> None:
    found = []
    for kernels in (nullcontext, native.without_kernels):
        layer = SparseLinear(60, 40, epsilon=5, seed=0, engine="torch")
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        x = torch.randn(16, 60, generator=torch.Generator().manual_seed(1))
        for epoch in range(3):
            layer(x).square().sum().backward()
            optimizer.step()
            with kernels():
                layer.evolve(0.3, optimizer=optimizer, seed=epoch, refill=refill, regrow_init=regrow_init)
            layer(x)
        found.append(
            (layer.indptr, layer.indices, layer.weight.detach(), optimizer.state[layer.weight]["momentum_buffer"])
        )
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# --- nothing is left on the CPU: on `meta` every mixture of devices is an error


def plans_of(config: Config, shape: tuple[int, ...]) -> list[LayerPlan]:
    if config.model.name == "cnn":
        return plan_cnn(config.model, config.epsilon, shape, 10)
    return plan_mlp(config.model, config.epsilon, 64, 10)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp", "model.activation=srelu"),
        ("model=mlp", "model.activation=relu"),
        ("model=cnn",),
        ("model=cnn", "model.sparse_convolutions=true", "epsilon=2"),
    ],
)
def test_a_moved_network_computes_on_its_device_only(overrides: tuple[str, ...], compose: Compose) -> None:
    config = compose(*overrides)
    shape = (8, 8)
    plans = plans_of(config, shape)
    on_masked = {plan.name: "masked" for plan in plans}
    model: nn.Module
    if config.model.name == "cnn":
        model = build_cnn(plans, config.model, on_masked, 0, shape)
    else:
        model = build_mlp(plans, config.model, on_masked, 0)
    model.to(META).eval()
    logits = model(torch.empty(7, 64, device=META))
    assert (logits.device, logits.shape) == (META, (7, 10))
    cross_entropy(logits, torch.zeros(7, dtype=torch.int64, device=META)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.device == META for p in model.parameters())


# --- memory, before anything is allocated


def test_the_estimate_is_what_a_small_network_adds_up_to(compose: Compose) -> None:
    config = compose("model=mlp", "model.hidden=[100]", "epsilon=5")
    sparse, output = plans = plan_mlp(config.model, 5, 64, 10)
    assert sparse.connections_asked == pytest.approx(5 * 164)
    engines_by_name = {"layer1": "native"}
    expected = 5 * 164 * (12 + 12) + 100 * 10 * 12 + 7 * 4 * (100 + 10)
    assert training_bytes(plans, engines_by_name, config, 7, None) == expected
    masked = training_bytes(plans, {"layer1": "masked"}, config, 7, None)
    assert masked - expected == 64 * 100 * 4
    assert output.connections_asked == 1000
    plain = compose("train.momentum=0", "train.batch_size=2", "backend.precision=bfloat16")
    expected = 5 * 164 * (8 + 12) + 100 * 10 * 8 + 2 * 2 * (100 + 10)
    assert training_bytes(plans, engines_by_name, plain, 7, None) == expected


@pytest.mark.parametrize("engine", ["native", "masked"])
def test_the_estimate_is_no_more_than_is_taken(engine: str, tmp_path: Path) -> None:
    """Many layers, so that adding up what is needed one after the other would show."""
    if engine not in INSTALLED_ENGINES or not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs the compiled kernels, and Linux to measure the peak")
    small = ("train.batch_size=200", "model.activation=relu", "model.dropout=0")
    mapping = compose_mapping(f"model.hidden={[1000] * 30}", *small)
    result = run_python("-c", GROWTH, engine, json.dumps(mapping), folder=tmp_path, MALLOC_MMAP_THRESHOLD_="65536")
    assert result.returncode == 0, result.stderr
    estimate, grown = map(int, result.stdout.split())
    assert 0.2 * grown < estimate < 1.1 * grown


GROWTH = """
import json, sys, torch
from pathlib import Path
from set_cli.config import from_mapping
from set_cli.models.memory import training_bytes
from set_cli.models.mlp import build_mlp, plan_mlp
from set_cli.training.loss import cross_entropy
from set_cli.training.optimizer import build_optimizer

torch.set_num_threads(1)
engine, config = sys.argv[1], from_mapping(json.loads(sys.argv[2]))
plans = plan_mlp(config.model, 20, 64, 10)
def step(plans):
    model = build_mlp(plans, config.model, {plan.name: engine for plan in plans}, 0)
    optimizer = build_optimizer(model, config.train)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(torch.randn(200, 64)), torch.zeros(200, dtype=torch.int64)).backward()
        optimizer.step()
def status(field):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])
step(plan_mlp(config.model.model_copy(update={"hidden": (10,)}), 2, 64, 10))  # imports and pools
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
before = status("VmRSS")
step(plans)
print(training_bytes(plans, {plan.name: engine for plan in plans}, config, 1000, None), status("VmHWM") - before)
"""


def test_the_estimate_counts_the_outputs_of_convolutions(compose: Compose) -> None:
    config = compose("dataset=cifar10", "model=cnn", "method=dense")
    plans = plan_cnn(config.model, None, (3, 32, 32), 10)
    one, two = (training_bytes(plans, {}, config, rows, (3, 32, 32)) for rows in (1, 2))
    assert two - one == 4 * (2 * 32 * 32 * 32 + 2 * 64 * 16 * 16 + 2 * 128 * 8 * 8 + 2048 * 2 + 10)


def test_a_network_that_cannot_fit_is_refused_before_it_is_built(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "free_memory", lambda device: 10_000)
    config = compose()
    with pytest.raises(
        OutOfMemory,
        match=r"at least 0\.\d MiB of free memory on the cpu to train \d\d?,\d\d\d connections, found 0.0 MiB; take a",
    ) as caught:
        train(config)
    assert not Path(config.runs_dir).exists()
    assert "model.hidden, epsilon or train.batch_size" in str(caught.value)
    with pytest.raises(OutOfMemory, match=r"take a smaller model\.channels, model\.hidden or train\.batch_size$"):
        train(compose("model=cnn", "method=dense"))
    monkeypatch.setattr(network, "free_memory", lambda device: None)  # a system that does not say
    assert train(compose("train.epochs=1")).exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
            r" \(CUDA out of .* 2.00 GiB\)",
        ),
        (MemoryError(), ""),
    ],
)
def test_running_out_of_memory_names_the_estimate(
    error: Exception, said: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("set_cli.training.supervised.train_epoch", fails)
    config = compose()
    message = rf"^out of memory{said}; training this network takes about \d\.\d MiB"
    with pytest.raises(OutOfMemory, match=message) as caught:
        train(config)
    assert caught.value.exit_code == 7
    assert read_json(locate(config)[0] / "status.json")["status"] == "failed"


def test_free_memory_is_what_the_system_and_the_container_leave(tmp_path: Path) -> None:
    free = free_memory(CPU)
    assert free is None or free > 2**20
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 400\nactive_file 150\nslab_reclaimable 50\n")
    assert left_in_group(tmp_path) == 700  # a file that was read is no memory taken
    (tmp_path / "memory.max").write_text("max\n")
    assert left_in_group(tmp_path) is None
    assert left_in_group(tmp_path / "none") is None
