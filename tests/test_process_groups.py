"""Sparse layers in two processes: DistributedDataParallel, fully_shard, distributed checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.faults  # two processes that import torch's distributed parts take seconds

BEGIN = """
import copy, json, os, sys
import torch
from torch import distributed, nn
from set_cli.sparse import Evolution, SparseLinear

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
said = {}

def network():
    return nn.Sequential(SparseLinear(30, 20, epsilon=4, seed=1), nn.Tanh(), SparseLinear(20, 10, epsilon=3, seed=1))

def sparse(model):
    return [layer for layer in model.modules() if isinstance(layer, SparseLinear)]

def step(model, optimizer, number):
    x = torch.randn(8, 30, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
"""
END = """
print(json.dumps(said))
distributed.destroy_process_group()
"""


def run(script: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes says."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", BEGIN + script + END]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], stdout=subprocess.PIPE, text=True) for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return [json.loads(text) for text in said]


DATA_PARALLEL = """
torch.manual_seed(rank)
layer = SparseLinear(30, 20, epsilon=4, seed=0)
for _ in range(3):
    layer.evolve(0.3)
said["without a seed"] = layer.indices.tolist()

def by_inputs(view, zeta, rng):
    rng.random(rank)
    keep = torch.ones(view.nnz, dtype=torch.bool)
    keep[(int(1000 * view.inputs.abs().sum()) + torch.arange(int(zeta * view.nnz))) % view.nnz] = False
    return keep

inner = network()
model = nn.parallel.DistributedDataParallel(inner)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
evolution = Evolution(model, optimizer, removal=by_inputs, regrow_init="random", keep_last_step=True)
for number in range(3):
    step(model, optimizer, 2 * number + rank)  # each its own rows
    evolution.step()
said["by the latest rows"] = [layer.indices.tolist() for layer in sparse(inner)]
said["weights"] = [layer.weight.tolist() for layer in sparse(inner)]

for layer in sparse(inner):
    layer.evolve(0.3, optimizer=optimizer, seed=1, refill=False)
model = nn.parallel.DistributedDataParallel(inner)
step(model, optimizer, rank)
step(model, optimizer, rank)
said["wrapped anew"] = [layer.weight.tolist() for layer in sparse(inner)]
"""


def test_processes_get_the_same_connections_and_weights(tmp_path: Path) -> None:
    one, other = run(DATA_PARALLEL, tmp_path)
    assert one == other
    assert all(one.values())


SHARDED = """
import torch.distributed.checkpoint as checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

mesh = distributed.init_device_mesh("cpu", (2,))
whole = network()
model = copy.deepcopy(whole)
for layer in sparse(model):
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
models = (model, whole)
optimizers = [torch.optim.Adam(one.parameters(), lr=0.01) for one in models]

def train(first, last):
    for number in range(first, last):
        for one, optimizer in zip(models, optimizers):
            step(one, optimizer, number)

def equal():
    found = []
    for one, optimizer in zip(models, optimizers):
        moments = [optimizer.state[p][name] for p in one.parameters() for name in ("exp_avg", "exp_avg_sq")]
        found.append([*one.parameters(), *one.buffers(), *moments])
    return all([torch.equal(getattr(a, "full_tensor", lambda: a)(), b) for a, b in zip(*found)])

said["odd"] = any(layer.nnz % 2 for layer in sparse(model))
train(0, 3)
said["trained"] = equal()
for one, optimizer in zip(models, optimizers):
    for layer in sparse(one):
        layer.evolve(0.3, optimizer=optimizer, seed=5, regrow_init="random")
said["evolved"] = equal()
train(3, 6)
said["trained on"] = equal()

state, of_optimizer = get_state_dict(model, optimizers[0])
checkpoint.save({"model": state, "optimizer": of_optimizer}, checkpoint_id=f"{folder}/saved")
for layer in sparse(model):
    layer.evolve(0.5, optimizer=optimizers[0], seed=6)
said["moved"] = equal()
state, of_optimizer = get_state_dict(model, optimizers[0])
checkpoint.load({"model": state, "optimizer": of_optimizer}, checkpoint_id=f"{folder}/saved")
set_state_dict(model, optimizers[0], model_state_dict=state, optim_state_dict=of_optimizer)
said["loaded"] = equal()
train(6, 8)
said["resumed"] = equal()
try:
    sparse(model)[0].evolve(0.3, refill=False)
except ValueError as error:
    said["refused"] = str(error)
"""


def test_a_network_that_fully_shard_divides_trains_and_evolves_as_a_whole_one(tmp_path: Path) -> None:
    one, other = run(SHARDED, tmp_path)
    assert one == other
    assert one.pop("refused") == (
        "expected as many connections as before (refill=True): fully_shard has divided the weight into shares of fixed "
        "length"
    )
    assert not one.pop("moved")
    assert one == dict.fromkeys(("odd", "trained", "evolved", "trained on", "loaded", "resumed"), True)
