"""The network that a configuration asks for: its layers, the engine of each, and whether there is memory for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from set_cli.config import Config
from set_cli.data.card import Card
from set_cli.data.prepare import DataSet, training_mean
from set_cli.errors import ConfigError, NotApplicable, OutOfMemory
from set_cli.models.counts import sparse_layers
from set_cli.models.memory import expected_bytes, training_bytes
from set_cli.models.mlp import LayerPlan
from set_cli.sparse.engines import Choice, choose
from set_cli.sparse.pattern import check_size
from set_cli.sparse.rules.paths import MOST_STEPS
from set_cli.sparse.rules.regrowth import LARGEST_SEARCH
from set_cli.system.progress import note
from set_cli.training.architectures import ARCHITECTURES, Ends, Start
from set_cli.training.density import SMALLEST, connections_after, mean_probability, with_connections
from set_cli.training.devices import free_memory
from set_cli.training.pairs import no_images
from set_cli.training.shrunk import plan_shrunk
from set_cli.training.wiring import wiring_of

SEARCHING = ("gradient", "momentum", "cosine")  # regrowths that score cells


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
    model, card = config.model, data.card
    plans = plan_network(config, card)
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
        raise ConfigError(f"model.hidden or {config.amount} is too large: {error}") from None
    check_searches(config, plans)
    memory = estimate_memory(config, plans, device, len(data.train), len(data.test), card.shape)
    _check_memory(config, plans, memory, device)
    ends = Ends(card.features, card.classes, card.shape)
    rows = len(data.train)
    mean = training_mean(data) if model.facts.needs_probabilities else np.empty(0, np.float32)
    start = Start(config.seed, mean, rows, min(config.train.batch_size, rows))
    try:
        built = ARCHITECTURES[model.name].build(plans, model, engines, ends, start, wiring_of(config, data))
    except ValueError as error:
        raise ConfigError(f"the network cannot be wired: {error}") from None
    if config.method.remembers:
        for layer in sparse_layers(built).values():
            layer.remember_removed()
    return Network(plans, built, choices, memory)


def check_searches(config: Config, plans: Sequence[LayerPlan]) -> None:
    """ConfigError, before anything is trained, where a layer is too large or too dense for the rule that grows."""
    method = config.method
    if method.evolves and method.regrowth.startswith("cannistraci_hebb"):
        _check_paths(config, plans)
    if not method.evolves or method.candidates is not None or method.regrowth not in SEARCHING:
        return
    for plan in plans:
        if plan.sparse and plan.n_in * plan.n_out > LARGEST_SEARCH:
            raise ConfigError(
                f"method.candidates=null: expected layers of at most {LARGEST_SEARCH:,} cells, each of which "
                f"method.regrowth={method.regrowth} looks at, found {plan.name} with {plan.n_in * plan.n_out:,}; take "
                "method.candidates=10, ten cells for each connection that grows"
            )


def _check_paths(config: Config, plans: Sequence[LayerPlan]) -> None:
    """ConfigError where the first evolution would walk too many paths of length three, on an average of the degrees."""
    over = config.evolve.every / config.train.epochs
    for plan in plans:
        if not plan.sparse:
            continue
        after = connections_after(config, over, plan.n_in, plan.n_out)
        count = (1 - config.zeta) * (plan.connections_asked if after is None else after)
        steps = count * (count / plan.n_in) * (count / plan.n_out)
        if steps > MOST_STEPS:
            raise ConfigError(
                f"method.regrowth={config.method.regrowth}: expected at most {MOST_STEPS:,} steps on paths of length "
                f"three in a layer, found about {steps:.2g} in {plan.name} ({plan.n_in:,} x {plan.n_out:,}); take a "
                "smaller epsilon, density or evolve.density_start"
            )


def plan_network(config: Config, card: Card) -> list[LayerPlan]:
    """The layers, with the connections of the start; NotApplicable where the data are no images that suit a CNN."""
    model, method = config.model, config.method
    if model.facts.needs_images and card.shape is None:
        raise NotApplicable(no_images(card))
    plan, ends = ARCHITECTURES[model.name].plan, Ends(card.features, card.classes, card.shape)
    # Where not Eq. 1 says how many connections there are, every layer that may be sparse is.
    epsilon = config.epsilon if config.density is None and method.wiring != "erk" else SMALLEST
    try:
        if not method.facts.has_amount:
            return plan(model, None, ends)
        sparse = with_connections(plan(model, epsilon, ends), config)
        return plan_shrunk(config, sparse, lambda other: plan(other, None, ends)) if method.facts.is_shrunk else sparse
    except ValueError as error:
        raise NotApplicable(f"{card.name} with model={model.name}: {error}") from None


def _choose_engines(config: Config, plans: list[LayerPlan], device: torch.device) -> dict[str, Choice]:
    name = config.backend.engine
    try:
        return {
            p.name: choose(name, (p.n_in, p.n_out), mean_probability(config, p), torch.float32, device)
            for p in plans
            if p.sparse
        }
    except ValueError as error:
        raise ConfigError(f"backend.engine={name}: {error}") from None


def estimate_memory(
    config: Config, plans: list[LayerPlan], device: torch.device, rows: int, tested: int, shape: Sequence[int] | None
) -> Memory:
    """Memory for training these layers on `rows` and testing on `tested` rows; ConfigError for a missing engine."""
    engines = {layer: choice.engine.name for layer, choice in _choose_engines(config, plans, device).items()}
    least = training_bytes(plans, engines, config, rows, shape)
    architecture = ARCHITECTURES[config.model.name]
    at_once, values = min(tested, architecture.evaluation_rows(config)), architecture.step_values(plans, shape)
    expected = expected_bytes(plans, engines, config, rows, shape, at_once, architecture.annealed_rows, values)
    return Memory(least, max(least, expected))


def _check_memory(config: Config, plans: list[LayerPlan], memory: Memory, device: torch.device) -> None:
    free = free_memory(device)
    if free is not None and memory.least > free:
        amount = [config.amount.partition("=")[0]] if config.method.facts.has_amount else []
        keys = (*ARCHITECTURES[config.model.name].smaller, *amount)
        raise OutOfMemory(
            f"expected at least {in_words(memory.least)} of free memory on the {device.type} to train "
            f"{round(sum(plan.connections_asked for plan in plans)):,} connections, found {in_words(free)}; take a "
            f"smaller {', '.join(keys)} or train.batch_size"
        )
    if free is not None and memory.expected > free:
        note(f"note: training may take about {in_words(memory.expected)}, and {in_words(free)} are free")


def in_words(count: int) -> str:
    """Bytes as people say them."""
    size, unit = (count / 2**30, "GiB") if count >= 2**30 else (count / 2**20, "MiB")
    return f"{size:,.1f} {unit}"
