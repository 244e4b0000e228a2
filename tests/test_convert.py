"""Sparse layers from dense ones, from explicit patterns and back, and whole modules."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor, nn

from set_cli.sparse import SparseLinear
from set_cli.sparse.convert import densify, sparsify
from set_cli.sparse.pattern import Csr


def rows(n: int, features: int) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(0))


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(40, 30, bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("density", [1e-9, 0.1, 0.5, 1.0])
def test_the_largest_weights_of_a_dense_layer_stay(density: float, bias: bool) -> None:
    dense = linear(bias)
    layer = SparseLinear.from_dense(dense, density)
    count = max(1, round(density * 1200))
    threshold = dense.weight.abs().flatten().sort(descending=True).values[count - 1]
    kept = dense.weight.detach() * (dense.weight.abs() >= threshold)
    assert layer.nnz == count
    torch.testing.assert_close(layer.to_dense().weight.detach(), kept, rtol=0, atol=0)
    torch.testing.assert_close(layer(rows(5, 40)), nn.functional.linear(rows(5, 40), kept, dense.bias))
    assert (layer.bias is None) == (not bias)


def test_random_weights_of_a_dense_layer_stay() -> None:
    layers = [SparseLinear.from_dense(linear(), 0.25, keep="random", seed=seed) for seed in (0, 0, 1)]
    assert [layer.nnz for layer in layers] == [300] * 3
    assert torch.equal(layers[0].indices, layers[1].indices)
    assert not torch.equal(layers[0].indices, layers[2].indices)
    kept = layers[0].to_dense().weight
    assert torch.equal(kept[kept != 0], linear().weight[kept != 0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_type_and_mode_of_the_dense_layer_stay(dtype: torch.dtype) -> None:
    layer = SparseLinear.from_dense(linear().to(dtype).eval(), 0.2)
    assert (layer.weight.dtype, layer.training) == (dtype, False)
    back = layer.to_dense()
    assert (back.weight.dtype, back.training) == (dtype, False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_as_a_scipy_array(dtype: torch.dtype) -> None:
    layer = SparseLinear(40, 30, density=0.1, seed=0, dtype=dtype)
    with torch.no_grad():
        layer.weight[3] = 0
    matrix = layer.to_scipy()
    assert (matrix.shape, matrix.nnz, matrix.dtype) == ((40, 30), layer.nnz, layer.weight.detach().numpy().dtype)
    np.testing.assert_array_equal(matrix.toarray().T, layer.to_dense().weight.detach().numpy())
    again = SparseLinear(40, 30, pattern=matrix, dtype=dtype)
    assert torch.equal(again.indices, layer.indices)
    matrix.data[:] = 7  # a copy
    assert not (layer.weight == 7).any()


def test_density_is_the_probability_of_a_connection() -> None:
    layer = SparseLinear(400, 300, density=0.05, seed=0)
    assert abs(layer.nnz - 6000) < 5 * np.sqrt(6000)
    assert layer.density == layer.nnz / 120_000
    assert "density=0.05" in repr(layer)
    assert SparseLinear(40, 30, density=1).density == 1


@pytest.mark.parametrize(
    "given",
    [
        scipy.sparse.coo_array(([1.0, 2.0, 0.0], ([2, 0, 1], [1, 3, 0])), shape=(3, 4)),
        scipy.sparse.csc_matrix(([1.0, 2.0, 0.0], ([2, 0, 1], [1, 3, 0])), shape=(3, 4)),
        (np.array([2, 0, 1]), np.array([1, 3, 0], np.uint8)),
        ([2, 0, 1], [1, 3, 0]),
        Csr(np.array([0, 1, 2, 3], np.int32), np.array([3, 0, 1], np.int32), (3, 4)),
    ],
    ids=["coo", "csc", "arrays", "lists", "Csr"],
)
def test_an_explicit_pattern(given: object) -> None:
    layer = SparseLinear(3, 4, pattern=given, seed=0)
    assert (layer.indptr.tolist(), layer.indices.tolist()) == ([0, 1, 2, 3], [3, 0, 1])
    assert layer(rows(2, 3)).shape == (2, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"density": 0.0}, "density: expected a number above 0, at most 1, got 0.0"),
        ({"density": 1.5}, "density: expected a number above 0, at most 1, got 1.5"),
        ({"density": float("nan")}, "density: expected a number above 0"),
        ({"epsilon": 3, "density": 0.1}, "expected one of epsilon, density and pattern, got several"),
        (
            {"pattern": torch.ones(3, 4)},
            "a SciPy sparse array or the arrays of inputs and outputs, got Tensor",
        ),
        ({"pattern": scipy.sparse.eye_array(3)}, r"expected one of shape \(3, 4\), \(inputs, outputs\), got \(3, 3\)"),
        ({"pattern": ([0, 0], [1, 1])}, "expected every connection once, got one twice"),
        ({"pattern": ([0, 3], [1, 1])}, "expected inputs from 0 to 2, got 0 to 3"),
        ({"pattern": ([0, 1], [1, -1])}, "expected outputs from 0 to 3, got -1 to 1"),
        ({"pattern": ([0, 1], [1])}, r"one whole number for each connection, got outputs of shape \(1,\)"),
        ({"pattern": ([0.5], [1])}, "one whole number for each connection, got inputs of shape .* as float64"),
    ],
)
def test_what_makes_no_pattern_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseLinear(3, 4, **given)  # type: ignore[arg-type]


def test_arguments_of_linear_are_taken() -> None:
    layer = SparseLinear(20, 10, False, density=0.2, device="cpu", dtype=torch.float64)
    assert (layer.bias, layer.weight.dtype) == (None, torch.float64)
    assert SparseLinear(20, 10, True, density=0.2).bias is not None
    assert SparseLinear(20, 10, density=0.2, device="meta").weight.is_meta


@pytest.mark.parametrize("init", ["sparse_fan_in", "glorot", "normal"])
def test_weights_are_drawn_anew(init: str) -> None:
    layer = SparseLinear(20, 10, density=0.2, init=init, seed=0)
    before, indices = layer.weight.detach().clone(), layer.indices.clone()
    nn.init.ones_(layer.bias)  # type: ignore[arg-type]
    layer.reset_parameters(seed=1)
    assert torch.equal(layer.indices, indices)
    assert not torch.equal(layer.weight, before)
    assert layer.bias is not None
    assert not layer.bias.any()
    assert 0.2 < float(layer.weight.detach().std() / before.std()) < 5


class Tied(nn.Module):
    """An embedding whose weights the head shares, and a block that is there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 24)
        self.block = nn.Sequential(nn.Linear(24, 64), nn.GELU(), nn.Linear(64, 24))
        self.again = self.block
        self.attention = nn.MultiheadAttention(24, 2, batch_first=True)
        self.head = nn.Linear(24, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.attention(x, x, x)[0]
        return self.head(self.again(self.block(x)))  # type: ignore[no-any-return]


def test_the_linear_layers_of_a_module_become_sparse(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = Tied()
    dense, tokens = copy.deepcopy(model), torch.arange(12).view(2, 6)
    report = sparsify(model, 0.25)
    assert isinstance(model.block[0], SparseLinear)
    assert model.again is model.block
    assert type(model.head) is nn.Linear
    assert [row.connections for row in report if row.name.startswith("block")] == [384, 384]
    assert capsys.readouterr().out.splitlines() == [
        "block.0 (24 x 64): 384 connections, density 0.25",
        "block.2 (64 x 24): 384 connections, density 0.25",
        "attention.out_proj (24 x 24): left dense, it is a NonDynamicallyQuantizableLinear",
        "head (24 x 50): left dense, another module shares its weight",
        "2 of 4 linear layers are sparse: 768 of their 3,072 weights, density 0.25",
    ]
    assert model(tokens).shape == (2, 6, 50)
    densify(model)
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    pruned = copy.deepcopy(dense)
    for name in ("0", "2"):
        weight = pruned.block.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        with torch.no_grad():
            weight.mul_(weight.abs() >= weight.abs().flatten().sort(descending=True).values[383])
    torch.testing.assert_close(model(tokens), pruned(tokens))


def test_a_transformer_of_torchs_own_is_right_in_training_and_inference() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(block, 2, enable_nested_tensor=True)
    sparsify(model, 1.0, quiet=True)
    x = rows(3, 16).view(1, 3, 16)
    trained = model(x)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), trained)


