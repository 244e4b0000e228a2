"""Memory grows with the connections: a layer whose dense matrix would need 40 GB trains under a cap of 2 GB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run_python

TRAIN_UNDER_CAP = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))  # address space: everything counts, torch itself too
import torch
torch.set_num_threads(2)
from set_cli.sparse import SparseLinear
layer = SparseLinear(100_000, 100_000, epsilon=5, seed=0)
assert abs(layer.nnz - 1_000_000) < 5_000, layer.nnz
optimizer = torch.optim.{optimizer}(layer.parameters(), lr=0.01)
x = torch.randn(32, 100_000)
before = layer.weight.detach().clone()
for _ in range(2):
    optimizer.zero_grad()
    layer(x).square().mean().backward()
    optimizer.step()
    layer.evolve(0.3, optimizer=optimizer, seed=1)
assert not torch.equal(layer.weight, before)
print("trained", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000, "MB")
"""


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.slow  # fills two gigabytes
def test_a_hundred_thousand_square_layer_trains_in_two_gigabytes(optimizer: str, tmp_path: Path) -> None:
    result = run_python("-c", TRAIN_UNDER_CAP.format(optimizer=optimizer), folder=tmp_path, OMP_NUM_THREADS="2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("trained")


def test_the_cap_stops_what_is_dense(tmp_path: Path) -> None:
    program = TRAIN_UNDER_CAP.format(optimizer="SGD").replace("seed=0", "seed=0, engine='masked'")
    result = run_python("-c", program, folder=tmp_path, OMP_NUM_THREADS="2")
    assert result.returncode != 0
    assert "memory" in result.stderr
