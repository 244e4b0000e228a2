"""No connection is lost or doubled; shapes at the edge end in a result or in one sentence. Reliability, E."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from set_cli.sparse import SparseLinear
from set_cli.sparse.pattern import check_pattern
from tests.faults.command import command

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(("n_in", "n_out", "epsilon"), [(40, 30, 5), (1, 50, 0.5), (50, 1, 0.5), (7, 9, 3.9)])
def test_no_connection_is_lost_or_doubled_in_a_thousand_evolutions(
    n_in: int, n_out: int, epsilon: float, record: dict[str, int]
) -> None:
    """With weights that are exactly 0, as cancellation makes them, of either sign, and denormal ones."""
    layer = SparseLinear(n_in, n_out, epsilon=epsilon, seed=0)
    count, rng = layer.nnz, np.random.default_rng(0)
    for epoch in range(1000):
        values = rng.standard_normal(count).astype(np.float32) * (rng.random(count) < 0.8)
        values[rng.random(count) < 0.1] = 1e-42
        values[rng.random(count) < 0.1] = -0.0
        layer.weight.data = torch.from_numpy(values)
        layer.evolve(float(rng.choice([0, 0.3, 0.99])), seed=epoch)
        check_pattern(layer.pattern)  # sorted, in range, no duplicates
        assert layer.nnz == count
    record["evolutions without drift of connections"] += 1000


SHAPES = {
    "one row": (1, 4, [0]),
    "one class": (6, 4, [0] * 6),
    "one feature": (6, 1, [0, 1] * 3),
    "one neuron": (6, 4, [0, 1] * 3),
    "two rows of two classes": (2, 2, [0, 1]),
    "no rows": (0, 4, []),
    "no features": (6, 0, [0, 1] * 3),
    "constant features": (8, 3, [0, 1] * 4),
    "labels with holes": (6, 4, [0, 5, 9] * 2),
}


@pytest.mark.parametrize("model", ["mlp", "rbm"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_at_the_edge(shape: str, model: str, tmp_path: Path, record: dict[str, int]) -> None:
    rows, features, labels = SHAPES[shape]
    x = np.zeros((rows, features), np.uint8)
    if shape != "constant features":
        x[::2] = 1
    folder = tmp_path / "here"
    folder.mkdir()
    np.savez(folder / "own.npz", x_train=x, y_train=np.array(labels), x_test=x, y_test=np.array(labels))
    ending = command(folder, "dataset=custom", "dataset.path=own.npz", f"model={model}", "model.hidden=[1]",
                     "train.epochs=2", "train.batch_size=100", "progress=none", "backend.threads=1")  # fmt: skip
    assert ending.code in (0, 2, 3), ending
    assert "Traceback" not in ending.err
    assert "Warning" not in ending.err
    if ending.code:
        assert len(ending.err.splitlines()) == 1, ending.err
        assert not (folder / "runs").exists()
    else:
        assert "nan" not in ending.out
    record["shapes at the edge"] += 1
