"""What is measured: whole training steps of the paper's networks, the topology's own work, and layers alone.

A workload and an engine give a `Task`: a function that does the work once. Inputs are synthetic (Gaussian), the batch
is one fixed batch, the learning rate so small that nothing saturates while the clock runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from set_cli import native
from set_cli.bench.layers import LAYERS, SPARSELAB, why_no_sparselab
from set_cli.config import Model, Train
from set_cli.models.activations import Activation
from set_cli.models.cnn import build_cnn, plan_cnn
from set_cli.models.counts import count_connections
from set_cli.models.mlp import build_mlp, plan_mlp
from set_cli.models.random_stream import RandomStream
from set_cli.models.rbm import RBM, build_rbm, plan_rbm
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import find_engine, why_missing
from set_cli.sparse.rules import erdos_renyi
from set_cli.training.contrastive import Divergence
from set_cli.training.graphs import record
from set_cli.training.loss import cross_entropy
from set_cli.training.native_steps import native_steps
from set_cli.training.optimizer import build_optimizer, drop_gradients
from set_cli.training.pace import Pace

Precision = Literal["float32", "bfloat16"]
SETTINGS = Train(epochs=1, batch_size=1, lr=1e-5, momentum=0.9, nesterov=False, weight_decay=2e-4, l1=0)
SEED = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One engine at one workload: `run` does the work and says how often; connections of the whole network.

    streams  that the work draws from, where it may be recorded as a CUDA graph; None where not
    pace     what chooses its threads; None: torch's
    """

    run: Callable[[], int]
    connections: int
    streams: Sequence[RandomStream] | None = None
    pace: Pace | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """n_in-hidden-…-classes, the output layer dense, trained in batches of n_batch rows.

    channels, shape  of a CNN: its blocks before the hidden layers, and the images
    """

    widths: tuple[int, ...]
    epsilon: float
    n_batch: int
    activation: Literal["relu", "srelu"] = "relu"
    dropout: float = 0.0
    channels: tuple[int, ...] | None = None
    shape: tuple[int, ...] = ()

    @property
    def dense_bytes(self) -> int:
        """Weights, gradients and momenta of the dense network."""
        return 12 * sum(n_in * n_out for n_in, n_out in itertools.pairwise(self.widths))

    def build(self, engine: str) -> nn.Sequential:
        """The network with its sparse layers on this engine; `dense` and `masked` as plain torch has them."""
        if engine in ("dense", "masked"):
            network = self._build(None, engine)
            if engine == "masked":
                _mask(network, self.epsilon)
            return network
        return self._build(self.epsilon, engine)

    def _build(self, epsilon: float | None, engine: str) -> nn.Sequential:
        features, *hidden, classes = self.widths
        model = Model(
            name="mlp" if self.channels is None else "cnn",
            hidden=tuple(hidden),
            activation=self.activation,
            dropout=self.dropout,
            init="sparse_fan_in",
            channels=self.channels,
            sparse_convolutions=None if self.channels is None else False,
        )
        if self.channels is None:
            plans = plan_mlp(model, epsilon, features, classes)
            return build_mlp(plans, model, {plan.name: engine for plan in plans}, SEED)
        plans = plan_cnn(model, epsilon, self.shape, classes)
        return build_cnn(plans, model, {plan.name: engine for plan in plans}, SEED, self.shape)


@dataclass(frozen=True, slots=True)
class Machine:
    """An RBM, trained by one step of contrastive divergence in batches of n_batch rows."""

    n_visible: int
    n_hidden: int
    epsilon: float
    n_batch: int

    def build(self, engine: str) -> RBM:
        """The RBM with its connections on this engine; `dense` and `masked` have all weights."""
        sparse = engine not in ("dense", "masked")
        model = Model(
            name="rbm",
            hidden=(self.n_hidden,),
            init="normal",
            cd_steps=1,
            persistent=False,
            ais="quick",
            ais_last="quick",
        )
        (plan,) = plan_rbm(model, self.epsilon if sparse else None, self.n_visible)
        mean = np.full(self.n_visible, 0.2, np.float32)
        return build_rbm(plan, model, engine, SEED, mean, self.n_batch, 0)


def _mask(network: nn.Module, epsilon: float) -> None:
    """What others ship (torch.nn.utils.prune): dense weights, multiplied by a 0/1 mask in every forward."""
    rng = np.random.default_rng(SEED)
    for layer in [module for module in network if isinstance(module, nn.Linear)][:-1]:  # type: ignore[attr-defined]
        mask = _dense_mask(layer.in_features, layer.out_features, epsilon, rng)
        prune.custom_from_mask(layer, "weight", mask)  # type: ignore[no-untyped-call]


