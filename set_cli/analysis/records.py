"""What an analysis says of a run's topology: rows of three tables, strict JSON beside the run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from set_cli.analysis.graph import GraphMeasures
from set_cli.analysis.power_law import PowerLawFit


class Row(BaseModel):
    """Exact types, no unknown keys: a cached analysis is a file that anybody may have written."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Side = Literal["inputs", "outputs", "both"]


class DegreeRow(Row):
    """The degrees of one side of a layer after an epoch; 'both': of its outputs with the next layer's inputs, which
    are the same neurons.

    without    neurons that have no connection
    paper_p    the paper's one-tailed test, small: like a power law
    power_law  Clauset's test, its p small: no power law
    """

    layer: str
    side: Side
    epoch: NonNegativeInt
    neurons: NonNegativeInt
    mean: NonNegativeFloat
    deviation: NonNegativeFloat
    largest: NonNegativeInt
    without: NonNegativeInt
    paper_p: NonNegativeFloat | None
    power_law: PowerLawFit | None


class LayerRow(Row):
    """One layer after an epoch.

    kept, kept_by_chance  share of the initial connections that are still there; of a random pattern as large
    explored              share of all possible connections that at least one snapshot until then had
    clustering, random_clustering  of squares; of random layers with the same degrees
    """

    layer: str
    epoch: NonNegativeInt
    inputs: NonNegativeInt
    outputs: NonNegativeInt
    connections: NonNegativeInt
    kept: NonNegativeFloat | None
    kept_by_chance: NonNegativeFloat
    explored: NonNegativeFloat
    clustering: NonNegativeFloat | None
    random_clustering: NonNegativeFloat | None


class GraphRow(Row):
    """Sparse layers that follow each other, after an epoch; random: every neuron with as many connections as here."""

    layers: list[str]
    epoch: NonNegativeInt
    measures: GraphMeasures
    random: GraphMeasures


class TurnoverRow(Row):
    """What a layer kept from one snapshot to the next, and what chance would have kept."""

    layer: str
    epoch: NonNegativeInt
    before: NonNegativeInt
    kept: NonNegativeFloat | None
    kept_by_chance: NonNegativeFloat


class StrengthRow(Row):
    """The inputs with the largest sums of absolute weights in the trained network, the largest first."""

    layer: str
    inputs: list[NonNegativeInt]
    strengths: list[NonNegativeFloat]


class Analysis(Row):
    """Analysis of one run; sources are the SHA-256 of the files that it was made from, by name."""

    version: int
    sources: dict[str, str]
    degrees: list[DegreeRow]
    layers: list[LayerRow]
    graphs: list[GraphRow]
    turnover: list[TurnoverRow]
    strength: list[StrengthRow]
