"""What a method is: its facts, its rules by name, and the numbers that they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from set_cli.config.section import Section, about


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """What the code needs to know of a method beside its rules.

    evolves    whether connections are removed and regrown after each epoch
    is_sparse  whether layers have the connections that epsilon or density says, instead of all
    is_shrunk  whether hidden layers have fewer neurons instead, so that the network has as many parameters
    """

    evolves: bool
    is_sparse: bool
    is_shrunk: bool = False

    @property
    def has_amount(self) -> bool:
        """Whether epsilon or density says how large the network is."""
        return self.is_sparse or self.is_shrunk


MethodName = Literal[
    "dense",
    "small_dense",
    "fixprob",
    "set",
    "magnitude_pruned",
    "snfs",
    "rigl",
    "itop",
    "mest",
    "granet",
    "ctre",
    "cht",
    "chts",
    "chtss",
]
METHODS: dict[MethodName, MethodFacts] = {  # in the order of the paper's tables, then of the years
    "dense": MethodFacts(evolves=False, is_sparse=False),
    "small_dense": MethodFacts(evolves=False, is_sparse=False, is_shrunk=True),
    "fixprob": MethodFacts(evolves=False, is_sparse=True),
    **{
        name: MethodFacts(evolves=True, is_sparse=True)
        for name in get_args(MethodName)
        if name not in ("dense", "small_dense", "fixprob")
    },
}
UNKNOWN = MethodFacts(evolves=False, is_sparse=True)


def method_facts(method: str) -> MethodFacts:
    """The facts of a method of this name, as a run folder has it; of one that is not known, those of a sparse one."""
    return METHODS.get(method, UNKNOWN)  # type: ignore[call-overload, no-any-return]


BATCHES = {"sensitivity": 1, "movement": 1, "gradient": 1, "momentum": 10, "cosine": 10}  # that a rule looks at


class Method(Section):
    """A named configuration of rules: SET, or one of the paper's baselines. The rules are in sparse/rules/."""

    name: Annotated[
        MethodName,
        about(
            "set: prunes and regrows after every epoch; fixprob: fixed random topology; dense: fully connected; "
            "small_dense: that with as few parameters; the others: docs/strategies.md"
        ),
    ]
    regrow_init: Annotated[
        Literal["zero", "random", "previous"],
        about(
            "value of a new connection; zero: as the authors' MLP; random: normal, standard deviation 0.1 (rbm: "
            "0.05); previous: what it was when it was last removed, else 0"
        ),
    ]
    removal: Annotated[
        Literal[
            "signed",
            "magnitude",
            "soft",
            "random",
            "largest",
            "sensitivity",
            "relative",
            "relative_soft",
            "movement",
            "threshold",
        ],
        about(
            "which connections are removed, a fraction zeta of them; signed: the weights closest to zero of each sign "
            "(the paper's); magnitude: those closest to zero, whatever their sign; the others: docs/strategies.md"
        ),
    ] = "signed"
    regrowth: Annotated[
        Literal[
            "random",
            "gradient",
            "momentum",
            "cosine",
            "unfired",
            "preferential",
            "cannistraci_hebb",
            "cannistraci_hebb_soft",
            "nearby",
            "none",
        ],
        about(
            "where connections grow; random: in any cell without one (the paper's); none: nowhere; the others: "
            "docs/strategies.md"
        ),
    ] = "random"
    wiring: Annotated[
        Literal[
            "erdos_renyi",
            "erk",
            "fixed_fan_in",
            "local",
            "csti",
            "receptive",
            "scale_free",
            "small_world",
        ],
        about(
            "the connections at the start; erdos_renyi: random ones (the paper's Eq. 1); the others: docs/strategies.md"
        ),
    ] = "erdos_renyi"
    wiring_inside: Annotated[
        Literal["erdos_renyi", "erk", "fixed_fan_in", "receptive", "scale_free", "small_world"] | None,
        about(
            "those of the layers that do not read the data; null: as method.wiring, erdos_renyi for local and csti",
            filled=True,
        ),
    ] = None
    candidates: Annotated[
        Annotated[float, Field(gt=0, le=10**6)] | None,
        about(
            "cells that method.regrowth=gradient, momentum and cosine look at for each connection that grows, drawn at "
            "random; null: every cell"
        ),
    ] = 10.0
    sensitivity: Annotated[
        Annotated[float, Field(ge=0, le=10**9)],
        about("factor of the gradient beside the weight in method.removal=sensitivity"),
    ] = 1.0
    threshold: Annotated[
        Annotated[float, Field(gt=0, le=10**6)],
        about("size of a weight below which method.removal=threshold removes it, zeta of them at most"),
    ] = 0.001
    removal_of_unreached: Annotated[
        bool,
        about("whether the connections of neurons that nothing reaches, or that reach nothing, are removed as well"),
    ] = False
    redistribution: Annotated[
        Literal["none", "weight", "gradient"],
        about(
            "how removed connections are shared out between the layers when they grow; none: each layer keeps its "
            "number; weight, gradient: by the mean size of a layer's weights or of their gradients"
        ),
    ] = "none"

    @property
    def evolves(self) -> bool:
        return METHODS[self.name].evolves

    @property
    def is_sparse(self) -> bool:
        return METHODS[self.name].is_sparse

    @property
    def facts(self) -> MethodFacts:
        return METHODS[self.name]

    @property
    def remembers(self) -> bool:
        """Whether a rule asks for connections that were removed before."""
        return self.regrowth == "unfired" or self.regrow_init == "previous"

    @property
    def batches(self) -> int:
        """Batches of training rows that a rule looks at before an evolution."""
        asked = [BATCHES.get(rule, 0) for rule in (self.removal, self.regrowth)]
        return max(*asked, 1 if self.redistribution == "gradient" else 0)
