"""What the compiled module offers, so that mypy checks the calls; the headers in src/ say what each computes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from set_cli.native import records


class Core(Protocol):
    """The module set_cli.native._core."""

    __file__: str
    RECORDS: dict[str, tuple[str, ...]]
    SUM_BLOCK: int

    def Pattern(self, n_in: int, n_out: int, indptr: NDArray[np.int32], indices: NDArray[np.int32], /) -> Any: ...

    def simd(self) -> str: ...

    def use_simd(self, name: str, /) -> bool: ...

    def to_columns(self, record: records.ToColumns, threads: int, /) -> None: ...

    def product(self, record: records.Product, threads: int, /) -> None: ...

    def gradients(self, record: records.Gradients, threads: int, /) -> None: ...

    def activate(self, record: records.Activation, threads: int, /) -> None: ...

    def activate_backward(self, record: records.ActivationBackward, threads: int, /) -> None: ...

    def stack_forward(self, layers: list[records.LayerForward], n_batch: int, threads: int, /) -> None: ...

    def stack_backward(self, layers: list[records.LayerBackward], n_batch: int, threads: int, /) -> None: ...

    def cross_entropy(self, record: records.CrossEntropy, /) -> float: ...

    def descend(
        self, parameters: list[records.Descent], rate: float, momentum: float, nesterov: bool, threads: int, /
    ) -> None: ...

    def train(
        self,
        steps: records.Steps,
        forward: list[records.LayerForward],
        backward: list[records.LayerBackward],
        values: list[records.Descent],
        others: list[records.OfOutputs],
        threads: int,
        /,
    ) -> None: ...

    def train_rbm(self, record: records.ContrastSteps, threads: int, /) -> None: ...

    def gather(self, record: records.Gather, threads: int, /) -> None: ...

    def gather_changed(self, record: records.GatherChanged, threads: int, /) -> None: ...

    def mix(self, record: records.Mix, threads: int, /) -> None: ...

    def draw(self, record: records.Draw, threads: int, /) -> None: ...

    def contrast(self, record: records.Contrast, threads: int, /) -> float: ...

    def anneal(self, record: records.SparseAnnealing, threads: int, /) -> None: ...

    def anneal_hidden(self, record: records.Annealing, before: float, beta: float, threads: int, /) -> None: ...

    def anneal_visible(
        self, record: records.Annealing, z: records.Columns, before: float, beta: float, threads: int, /
    ) -> None: ...

    def prune(self, weights: NDArray[np.float32], zeta: float, keep: NDArray[np.bool_], /) -> None: ...

    def refill(
        self,
        n_in: int,
        n_out: int,
        indptr: NDArray[np.int32],
        indices: NDArray[np.int32],
        keep: NDArray[np.bool_],
        ranks: NDArray[np.int64],
        new_indptr: NDArray[np.int32],
        new_indices: NDArray[np.int32],
        source: NDArray[np.int32],
        /,
    ) -> None: ...

    def grow_by_paths(
        self, pattern: Any, is_soft: bool, seed: int, cells: NDArray[np.int64], threads: int, /
    ) -> int: ...
