"""A run's architecture, built anew from its folder, and its copy that computes with the engines of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from set_cli.config import Model
from set_cli.models.mlp import LayerPlan, wire_at_random
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import choose
from set_cli.training.architectures import ARCHITECTURES, Ends, Start
from set_cli.training.density import SMALLEST

SMALL = 1000  # numbers more than a checkpoint has: they cost nothing


def build_untrained(
    model: Model,
    params: Mapping[str, Any],
    seed: int,
    n_chains: int,
    saved: int,
    engines: Mapping[str, str],
) -> nn.Module:
    """The architecture of a run, whose arrays are still to be filled in.

    params   its params.json; ValueError where it has other layers than the configuration
    saved    numbers in its checkpoint; ValueError where the layers would have far more
    engines  of its sparse layers, by name; `auto` for those that are not named
    """
    shapes = [tuple(layer["shape"]) for layer in params["layers"]]
    features, outputs = int(shapes[0][0]), int(shapes[-1][1])
    architecture, ends = ARCHITECTURES[model.name], Ends(features, outputs, params.get("images"))
    hidden = [int(layer["shape"][1]) for layer in params["layers"] if layer["name"].startswith("layer")]
    model = model.model_copy(update={"hidden": tuple(hidden)})  # a small dense network has fewer than it asks for
    is_sparse = any(layer["kind"] == "sparse" for layer in params["layers"])
    plans = architecture.plan(model, SMALLEST if is_sparse else None, ends)
    if shapes != [(plan.n_in, plan.n_out) for plan in plans]:  # before anything of their size is allocated
        raise ValueError("params.json has other layers than the configuration")
    plans = [_as_it_was(plan, layer) for plan, layer in zip(plans, params["layers"], strict=True)]
    # The number of random connections is near what was asked for; neurons have a bias or a row each.
    if any(max(plan.n_in, plan.n_out, plan.connections_asked / 2) > saved + SMALL for plan in plans):
        raise ValueError(f"the layers are far larger than what the checkpoint has, {saved:,} numbers")
    named = {plan.name: engines.get(plan.name, "auto") for plan in plans}
    start = Start(seed, np.full(features, 0.5, np.float32), 1, n_chains)
    return architecture.build(plans, model, named, ends, start, wire_at_random)


def _as_it_was(plan: LayerPlan, layer: Mapping[str, Any]) -> LayerPlan:
    """The plan of a layer that was sparse with so many connections, or dense."""
    final = layer.get("connections_final")  # of a run that started denser far fewer than at its start
    probability = int(layer["connections"] if final is None else final) / (plan.n_in * plan.n_out)
    return replace(plan, sparse=layer["kind"] == "sparse", probability=min(1.0, probability))


def engines_of(start: Mapping[str, Any], model: nn.Module) -> dict[str, str]:
    """The engines of the sparse layers in the run's last start, as far as they are here.

    start  the last entry of run.json; empty where there is none
    """
    layers = start.get("layers")
    found: dict[str, str] = {}
    for name, layer in model.named_children():
        described = layers.get(name) if isinstance(layers, Mapping) else None
        engine = described.get("engine") if isinstance(described, Mapping) else None
        if isinstance(layer, SparseLinear) and isinstance(engine, str):
            shape, weight = (layer.in_features, layer.out_features), layer.weight
            try:
                choose(engine, shape, layer.nnz / (shape[0] * shape[1]), weight.dtype, weight.device)
            except ValueError:  # made where there were other kernels, or a GPU
                continue
            found[name] = engine
    return found


def is_like_trained(model: nn.Module, start: Mapping[str, Any]) -> bool:
    """Whether the model's numbers are float32 and lie on the kind of device that trained it."""
    kind = "cpu" if start.get("device", "cpu") == "cpu" else "cuda"
    return all(p.dtype == torch.float32 and p.device.type == kind for p in model.parameters())


def share_numbers(model: nn.Module, copy: nn.Module) -> bool:
    """Give the copy the model's own parameters and buffers; False where somebody has changed the model's layers."""
    modules, copies = dict(model.named_modules()), dict(copy.named_modules())
    if modules.keys() != copies.keys():
        return False
    if not all(isinstance(copies[name], type(module)) for name, module in modules.items()):
        return False
    for name, module in modules.items():
        for key, parameter in module.named_parameters(recurse=False):
            setattr(copies[name], key, parameter)
        for key, buffer in module.named_buffers(recurse=False):
            setattr(copies[name], key, buffer)
    return True
