"""Weights and optimiser state that torch.distributed.fsdp.fully_shard has divided among processes.

Each process holds a share of fixed length, so their number cannot change; the indices are whole everywhere.
"""

from __future__ import annotations

import sys

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a share of the tensor only."""
    module = sys.modules.get("torch.distributed.tensor")  # not imported: who has such tensors has it
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of the tensor, without its gradient; where it is sharded every process has to call this."""
    if not is_sharded(tensor):
        return tensor.detach()
    full: Tensor = tensor.full_tensor().detach()  # type: ignore[attr-defined]
    return full


def write_share(tensor: Tensor, values: Tensor) -> None:
    """Overwrite this process's share of a sharded tensor with that of `values`, of which every process has all."""
    module = sys.modules["torch.distributed.tensor"]
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    share = module.distribute_tensor(values, mesh, placements, src_data_rank=None)
    tensor.to_local().copy_(share.to_local())  # type: ignore[attr-defined]
