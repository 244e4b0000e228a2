"""When a model's sparse layers evolve: one object that a training loop calls after every step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from set_cli.sparse.age import BiasCorrectionByAge
from set_cli.sparse.evolve import LastStep
from set_cli.sparse.initial import common_seed
from set_cli.sparse.linear import OPTIONS, SparseLinear
from set_cli.sparse.rules import Options, Regrowth, Removal, Removed


@dataclass(frozen=True, slots=True)
class LayerCount:
    """What an evolution did to one layer.

    connections  it has afterwards
    pruned       connections removed, those of weight 0 included; zeros: the latter
    regrown      connections added
    """

    name: str
    connections: int
    pruned: int
    zeros: int
    regrown: int


class Evolution:
    """Evolves the sparse layers of a model, every so many steps of a training loop (Mocanu et al. 2018, Algorithm 1).

        evolution = Evolution(model, optimizer, zeta=0.3, every=100)
        for x, y in batches:
            ...
            optimizer.step()
            evolution.step()

    model       whose SparseLinear layers evolve, those that have every connection excepted
    optimizer   that trains them; its state follows the connections
    zeta        fraction to remove, or a function of the progress, from 0 at the start to 1 at `until`
    every       steps between two evolutions
    until       the step after which there is none; None: no end
    removal, regrowth  names of set_cli.sparse.rules, or functions like those there
    regrow_init 'zero', 'random' or 'previous', as `SparseLinear.evolve`
    options     the rules' own numbers
    followers   copies of the model whose layers get the same connections: averages of its weights
                (torch.optim.swa_utils.AveragedModel), target networks
    keep_last_step  keep every layer's inputs and output gradients of the latest step, for rules that look at them
    bias_correction 'age' corrects Adam's moments of each connection by its own number of steps (sparse/age.py); 'step',
                as Adam does, by the training's: a new connection's first updates are 3 times the rate
    seed        of all draws, which are a function of it, the step and the layer; None: torch's global generator, in a
                process group the first process's

    Call it after the optimiser's steps only, not between the backwards whose gradients it adds up: an evolution drops
    gradients. `state_dict` holds the step and the seed: a training that is resumed with it draws what it would have
    drawn. Where a trainer counts the steps and its checkpoints know them, `step(number)` with a seed of one's own needs
    no state. Raises ValueError where the model has no sparse layer, for numbers out of range, for an optimiser whose
    moments cannot be corrected by age, and as `SparseLinear.evolve`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        zeta: float | Callable[[float], float] = 0.3,
        *,
        every: int = 1,
        until: int | None = None,
        removal: str | Removal = "signed",
        regrowth: str | Regrowth = "random",
        regrow_init: str = "zero",
        options: Options = OPTIONS,
        followers: Iterable[nn.Module] = (),
        keep_last_step: bool = False,
        bias_correction: str = "step",
        seed: int | None = None,
    ) -> None:
        self._layers = {name: m for name, m in model.named_modules() if isinstance(m, SparseLinear)}
        if not self._layers:
            raise ValueError("expected a model with a SparseLinear, found none (set_cli.sparse.sparsify makes some)")
        if every < 1:
            raise ValueError(f"every: expected at least 1 step, got {every}")
        if callable(zeta) and until is None:
            raise ValueError("until: expected a number of steps, since zeta is a function of the progress")
        if bias_correction not in ("step", "age"):
            raise ValueError(f"bias_correction: expected 'step' or 'age', got {bias_correction!r}")
        self._optimizer, self._zeta, self._every, self._until = optimizer, zeta, every, until
        self._rules: dict[str, Any] = {
            "removal": removal,
            "regrowth": regrowth,
            "regrow_init": regrow_init,
            "options": options,
        }
        if regrowth == "unfired" or regrow_init == "previous":
            for layer in self._layers.values():
                layer.remember_removed()
        self._copies = [_copies(follower, self._layers) for follower in followers]
        self._last_steps = {name: LastStep(layer) for name, layer in self._layers.items()} if keep_last_step else {}
        weights = [layer.weight for layer in self._layers.values()]
        self._by_age = BiasCorrectionByAge(optimizer, weights) if bias_correction == "age" else None
        self.seed = common_seed() if seed is None else seed
        self.steps = 0
        self._has_counted = False

    def step(self, number: int | None = None) -> list[LayerCount]:
        """Count a step of the optimiser, and evolve where that is due; what was done to each layer, else nothing.

        number  of the step, where somebody else counts (a trainer, its epochs too): the same as before is no step
        """
        before = self.steps
        self.steps = before + 1 if number is None else operator.index(number)
        if self.steps == before:
            return []
        if not self._has_counted:  # maybe resumed: the steps up to here were another object's
            before, self._has_counted = self.steps - 1, True
        is_over = self._until is not None and self.steps > self._until
        is_due = self.steps // self._every > before // self._every
        return self.evolve() if is_due and not is_over else []

    def evolve(self, *, refill: bool = True) -> list[LayerCount]:
        """Evolve now, whatever the step; refill=False removes only, as the paper does after the last epoch."""
        counts = []
        for number, (name, layer) in enumerate(self._layers.items()):
            change = layer.evolve(
                self.zeta,
                optimizer=self._optimizer,
                seed=np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.steps, number))),
                refill=refill,
                last_step=self._last_steps.get(name),
                progress=self.progress,
                **self._rules,
            )
            if change is None:
                continue
            for copies in self._copies:
                copies[name].follow(change, layer)
            counts.append(LayerCount(name, layer.nnz, change.pruned, change.zeros, change.regrown))
        return counts

    @property
    def zeta(self) -> float:
        """The fraction that an evolution at this step removes."""
        return self._zeta(self.progress) if callable(self._zeta) else self._zeta

    @property
    def progress(self) -> float:
        """The part of the time that is over, from 0 to 1 at `until`; 0 where there is no end."""
        return min(1.0, self.steps / self._until) if self._until else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The step, the seed, and what rules know of the connections that were removed."""
        removed = {n: (r.cells, r.weights) for n, layer in self._layers.items() if (r := layer.removed) is not None}
        return {"steps": self.steps, "seed": self.seed} | ({"removed": removed} if removed else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken."""
        self.steps, self.seed = int(state["steps"]), int(state["seed"])
        for name, (cells, weights) in state.get("removed", {}).items():
            self._layers[name].removed = Removed(cells, weights)
        self._has_counted = True

    def detach(self) -> None:
        """Remove the hooks that `keep_last_step` and `bias_correction` need."""
        if self._by_age is not None:
            self._by_age.detach()
        for last_step in self._last_steps.values():
            last_step.detach()
        self._last_steps = {}


def _copies(follower: nn.Module, layers: dict[str, SparseLinear]) -> dict[str, SparseLinear]:
    """The follower's layers by the names of those they are copies of; wrappers put `module.` before a name."""
    own = {name.removeprefix("module."): m for name, m in follower.named_modules() if isinstance(m, SparseLinear)}
    found = {name.removeprefix("module."): name for name in layers}
    if own.keys() != found.keys():
        raise ValueError(f"followers: expected a copy with the sparse layers {', '.join(found)}, got {', '.join(own)}")
    return {name: own[key] for key, name in found.items()}
