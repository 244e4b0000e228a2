"""Who else holds a layer's weight: optimisers, whose state has to follow its connections, and other layers.

A parameter does not know its optimisers. Torch calls a hook after every step of any optimiser, so those that have
stepped are known here. The state of one that has loaded it since may be that of connections which the layer is yet to
load.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from set_cli.sparse.age import BORN
from set_cli.sparse.sharded import is_sharded, whole, write_share

_has_own_state: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()  # False: loaded since its last step
_layers: WeakKeyDictionary[nn.Module, None] = WeakKeyDictionary()


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    own = _has_own_state.get(optimizer)
    if own:
        return
    if own is None:
        optimizer.register_load_state_dict_post_hook(_after_load)
    _has_own_state[optimizer] = True


def _after_load(optimizer: Optimizer) -> None:
    _has_own_state[optimizer] = False


register_optimizer_step_post_hook(_after_step)


def remember(layer: nn.Module) -> None:
    """Note a layer as one whose weight another layer may share."""
    _layers[layer] = None


def sharing(layer: nn.Module) -> bool:
    """Whether another layer that lives has the same weight."""
    living = (ref() for ref in _layers.keyrefs())
    return any(
        other is not None and other is not layer and other._parameters.get("weight") is layer._parameters["weight"]
        for other in living
    )


def holds(optimizer: Optimizer, weight: Tensor) -> bool:
    """Whether the optimiser trains this weight."""
    return any(parameter is weight for group in optimizer.param_groups for parameter in group["params"])


def stepped(weight: Tensor, *, loaded: bool) -> Iterator[Optimizer]:
    """The optimisers that have trained this weight; without `loaded` only those whose state is from their own steps."""
    for ref in _has_own_state.keyrefs():
        optimizer = ref()
        if optimizer is not None and (loaded or _has_own_state.get(optimizer)) and holds(optimizer, weight):
            yield optimizer


def move_state(optimizer: Optimizer, weight: Tensor, source: Tensor) -> None:
    """Give every connection the state that it had at `source`, a new one (-1) none but the step at which it grew.

    State that is not one number a connection cannot follow; the optimiser starts without it.
    """
    if isinstance(optimizer, torch.optim.LBFGS):  # one history of all its parameters, kept with the first of them
        optimizer.state.clear()
        optimizer._numel_cache = None
        return
    state: dict[str, Any] = optimizer.state.get(weight, {})
    for name, value in list(state.items()):
        if isinstance(value, Tensor) and value.shape == weight.shape:
            fresh = state["step"].to(value) if name == BORN else 0
            moved = torch.where(source < 0, fresh, gather(whole(value), source))
            if is_sharded(value):
                write_share(value, moved)
            else:
                state[name] = moved
        elif value.numel() > 1 if isinstance(value, Tensor) else isinstance(value, list | tuple | dict):
            state.clear()
            return


def gather(values: Tensor, source: Tensor) -> Tensor:
    """values at `source`; anything where source is -1 (the caller fills those)."""
    if not len(values):
        return values.new_zeros(len(source))
    return values.detach().index_select(0, source.clamp(min=0))
