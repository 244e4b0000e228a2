"""A training step as a CUDA graph: when it is recorded and replayed. The graphs themselves: test_gpu.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from set_cli.config import Train
from set_cli.sparse import SparseLinear
from set_cli.training import graphs
from set_cli.training.graphs import Recorded, can_record, recorded
from set_cli.training.optimizer import build_optimizer


class Replays:
    """In place of a graph: replaying does the recorded step again."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def replay(self) -> None:
        self._step()


def run(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[int]], int]:
    """The rows that steps of these lengths trained on, and how often one was recorded."""
    seen: list[list[int]] = []
    recordings = []

    def step(rows: Tensor) -> None:
        seen.append(rows.tolist())

    def record(work: Callable[[], None], generators: object) -> Replays:
        recordings.append(work)
        return Replays(work)

    monkeypatch.setattr(graphs, "record", record)
    learn = Recorded(step, torch.optim.SGD([torch.zeros(1)]))
    start = 0
    for length in lengths:
        learn(torch.arange(start, start + length))
        start += length
    return seen, len(recordings)


@pytest.mark.parametrize(
    ("lengths", "recordings"),
    [([4], 0), ([4, 4], 1), ([4, 4, 4, 3], 1), ([4, 3], 0), ([3, 4, 4, 4, 2, 4], 1), ([4, 4, 3, 3, 3], 2)],
)
def test_every_row_is_trained_on_once_in_order(
    lengths: list[int], recordings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, found = run(lengths, monkeypatch)
    assert [len(rows) for rows in seen] == lengths
    assert [row for rows in seen for row in rows] == list(range(sum(lengths)))
    assert found == recordings


def test_what_cannot_be_recorded_is_done_as_it_is_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def refuse(work: Callable[[], None], generators: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "record", refuse)
    learn = Recorded(lambda rows: seen.append(rows.tolist()), torch.optim.SGD([torch.zeros(1)]))
    for start in range(0, 8, 2):
        learn(torch.arange(start, start + 2))
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7]]
    said = capsys.readouterr().err
    assert said.count("cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)") == 1
    assert "more" not in said


def test_on_the_cpu_nothing_is_recorded() -> None:
    model = nn.Sequential(SparseLinear(20, 10, epsilon=2, seed=0))
    settings = Train(epochs=1, batch_size=1, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0, l1=0)
    optimizer = build_optimizer(model, settings)

    def step(rows: Tensor) -> None:
        pass

    assert not can_record(model, optimizer)
    assert recorded(step, model, optimizer, [], wanted=True) is step
