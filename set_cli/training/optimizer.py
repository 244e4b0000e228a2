"""The optimisers: the paper's SGD with momentum, and Adam. Weight decay is on the connection weights only."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from set_cli import native
from set_cli.config import Train
from set_cli.config.keys import ADAM
from set_cli.models.counts import connection_layers, convolutions, sparse_layers
from set_cli.native import records
from set_cli.sparse.age import BiasCorrectionByAge


def connection_weights(model: nn.Module) -> list[Tensor]:
    """The weights of connections and convolutions: what weight decay and L1 act on (as Keras' kernel regularisers)."""
    layers = [layer for _, layer in connection_layers(model)]
    return [layer.weight for layer in (*layers, *convolutions(model))]


class MomentumSGD(torch.optim.SGD):
    """torch's SGD, its step in one call of the compiled kernels per group where they take all parameters."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        # torch's decorator imports its compiler for this call: a second of every start.
        inspect.unwrap(torch.optim.SGD.add_param_group)(self, param_group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if closure is not None or not all(self._fits(group, _with_gradient(group)) for group in self.param_groups):
            return super().step(closure)
        alike: dict[tuple[float, float, bool], list[dict[str, Any]]] = {}
        for group in self.param_groups:
            alike.setdefault((group["lr"], group["momentum"], group["nesterov"]), []).append(group)
        for settings, groups in alike.items():
            self._descend(*settings, groups)
        return None

    @property
    def is_one_call(self) -> bool:
        """Whether a step of all parameters, were there gradients of them, is one call of the kernels."""
        settings = {(group["lr"], group["momentum"], group["nesterov"]) for group in self.param_groups}
        return len(settings) == 1 and all(self._fits(group, group["params"]) for group in self.param_groups)

    def _fits(self, group: dict[str, Any], tensors: list[Tensor]) -> bool:
        """Whether this is momentum SGD on float32 tensors on the CPU, and nothing else (no AMP scaler either)."""
        scaled = getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None
        plain = group["momentum"] and not (group["dampening"] or group["maximize"] or scaled)
        return bool(plain) and native.takes(*tensors) and all(p.is_contiguous() for p in tensors)

    def momentum_of(self, p: Tensor) -> Tensor:
        """The momentum of a parameter, 0 before the first step; ValueError where it is that of other connections."""
        state = self.state[p]
        buffer: Tensor | None = state.get("momentum_buffer")
        if buffer is None:
            buffer = state["momentum_buffer"] = torch.zeros_like(p)
        if buffer.shape != p.shape or not buffer.is_contiguous() or not native.takes(buffer):
            raise ValueError(
                f"expected a momentum of shape {tuple(p.shape)} for every weight, got {tuple(buffer.shape)}: the "
                "connections changed without this optimiser (pass optimizer= to evolve, or load its state_dict too)"
            )
        return buffer

    def _descend(self, lr: float, momentum: float, nesterov: bool, groups: list[dict[str, Any]]) -> None:
        """One call for all parameters of groups that differ in weight decay only."""
        changed, calls, alive = [], [], []
        for p, decay in ((p, group["weight_decay"]) for group in groups for p in group["params"]):
            if p.grad is None:
                continue
            buffer = self.momentum_of(p)
            gradient = p.grad.contiguous()
            alive.append(gradient)
            calls.append(
                records.Descent(
                    parameter=p.data_ptr(),
                    gradient=gradient.data_ptr(),
                    momentum=buffer.data_ptr(),
                    elements=p.numel(),
                    decay=decay,
                )
            )
            changed.append(p)
        threads = native.threads(sum(call.elements for call in calls) * native.ELEMENTWISE)
        assert native.core is not None
        native.core.descend(calls, lr, momentum, nesterov, threads)
        increment_version(changed)  # so that a backward through an older forward is refused


def _with_gradient(group: dict[str, Any]) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


class Adam(torch.optim.Adam):
    """torch's Adam; with decoupled_weight_decay its AdamW."""

    add_param_group = MomentumSGD.add_param_group
    # torch would warn of every optimiser on a GPU whose first step is not recorded: ours record the second.
    _warned_capturable_if_run_uncaptured = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        # Elements do not depend on each other: the numbers are the same, whatever the number of threads.
        elements = sum(p.numel() for group in self.param_groups for p in group["params"])
        with native.as_many_threads(elements * native.ELEMENTWISE):
            # torch's decorator imports its compiler for this call, too.
            return inspect.unwrap(torch.optim.Adam.step)(self, closure)


RECORDABLE = (MomentumSGD, Adam)
"""Optimisers whose step does the same on the GPU every time."""


def build_optimizer(model: nn.Module, config: Train) -> torch.optim.Optimizer:
    """The optimiser of all parameters of the model; biases and activation parameters are not decayed."""
    device = next(model.parameters()).device
    # A step that is recorded on a GPU would keep a plain number.
    lr = torch.tensor(config.lr, device=device) if device.type == "cuda" and not config.has_one_rate else config.lr
    decayed = connection_weights(model)
    others = [p for p in model.parameters() if all(p is not weight for weight in decayed)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer != "sgd":
        return _build_adam(model, config, groups, lr, device)
    return MomentumSGD(
        groups,
        lr=lr,
        momentum=config.momentum or 0.0,
        nesterov=bool(config.nesterov),
        fused=True,
    )


def _build_adam(
    model: nn.Module, config: Train, groups: list[dict[str, Any]], lr: float | Tensor, device: torch.device
) -> Adam:
    beta1, beta2 = config.betas or ADAM["betas"]
    optimizer = Adam(
        groups,
        lr=lr,
        betas=(beta1, beta2),
        eps=config.adam_eps or ADAM["adam_eps"],
        decoupled_weight_decay=config.optimizer == "adamw",
        capturable=device.type == "cuda",
        fused=True,
    )
    weights = [layer.weight for layer in sparse_layers(model).values()]
    if config.has_ages and weights:
        BiasCorrectionByAge(optimizer, weights)
    return optimizer


def drop_gradients(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.zero_grad()` without its bookkeeping, which takes longer than a small network's layer."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def clip_gradients(optimizer: torch.optim.Optimizer, largest: float | None) -> None:
    """Scale all gradients down together where their common norm is above `largest`; None leaves them as they are.

    Pascanu et al. 2013. Before L1 and weight decay are added, whose sizes do not depend on the data.
    """
    if largest is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], largest)


def add_l1_gradient(weights: list[Tensor], strength: float) -> None:
    """Add strength * sign(w) to the gradients: the subgradient of strength * |w| that leaves a 0 alone."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad.add_(weight.detach().sign(), alpha=strength)


def momentum_arrays(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by '<parameter name>/<state name>'."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_momentum(model: nn.Module, optimizer: torch.optim.Optimizer, arrays: dict[str, Tensor]) -> None:
    """Put back what `momentum_arrays` returned, onto the parameters' devices."""
    parameters = dict(model.named_parameters())
    for key, value in arrays.items():
        name, _, state = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][state] = value.to(parameter.device)