def test_erk_gives_narrow_layers_a_higher_density_and_keeps_the_number() -> None:
    model = nn.Sequential(nn.Linear(500, 400), nn.Linear(400, 30), nn.Linear(30, 10))
    report = sparsify(model, 0.05, distribution="erk", quiet=True)
    counts = [row.connections or 0 for row in report]
    assert sum(counts) == pytest.approx(0.05 * (200_000 + 12_000 + 300), abs=3)
    assert counts[2] == 300  # full: 0.05 of all would be more than it can have
    assert counts[0] / counts[1] == pytest.approx(900 / 430, rel=0.01)


def test_layers_can_be_left(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.Sequential(nn.Linear(30, 10), nn.Linear(10, 4)))
    report = sparsify(model, 0.5, skip=["1"])
    assert [row.connections for row in report] == [300, None, None]
    assert "1.0 (30 x 10): left dense, as asked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"density": 0}, "density: expected a number above 0, at most 1, got 0"),
        ({"density": 0.5, "skip": ["head"]}, "expected names of modules, of which 'head' is none"),
        ({"density": 0.5, "skip": "0"}, r"expected a list of names, such as \['0'\]"),
        ({"density": 0.5, "distribution": "best"}, "expected 'uniform' or 'erk', got 'best'"),
        ({"density": 0.5, "keep": "best"}, "expected 'largest' or 'random', got 'best'"),
    ],
)
def test_what_cannot_be_done_is_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparsify(nn.Sequential(nn.Linear(20, 30)), quiet=True, **words)  # type: ignore[arg-type]
