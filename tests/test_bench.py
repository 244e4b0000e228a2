"""set-bench: the contract's rows, names that are not known, and that what is compared is what it says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from set_cli import native
from set_cli.bench import measure as measuring
from set_cli.bench.beside import neighbours
from set_cli.bench.layers import LAYERS, SPARSELAB, Layers, why_no_sparselab
from set_cli.bench.measure import as_json, measure, ratio
from set_cli.bench.table import render
from set_cli.bench.workloads import ENGINES, MACHINES, NETWORKS, Machine, Network, prepare, why_not
from set_cli.models.counts import sparse_layers
from set_cli.models.rbm import RBM
from set_cli.sparse.engines import why_missing
from tests.conftest import run_command

BENCH = "import set_cli.commands.bench; set_cli.commands.bench.main()"
SMALL = Network((20, 30, 25, 5), 3, 8, "srelu", 0.3)
CONVOLUTIONAL = Network((64, 30, 25, 5), 3, 8, "relu", 0.3, (4, 6), (8, 8))
KEYS = "workload engine device threads connections ms_median ms_best vs_dense vs_torch_csr peak_memory_mb precision"

pytestmark = pytest.mark.skipif(native.core is None, reason=f"no compiled kernels here: {native.missing}")


@pytest.mark.slow  # a process for each engine's memory
def test_json_has_the_contracts_rows_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    arguments = ["--workload", "higgs_mlp", "init", "--engine", "native", "dense", "--threads", "1", "--repeats", "1"]
    result = run_command(BENCH, *arguments, "--format", "json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["workload"], row["engine"]) for row in rows] == [
        ("higgs_mlp", "native"),
        ("higgs_mlp", "dense"),
        ("init", "native"),
    ]
    assert all(list(row) == KEYS.split() for row in rows)
    sparse, dense, init = rows
    assert dense["vs_dense"] == 1
    assert sparse["vs_dense"] > 0
    assert sparse["vs_torch_csr"] is init["vs_dense"] is None
    assert 0 < sparse["peak_memory_mb"] < dense["peak_memory_mb"]
    assert abs(sparse["connections"] - 52_280) < 1000
    assert dense["connections"] == 28 * 1000 + 2 * 1000 * 1000 + 1000 * 2
    assert {row["threads"] for row in rows} == {1}
    assert "init with dense: not run: has no topology of its own" in result.stderr
    assert "1 threads, 1 rounds" in result.stderr


def test_an_rbm_has_a_row_for_every_engine(tmp_path: Path) -> None:
    arguments = ["--workload", "mnist_rbm", "--threads", "1", "--repeats", "1", "--no-memory", "--format", "json"]
    result = run_command(BENCH, *arguments, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert all(list(row) == KEYS.split() for row in rows)
    assert [row["engine"] for row in rows] == ["native", "torch", "masked", "dense"]
    assert {row["workload"] for row in rows} == {"mnist_rbm"}
    native_row, torch_row, masked, dense = rows
    assert dense["connections"] == 784 * 2500
    assert native_row["connections"] == torch_row["connections"]
    for row in (native_row, masked):
        assert abs(row["connections"] - 11 * (784 + 2500)) < 1000
    assert dense["vs_dense"] == torch_row["vs_torch_csr"] == 1
    assert all(row["peak_memory_mb"] is None and 0 < row["ms_best"] <= row["ms_median"] for row in rows)


OURS = [engine for engine in ENGINES if engine != SPARSELAB]
RUNNABLE = [engine for engine in OURS if engine == "dense" or why_missing(engine) is None]


@pytest.mark.parametrize("engine", RUNNABLE)
def test_a_step_of_the_rbm_trains_the_connections_and_no_others(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that froze, or trained what a mask has taken out, would be timed all the same."""
    made: list[RBM] = []
    build = Machine.build

    def keep(machine: Machine, engine: str) -> RBM:
        made.append(build(machine, engine))
        return made[-1]

    monkeypatch.setattr(Machine, "build", keep)
    monkeypatch.setitem(MACHINES, "small", Machine(40, 30, 3, 8))
    task = prepare("small", engine)
    (rbm,) = made
    before = [parameter.detach().clone() for parameter in rbm.parameters()]
    connected = before[0] != 0
    for _ in range(3):
        task.run()
    assert all(not torch.equal(*both) for both in zip(rbm.parameters(), before, strict=True))
    assert not rbm.layer1.weight[~connected].any()
    assert task.connections == int(connected.sum())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workload", "cifar"], "workload cifar is not known: expected one of cifar10_mlp, "),
        (
            ["--engine", "scipy"],
            "engine scipy is not known: expected one of native, torch, triton, masked, dense, sparse",
        ),
        (["--repeats", "0"], "0 is not in the range"),
        (["--device", "cuda"], "--device cuda: torch finds no GPU here; use --device cpu"),
    ],
)
def test_what_is_not_known_is_refused(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    result = run_command(BENCH, *arguments, folder=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr


def test_a_bad_instruction_set_is_one_sentence(tmp_path: Path) -> None:
    result = run_command(BENCH, "--workload", "init", folder=tmp_path, SET_SIMD="mmx")
    assert result.returncode == 2
    assert result.stderr.startswith("set-bench: SET_SIMD=mmx: expected avx512, avx2 or portable")


def test_what_cannot_run_says_why() -> None:
    assert "3,160 GiB" in str(why_not("million", "dense"))
    assert why_not("cifar10_mlp", "dense") is None
    with native.without_kernels():
        assert "switched off" in str(why_not("cifar10_mlp", "native"))
    assert why_not("cifar10_mlp", "triton") == "it computes on a GPU, --device cuda"
    gpu = torch.device("cuda")
    assert why_not("cifar10_mlp", "native", gpu) == "it computes on the CPU"
    assert why_not("cifar10_mlp", "torch", gpu) is None
    assert why_not("evolve", "torch", gpu) is None
    assert why_not("init", "torch", gpu) == "networks are drawn on the CPU"


def test_aratio_is_the_median_of_the_roundsratios() -> None:
    rounds = {"native": [1.0, 2.0, 1.0], "dense": [10.0, 30.0, 40.0]}
    assert ratio(rounds, "native", "dense") == 15
    assert ratio(rounds, "native", "torch") is None


def test_the_engines_have_the_networks_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {engine: SMALL.build(engine) for engine in RUNNABLE}
    for engine in ("native", "torch"):
        assert {layer.engine.name for layer in sparse_layers(networks[engine]).values()} == {engine}
    assert not sparse_layers(networks["dense"])
    x = torch.ones(8, 20)
    assert networks["native"](x).grad_fn.name() == "StackBackward"
    assert "Stack" not in networks["torch"](x).grad_fn.name()
    networks["masked"](x).sum().backward()
    first = networks["masked"][0]
    assert isinstance(first, nn.Linear)
    mask = first.get_buffer("weight_mask")
    assert 100 < mask.sum() < 200  # 3 * (20 + 30) = 150 connections
    gradient = first.get_parameter("weight_orig").grad
    assert gradient is not None
    assert not gradient[mask == 0].any()
    monkeypatch.setitem(NETWORKS, "small", SMALL)
    monkeypatch.setitem(NETWORKS, "convolutional", CONVOLUTIONAL)
    for engine in RUNNABLE:
        for workload in ("small", "convolutional"):
            task = prepare(workload, engine)
            task.run()
            assert task.connections > 0
    convolutional = CONVOLUTIONAL.build("native")
    assert sum(isinstance(module, nn.Conv2d) for module in convolutional) == 4
    assert list(sparse_layers(convolutional)) == ["layer1", "layer2"]


def test_layers_alone_are_a_group_of_workloads(tmp_path: Path) -> None:
    arguments = ["--workload", "layer", "--engine", "triton", "--format", "json"]  # which does none of them, so quickly
    result = run_command(BENCH, *arguments, folder=tmp_path)
    assert (result.returncode, json.loads(result.stdout)) == (0, [])
    refused = [line for line in result.stderr.splitlines() if "not run: it computes on a GPU" in line]
    assert [line.partition(" ")[0] for line in refused] == list(LAYERS)
    assert len(refused) == 8


def test_layers_alone_have_the_contracts_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, "layer_small", Layers(64, 0.1, 8))
    sparse, dense = rows = measure("layer_small", ["native", "dense"], 1, False, lambda line: None)
    assert all(list(row) == KEYS.split() for row in json.loads(as_json(rows)))
    assert (sparse.engine, dense.engine, dense.vs_dense) == ("native", "dense", 1)
    assert sparse.vs_dense is not None
    assert sparse.vs_dense > 0


@pytest.mark.parametrize("engine", [*RUNNABLE, SPARSELAB])
def test_layers_alone_compute_all_gradients(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the inputs too: an engine that left them out would look fast."""
    if engine == SPARSELAB and (missing := why_no_sparselab()):
        pytest.skip(missing)
    build = Layers.build
    seen: set[torch.Size] = set()

    def watch(tensor: torch.Tensor) -> None:
        tensor.register_hook(lambda gradient: seen.add(gradient.shape))  # type: ignore[no-untyped-call]

    def watched(layers: Layers, engine: str) -> nn.Sequential:
        model = build(layers, engine)
        for parameter in model.parameters():
            watch(parameter)
        model[0].register_forward_pre_hook(lambda _, inputs: watch(inputs[0]))
        return model

    monkeypatch.setattr(Layers, "build", watched)
    monkeypatch.setitem(LAYERS, "layer_small", Layers(64, 0.1, 8))
    task = prepare("layer_small", engine)
    task.run()
    assert len(seen) >= 3  # and weights
    assert {torch.Size((8, 64)), torch.Size((64,))} < seen  # inputs, biases
    assert task.connections == 2 * 64 * 64 if engine == "dense" else abs(task.connections - 819) < 100


def test_sparselab_is_compared_where_it_is() -> None:
    assert why_not("higgs_mlp", SPARSELAB) == "it is compared in the workload layer"
    assert why_not("layer_1024_0.1_32", SPARSELAB) == why_no_sparselab()
    assert why_not("layer_1024_0.1_32", SPARSELAB, torch.device("cuda")) == "it computes on the CPU"


def test_beside_busy_processes_there_is_a_second_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "small", SMALL)
    monkeypatch.setattr(measuring, "SECONDS_PER_TURN", 0.02)
    monkeypatch.setattr(measuring, "SECONDS_BESIDE", 0.02)
    alone, beside = (measure("small", ["native", "dense"], 2, False, lambda _: None, beside=n) for n in (0, 1))
    assert all(row.ms_beside is row.vs_alone is None for row in alone)
    assert all((row.ms_beside or 0) > 0 and (row.vs_alone or 0) > 0 for row in beside)
    assert "ms_beside" not in as_json(alone)
    assert [row["vs_alone"] for row in json.loads(as_json(beside))] == [row.vs_alone for row in beside]
    assert "vs alone" not in render(alone, 200)
    assert "vs alone" in render(beside, 200)


def test_busy_processes_compute_when_they_are_let_and_end_with_the_context() -> None:
    def seconds(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with neighbours(2) as others:
        pids = [process.pid for process in others._processes]
        with others.computing():
            deadline = time.monotonic() + 60
            while min(map(seconds, pids)) < 0.3 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert min(map(seconds, pids)) >= 0.3
        time.sleep(0.3)  # the last round of what they count
        before = list(map(seconds, pids))
        time.sleep(0.3)
        assert list(map(seconds, pids)) == pytest.approx(before, abs=0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_threads_are_chosen_before_anything_is_measured() -> None:
    task = prepare("higgs_mlp", "native")
    assert task.pace is not None
    assert not task.pace.is_settled
    measuring._calls_per_turn(task)
    assert task.pace.is_settled
