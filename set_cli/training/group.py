"""One run on several processes, as torchrun starts them: who this process is, and what they tell each other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from set_cli.errors import ConfigError, SetError
from set_cli.system.machine import started_together

# The others wait while the first measures and evolves.
PATIENCE = timedelta(hours=24)
Said = TypeVar("Said")


class LeftAlone(SetError):
    """Another of the processes ended: it has said why."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one run together; the first of them (rank 0) measures, evolves and writes.

    local_size  of them on this machine
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def said_by_first(self, value: Said) -> Said:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def arrays_of_first(self, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Mapping[str, NDArray[Any]]:
        """The first process's arrays, for all; the others' are not looked at."""
        if self.size == 1:
            return arrays
        layout = self.said_by_first([(name, a.shape, a.dtype.str) for name, a in arrays.items()])
        found = {}
        for name, shape, dtype in layout:
            array = np.ascontiguousarray(arrays[name]) if self.is_first else np.empty(shape, dtype)
            tensor = torch.from_numpy(array.reshape(shape)).to(device)
            dist.broadcast(tensor, src=0)
            found[name] = tensor.cpu().numpy()
        return found

    def total(self, value: Tensor) -> Tensor:
        """The sum of the processes' values."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def share(self, rows: Tensor) -> tuple[Tensor, float]:
        """This process's part of a batch of row numbers, and the weight that its mean loss has in the batch's.

        The processes' gradients are averaged: the weight makes that the gradient of the whole batch's mean. Where a
        batch has fewer rows than there are processes, some have one that does not count: all must take part.
        """
        if self.size == 1:
            return rows, 1.0
        mine = rows.tensor_split(self.size)[self.rank]
        return (mine, self.size * len(mine) / len(rows)) if len(mine) else (rows[:1], 0.0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model with a forward whose backward averages the processes' gradients."""
        if self.size == 1:
            return model
        with warnings.catch_warnings():
            # Of a new name that torch 2.5 does not know yet.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            # Indices of connections are buffers, which change with an evolution only.
            return DistributedDataParallel(model, broadcast_buffers=False)


ALONE = Group()


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The processes that torchrun started, or this one alone. LeftAlone where another of them ends."""
    if not started_together():
        yield ALONE
        return
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    group = Group(*(int(os.environ[name]) for name in names))
    if device.type == "cuda":
        if group.local_size > torch.cuda.device_count():
            gpus = torch.cuda.device_count()
            raise ConfigError(f"torchrun: expected a process for each of {gpus} GPUs, found {group.local_size}")
        torch.cuda.set_device(group.local_rank)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield group
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise LeftAlone(f"process {group.rank} of {group.size}: another one ended; its own words say why") from error
    finally:
        dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error is of the processes' talk: gloo's are plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "Gloo", "Connection"))