def _dense_mask(n_in: int, n_out: int, epsilon: float, rng: np.random.Generator) -> torch.Tensor:
    """(n_out, n_in) as nn.Linear's weight."""
    pattern = erdos_renyi(n_in, n_out, epsilon, rng)
    mask = torch.zeros(n_in * n_out)
    mask[torch.from_numpy(pattern.positions())] = 1
    return mask.view(pattern.shape).t()


NETWORKS: dict[str, Network] = {
    "cifar10_mlp": Network((3072, 4000, 1000, 4000, 10), 20, 100, "srelu", 0.3),
    "cifar10_mlp_relu": Network((3072, 4000, 1000, 4000, 10), 20, 100),
    "mnist_mlp": Network((784, 1000, 1000, 1000, 10), 20, 100),
    "mnist_mlp_10": Network((784, 1000, 1000, 1000, 10), 20, 10),
    "cifar10_cnn": Network((3072, 2048, 2048, 10), 20, 100, "relu", 0.3, (32, 64, 128), (3, 32, 32)),
    "higgs_mlp": Network((28, 1000, 1000, 1000, 2), 10, 100),
    "million": Network((65536, 500_000, 500_000, 10), 10, 32),
}
MACHINES: dict[str, Machine] = {"mnist_rbm": Machine(784, 2500, 11, 100)}
# The topology's work: on the CIFAR10 network and on the one with a million hidden neurons.
TOPOLOGY: Mapping[str, Network] = {
    f"{work}{suffix}": NETWORKS[name]
    for work in ("evolve", "init")
    for suffix, name in (("", "cifar10_mlp"), ("_million", "million"))
}
WORKLOADS = (*NETWORKS, *MACHINES, *TOPOLOGY, *LAYERS)
GROUPS = {"layer": tuple(LAYERS)}  # names that stand for several
ENGINES = ("native", "torch", "triton", "masked", "dense", SPARSELAB)
CPU = torch.device("cpu")
ARRANGING = ("native", "torch", "triton")  # engines that read a batch fastest in a layout of their own
LARGEST_DENSE = 8 << 30  # bytes
MOST_STEPS = 256  # in one call


def why_not(workload: str, engine: str, device: torch.device = CPU, precision: Precision = "float32") -> str | None:
    """Why this engine does not do this workload on this device in this precision; None where it does."""
    on_gpu = device.type != "cpu"
    if precision != "float32":
        if not on_gpu or workload not in NETWORKS:
            return f"{precision} is for networks on a GPU, --device cuda"
        if engine == "torch":
            return f"it computes in float32 under {precision} too"
    if engine == "native" and (on_gpu or native.core is None):
        return "it computes on the CPU" if on_gpu else native.missing
    if engine == "triton" and (missing := why_missing("triton") if on_gpu else "it computes on a GPU, --device cuda"):
        return missing
    if engine == SPARSELAB:
        if workload not in LAYERS:
            return "it is compared in the workload layer"
        return "it computes on the CPU" if on_gpu else why_no_sparselab()
    if workload in LAYERS:
        return None
    if workload in TOPOLOGY:
        if on_gpu and workload.startswith("init"):
            return "networks are drawn on the CPU"
        return "has no topology of its own" if engine in ("triton", "masked", "dense") else None
    if workload in MACHINES:
        return None
    needed = NETWORKS[workload].dense_bytes
    if engine in ("masked", "dense") and needed > LARGEST_DENSE:
        return f"its dense weights, gradients and momenta would take {needed / 2**30:,.0f} GiB"
    return None


def prepare(workload: str, engine: str, device: torch.device = CPU, precision: Precision = "float32") -> Task:
    """The task, everything but the work itself done.

    On a GPU each run waits until the GPU is done, and a training step is a CUDA graph as `set-train` has it (but with
    cuSPARSE's products).
    """
    task = _prepare(workload, engine, device, precision)
    if device.type == "cpu":
        return task
    work: Callable[[], object] = task.run
    if task.streams is not None and engine != "torch":
        aside, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(2):  # builds kernels, derives structures, makes momenta
                work()
        here.wait_stream(aside)
        work = record(work, [stream.generator for stream in task.streams], aside).replay

    def run(kept: Task = task) -> int:  # a graph's tensors live as long as the task that it was recorded of
        work()
        torch.cuda.synchronize(device)
        return 1

    return Task(run, task.connections)


