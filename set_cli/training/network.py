"""The network that a configuration asks for: its layers, the engine of each, and whether there is memory for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from set_cli.config import Config, Model
from set_cli.data.card import Card
from set_cli.data.prepare import DataSet, training_mean
from set_cli.errors import ConfigError, NotApplicable, OutOfMemory
from set_cli.models.cnn import build_cnn, plan_cnn
from set_cli.models.memory import expected_bytes, training_bytes
from set_cli.models.mlp import LayerPlan, build_mlp, plan_mlp
from set_cli.models.rbm import build_rbm, plan_rbm
from set_cli.sparse.engines import Choice, choose
from set_cli.sparse.pattern import check_size
from set_cli.system.progress import note
from set_cli.training.devices import free_memory
from set_cli.training.pairs import no_images
from set_cli.training.trainers import evaluation_rows


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that training takes at least, and is expected to take, beyond the program and its data."""

    least: int
    expected: int


@dataclass(frozen=True, slots=True)
class Network:
    """A model with its initial weights, the plans of its layers, and the engine of each sparse one."""

    plans: list[LayerPlan]
    model: nn.Module
    choices: Mapping[str, Choice]
    memory: Memory


def build_network(config: Config, data: DataSet, device: torch.device) -> Network:
    """The network that the configuration asks for.

    Raises ConfigError where an engine is not there, or a layer too large for its indices; OutOfMemory where training
    it would take more than is free; NotApplicable where the data does not suit it.
    """
    epsilon = config.wired_epsilon
    model, card = config.model, data.card
    plans = plan_network(model, epsilon, card)
    choices = _choose_engines(config, plans, device)
    engines = {layer: choice.engine.name for layer, choice in choices.items()}
    if config.backend.deterministic and device.type != "cpu" and "torch" in engines.values():
        raise ConfigError(
            "backend.deterministic=true: cuSPARSE's products (engine torch) do not repeat bit for bit; expected "
            "backend.engine=triton or masked"
        )
    try:
        for plan in plans:
            if plan.sparse:
                check_size(plan.n_in, plan.n_out, round(plan.connections_asked))
    except ValueError as error:
        raise ConfigError(f"model.hidden or epsilon is too large: {error}") from None
    memory = estimate_memory(config, plans, device, len(data.train), len(data.test), card.shape)
    _check_memory(config, plans, memory, device)
    try:
        if model.name == "rbm":
            engine = engines.get(plans[0].name, "auto")
            mean, rows = training_mean(data), len(data.train)
            n_chains = min(config.train.batch_size, rows)
            rbm = build_rbm(plans[0], config.model, epsilon, engine, config.seed, mean, rows, n_chains)
            return Network(plans, rbm, choices, memory)
        if model.name == "cnn":
            assert card.shape is not None
            return Network(plans, build_cnn(plans, model, epsilon, engines, config.seed, card.shape), choices, memory)
        return Network(plans, build_mlp(plans, model, epsilon, engines, config.seed), choices, memory)
    except ValueError as error:
        raise ConfigError(f"model.hidden or epsilon is too large: {error}") from None


def plan_network(model: Model, epsilon: float | None, card: Card) -> list[LayerPlan]:
    """The layers; NotApplicable where the data are no images large enough for a CNN."""
    if model.name == "rbm":
        return plan_rbm(model, epsilon, card.features)
    if model.name == "mlp":
        return plan_mlp(model, epsilon, card.features, card.classes)
    if card.shape is None:
        raise NotApplicable(no_images(card))
    try:
        return plan_cnn(model, epsilon, card.shape, card.classes)
    except ValueError as error:
        raise NotApplicable(f"{card.name} with model=cnn: {error}") from None


def _choose_engines(config: Config, plans: list[LayerPlan], device: torch.device) -> dict[str, Choice]:
    name = config.backend.engine
    try:
        return {
            p.name: choose(name, (p.n_in, p.n_out), p.probability, torch.float32, device) for p in plans if p.sparse
        }
    except ValueError as error:
        raise ConfigError(f"backend.engine={name}: {error}") from None


def estimate_memory(
    config: Config, plans: list[LayerPlan], device: torch.device, rows: int, tested: int, shape: Sequence[int] | None
) -> Memory:
    """Of training these layers on so many rows and testing on so many; ConfigError where an engine is not there."""
    engines = {layer: choice.engine.name for layer, choice in _choose_engines(config, plans, device).items()}
    least = training_bytes(plans, engines, config, rows, shape)
    at_once = min(tested, evaluation_rows(config))
    return Memory(least, max(least, expected_bytes(plans, engines, config, rows, shape, at_once)))


def _check_memory(config: Config, plans: list[LayerPlan], memory: Memory, device: torch.device) -> None:
    free = free_memory(device)
    if free is not None and memory.least > free:
        keys = {"rbm": ["model.hidden"], "mlp": ["model.hidden"], "cnn": ["model.channels", "model.hidden"]}
        smaller = keys[config.model.name] + ["epsilon"] * config.method.is_sparse + ["train.batch_size"]
        raise OutOfMemory(
            f"expected at least {in_words(memory.least)} of free memory on the {device.type} to train "
            f"{round(sum(plan.connections_asked for plan in plans)):,} connections, found {in_words(free)}; take a "
            f"smaller {', '.join(smaller[:-1])} or {smaller[-1]}"
        )
    if free is not None and memory.expected > free:
        note(f"note: training may take about {in_words(memory.expected)}, and {in_words(free)} are free")


def in_words(count: int) -> str:
    """Bytes as people say them."""
    size, unit = (count / 2**30, "GiB") if count >= 2**30 else (count / 2**20, "MiB")
    return f"{size:,.1f} {unit}"
