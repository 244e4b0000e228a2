"""Sparse layers in what reads a program instead of running it: torch.compile, export, ONNX, make_fx, modes."""

from __future__ import annotations

import copy
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, library, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from set_cli.models.activations import SReLU
from set_cli.models.cnn import SparseConvolution
from set_cli.models.stack import BatchContiguousLinear, SparseSequential
from set_cli.sparse import SparseLinear, densify, to_exportable
from set_cli.sparse.operators import gradients, product
from set_cli.sparse.pattern import from_positions
from tests.oracles import INSTALLED_ENGINES

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]

ENGINES = [
    pytest.param(name, marks=[] if name == INSTALLED_ENGINES[0] else pytest.mark.faults) for name in INSTALLED_ENGINES
]

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")]


def rows(count: int, features: int = 30, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def network(engine: str = "auto") -> nn.Sequential:
    torch.manual_seed(0)
    first = SparseLinear(30, 20, density=0.2, engine=engine, seed=0)
    second = SparseLinear(20, 16, False, density=0.2, engine=engine, seed=1)
    return nn.Sequential(first, nn.Tanh(), second, nn.Linear(16, 4))


def sparse(model: nn.Module) -> list[SparseLinear]:
    return [module for module in model.modules() if isinstance(module, SparseLinear)]


def compiled(model: nn.Module) -> tuple[Any, CompileCounterWithBackend]:
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    return torch.compile(model, fullgraph=True, backend=backend), backend


@pytest.mark.parametrize(("device", "engine"), [("cpu", "auto"), pytest.param("cuda", "triton", marks=ON_GPU)])
def test_a_compiled_network_trains_and_evolves_as_one_that_is_not(device: str, engine: str) -> None:
    model = network(engine).to(device)
    other = copy.deepcopy(model)
    program, backend = compiled(other)
    optimizers = [torch.optim.Adam(one.parameters(), lr=0.01) for one in (model, other)]
    graphs = []
    for step in range(8):
        for one, call, optimizer in zip((model, other), (model, program), optimizers, strict=True):
            optimizer.zero_grad()
            call(rows(8, seed=step).to(device)).square().mean().backward()
            optimizer.step()
            for layer in sparse(one):
                if step % 2:
                    layer.evolve(0.3, optimizer=optimizer, seed=step, refill=step < 5)
        graphs.append(backend.frame_count)
    # The operators ask a GPU for each gradient by itself, whose sums have another order.
    rtol, atol = (0.0, 0.0) if device == "cpu" else (1e-4, 1e-5)
    for found, expected in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    assert graphs == [1, 1, 1, 1, 1, 1, 2, 2]  # one more graph for another number of connections, none for others


@pytest.mark.parametrize("engine", ENGINES)
def test_a_compiled_layer_takes_what_a_layer_takes(engine: str) -> None:
    layer = SparseLinear(30, 20, density=0.2, engine=engine, seed=0)
    program, _ = compiled(layer)
    for x in (rows(9), rows(9)[0], rows(6).view(2, 3, 30), rows(30)[:, :7].t(), rows(0), rows(5).requires_grad_()):
        assert torch.equal(program(x), layer(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = program(rows(9)), layer(rows(9))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    with pytest.raises(Exception, match="expected 30 features"):
        program(rows(9)[:, :4])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_operators_keep_the_rules_of_torchs_library(engine: str) -> None:
    layer = SparseLinear(30, 20, density=0.2, engine=engine, seed=0)
    x, dy = rows(7).requires_grad_(), rows(7, 20).requires_grad_()
    for bias in (layer.bias, None):
        library.opcheck(product, (x, layer.weight, bias, layer.indptr, layer.indices, 20, engine))
    for wanted in ([True, True, True], [False, True, False]):
        arguments = (x, dy, layer.weight, layer.indptr, layer.indices, engine, wanted)
        library.opcheck(gradients, arguments)


def test_a_compiled_layer_notices_indices_that_are_edited_or_lie_elsewhere() -> None:
    layer, other = (SparseLinear(30, 20, density=0.2, seed=seed, engine="native") for seed in (0, 1))
    program, _ = compiled(layer)
    program(rows(4))
    start, end = (int(i) for i in layer.indptr[:2])
    free = next(j for j in range(20) if j not in layer.indices[start:end].tolist())
    layer.indices[start:end] = layer.indices[start:end].index_fill(0, torch.tensor([0]), free).sort().values
    torch.testing.assert_close(program(rows(4)), layer.to_dense()(rows(4)))
    count = min(layer.nnz, other.nnz)
    arguments = [rows(4), torch.ones(count), None]
    patterns = [from_positions(one.pattern.positions()[:count], (30, 20)) for one in (layer, other)]
    (indptr, indices), moved = ([torch.from_numpy(a) for a in (p.indptr, p.indices)] for p in patterns)
    product(*arguments, indptr, indices, 20, "native")
    indptr.data, indices.data = moved
    found = product(*arguments, indptr, indices, 20, "native")
    assert torch.equal(found, product(*arguments, *moved, 20, "native"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_network_takes_any_number_of_rows_and_can_be_saved(engine: str, strict: bool) -> None:
    model = network(engine)
    any_number = ({0: torch.export.Dim("rows")},)
    exported = torch.export.export(model, (rows(8),), dynamic_shapes=any_number, strict=strict)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        for count in (1, 5, 33):
            torch.testing.assert_close(program.module()(rows(count)), model(rows(count)))


def test_a_network_of_ours_is_compiled_and_exported() -> None:
    rng = np.random.default_rng(0)
    layer = SparseLinear(30, 20, density=0.2, seed=0)
    model = SparseSequential(layer, SReLU(20, rng, 0.3, fused=True), BatchContiguousLinear(20, 4)).eval()
    program, _ = compiled(model)
    torch.testing.assert_close(program(rows(8)), model(rows(8)))
    torch.testing.assert_close(torch.export.export(model, (rows(8),)).module()(rows(8)), model(rows(8)))
    torch.testing.assert_close(to_exportable(model)(rows(8)), model(rows(8)))


@pytest.mark.parametrize("tracing_mode", ["real", "fake", "symbolic"])
def test_make_fx_reads_forward_and_gradient(tracing_mode: Any) -> None:
    model = network()
    tensors = {name: value.detach() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]

    def gradient(tensors: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        rest = {name: value for name, value in tensors.items() if name not in names}
        own = {name: tensors[name] for name in names}
        found: dict[str, Tensor] = grad(lambda own: functional_call(model, own | rest, (x,)).pow(2).sum())(own)
        return found

    program = make_fx(gradient, tracing_mode=tracing_mode)(tensors, rows(8))
    torch.testing.assert_close(program(tensors, rows(8)), gradient(tensors, rows(8)))


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*should not be instantiated", "ignore:Dynamo does not know how to trace")
def test_transforms_that_are_compiled_are_called_as_they_are() -> None:
    torch._dynamo.reset()
    model = network()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    each = vmap(grad(lambda own, x: functional_call(model, own, (x,)).pow(2).sum()), in_dims=(None, 0))
    found = torch.compile(each, backend="aot_eager")(weights, rows(6))
    torch.testing.assert_close(found, each(weights, rows(6)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mode_that_looks_at_operations_changes_no_derivative(engine: str) -> None:
    class Look(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return operation(*args, **(kwargs or {}))

    layer = SparseLinear(30, 20, density=0.2, engine=engine, seed=0)

    def derivatives() -> tuple[Tensor, ...]:
        x = rows(7).requires_grad_()
        first = torch.autograd.grad(layer(x).pow(3).sum(), [x, *layer.parameters()], create_graph=True)
        penalty = torch.stack([gradient.square().sum() for gradient in first]).sum()
        return *first, *torch.autograd.grad(penalty, [x, *layer.parameters()])

    expected = derivatives()
    with Look():  # type: ignore[no-untyped-call]
        found = derivatives()
    torch.testing.assert_close(found, expected)


def test_flops_are_those_of_the_connections() -> None:
    model = network()
    with FlopCounterMode(display=False) as counter:
        model(rows(8)).sum().backward()
    first, second = (layer.nnz for layer in sparse(model))
    # Forward, and both gradients but that of the network's input.
    assert counter.get_total_flops() == 2 * 8 * (2 * first + 3 * second + 3 * 16 * 4)


def test_jit_trace_keeps_the_operators() -> None:
    model = network()
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, (rows(8),)), file)  # type: ignore[no-untyped-call]
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(rows(5)), model(rows(5)))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("form", ["dense", "gather"])
def test_an_exportable_copy_computes_the_same_in_torchs_own_operations(form: str) -> None:
    model = network()
    plain = to_exportable(model, form)
    assert not sparse(plain)
    assert len(sparse(model)) == 2
    for program in (plain, torch.jit.script(plain), torch.fx.symbolic_trace(plain)):
        for x in (rows(5), rows(5)[0], rows(6).view(2, 3, 30)):
            torch.testing.assert_close(program(x), model(x))
    alone = to_exportable(sparse(model)[0], form)
    torch.testing.assert_close(alone(rows(5)), sparse(model)[0](rows(5)))


def test_what_cannot_be_scripted_traced_or_made_plain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.jit\.script takes no SparseLinear; script set_cli\.sparse\.to_exp"):
        torch.jit.script(network())
    with pytest.raises(torch.fx.proxy.TraceError, match="cannot be used as inputs to control flow"):
        torch.fx.symbolic_trace(network())
    with pytest.raises(ValueError, match="form: expected 'dense' or 'gather', got 'csr'"):
        to_exportable(network(), "csr")
    convolution = nn.Sequential(nn.Identity(), SparseConvolution(9, 4, density=0.5, seed=0))
    for convert in (to_exportable, densify):
        with pytest.raises(ValueError, match="1: expected a SparseLinear, got its subclass SparseConvolution"):
            convert(convolution)
    with pytest.raises(ValueError, match=r"got a SparseLinear itself; use its to_dense\(\)"):
        densify(sparse(network())[0])


@pytest.mark.faults
@pytest.mark.parametrize("form", ["dense", "gather"])
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_computes_the_same_of_an_exportable_copy(form: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    runtime = importlib.import_module("onnxruntime")
    model = network()
    any_number = ({0: torch.export.Dim("rows")},)
    exported = torch.onnx.export(
        to_exportable(model, form), (rows(8),), dynamo=True, dynamic_shapes=any_number, verbose=False
    )
    assert exported is not None
    exported.save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: rows(5).numpy()})
    np.testing.assert_allclose(found, model(rows(5)).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match=r"ONNX has no sparse products; export set_cli\.sparse\.to_exportable\(model\)"):
        torch.onnx.export(model, (rows(8),), dynamo=True, verbose=False)
