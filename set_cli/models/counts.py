"""Parameter counts: what a model stores, layer by layer, beside its fully connected equivalent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

from torch import nn

from set_cli.models.rbm import VisibleBias
from set_cli.sparse import SparseLinear


class LayerCount(TypedDict):
    """One layer of params.json; bytes are those of this process's tensors."""

    name: str
    kind: str
    shape: list[int]
    connections: int
    convolution_weights: int
    biases: int
    activation_parameters: int
    dense_equivalent: int
    bytes: dict[str, int]


def connection_layers(model: nn.Module) -> Iterator[tuple[str, SparseLinear | nn.Linear]]:
    """(name, layer) of every layer with connections, input side first."""
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear | nn.Linear):
            yield name, module


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """The dense convolutions, whose weights are no connections."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    """The sparse layers by name, input side first."""
    return {name: layer for name, layer in connection_layers(model) if isinstance(layer, SparseLinear)}


def count_connections(model: nn.Module) -> int:
    """Connections of all layers, the dense ones included: the paper's n^W."""
    return sum(layer.weight.numel() for _, layer in connection_layers(model))


def count_layers(model: nn.Module, optimizer_copies: int, *, with_ages: bool = False) -> list[LayerCount]:
    """One entry per layer with connections; its activation's parameters are counted with it.

    optimizer_copies  arrays that the optimiser keeps per weight (1 for momentum, 2 for Adam's moments)
    with_ages         whether it keeps one more per sparse weight
    """
    counts: list[LayerCount] = []
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear | nn.Linear):
            ages = int(with_ages and isinstance(module, SparseLinear))
            counts.append(_count_layer(name, module, optimizer_copies + ages))
        elif isinstance(module, nn.Conv2d):
            counts.append(_count_convolution(name, module, optimizer_copies))
        elif counts and isinstance(module, VisibleBias):
            counts[-1]["biases"] += module.bias.numel()
        elif counts and not list(module.children()):
            counts[-1]["activation_parameters"] += sum(parameter.numel() for parameter in module.parameters())
    return counts


def _count_layer(name: str, layer: SparseLinear | nn.Linear, optimizer_copies: int) -> LayerCount:
    values = layer.weight.numel() * layer.weight.element_size()
    return {
        "name": name,
        "kind": "sparse" if isinstance(layer, SparseLinear) else "dense",
        "shape": [layer.in_features, layer.out_features],
        "connections": layer.weight.numel(),
        "convolution_weights": 0,
        "biases": 0 if layer.bias is None else layer.bias.numel(),
        "activation_parameters": 0,
        "dense_equivalent": layer.in_features * layer.out_features,
        "bytes": {
            "values": values,
            "indices": sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers()),
            "optimizer": values * optimizer_copies,
        },
    }


def _count_convolution(name: str, layer: nn.Conv2d, optimizer_copies: int) -> LayerCount:
    """shape as a sparse one's: the values of a patch, and the output channels."""
    weights = layer.weight.numel()
    values = weights * layer.weight.element_size()
    return {
        "name": name,
        "kind": "convolution",
        "shape": [weights // layer.out_channels, layer.out_channels],
        "connections": 0,
        "convolution_weights": weights,
        "biases": 0 if layer.bias is None else layer.bias.numel(),
        "activation_parameters": 0,
        "dense_equivalent": weights,
        "bytes": {"values": values, "indices": 0, "optimizer": values * optimizer_copies},
    }


def count_totals(layers: list[LayerCount]) -> dict[str, Any]:
    """Sums over the layers; `convolution_parameters` are the weights and biases of the dense convolutions."""
    sums = {
        key: sum(layer[key] for layer in layers)
        for key in ("connections", "convolution_weights", "biases", "activation_parameters", "dense_equivalent")
    }
    extra = sums["biases"] + sums["activation_parameters"]
    weights = sums["connections"] + sums["convolution_weights"]
    kinds = ("values", "indices", "optimizer")
    convolutions = [layer for layer in layers if layer["kind"] == "convolution"]
    return sums | {
        "convolution_parameters": sum(layer["convolution_weights"] + layer["biases"] for layer in convolutions),
        "parameters": weights + extra,
        "dense_parameters": sums["dense_equivalent"] + extra,
        "bytes": {kind: sum(layer["bytes"][kind] for layer in layers) for kind in kinds},
    }
