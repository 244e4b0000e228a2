"""SparseLinear: a truly sparse layer for anyone's nn.Module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from set_cli.sparse.engines import HALF, Engine, choose, find_engine
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.evolve import LEAST_CONNECTIONS, EvolutionResult, LastStep, agree, evolve
from set_cli.sparse.holders import gather, holds, move_state, remember, sharing, stepped
from set_cli.sparse.initial import common_seed, initial_weights, new_seed
from set_cli.sparse.operators import is_read, read_product
from set_cli.sparse.pattern import Csr, as_pattern, check_pattern, check_size, find_positions, from_positions
from set_cli.sparse.product import sparse_product
from set_cli.sparse.rules import (
    REGROWTH,
    REMOVAL,
    Options,
    Regrowth,
    Removal,
    Removed,
    Sample,
    View,
    erdos_renyi,
    find_rule,
)
from set_cli.sparse.sampling import sample_distinct
from set_cli.sparse.sharded import is_sharded, whole, write_share

DEFAULT_EPSILON = 20.0
OPTIONS = Options()
REGROW_DEVIATION = 0.1  # of a new connection's random value: N(0, 1) / 10 as the authors' SciPy MLP


class SparseLinear(nn.Module):
    """A linear layer whose weights exist only where there is a connection; y = x @ W + bias.

    x (..., n_in) in, (..., n_out) out. Memory and time grow with the connections, never with n_in * n_out.

    in_features, out_features  n_in and n_out, each below 2**31
    bias      one per output, 0 at the start
    epsilon   expected connections = epsilon * (n_in + n_out) (paper, Eq. 1); where that makes the connection
              probability 1 or more the layer has every connection, and does not evolve. 20 where nothing is given
    density   instead of epsilon: the probability of each connection, above 0 and at most 1
    pattern   instead of both: the connections themselves, as a SciPy sparse array (n_in, n_out) or two arrays of whole
              numbers, their inputs and their outputs
    init      'sparse_fan_in': uniform, limit sqrt(6 / connections of the output neuron);
              'glorot': uniform, limit sqrt(6 / (n_in + n_out)), the dense layer's fans, as the authors: a sparse
              network learns little from them at first;
              'normal': standard deviation 0.05, as the authors' RBM
    engine    'native' (compiled kernels, float32 on the CPU), 'triton' (kernels for NVIDIA GPUs; activations may be
              bfloat16 or float16, sums are float32), 'torch' (CSR products, float32 and float64 on the CPU), 'masked'
              (dense products, the usual simulation, any type) or 'auto': the fastest of these that there is for the
              layer's type, device, shape and density
    seed      an int or a numpy Generator for topology and weights; None draws from torch's global generator
    device, dtype  as nn.Linear's

    weight (nnz,) is an ordinary 1-D Parameter, so any torch optimiser and state_dict work; `indptr` and `indices`
    (int32 buffers, rows are the inputs) say where each weight belongs. Raises ValueError for sizes beyond int32.

    Mocanu et al., Nature Communications 9:2383 (2018).
    """

    indptr: Tensor
    indices: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        epsilon: float | None = None,
        density: float | None = None,
        pattern: object = None,
        init: str = "sparse_fan_in",
        engine: str = "auto",
        seed: int | np.random.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.init = in_features, out_features, init
        self.removed: Removed | None = None  # by evolutions, where `remember_removed` asked for it
        self._engine = None if engine == "auto" else find_engine(engine)
        rng = np.random.default_rng(new_seed() if seed is None else seed)
        found = self._connect(epsilon, density, pattern, rng)
        weights = torch.from_numpy(initial_weights(found, init, rng))
        self.weight = nn.Parameter(weights.to(device, dtype or torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self._store(torch.from_numpy(found.indptr).to(device), torch.from_numpy(found.indices).to(device))
        remember(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.removed = None  # where the layer was saved by a version that did not know it
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        remember(self)

    def __prepare_scriptable__(self) -> nn.Module:
        raise ValueError("torch.jit.script takes no SparseLinear; script set_cli.sparse.to_exportable(model)")

    def _connect(self, epsilon: float | None, density: float | None, pattern: object, rng: np.random.Generator) -> Csr:
        """The connections that the layer starts with."""
        shape = n_in, n_out = self.in_features, self.out_features
        check_size(n_in, n_out)
        if sum(given is not None for given in (epsilon, density, pattern)) > 1:
            raise ValueError("expected one of epsilon, density and pattern, got several")
        if pattern is not None:
            return as_pattern(pattern, shape)
        if density is not None:
            if not 0 < density <= 1:
                raise ValueError(f"density: expected a number above 0, at most 1, got {density}")
            epsilon = density * n_in * n_out / (n_in + n_out)
        epsilon = DEFAULT_EPSILON if epsilon is None else epsilon
        if not (epsilon > 0 and math.isfinite(epsilon)):
            raise ValueError(f"epsilon: expected a finite number above 0, got {epsilon}")
        return erdos_renyi(n_in, n_out, epsilon, rng)

    @classmethod
    def from_dense(
        cls,
        linear: nn.Linear,
        density: float,
        *,
        keep: str = "largest",
        engine: str = "auto",
        seed: int | np.random.Generator | None = None,
    ) -> SparseLinear:
        """A sparse layer with a share of a dense layer's weights, and its bias; the dense layer stays as it is.

        density  share of the weights, above 0 and at most 1; the number is exact, at least one
        keep     'largest': those farthest from 0; 'random': any, drawn with `seed`
        Raises ValueError for another density or another word.
        """
        if not 0 < density <= 1:
            raise ValueError(f"density: expected a number above 0, at most 1, got {density}")
        weights = linear.weight.detach().t()
        count = max(1, round(density * weights.numel()))
        match keep:
            case "largest":
                cells = weights.abs().flatten().topk(count).indices.sort().values.cpu().numpy()
            case "random":
                rng = np.random.default_rng(new_seed() if seed is None else seed)
                cells = sample_distinct(weights.numel(), count, rng)
            case _:
                raise ValueError(f"keep: expected 'largest' or 'random', got {keep!r}")
        pattern = from_positions(cells, (linear.in_features, linear.out_features))
        has_bias, kind = linear.bias is not None, {"device": weights.device, "dtype": weights.dtype}
        layer = cls(*pattern.shape, has_bias, pattern=pattern, engine=engine, seed=0, **kind)  # type: ignore[arg-type]
        with torch.no_grad():
            layer.weight.copy_(weights.flatten()[torch.from_numpy(cells).to(weights.device)])
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        return layer.train(linear.training)

    def to_dense(self) -> nn.Linear:
        """A dense layer that computes the same; its weights are 0 where this one has no connection."""
        kind = {"device": self.weight.device, "dtype": self.weight.dtype}
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, **kind)
        with torch.no_grad():
            flat = self.weight.new_zeros(self.in_features * self.out_features)
            flat[self.device_pattern().cells] = self.weight
            linear.weight.copy_(flat.view(self.in_features, self.out_features).t())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear.train(self.training)

    def to_scipy(self) -> csr_array:
        """(n_in, n_out) SciPy array with a copy of the weights; a connection of weight 0 is a stored 0."""
        pattern, weight = self.pattern, self.weight.detach().cpu()
        values = (weight.float() if weight.dtype in HALF else weight).numpy().copy()
        return csr_array((values, pattern.indices.copy(), pattern.indptr.copy()), shape=pattern.shape)

    @torch.no_grad()
    def reset_parameters(self, seed: int | np.random.Generator | None = None) -> None:
        """Draw the weights of the connections anew, by the layer's `init`; biases become 0."""
        rng = np.random.default_rng(new_seed() if seed is None else seed)
        self.weight.copy_(torch.from_numpy(initial_weights(self.pattern, self.init, rng)))
        if self.bias is not None:
            self.bias.zero_()

    @property
    def pattern(self) -> Csr:
        """The layer's connections as read-only numpy arrays (rows are the inputs)."""
        return self.device_pattern().csr

    @property
    def engine(self) -> Engine:
        """The engine that computes the products: the one asked for, or the one that suits the layer as it is now."""
        return self._find_engine()

    def _find_engine(self) -> Engine:
        if self._engine is not None:
            return self._engine
        shape, weight = (self.in_features, self.out_features), self.weight
        return choose("auto", shape, self.density, weight.dtype, weight.device).engine

    # torch.compile takes the answer and does not look into the search. This is torch.compiler.assume_constant_result,
    # which imports the compiler: a second that everyone would wait for.
    _find_engine._dynamo_marked_constant = True  # type: ignore[attr-defined]

    @property
    def density(self) -> float:
        """Connections as a share of n_in * n_out."""
        return self.nnz / (self.in_features * self.out_features)

    @property
    def nnz(self) -> int:
        """Connections, those of weight 0 included."""
        return self.indices.numel()

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) to (..., n_out); ValueError for another width or type.

        Under torch.autocast x is converted, as nn.Linear's is: to autocast's type where the engine takes that, else to
        the weights'.
        """
        if x.layout is not torch.strided or x.is_nested or not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(f"expected {self.in_features} features, got {_describe(x)}")
        engine = self._find_engine()
        if not is_autocast(x):
            return self._product(x, engine)
        kind = x.device.type
        x = x.to(torch.get_autocast_dtype(kind) if engine.takes_half else self.weight.dtype)
        with torch.autocast(kind, enabled=False):
            return self._product(x, engine)

    def _product(self, x: Tensor, engine: Engine) -> Tensor:
        weight = self.weight  # once: nn.Module searches for it every time
        fits = x.dtype == weight.dtype or (engine.takes_half and x.dtype in HALF)
        if not fits or x.device != weight.device:
            raise ValueError(
                f"expected {weight.dtype} on {weight.device} like the weights, got {x.dtype} on {x.device}"
            )
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        compute = read_product if is_read() else sparse_product
        y = compute(rows, weight, self.bias, self.device_pattern(), engine)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.out_features)

    @torch.inference_mode(False)  # tensors made under inference_mode could not be trained afterwards
    @torch.no_grad()
    def evolve(
        self,
        zeta: float,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int | np.random.Generator | None = None,
        refill: bool = True,
        connections: int | None = None,
        regrow_init: str = "zero",
        regrow_deviation: float = REGROW_DEVIATION,
        removal: str | Removal = "signed",
        regrowth: str | Regrowth = "random",
        last_step: LastStep | Sample | None = None,
        options: Options = OPTIONS,
        progress: float = 0.0,
        image: tuple[int, int, int] | None = None,
    ) -> EvolutionResult | None:
        """Prune and regrow the layer's connections (paper, Algorithm 1); return what was done, None for a full layer.

        zeta         fraction to remove, 0 <= zeta < 1; removal='signed' takes it of the positive and of the negative
                     weights
        optimizer    its state follows the connections: survivors keep theirs (momentum, Adam's moments), new
                     connections start with none, and so does all of it that is not one number a connection (LBFGS's
                     history). So does the state of every other optimiser that has trained this layer.
        refill       False removes without regrowing: the paper's rule after the last epoch. A DistributedDataParallel
                     around the layer must be made anew before the next forward, since the weight has another length;
                     what fully_shard has divided refuses
        connections  how many the layer has afterwards, for one that becomes sparser (or denser) in time: more than zeta
                     are removed where that is needed; None: as many as before
        regrow_init  value of a new connection: 'zero', 'random' (normal, of standard deviation regrow_deviation), or
                     'previous': what it was when it was last removed, else 0 (`remember_removed`)
        removal      which connections go, a name of sparse.rules.REMOVAL such as 'signed' (SET's) and 'magnitude', or
                     a function like those
        regrowth     where connections grow, a name of sparse.rules.REGROWTH such as 'random' (SET's) and 'gradient',
                     or a function like those
        last_step    what a rule that looks at activations or gradients needs: of the latest step, where in a process
                     group the first process's rows say which connections there are, or a Sample of rows of one's own,
                     the same in all processes
        options      the rules' own numbers
        progress     the part of the training that is over, 0 to 1: some rules remove and grow less at random with it
        image        (channels, height, width) of the inputs, for regrowth='nearby'
        seed         None draws from torch's global generator; in a process group from the first process's, so that
                     all processes, each of which has to call this, get the same connections

        Call it between optimiser steps: gradients are dropped, and a backward through a forward from before the call
        is an error. Copies of the layer (averages of its weights, target networks) follow with `follow`. Raises
        ValueError for a zeta out of range, a rule that is not known, weights that are not finite, that are computed
        from other parameters (torch.nn.utils.parametrize, prune) or that another layer shares, and an optimiser that
        does not hold the weight.
        """
        if not 0 <= zeta < 1:
            raise ValueError(f"zeta: expected 0 <= zeta < 1, got {zeta}")
        if regrow_init not in ("zero", "random", "previous"):
            raise ValueError(f"regrow_init: expected 'zero', 'random' or 'previous', got {regrow_init!r}")
        if regrow_init == "previous" and self.removed is None:
            raise ValueError("regrow_init='previous': expected a layer whose remember_removed() was called")
        cells = self.in_features * self.out_features
        remove, grow = find_rule("removal", removal, REMOVAL), find_rule("regrowth", regrowth, REGROWTH)
        self._check_evolvable(optimizer)
        if (not refill or connections not in (None, self.nnz)) and is_sharded(self.weight):
            raise ValueError(
                "expected as many connections as before (refill=True): fully_shard has divided the weight into shares "
                "of fixed length"
            )
        if connections is not None and not min(LEAST_CONNECTIONS, cells) <= connections <= cells:
            raise ValueError(f"connections: expected {LEAST_CONNECTIONS} to {cells:,}, got {connections:,}")
        if self.nnz == cells and connections in (None, cells):
            return None
        weight = whole(self.weight)
        if not torch.isfinite(weight).all():
            raise ValueError("expected finite weights to evolve, got NaN or infinity")
        rng = np.random.default_rng(common_seed() if seed is None else seed)
        view = self.view(last_step, options, progress, image)
        change = evolve(view, zeta, rng, removal=remove, regrowth=grow, refill=refill, connections=connections)
        if isinstance(last_step, LastStep):
            change, rng = agree(change, rng)
        is_new = change.source < 0
        new_values = weight.new_zeros(len(change.source))
        if regrow_init == "random":
            drawn = np.float32(regrow_deviation) * rng.standard_normal(change.regrown, dtype=np.float32)
            new_values[is_new] = torch.from_numpy(drawn).to(new_values)
        if regrow_init == "previous" and change.removed is not None:
            new_values[is_new] = change.removed.weights_at(change.grown).to(new_values)
        for each in {*stepped(self.weight, loaded=True)} | ({optimizer} if optimizer else set()):
            move_state(each, self.weight, change.source)
        self._replace_weight(torch.where(is_new, new_values, gather(weight, change.source)))
        self._store(change.indptr, change.indices)
        self.removed = change.removed
        return change

    def remember_removed(self) -> None:
        """Keep, from here on, which connections evolutions remove and what they weighed: 12 bytes each.

        For regrowth='unfired' and regrow_init='previous'. It is in `removed`, not in the layer's state_dict.
        """
        self.removed = self.removed or Removed.none()

    @torch.inference_mode(False)
    @torch.no_grad()
    def follow(self, evolution: EvolutionResult, source: SparseLinear | None = None) -> None:
        """Get the connections that an evolution gave another layer, of which this one is a copy: the survivors keep
        this layer's own weights.

        source  the layer that evolved, whose weights new connections start with; None: they start at 0

        For averages of weights (torch.optim.swa_utils.AveragedModel, EMA) and target networks, before their next
        update: a weight's place changes with every evolution. Raises ValueError where this layer does not have the
        connections that the other one had.
        """
        before = len(evolution.source) - evolution.regrown + evolution.pruned
        if evolution.shape != (self.in_features, self.out_features) or before != self.nnz:
            raise ValueError(
                f"expected a layer {evolution.shape} with the {before:,} connections from before the evolution, got "
                f"{(self.in_features, self.out_features)} with {self.nnz:,}"
            )
        weight = whole(self.weight)
        new = weight.new_zeros(len(evolution.source)) if source is None else whole(source.weight).to(weight)
        self._replace_weight(torch.where(evolution.source < 0, new, gather(weight, evolution.source)))
        self._store(evolution.indptr.clone(), evolution.indices.clone())

    def _check_evolvable(self, optimizer: torch.optim.Optimizer | None) -> None:
        if "weight" not in self._parameters:
            raise ValueError(
                "expected `weight` as a parameter of this layer, found it computed from others "
                "(torch.nn.utils.parametrize, weight_norm or prune): an evolution would move it away from them"
            )
        if self.weight.is_inference():
            raise ValueError("expected a layer made outside of torch.inference_mode, whose weights can be changed")
        if sharing(self):
            raise ValueError(
                "expected a weight of this layer alone, found it in another SparseLinear, whose connections would no "
                "longer be its own; use one layer in both places"
            )
        if optimizer is None:
            return
        if not hasattr(optimizer, "param_groups"):
            raise ValueError(f"optimizer: expected a torch optimiser, got {type(optimizer).__name__}")
        if not holds(optimizer, self.weight):
            raise ValueError(
                "optimizer: expected one that trains this layer; its weight is in none of the parameter groups (of "
                "another model, or made before the weight was replaced)"
            )

    def view(
        self,
        last_step: LastStep | Sample | None = None,
        options: Options = OPTIONS,
        progress: float = 0.0,
        image: tuple[int, int, int] | None = None,
    ) -> View:
        """What rules may look at of the layer as it is; the arguments are those of `evolve`."""
        seen = () if last_step is None else (last_step.inputs, last_step.output_gradients, last_step.outputs)
        shape, weight = (self.in_features, self.out_features), whole(self.weight.detach())
        view = View(shape, self.indptr, self.indices, weight, *seen)
        return replace(view, progress=progress, options=options, removed=self.removed, image=image)

    def as_rows(self, x: Tensor, output_gradient: Tensor, y: Tensor) -> Sample:
        """What went through `forward`, as rows of what is connected; y may be what follows the layer."""
        return Sample(*(each.flatten(end_dim=-2) for each in (x, output_gradient, y)))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, connections={self.nnz}, "
            f"density={self.density:.3g}, bias={self.bias is not None}, engine={self.engine.name}"
        )

    def _replace_weight(self, values: Tensor) -> None:
        """Give the parameter other values, maybe of another number, and make an older forward unusable for backward."""
        self.weight.grad = None
        if is_sharded(self.weight):
            write_share(self.weight, values)
            return
        if values.shape != self.weight.shape:
            # While an older graph lives, torch keeps a gradient accumulator that remembers the old length; a passing
            # change of dtype makes it forget.
            other = torch.float32 if values.dtype == torch.float64 else torch.float64
            self.weight.data = values.new_empty(0, dtype=other)
        self.weight.data = values
        increment_version(self.weight)

    def _store(self, indptr: Tensor, indices: Tensor) -> None:
        self.register_buffer("indptr", indptr)
        self.register_buffer("indices", indices)
        self._derived = DevicePattern((self.in_features, self.out_features), self.indptr, self.indices)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert the layer; a program that is compiled afterwards must find the pattern where it stays."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.device_pattern()
        return self

    def device_pattern(self) -> DevicePattern:
        """The connections as the engines read them."""
        derived, buffers = self._derived, self._buffers
        if derived.indices is not buffers["indices"] or derived.indptr is not buffers["indptr"]:  # moved by `.to()`
            derived = self._derived = DevicePattern((self.in_features, self.out_features), self.indptr, self.indices)
        return derived

    @torch.inference_mode(False)
    @torch.no_grad()
    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over connections and weights of any number: another topology is the normal case, not an error.

        The state of an optimiser that has trained the layer follows: a connection that both have keeps its own.
        """
        names = [prefix + name for name in ("weight", "indptr", "indices")]
        if all(name in state_dict for name in names):
            weight, indptr, indices = (state_dict[name] for name in names)
            try:
                pattern = check_pattern(
                    Csr(indptr.cpu().numpy(), indices.cpu().numpy(), (self.in_features, self.out_features))
                )
                if weight.shape != indices.shape:
                    raise ValueError(f"expected one weight per connection, got {len(weight)} and {len(indices)}")
                if is_sharded(self.weight) and weight.shape != self.weight.shape:
                    raise ValueError(
                        f"expected {self.nnz:,} connections, since fully_shard has divided the weight into shares of "
                        f"fixed length, got {len(weight):,}; load before fully_shard"
                    )
            except ValueError as error:
                error_msgs.append(f"{prefix.rstrip('.') or 'SparseLinear'}: {error}")
                return
            device = self.weight.device
            optimizers = list(stepped(self.weight, loaded=False))
            if optimizers and not pattern.has_connections_of(self.pattern):
                source = torch.from_numpy(find_positions(self.pattern, pattern)).to(device)
                for optimizer in optimizers:
                    move_state(optimizer, self.weight, source)
            self._store(torch.from_numpy(pattern.indptr).to(device), torch.from_numpy(pattern.indices).to(device))
            if not is_sharded(self.weight):
                self._replace_weight(self.weight.new_empty(weight.shape))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def is_autocast(x: Tensor) -> bool:
    """Whether torch.autocast is on for x's device."""
    # By far the most calls: every question takes as long as a small layer's row, and torch.compile cannot ask the last.
    if x.is_cpu:
        return torch.is_autocast_enabled("cpu")
    if x.is_cuda:
        return torch.is_autocast_enabled("cuda")
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _describe(x: Tensor) -> str:
    if x.is_nested:
        return "a nested tensor; torch.nested.to_padded_tensor makes a dense one"
    if x.layout is not torch.strided:
        return f"a tensor of layout {x.layout}; `to_dense()` makes a dense one"
    return f"a tensor of shape {tuple(x.shape)}"
