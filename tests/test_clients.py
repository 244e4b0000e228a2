"""A SparseLinear in other people's code: what evolves with it, and what is refused because it cannot."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

from set_cli.sparse import SparseLinear


def layer(seed: int = 0) -> SparseLinear:
    made = SparseLinear(30, 20, epsilon=4, seed=seed)
    nn.init.normal_(made.weight)
    return made


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized() -> SparseLinear:
    made = layer()
    parametrize.register_parametrization(made, "weight", Twice())
    return made


def pruned() -> SparseLinear:
    made = layer()
    prune.l1_unstructured(made, "weight", 0.5)  # type: ignore[no-untyped-call]
    return made


def normed() -> SparseLinear:
    made = layer()
    parametrizations.weight_norm(made, dim=None)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("made", [parametrized, pruned, normed])
def test_a_weight_that_is_computed_from_others_is_not_evolved(made: Callable[[], SparseLinear]) -> None:
    one = made()
    before = one.indices.clone()
    with pytest.raises(ValueError, match=r"found it computed from others \(torch\.nn\.utils\.parametrize"):
        one.evolve(0.3, seed=0)
    assert torch.equal(one.indices, before)


def test_an_optimiser_that_does_not_train_the_layer_is_refused() -> None:
    one = layer()
    other = torch.optim.Adam(layer(1).parameters())
    with pytest.raises(ValueError, match="its weight is in none of the parameter groups"):
        one.evolve(0.3, optimizer=other, seed=0)
    own = torch.optim.Adam(one.parameters())
    one.load_state_dict(layer(1).state_dict(), assign=True)
    with pytest.raises(ValueError, match="its weight is in none of the parameter groups"):
        one.evolve(0.3, optimizer=own, seed=0)


def test_what_is_no_optimiser_is_refused() -> None:
    one = layer()
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(one.parameters(), lr=0.1), 1)
    with pytest.raises(ValueError, match="expected a torch optimiser, got StepLR"):
        one.evolve(0.3, optimizer=scheduler, seed=0)  # type: ignore[arg-type]


def full(one: SparseLinear) -> Tensor:
    """(n_in, n_out) weights, NaN where there is no connection."""
    inputs = torch.arange(one.in_features).repeat_interleave(one.indptr.long().diff())
    matrix = torch.full((one.in_features, one.out_features), torch.nan)
    matrix[inputs, one.indices.long()] = one.weight.detach()
    return matrix


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("like", [True, False])
def test_an_average_follows_an_evolution(refill: bool, like: bool) -> None:
    one = layer()
    average = AveragedModel(one)
    average.update_parameters(one)
    with torch.no_grad():
        one.weight.mul_(3)
    average.update_parameters(one)
    copied = average.module
    assert isinstance(copied, SparseLinear)
    before = full(copied)
    change = one.evolve(0.3, seed=1, refill=refill, regrow_init="random")
    assert change is not None
    copied.follow(change, one if like else None)
    after, live = full(copied), full(one)
    assert torch.equal(after.isnan(), live.isnan())
    is_new = torch.zeros_like(after, dtype=torch.bool)
    inputs = torch.arange(30).repeat_interleave(one.indptr.long().diff())
    is_new[inputs, one.indices.long()] = change.source < 0
    kept = ~after.isnan() & ~is_new
    assert kept.sum() == one.nnz - change.regrown
    assert torch.equal(after[kept], before[kept])
    assert torch.equal(after[is_new], live[is_new] if like else torch.zeros(change.regrown))
    average.update_parameters(one)  # the next average is one of equal connections
    torch.testing.assert_close(full(copied)[kept], ((2 * before + live) / 3)[kept])
    x = torch.ones(2, 30)
    torch.testing.assert_close(average(x), x @ full(copied).nan_to_num())


def test_a_layer_that_is_no_copy_does_not_follow() -> None:
    one, copied = layer(), copy.deepcopy(layer())
    change = one.evolve(0.3, seed=1, refill=False)
    assert change is not None
    copied.follow(change)
    with pytest.raises(ValueError, match=r"expected a layer \(30, 20\) with the \d+ connections from before"):
        copied.follow(change)  # a second time


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_the_cpu(dtype: torch.dtype) -> None:
    one = layer()
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    expected = one(x)
    half = copy.deepcopy(one).to(dtype)
    found = half(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.1)
    found.sum().backward()
    assert half.weight.grad is not None
    assert half.weight.grad.dtype == dtype
    assert half.evolve(0.3, seed=0) is not None


RANKS = """
import sys, torch
from torch import distributed
from set_cli.sparse import SparseLinear
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(rank)
layer = SparseLinear(30, 20, epsilon=4, seed=0)
for _ in range(3):
    layer.evolve(0.3)
print(layer.indices.tolist())
distributed.destroy_process_group()
"""


def test_processes_of_a_group_get_the_same_connections_without_a_seed(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", RANKS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert said[0] == said[1]
    assert said[0]
