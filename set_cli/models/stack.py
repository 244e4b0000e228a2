"""Layer after layer as one node of the autograd graph, the batch contiguous from the first to the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from set_cli import native
from set_cli.models.activations import Activation, LeakyReLU, ReLU, SReLU, differentiable_gradients, unfused
from set_cli.models.normalization import BatchNorm, LayerNorm, normalized
from set_cli.native import records
from set_cli.native.elementwise import Draws, dropout, slopes
from set_cli.native.normalization import NO_NORM, Norm, new_moments, norm_gradients, normalization
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import load_engine
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.operators import is_read
from set_cli.sparse.pattern import full_pattern
from set_cli.sparse.product import sparse_product

MOST_PARTS = 512  # of a narrow layer's sum, on a GPU
NARROW = 64  # outputs: a dense layer of so few is faster in our kernels than as a matrix product


class BatchContiguousLinear(nn.Linear):
    """nn.Linear for inputs whose batch is contiguous: so are its output and its input's gradient."""

    def forward(self, x: Tensor) -> Tensor:
        parts = _parts(self.in_features) if self.is_narrow and x.is_cuda else 1
        if parts == 1 or torch.is_autocast_enabled(x.device.type):
            return torch.addmm(self.bias.unsqueeze(1), self.weight, x.t()).t()
        y: Tensor = PartwiseProduct.apply(x, self.weight, parts)  # type: ignore[no-untyped-call]
        return y + self.bias

    @property
    def is_narrow(self) -> bool:
        return self.out_features <= NARROW

    def device_pattern(self) -> DevicePattern:
        """Every connection, for the kernels; of a narrow layer only."""
        if not hasattr(self, "_pattern"):
            full = full_pattern(self.in_features, self.out_features)
            indptr, indices = torch.from_numpy(full.indptr), torch.from_numpy(full.indices)
            self._pattern = DevicePattern(full.shape, indptr, indices)
        return self._pattern