def _prepare(workload: str, engine: str, device: torch.device, precision: Precision) -> Task:
    if workload in TOPOLOGY:
        kernels = nullcontext if engine == "native" else native.without_kernels
        work = _evolve if workload.startswith("evolve") else _init
        return work(TOPOLOGY[workload], kernels, device)
    if workload in MACHINES:
        return _contrast(MACHINES[workload], engine, device)
    if workload in LAYERS:
        passes, connections = LAYERS[workload].prepare(engine, device)
        return Task(_once(passes), connections)
    network = NETWORKS[workload]
    model = network.build(engine).to(device)
    activations = [module for module in model if isinstance(module, Activation)]
    for activation in activations:
        activation.reseed(SEED, device)
    optimizer = _optimizer(model, engine)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(network.n_batch, network.widths[0], generator=generator).to(device)
    y = torch.randint(network.widths[-1], (network.n_batch,), generator=generator).to(device)
    if steps := native_steps(model, optimizer, SETTINGS, *x.shape):
        steps.x.copy_(x)
        labels = y.repeat(MOST_STEPS)
        return _together(lambda rates, threads: steps.run(rates, labels, threads), count_connections(model))
    if engine in ARRANGING:
        x = find_engine(engine).arrange(x)  # as the input pipeline hands it over

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        loss = cross_entropy(logits.float(), y)
        drop_gradients(optimizer)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    connections = count_connections(model)
    if engine == "masked":
        connections = sum(int(m.weight.count_nonzero()) for m in model.modules() if isinstance(m, nn.Linear))
    return Task(_once(step), connections, [activation.stream for activation in activations])


def _once(work: Callable[[], None]) -> Callable[[], int]:
    def run() -> int:
        work()
        return 1

    return run


def _together(work: Callable[[list[float], int], object], connections: int) -> Task:
    """Steps on one batch as set-train does them: several in a call, with the threads that are fastest.

    work  takes the learning rate of each step, and the threads
    """
    pace = Pace(torch.get_num_threads(), tried=True, holds=math.inf)

    def run() -> int:
        steps = pace.steps(MOST_STEPS)
        with pace.call(steps):
            work([SETTINGS.lr] * steps, pace.threads)
        return steps

    return Task(run, connections, pace=pace)


def _optimizer(model: nn.Module, engine: str) -> torch.optim.Optimizer:
    if engine == "native":
        return build_optimizer(model, SETTINGS)
    return torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, weight_decay=2e-4, fused=True)


def _contrast(machine: Machine, engine: str, device: torch.device) -> Task:
    """Contrastive divergence; every engine but native draws with torch, as plain torch would."""
    kernels = nullcontext if engine == "native" else native.without_kernels
    model = machine.build(engine).to(device)
    optimizer = _optimizer(model, engine)
    generator = torch.Generator().manual_seed(SEED)
    v = (torch.rand(machine.n_batch, machine.n_visible, generator=generator) < 0.2).float().to(device)
    if engine in ARRANGING:
        v = find_engine(engine).arrange(v)
    mask = None
    if engine == "masked":
        mask = _dense_mask(machine.n_visible, machine.n_hidden, machine.epsilon, np.random.default_rng(SEED))
        mask = mask.to(device)
        model.layer1.weight.data.mul_(mask)
    with kernels():
        divergence = Divergence(model, 1, SEED)
        steps = divergence.steps(optimizer, SETTINGS, machine.n_batch)
    if steps is not None:
        steps.v.copy_(v)
        return _together(steps.run, count_connections(model))

    def step() -> None:
        with kernels():
            drop_gradients(optimizer)
            divergence.differentiate(v)
            if mask is not None:
                assert model.layer1.weight.grad is not None
                model.layer1.weight.grad.mul_(mask)
            optimizer.step()

    connections = count_connections(model) if mask is None else int(mask.sum())
    return Task(_once(step), connections, [divergence.sampler.stream])


def _layers(network: Network) -> list[SparseLinear]:
    widths, rng = network.widths[:-1], np.random.default_rng(SEED)
    shapes = itertools.pairwise(widths)
    return [SparseLinear(n_in, n_out, epsilon=network.epsilon, seed=rng) for n_in, n_out in shapes]


def _evolve(network: Network, kernels: Callable[[], AbstractContextManager[None]], device: torch.device) -> Task:
    """Prune and regrow every sparse layer once, weights and momenta moved along."""
    layers, rng = [layer.to(device) for layer in _layers(network)], np.random.default_rng(SEED)
    optimizer = torch.optim.SGD([layer.weight for layer in layers], lr=0.1, momentum=0.9)
    for layer in layers:
        optimizer.state[layer.weight]["momentum_buffer"] = torch.ones_like(layer.weight)

    def run() -> None:
        with kernels():
            for layer in layers:
                layer.evolve(0.3, optimizer=optimizer, seed=rng, regrow_init="random")

    return Task(_once(run), sum(layer.nnz for layer in layers))


def _init(network: Network, kernels: Callable[[], AbstractContextManager[None]], device: torch.device) -> Task:
    """Every sparse layer from nothing: topology, weights, and both orders of the connections."""

    def run() -> None:
        with kernels():
            for layer in _layers(network):
                layer(torch.empty(0, layer.in_features))  # derives the other order

    return Task(_once(run), sum(layer.nnz for layer in _layers(network)))
