"""Records that the compiled kernels take: what kernels.hpp, calls.hpp, stack.hpp, steps.hpp and rbm.hpp in src/
describe.

The kernels read a record by position and see addresses only. So records are made by keyword, and `check` compares these
fields with the compiled module's when the package is imported. A field is a number, an address as an integer (0: null)
or another record; the headers say of what length and layout the array at each address must be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

# The activation of a layer: 1 where it has SReLU's parameters.
NO_SHAPE, RELU, SRELU = -1, 0, 1
# How values are normalised before it.
NO_NORM, BY_BATCH, BY_AVERAGES, BY_LAYER = 0, 1, 2, 3


class Columns(NamedTuple):
    data: int
    stride: int


class Slopes(NamedTuple):
    t_left: int
    a_left: int
    right_width: int
    a_right: int


class Normalization(NamedTuple):
    kind: int
    scale: int
    shift: int
    mean: int
    variance: int
    moments: int
    momentum: float
    eps: float


class NormGradients(NamedTuple):
    scale: int
    shift: int


class Random(NamedTuple):
    seed: int
    step: int


class Dropout(NamedTuple):
    kept: int
    threshold: int
    scale: float
    random: Random


class Source(NamedTuple):
    data: int
    is_bytes: bool
    features: int
    offset: int
    scale: int


class Image(NamedTuple):
    channels: int
    height: int
    width: int


class Product(NamedTuple):
    pattern: Any  # core.Pattern, here and below
    by_output: bool
    values: int
    bias: int
    x: Columns
    y: Columns
    n_batch: int


class Gradients(NamedTuple):
    pattern: Any
    values: int
    x: Columns
    dy: Columns
    dx: Columns
    dw: int
    db: int
    n_batch: int


class Activation(NamedTuple):
    shape: int
    slopes: Slopes
    dropout: Dropout
    z: Columns
    y: Columns
    neurons: int
    n_batch: int


class ActivationBackward(NamedTuple):
    shape: int
    slopes: Slopes
    dropout: Dropout
    slope_gradients: Slopes
    z: Columns
    dy: Columns
    dz: Columns
    neurons: int
    n_batch: int


class Layer(NamedTuple):
    pattern: Any
    dropout: Dropout
    x: Columns
    z: Columns


class LayerForward(NamedTuple):
    layer: Layer
    values: int
    bias: int
    norm: Normalization
    shape: int
    slopes: Slopes
    y: Columns


class LayerBackward(NamedTuple):
    layer: Layer
    values: int
    norm: Normalization
    norm_gradients: NormGradients
    norm_sums: int
    shape: int
    slopes: Slopes
    slope_gradients: Slopes
    dy: Columns
    dz: Columns
    dx: Columns
    dw: int
    db: int
    relu: float


class Targets(NamedTuple):
    labels: int
    others: int
    shares: int
    smoothing: float


class CrossEntropy(NamedTuple):
    logits: Columns
    targets: Targets
    classes: int
    n_batch: int
    gradient: Columns
    scale: float


class Descent(NamedTuple):
    parameter: int
    gradient: int
    momentum: int
    elements: int
    decay: float


class Gather(NamedTuple):
    source: Source
    rows: int
    out: Columns
    n_batch: int


class GatherChanged(NamedTuple):
    source: Source
    image: Image
    rows: int
    crops: int
    maps: int
    squares: int
    blank: int
    out: Columns
    n_batch: int


class Feed(NamedTuple):
    gather: GatherChanged
    clip: float


class Update(NamedTuple):
    rates: int
    momentum: float
    nesterov: bool
    l1: float


class Steps(NamedTuple):
    feed: Feed
    loss: CrossEntropy
    losses: int
    update: Update
    steps: int


class OfOutputs(NamedTuple):
    layer: int
    descent: Descent


class Mix(NamedTuple):
    x: Columns
    partners: int
    shares: int
    features: int
    n_batch: int


class ToColumns(NamedTuple):
    x: int
    stride_batch: int
    stride_feature: int
    out: Columns
    features: int
    n_batch: int


class Draw(NamedTuple):
    z: Columns
    p: Columns
    drawn: Columns
    rows: int
    n_batch: int
    random: Random


class Contrast(NamedTuple):
    pattern: Any
    values: int
    hidden_bias: int
    visible_bias: int
    v0: Columns
    v1: Columns
    h0: Columns
    h1: Columns
    drawn: Columns
    chain: Columns
    dw: int
    dc: int
    db: int
    n_batch: int
    n_chains: int
    steps: int
    random: Random


class ContrastSteps(NamedTuple):
    feed: Feed
    contrast: Contrast
    values: Descent
    hidden_bias: Descent
    visible_bias: Descent
    losses: int
    update: Update
    steps: int


class Annealing(NamedTuple):
    base: int
    shift: int
    bias: int
    v: Columns
    h: Columns
    n_visible: int
    n_hidden: int
    n_chains: int
    sums: int
    random: Random


class SparseAnnealing(NamedTuple):
    chains: Annealing
    pattern: Any
    values: int
    hidden_bias: int
    betas: int
    temperatures: int


RECORDS: dict[str, Any] = {name: record for name, record in globals().items() if hasattr(record, "_fields")}

NO_COLUMNS = Columns(data=0, stride=0)
NO_SOURCE = Source(data=0, is_bytes=False, features=0, offset=0, scale=0)
NO_IMAGE = Image(channels=0, height=0, width=0)
NO_GATHERING = GatherChanged(
    source=NO_SOURCE, image=NO_IMAGE, rows=0, crops=0, maps=0, squares=0, blank=0, out=NO_COLUMNS, n_batch=0
)
NO_SLOPES = Slopes(t_left=0, a_left=0, right_width=0, a_right=0)
NO_NORMALIZATION = Normalization(kind=NO_NORM, scale=0, shift=0, mean=0, variance=0, moments=0, momentum=0.0, eps=0.0)
NO_NORM_GRADIENTS = NormGradients(scale=0, shift=0)
NO_DROPOUT = Dropout(kept=0, threshold=0, scale=1.0, random=Random(seed=0, step=0))


def columns(x: Tensor | None) -> Columns:
    """Address and stride of a tensor (n_batch, neurons) whose batch is contiguous; null for None."""
    return NO_COLUMNS if x is None else Columns(data=x.data_ptr(), stride=x.stride(1))


def no_feed(n_batch: int) -> Feed:
    """The feed of steps whose inputs are there already."""
    return Feed(gather=NO_GATHERING._replace(n_batch=n_batch), clip=0.0)


def address(x: Tensor | None) -> int:
    """The address of a tensor's values; 0 for None."""
    return 0 if x is None else x.data_ptr()


def check(compiled: Any) -> None:
    """Compare the compiled module's records with these; ImportError where one has other fields or another order."""
    there: dict[str, tuple[str, ...]] = getattr(compiled, "RECORDS", {})
    for name in sorted({*RECORDS, *there}):
        expected: tuple[str, ...] = RECORDS[name]._fields if name in RECORDS else ()
        found = there.get(name, ())
        if found != expected:
            raise ImportError(
                f"they belong to another version of set-cli: expected {name} with the fields {_listed(expected)}, "
                f"found {_listed(found)}"
            )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "(none)"