def _parts(n_in: int) -> int:
    """Into how many equal parts the sum over so many inputs is divided; 1 where it does not divide."""
    return max((parts for parts in range(1, MOST_PARTS + 1) if n_in % parts == 0 and n_in // parts >= 256), default=1)


class PartwiseProduct(torch.autograd.Function):
    """x @ W.T for few outputs on a GPU, the sum over the inputs in parts that are computed beside each other.

    A matrix product has one block of threads per tile of the result: for ten outputs of half a million inputs a single
    one, which took 0.57 ms on an H200 that reads the operands in 0.02 (docs/gpu.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, parts: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        (n_batch, n_in), n_out = x.shape, len(weight)
        left = weight.reshape(n_out, parts, n_in // parts).transpose(0, 1)
        right = x.t().reshape(parts, n_in // parts, n_batch)
        return torch.bmm(left, right).sum(dim=0).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_dx, wants_dw, _ = ctx.needs_input_grad
        dx = (weight.t() @ dy.t()).t() if wants_dx else None
        return dx, dy.t() @ x if wants_dw else None, None


class Step(NamedTuple):
    """A layer with its normalisation and its activation, for `Stack`."""

    pattern: DevicePattern
    transposed: bool  # the weight is nn.Linear's, (n_out, n_in)
    norm: Norm
    draws: Draws | None  # None: no activation
    parameters: int  # tensors of the activation: 4 for SReLU

    @property
    def shape(self) -> int:
        if self.draws is None:
            return records.NO_SHAPE
        return records.SRELU if self.parameters else records.RELU

    @property
    def is_relu(self) -> bool:
        return self.draws is not None and self.parameters == 0

    @property
    def is_in_place(self) -> bool:
        """Whether the layer's product itself becomes the output: of ReLU the backward needs no more than the sign."""
        return not self.parameters and not self.norm.kind

    @property
    def is_bare(self) -> bool:
        """Whether the layer's product is the output."""
        return self.draws is None and not self.norm.kind


class SparseSequential(nn.Sequential):
    """nn.Sequential that computes neighbouring layers and activations together where the compiled kernels can.

    What it computes is what its modules compute one after the other; dropout draws the same masks. Modules with hooks
    and subclasses run by themselves. One difference: a forward can be gone back through once only, also with
    retain_graph, since the backward reuses the memory of the activations (RuntimeError). With create_graph it uses
    none, and the gradients can be differentiated again.
    """

    def forward(self, x: Tensor) -> Tensor:
        modules = list(self._modules.values())
        at = 0
        while at < len(modules):
            steps, tensors, after = collect(modules, at, x)
            if not steps:
                module = modules[at]
                assert module is not None
                x = module(x)
                at += 1
                continue
            if torch.is_grad_enabled():
                x = Stack.apply(x, steps, *tensors)  # type: ignore[no-untyped-call]
            else:
                x, _ = _run(x, steps, tensors, keep=False)
            at = after
        return x


def collect(
    modules: Sequence[nn.Module | None], at: int, x: Tensor, forwards: int = 1
) -> tuple[list[Step], list[Tensor], int]:
    """The steps from module `at` on that the kernels take as one, their tensors, and the module behind them.

    forwards  for how many of them dropout draws
    """
    steps: list[Step] = []
    tensors: list[Tensor] = []
    width = x.shape[1] if x.ndim == 2 and not is_read() and native.takes(x) else -1
    while at < len(modules):
        layer = modules[at]
        if not isinstance(layer, (SparseLinear, BatchContiguousLinear)) or layer.in_features != width:
            break
        weight, bias = layer.weight, layer.bias
        transposed = isinstance(layer, BatchContiguousLinear)
        fits = layer.is_narrow if isinstance(layer, BatchContiguousLinear) else layer.engine.name == "native"
        if not (fits and _is_plain(layer) and bias is not None and native.takes(weight, bias)):
            break
        after = at + 1
        norm, scaling = _norm(modules[after] if after < len(modules) else None, len(x))
        after += bool(norm.kind)
        activation = modules[after] if after < len(modules) else None
        own: tuple[Tensor, ...] = ()
        draws = None
        if isinstance(activation, Activation) and activation.fused and _is_plain(activation):
            own = activation.row_parameters
            if not native.takes(*own):
                break
            draws = activation.draw(forwards)
            after += 1
        at = after
        width = layer.out_features
        steps.append(Step(layer.device_pattern(), transposed, norm, draws, len(own)))
        tensors += [weight, bias, *scaling, *own]
    return steps, tensors, at


def _norm(module: nn.Module | None, n_batch: int) -> tuple[Norm, tuple[Tensor, ...]]:
    """What the kernels normalise a layer's product by, with its scale and shift; NO_NORM where they leave it."""
    if isinstance(module, (BatchNorm, LayerNorm)) and _is_plain(module):
        scaling = module.weight, module.bias
        if native.takes(*scaling, *module.averages):
            return module.norm(n_batch), scaling
    return NO_NORM, ()


def _is_plain(module: nn.Module) -> bool:
    """Whether calling the module does what its class says and nothing else: no subclass, no hooks."""
    return type(module) in PLAIN and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether something else is called when the module is, or goes back."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


PLAIN = (SparseLinear, BatchContiguousLinear, BatchNorm, LayerNorm, ReLU, LeakyReLU, SReLU)


class Stack(torch.autograd.Function):
    """y of the last step, with the gradients of x and of every tensor of every step: one call each way.

    x        (n_batch, n_in)
    tensors  of each step: weight, bias, the norm's scale and shift, then the activation's parameters
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: list[Step], *tensors: Tensor) -> Tensor:
        y, states = _run(x, steps, tensors, keep=True)
        # The result itself would refer to this node and the node to the result: a cycle that only gc frees.
        states[-1] = states[-1]._replace(z=states[-1].z.detach(), y=y.detach())
        ctx.states = states
        # What the backward reads and others can change; `save_for_backward` takes a microsecond for each of so many.
        ctx.inputs = (x, *tensors)
        ctx.watched = [*ctx.inputs, *(t for s in steps for t in (s.pattern.indptr, s.pattern.indices))]
        ctx.watched += [t for s in steps if s.norm.kind == records.BY_AVERAGES for t in s.norm.averages]
        if steps[-1].is_relu and steps[-1].is_in_place:
            ctx.watched.append(y.detach())
        ctx.versions = native.versions(ctx.watched)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if native.versions(ctx.watched) != ctx.versions:
            raise RuntimeError(
                "the input, a weight, a connection or the result needed for the gradient has been modified by an "
                "inplace operation since the forward (an optimiser's step or an evolution comes after the backward)"
            )
        states: list[State] = ctx.states
        if not states:
            raise RuntimeError(
                "a second backward through one forward is not possible: the first one used up its values"
            )
        if torch.is_grad_enabled():  # the gradients are to be differentiated in their turn
            x, *parameters = ctx.inputs
            y = _unfused(x, [state.step for state in states], parameters)
            of_x, *others = differentiable_gradients(y, dy, ctx.inputs)
            return of_x, None, *others
        ctx.states = []
        back = backward_calls(states, native.to_columns(dy), wants_dx=ctx.needs_input_grad[0])
        assert native.core is not None
        native.core.stack_backward(back.calls, len(dy), threads_for(states, len(dy)))
        return back.dx, None, *back.gradients


class Backward(NamedTuple):
    """The backward of a stack.

    calls      of the kernels, the first layer first
    dx         the gradient of the input, where it is wanted
    gradients  of each step: of weight, bias, the norm's scale and shift, and the activation's parameters
    memory     that the calls have the addresses of, beside that of the results
    """

    calls: list[records.LayerBackward]
    dx: Tensor | None
    gradients: list[Tensor]
    memory: list[Tensor]


def backward_calls(states: Sequence[State], dy: Tensor, *, wants_dx: bool) -> Backward:
    """What gives the gradients once dy (n_batch, n_out), columns, is there; overwrites every x but the first."""
    n_batch = len(dy)
    gradients: list[Tensor] = []
    calls: list[records.LayerBackward] = []
    memory: list[Tensor] = []
    dz = dy if states[-1].step.is_bare else native.new_columns(*dy.shape)
    dy_at, dz_at = records.columns(dy), records.columns(dz)
    dx: Tensor | None = None
    relu_behind = False  # this step's ReLU was undone by the step behind it
    for number, state in reversed(list(enumerate(states))):
        n_in, n_out = state.step.pattern.shape
        before = states[number - 1].step if number else None
        if before is not None:
            # Row i of dx is written by the thread that has just read row i of x for the last time.
            dx, dx_at = state.x, state.layer.x
        else:
            dx = native.new_columns(n_batch, n_in) if wants_dx else None
            dx_at = records.columns(dx)
        relu = 1 / (1 - before.draws.probability) if before and before.is_relu and before.draws else 0.0
        own = [torch.empty_like(parameter) for parameter in (*state.scaling, *state.parameters)]
        of_norm, of_slopes = own[: len(state.scaling)], own[len(state.scaling) :]
        sums = new_moments(state.step.norm, n_out, n_batch) if state.step.norm.kind == records.BY_LAYER else None
        dw, db = torch.empty_like(state.values), torch.empty_like(state.bias)
        calls.append(
            records.LayerBackward(
                layer=state.layer,
                values=state.values.data_ptr(),
                norm=normalization(state.step.norm, state.scaling, state.moments),
                norm_gradients=norm_gradients(of_norm),
                norm_sums=records.address(sums),
                shape=records.NO_SHAPE if relu_behind else state.step.shape,
                slopes=slopes(state.parameters),
                slope_gradients=slopes(of_slopes),
                dy=dy_at,
                dz=dz_at,
                dx=dx_at,
                dw=dw.data_ptr(),
                db=db.data_ptr(),
                relu=relu,
            )
        )
        relu_behind = bool(relu)
        memory += [dy, dz] if sums is None else [dy, dz, sums]
        gradients = [dw.view(n_in, n_out).t() if state.step.transposed else dw, db, *own, *gradients]
        if dx is not None:
            dy = dz = dx  # an activation's gradient overwrites what came from behind
            dy_at = dz_at = dx_at
    return Backward(calls[::-1], dx, gradients, memory)


def by_step(
    steps: Sequence[Step], tensors: Sequence[Tensor]
) -> Iterator[tuple[Step, Tensor, Tensor, list[Tensor], list[Tensor]]]:
    """Each step with its weight and bias, its norm's scale and shift, and its activation's parameters."""
    at = 0
    for step in steps:
        scaling = at + 2
        parameters = scaling + (2 if step.norm.kind else 0)
        after = parameters + step.parameters
        yield step, tensors[at], tensors[at + 1], list(tensors[scaling:parameters]), list(tensors[parameters:after])
        at = after


def _unfused(x: Tensor, steps: Sequence[Step], tensors: Sequence[Tensor]) -> Tensor:
    """The result of the last step, one operation after the other; each can be differentiated as often as one likes."""
    for step, weight, bias, scaling, parameters in by_step(steps, tensors):
        if step.transposed:
            x = torch.addmm(bias, x, weight.t())
        else:
            x = sparse_product(x, weight, bias, step.pattern, load_engine("native"))
        if step.norm.kind:
            x = normalized(x, step.norm, scaling)
        if step.draws is not None:
            x = unfused(x, step.draws, parameters)
    return x


def _run(x: Tensor, steps: list[Step], tensors: Sequence[Tensor], *, keep: bool) -> tuple[Tensor, list[State]]:
    """The result of the last step, and what each step computed; without `keep` their memory is used again and again."""
    calls, states = forward_calls(native.to_columns(x), steps, tensors, keep=keep)
    assert native.core is not None
    native.core.stack_forward(calls, len(x), threads_for(states, len(x)))
    return states[-1].y, states


def forward_calls(
    x: Tensor, steps: Sequence[Step], tensors: Sequence[Tensor], *, keep: bool
) -> tuple[list[records.LayerForward], list[State]]:
    """What computes the result of the last step, `states[-1].y`, of x (n_batch, n_in), columns; keep as for `_run`."""
    n_batch, stride = len(x), native.row_stride(len(x))
    states: list[State] = []
    calls: list[records.LayerForward] = []
    widest = max(step.pattern.shape[1] for step in steps)
    turns = [native.empty(widest * stride) for _ in range(0 if keep else 2)]
    x_at = records.columns(x)
    for number, (step, weight, bias, scaling, parameters) in enumerate(by_step(steps, tensors)):
        _check_step(step, weight, bias, [*scaling, *step.norm.averages, *parameters], x)
        n_out = step.pattern.shape[1]
        z = native.new_columns(n_batch, n_out) if keep else turns[number % 2].as_strided((n_batch, n_out), (1, stride))
        y = z if step.is_in_place or not keep else native.new_columns(n_batch, n_out)
        moments = new_moments(step.norm, n_out, n_batch)
        z_at = records.Columns(data=z.data_ptr(), stride=stride)
        y_at = z_at if y is z else records.Columns(data=y.data_ptr(), stride=stride)
        kept, drops = None, records.NO_DROPOUT
        if step.draws and step.draws.probability:
            kept = native.empty(n_out * stride // 16, torch.int16)
            drops = dropout(step.draws, kept)
        values = weight.t().reshape(-1) if step.transposed else weight
        layer = records.Layer(pattern=step.pattern.compiled, dropout=drops, x=x_at, z=z_at)
        calls.append(
            records.LayerForward(
                layer=layer,
                values=values.data_ptr(),
                bias=bias.data_ptr(),
                norm=normalization(step.norm, scaling, moments),
                shape=step.shape,
                slopes=slopes(parameters),
                y=y_at,
            )
        )
        states.append(State(step, values, bias, scaling, parameters, x, z, y, kept, moments, layer))
        x, x_at = y, y_at
    return calls, states


class State(NamedTuple):
    """A step in one forward: its tensors, all checked, and what its backward needs again.

    layer  has the addresses of x, z and kept, whose memory nobody else frees (`Stack` holds the input's); those of
           weights and other parameters are asked for anew, since `.data` may have been given other memory
    """

    step: Step
    values: Tensor
    bias: Tensor
    scaling: list[Tensor]
    parameters: list[Tensor]
    x: Tensor
    z: Tensor
    y: Tensor
    kept: Tensor | None
    moments: Tensor
    layer: records.Layer


def threads_for(states: Sequence[State], n_batch: int) -> int:
    """Threads for one way through the stack."""
    return native.threads(n_batch * sum(state.values.numel() for state in states))


def _check_step(step: Step, weight: Tensor, bias: Tensor, parameters: list[Tensor], x: Tensor) -> None:
    """ValueError where a tensor is not what the kernels will take it for."""
    n_in, n_out = step.pattern.shape
    connections = (n_out, n_in) if step.transposed else (len(step.pattern.indices),)
    if weight.shape != connections or x.shape[1] != n_in:
        raise ValueError(f"expected weights of shape {connections}, got {tuple(weight.shape)}")
    for tensor in (bias, *parameters):
        if tensor.shape != (n_out,) or not tensor.is_contiguous():
            raise ValueError(
                f"expected {n_out} biases and parameters of norm and activation, got shape {tuple(tensor.shape)}"
            )
    if not step.transposed and not weight.is_contiguous():
        raise ValueError("expected contiguous weights")
