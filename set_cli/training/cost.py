"""What the evolutions of an epoch cost, beside their time."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from set_cli.training.passes import State

EVOLUTIONS, MEMORY = "evolutions", "evolve_memory_mb"


@dataclass(slots=True)
class EvolutionCost:
    """The number of evolutions in the epoch in progress, and the most extra memory that one of them took, in MB.

    memory_mb  None where the system does not say
    """

    evolutions: int = 0
    memory_mb: float | None = None

    def add(self, memory_mb: float | None) -> None:
        """Count an evolution that took this much memory beyond what the process had."""
        self.evolutions += 1
        if memory_mb is not None:
            self.memory_mb = max(memory_mb, self.memory_mb or 0.0)

    @property
    def figures(self) -> dict[str, Any]:
        """The keys of a row of timing.jsonl; none of an epoch without an evolution."""
        found = {EVOLUTIONS: self.evolutions, MEMORY: self.memory_mb}
        return {name: value for name, value in found.items() if self.evolutions and value is not None}

    @property
    def state(self) -> State:
        """The figures for a checkpoint within the epoch."""
        return {name: np.array(value) for name, value in self.figures.items()}

    @classmethod
    def of_state(cls, state: MutableMapping[str, Any]) -> EvolutionCost:
        """The cost that a checkpoint within an epoch has; takes it out of the state."""
        memory = state.pop(MEMORY, None)
        return cls(int(state.pop(EVOLUTIONS, 0)), None if memory is None else float(memory))
