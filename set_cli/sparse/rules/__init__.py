"""The rules of which a method is made: how a layer is wired, which connections are removed, and where others grow.

A rule is a pure function of a view of the layer and a random generator. To add one, write the function in removal.py,
regrowth.py or wiring.py, name it in its table here, and add that name to its key in config/method.py. Nothing here
allocates the n_in x n_out matrix: time and memory grow with the connections. Random numbers are always NumPy's, so a
seed gives the same topology on every device.

SET's rules are from Mocanu et al., Nature Communications 9:2383 (2018), Eq. 1 and Algorithm 1 (Box 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from set_cli.sparse.rules import regrowth, removal
from set_cli.sparse.rules.correlation import csti
from set_cli.sparse.rules.local import local, nearby, receptive, small_world
from set_cli.sparse.rules.paths import cannistraci_hebb, cannistraci_hebb_soft
from set_cli.sparse.rules.regrowth import no_cells, random_cells
from set_cli.sparse.rules.removal import magnitude, signed_magnitude
from set_cli.sparse.rules.view import Options, Regrowth, Removal, Removed, Sample, Site, View, Wiring
from set_cli.sparse.rules.wiring import connection_probability, erdos_renyi, fixed_fan_in, random_wiring, scale_free

__all__ = [
    "REGROWTH",
    "REMOVAL",
    "WIRING",
    "Options",
    "Regrowth",
    "Removal",
    "Removed",
    "Sample",
    "Site",
    "View",
    "Wiring",
    "cannistraci_hebb",
    "cannistraci_hebb_soft",
    "connection_probability",
    "csti",
    "erdos_renyi",
    "find_rule",
    "fixed_fan_in",
    "local",
    "magnitude",
    "nearby",
    "no_cells",
    "random_cells",
    "receptive",
    "scale_free",
    "signed_magnitude",
    "small_world",
]

Rule = TypeVar("Rule", Removal, Regrowth)

WIRING: dict[str, Wiring] = {
    "erdos_renyi": random_wiring,
    "erk": random_wiring,  # which differs in the densities of the layers
    "fixed_fan_in": fixed_fan_in,
    "local": local,
    "csti": csti,
    "receptive": receptive,
    "scale_free": scale_free,
    "small_world": small_world,
}
REMOVAL: dict[str, Removal] = {
    "signed": signed_magnitude,
    "magnitude": magnitude,
    "soft": removal.soft,
    "random": removal.random_removal,
    "largest": removal.largest,
    "sensitivity": removal.sensitivity,
    "relative": removal.relative,
    "relative_soft": removal.relative_soft,
    "movement": removal.movement,
    "threshold": removal.threshold,
}
REGROWTH: dict[str, Regrowth] = {
    "random": random_cells,
    "gradient": regrowth.gradient,
    "momentum": regrowth.momentum,
    "cosine": regrowth.cosine,
    "unfired": regrowth.unfired,
    "preferential": regrowth.preferential,
    "cannistraci_hebb": cannistraci_hebb,
    "cannistraci_hebb_soft": cannistraci_hebb_soft,
    "nearby": nearby,
    "none": no_cells,
}


def find_rule(key: str, rule: str | Rule, table: Mapping[str, Rule]) -> Rule:
    """The rule of this name, or the function itself; ValueError where the table has no such name."""
    if not isinstance(rule, str):
        return rule
    if rule not in table:
        raise ValueError(f"{key}: expected one of {', '.join(table)}, or a function, got {rule!r}")
    return table[rule]
