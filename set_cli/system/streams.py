"""Random streams: named children of one seed, so that what one part draws never shifts another part's numbers.

Every stream is a function of (seed, name, key), where the key is an epoch or a layer: a resumed run needs no generator
state to draw exactly what the uninterrupted run draws.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Name = Literal["init", "data", "dropout", "evolve", "augment", "rbm", "ais"]
NUMBERS: dict[Name, int] = {"init": 0, "data": 1, "dropout": 2, "evolve": 3, "augment": 4, "rbm": 5, "ais": 6}


def _sequence(seed: int, name: Name, key: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(NUMBERS[name], *key))


def generator(seed: int, name: Name, *key: int) -> np.random.Generator:
    """The numpy generator of this stream and key."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, name, key)))


def torch_seed(seed: int, name: Name, *key: int) -> int:
    """A 63-bit seed of this stream and key, for a torch.Generator."""
    return int(_sequence(seed, name, key).generate_state(1, np.uint64)[0] >> np.uint64(1))
