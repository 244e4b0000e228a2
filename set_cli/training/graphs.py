"""A training step recorded as a CUDA graph: started with one call, where a small network's step is mostly launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from set_cli.models.random_stream import RandomStream
from set_cli.models.stack import has_hooks
from set_cli.sparse import SparseLinear
from set_cli.system.progress import note
from set_cli.training.optimizer import RECORDABLE, drop_gradients

Step = Callable[[Tensor], None]
"""Trains on the rows (n,) int64 of these numbers, which lie on the training device."""


def recorded(
    step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, streams: Iterable[RandomStream], *, wanted: bool
) -> Step:
    """The step, recorded where that is wanted and possible; for the time between two evolutions.

    streams  that the step draws from
    """
    if not (wanted and can_record(model, optimizer)):
        return step
    return Recorded(step, optimizer, [stream.generator for stream in streams])


def can_record(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of this model does the same on the GPU every time, and nothing on the CPU.

    Not where somebody looks on (hooks; Adam's correction by age is one), with an optimiser that we do not know, or with
    cuSPARSE's products.
    """
    parameters = list(model.parameters())
    if not parameters or not parameters[0].is_cuda or type(optimizer) not in RECORDABLE:
        return False
    looks_on = (
        bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
        or any(has_hooks(module) for module in model.modules())
        or any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
    )
    by_torch = any(isinstance(layer, SparseLinear) and layer.engine.name == "torch" for layer in model.modules())
    return not (looks_on or by_torch)


def record(
    step: Callable[[], object],
    generators: Iterable[torch.Generator] = (),
    stream: torch.cuda.Stream | None = None,
) -> torch.cuda.CUDAGraph:
    """The graph of a step that has been done before: replayed, it does what the step does, bit for bit.

    generators  that the step draws from, beside torch's own
    stream      on which it was done before, where a part of its autograd graph is still alive
    Raises RuntimeError where an operation cannot be recorded or memory is short; nothing is computed then.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    here = torch.cuda.current_stream()
    aside = stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
    try:
        with torch.cuda.graph(graph, stream=aside):
            step()
    finally:
        torch.cuda.set_stream(here)  # a failed recording leaves its own stream behind
    # The recording's stream sets the generators' seeds and offsets, which a replay sets anew on its own: wait, or on a
    # busy GPU the older values can come last.
    here.wait_stream(aside)
    return graph


class Recorded:
    """A step that is recorded when it comes a second time with as many rows, and replayed from then on.

    Weights, momenta and connections must stay where they are: make another one after an evolution. A batch of another
    size, an epoch's last one, ends the recording; where it cannot be recorded the step is done as it is.
    """

    def __init__(
        self, step: Step, optimizer: torch.optim.Optimizer, generators: Iterable[torch.Generator] = ()
    ) -> None:
        self._step, self._optimizer, self._generators = step, optimizer, list(generators)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows: Tensor | None = None
        self._length = -1  # of the latest step
        self._is_refused = False

    def __call__(self, rows: Tensor) -> None:
        if self._graph is None and len(rows) == self._length and not self._is_refused:
            self._record(rows)
        if self._graph is not None and self._rows is not None and len(rows) == len(self._rows):
            self._rows.copy_(rows)
            self._graph.replay()
            return
        self._graph = None  # so that its memory is there for what follows
        self._step(rows)
        self._length = len(rows)

    def _record(self, rows: Tensor) -> None:
        fixed = rows.clone()
        drop_gradients(self._optimizer)  # the recorded ones have memory of their own
        try:
            self._graph = record(lambda: self._step(fixed), self._generators)
        except RuntimeError as error:
            self._is_refused = True
            reason = str(error).partition("\n")[0]
            note(
                f"note: a training step cannot be recorded as a CUDA graph ({reason}); each operation is started alone"
            )
        else:
            self._rows = fixed
