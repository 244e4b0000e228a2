"""What a run folder holds of a model: its layers, parameter counts, topology, degrees and state, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Train
from set_cli.data.prepare import DataSet, training_mean
from set_cli.models.cnn import Images
from set_cli.models.counts import LayerCount, count_layers, count_totals, sparse_layers
from set_cli.models.mlp import LayerPlan
from set_cli.runs.inputs import RunInputs
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import Choice
from set_cli.sparse.rules import Removed
from set_cli.training.optimizer import momentum_arrays, restore_momentum

Arrays = dict[str, NDArray[Any]]
MODEL, OPTIMIZER, REMOVED = "model/", "optimizer/", "removed/"  # prefixes in a checkpoint


def describe_layers(plans: list[LayerPlan], choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Engine of each layer and why it was chosen, for run.json."""
    return {
        plan.name: {"engine": choices[plan.name].engine.name, "why": choices[plan.name].why, "topology": plan.reason}
        if plan.sparse
        else {"engine": "dense", "why": plan.reason}
        for plan in plans
    }


def describe_parameters(plans: list[LayerPlan], model: nn.Module, train: Train) -> dict[str, Any]:
    """params.json at the start: per layer and in total what was asked for and what is there; a CNN's images."""
    layers = count_layers(model, train.optimizer_copies, with_ages=train.has_ages)
    rows = [
        dict(count)
        | {
            "connections_asked": plan.connections_asked,
            "connections_final": None,
            "probability": plan.probability,
            "why": plan.reason,
        }
        for plan, count in zip(plans, layers, strict=True)
    ]
    asked = sum(plan.connections_asked for plan in plans)
    first = next(iter(model.children()), None)
    images = {"images": list(first.shape)} if isinstance(first, Images) else {}
    total = count_totals(layers) | {"connections_asked": asked, "connections_final": None}
    if any(plan.stands_for for plan in plans):
        total["dense_parameters"] = sum(map(_dense_parameters, plans, layers))
    return {"layers": rows, "total": total} | images


def _dense_parameters(plan: LayerPlan, layer: LayerCount) -> int:
    """What the layer has for which this one stands, with fewer neurons: weights, biases, parameters of activations."""
    n_in, n_out = plan.stands_for or (plan.n_in, plan.n_out)
    weights = layer["convolution_weights"] if plan.convolution else n_in * n_out
    of_inputs = layer["biases"] - plan.n_out  # an RBM's visible units, which are as many
    return weights + n_out + of_inputs + layer["activation_parameters"] * n_out // plan.n_out


def finish_parameters(params: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """params.json after the last removal: connections_final filled in, per layer and in total."""
    final = [layer["connections"] for layer in count_layers(model, optimizer_copies=0)]
    layers = [row | {"connections_final": count} for row, count in zip(params["layers"], final, strict=True)]
    return params | {"layers": layers, "total": params["total"] | {"connections_final": sum(final)}}


def describe_inputs(data: DataSet, *, with_mean: bool) -> RunInputs:
    """How the network gets the rows of this data set, for inputs.npz.

    with_mean  of the training rows too, which an RBM's estimates of log Z start from
    """
    card, scaling = data.card, data.scaling
    return RunInputs(
        scaling.offset,
        scaling.scale,
        scaling.fill,
        scaling.clip,
        card.kind,
        card.maximum,
        data.train.x.dtype.name,  # type: ignore[arg-type]
        card.shape,
        card.class_names,
        card.feature_names,
        len(data.train),
        training_mean(data) if with_mean else None,
    )


def layer_degrees(layers: Mapping[str, SparseLinear]) -> dict[str, NDArray[np.int32]]:
    """'<layer>/out_degree' of its inputs and '<layer>/in_degree' of its outputs."""
    degrees = {}
    for name, layer in layers.items():
        pattern = layer.pattern
        degrees[f"{name}/out_degree"] = pattern.out_degrees()
        degrees[f"{name}/in_degree"] = pattern.in_degrees()
    return degrees


def topology_arrays(layers: Mapping[str, SparseLinear], with_weights: bool) -> Arrays:
    """The arrays of a snapshot: '<layer>/indptr', 'indices', 'shape' and, if asked for, 'data'."""
    arrays: Arrays = {}
    for name, layer in layers.items():
        pattern = layer.pattern
        arrays[f"{name}/indptr"] = pattern.indptr
        arrays[f"{name}/indices"] = pattern.indices
        arrays[f"{name}/shape"] = np.array(pattern.shape, np.int32)
        if with_weights:
            arrays[f"{name}/data"] = layer.weight.detach().cpu().numpy()
    return arrays


def model_arrays(model: nn.Module, optimizer: torch.optim.Optimizer) -> Arrays:
    """Everything a checkpoint needs of model and optimiser."""
    state = {MODEL + name: value for name, value in model.state_dict().items()}
    state |= {OPTIMIZER + name: value for name, value in momentum_arrays(model, optimizer).items()}
    for name, layer in sparse_layers(model).items():
        if layer.removed is not None:
            state |= {f"{REMOVED}{name}/cells": layer.removed.cells, f"{REMOVED}{name}/weights": layer.removed.weights}
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def restore_model(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Put a checkpoint's arrays back; RuntimeError where they do not fit the model."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    model.load_state_dict({name.removeprefix(MODEL): t for name, t in tensors.items() if name.startswith(MODEL)})
    for name, layer in sparse_layers(model).items():
        if f"{REMOVED}{name}/cells" in tensors:
            layer.removed = Removed(tensors[f"{REMOVED}{name}/cells"], tensors[f"{REMOVED}{name}/weights"])
    if optimizer is not None:
        restore_momentum(model, optimizer, optimizer_states(arrays))


def optimizer_states(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """What a checkpoint has of the optimiser's states, by '<parameter name>/<state name>'."""
    found = {name.removeprefix(OPTIMIZER): array for name, array in arrays.items() if name.startswith(OPTIMIZER)}
    return {name: torch.from_numpy(array) for name, array in found.items()}
