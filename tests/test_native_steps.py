"""Training steps in one call of the kernels: the bits of a step with autograd, and when each of them is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.config import Config
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.scaling import unscaled
from set_cli.models.activations import SReLU
from set_cli.models.rbm import RBM
from set_cli.models.stack import SparseSequential
from set_cli.training import contrastive, native_steps, supervised
from set_cli.training.class_weights import by_class
from set_cli.training.contents import model_arrays
from set_cli.training.evolution import evolve_model
from set_cli.training.network import build_network
from set_cli.training.optimizer import MomentumSGD, build_optimizer
from set_cli.training.pace import Pace
from set_cli.training.passes import State
from set_cli.training.supervised import train_epoch
from set_cli.training.together import is_ours
from tests.builders import digits
from tests.conftest import Compose

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(native.core is None, reason=f"no compiled kernels here: {native.missing}")
SMALL = ("model.hidden=[60,50]", "train.batch_size=50")


class FixedPace(Pace):
    """So many steps in every call, with so many threads."""

    def __init__(self, steps: int, threads: int) -> None:
        super().__init__(threads, tried=False)
        self._steps = steps

    def steps(self, left: int) -> int:
        return min(left, self._steps)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each call of the kernels did."""
    found: list[int] = []
    run = native_steps.NativeSteps.run

    def counted(self: native_steps.NativeSteps, rates: list[float], *rest: Any, **others: Any) -> Tensor:
        found.append(len(rates))
        return run(self, rates, *rest, **others)

    monkeypatch.setattr(native_steps.NativeSteps, "run", counted)
    return found


def trained(
    config: Config, pace: Pace, epochs: int = 3, clip: float | None = None
) -> tuple[list[float], dict[str, np.ndarray[Any, Any]]]:
    """Losses, and everything that a checkpoint has of the model, after epochs that evolve, within an epoch too."""
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    losses = []
    for epoch in range(1, epochs + 1):
        whole = Inputs(data.train, data, CPU)
        whole.clip = clip
        inputs = by_class(whole, config.train.class_weights, config.seed, epoch)
        steps = -(-len(inputs) // config.train.batch_size)

        def after_step(rows: int, of: int, state: object, epoch: int = epoch, steps: int = steps) -> bool:
            step = -(-rows // config.train.batch_size)
            every = config.evolve.every_steps
            if rows == of or every is None or ((epoch - 1) * steps + step) % every:
                return False
            evolve_model(model, optimizer, config, epoch, step, steps)
            return True

        losses.append(train_epoch(model, inputs, optimizer, config, epoch, after_step, pace=pace))
        evolve_model(model, optimizer, config, epoch, steps, steps)
    return losses, model_arrays(model, optimizer)


def same(first: dict[str, np.ndarray[Any, Any]], second: dict[str, np.ndarray[Any, Any]]) -> bool:
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.activation=relu", "model.dropout=0"),
        ("model.activation=relu", "train.nesterov=false", "train.l1=0.001"),
        ("model.activation=all_relu", "train.label_smoothing=0.1"),
        ("model.activation=leaky_relu", "model.norm=batch", "train.schedule=cosine", "train.warmup=0.5"),
        ("model.norm=batch", "recipe=modern"),
        ("model.norm=layer", "model.hidden=[70,40,90]"),
        ("evolve.every_steps=11", "evolve.schedule=cosine"),
        ("evolve.epsilon_start=8", "train.class_weights=balanced"),
        ("data.augment.rotation=10", "data.augment.crop=1", "data.augment.cutout=2", "data.augment.until=0.5"),
        ("train.batch_size=37",),
        ("train.batch_size=1",),
    ],
    ids=lambda settings: " ".join(settings) or "as they are",
)
def test_many_steps_in_one_call_have_the_bits_of_steps_with_autograd(
    settings: tuple[str, ...], compose: Compose, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(*SMALL, *settings, "train.epochs=3")
    epochs = 1 if "train.batch_size=1" in settings else 3
    found = [trained(config, FixedPace(*pace), epochs) for pace in ((7, 1), (1000, 2), (1, 3))]
    assert max(calls) > 5
    monkeypatch.setattr(supervised, "can_train", lambda *_: False)
    before = len(calls)
    losses, arrays = trained(config, FixedPace(7, 1), epochs)
    assert len(calls) == before
    for other_losses, others in found:
        assert other_losses == losses
        assert same(others, arrays)


@pytest.mark.parametrize("changed", [(), ("data.augment.rotation=10",)], ids=["rows", "images"])
def test_inputs_are_clipped_as_ever(
    changed: tuple[str, ...], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(*SMALL, *changed)
    found = trained(config, FixedPace(7, 2), 1, clip=0.25)
    assert found[0] != trained(config, FixedPace(7, 2), 1)[0]
    monkeypatch.setattr(supervised, "can_train", lambda *_: False)
    losses, arrays = trained(config, FixedPace(7, 1), 1, clip=0.25)
    assert found[0] == losses
    assert same(found[1], arrays)


def test_a_pass_that_is_left_between_two_calls_goes_on_with_the_same_bits(compose: Compose) -> None:
    config = compose(*SMALL)
    whole = trained(config, FixedPace(6, 2), epochs=1)
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    inputs = Inputs(data.train, data, CPU)
    state: dict[str, Any] = {}

    class Left(Exception):
        pass

    def leave(rows: int, of: int, take: Callable[[], State]) -> None:
        if rows >= 600 and not state:
            state.update(take())
            raise Left

    with pytest.raises(Left):
        train_epoch(model, inputs, optimizer, config, 1, leave, pace=FixedPace(5, 1))
    assert int(state["rows"]) == 750
    loss = train_epoch(model, inputs, optimizer, config, 1, leave, state, pace=FixedPace(9, 2))
    evolve_model(model, optimizer, config, 1)
    assert whole[0] == [loss]
    assert same(whole[1], model_arrays(model, optimizer))


@pytest.mark.parametrize(
    "settings",
    [
        ("train.clip=1",),
        ("train.ema=0.9",),
        ("train.optimizer=adam",),
        ("train.momentum=0", "train.nesterov=false"),
        ("data.augment.mixup=0.2",),
        ("model.activation=gelu",),
        ("backend.engine=torch",),
        ("train.batch_size=100000",),
    ],
    ids=lambda settings: settings[0],
)
def test_what_the_kernels_do_not_do_is_done_step_by_step(
    settings: tuple[str, ...], compose: Compose, calls: list[int]
) -> None:
    config = compose(*SMALL, *settings)
    losses, _ = trained(config, FixedPace(7, 1), epochs=1)
    assert losses[0] > 0
    assert not calls


@pytest.mark.parametrize("who", ["module", "parameter", "optimiser", "frozen", "left out", "subclass", "two rates"])
def test_where_somebody_looks_on_a_step_is_an_ordinary_one(who: str, compose: Compose) -> None:
    config = compose(*SMALL)
    model = build_network(config, digits(config), CPU).model
    optimizer = build_optimizer(model, config.train)
    assert is_ours(model, optimizer)
    first = next(model.parameters())
    if who == "module":
        model.register_forward_hook(lambda *_: None)
    elif who == "parameter":
        first.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]
    elif who == "optimiser":
        optimizer.register_step_post_hook(lambda *_: None)
    elif who == "frozen":
        first.requires_grad_(False)
    elif who == "left out":
        optimizer = MomentumSGD(list(model.parameters())[1:], lr=0.1, momentum=0.9)
    elif who == "subclass":

        class Own(SparseSequential):
            pass

        model = Own(*model.children())
        optimizer = build_optimizer(model, config.train)
    else:
        optimizer.param_groups[1]["lr"] = 0.5
    assert native_steps.native_steps(model, optimizer, config.train, 50, 64) is None


def test_a_hook_of_a_layer_is_called_in_every_step(compose: Compose, calls: list[int]) -> None:
    config = compose(*SMALL)
    data = digits(config)
    model = build_network(config, data, CPU).model
    optimizer = build_optimizer(model, config.train)
    seen: list[nn.Module] = []
    model[0].register_forward_hook(lambda module, *_: seen.append(module))  # type: ignore[index]
    train_epoch(model, Inputs(data.train, data, CPU), optimizer, config, 1, lambda *_: None)
    assert len(seen) == -(-len(data.train) // 50)
    assert not calls


def test_a_label_that_is_no_class_is_refused(compose: Compose) -> None:
    config = compose(*SMALL)
    data = digits(config)
    model = build_network(config, data, CPU).model
    inputs = Inputs(data.train, data, CPU)
    inputs.y[700] = 10
    with pytest.raises(ValueError, match="expected labels 0 to 9"):
        train_epoch(model, inputs, build_optimizer(model, config.train), config, 1, lambda *_: None)


def test_a_backward_through_an_older_forward_is_refused(compose: Compose) -> None:
    config = compose(*SMALL)
    data = digits(config)
    model = build_network(config, data, CPU).model
    older = model(torch.zeros(3, 64)).sum()
    train_epoch(model, Inputs(data.train, data, CPU), build_optimizer(model, config.train), config, 1, lambda *_: None)
    with pytest.raises(RuntimeError, match="modified"):
        older.backward()


def divergence_of(config: Config, pace: Pace, epochs: int = 3) -> tuple[list[float], dict[str, np.ndarray[Any, Any]]]:
    """Losses, and everything that a checkpoint has of an RBM, after epochs that evolve."""
    data = digits(config)
    binary = replace(data, train=Part((data.train.x > 7).astype(np.uint8), None), scaling=unscaled(64))
    model = build_network(config, data, CPU).model
    assert isinstance(model, RBM)
    optimizer = build_optimizer(model, config.train)
    inputs = Inputs(binary.train, binary, CPU)
    inputs.is_binary = True
    losses = []
    for epoch in range(1, epochs + 1):
        losses.append(contrastive.train_epoch(model, inputs, optimizer, config, epoch, lambda *_: None, pace=pace))
        evolve_model(model, optimizer, config, epoch)
    return losses, model_arrays(model, optimizer)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.cd_steps=3", "train.l1=0.001"),
        ("model.persistent=true",),
        ("model.persistent=true", "model.cd_steps=2", "train.nesterov=true", "train.schedule=linear"),
        ("train.batch_size=1",),
    ],
    ids=lambda settings: " ".join(settings) or "as they are",
)
def test_many_steps_of_contrastive_divergence_have_the_bits_of_single_ones(
    settings: tuple[str, ...], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("model=rbm", "model.hidden=[70]", "train.batch_size=50", *settings, "train.epochs=3")
    done: list[int] = []
    train = contrastive.ContrastSteps.train

    def counted(self: contrastive.ContrastSteps, rates: list[float], *rest: Any) -> Tensor:
        done.append(len(rates))
        return train(self, rates, *rest)

    monkeypatch.setattr(contrastive.ContrastSteps, "train", counted)
    found = [divergence_of(config, FixedPace(*pace)) for pace in ((7, 1), (1000, 2), (1, 3))]
    assert max(done) > 5
    monkeypatch.setattr(contrastive, "can_train", lambda *_: False)
    before = len(done)
    losses, arrays = divergence_of(config, FixedPace(7, 1))
    assert len(done) == before
    for other_losses, others in found:
        assert other_losses == losses
        assert same(others, arrays)


def test_a_parameter_of_two_layers_is_left_to_autograd(compose: Compose) -> None:
    config = compose("model.hidden=[64,64]", "train.batch_size=50")
    model = build_network(config, digits(config), CPU).model
    optimizer = build_optimizer(model, config.train)
    assert native_steps.native_steps(model, optimizer, config.train, 50, 64) is not None
    first, second = [module for module in model.modules() if isinstance(module, SReLU)][:2]
    second.t_left = first.t_left
    optimizer = build_optimizer(model, config.train)
    assert native_steps.native_steps(model, optimizer, config.train, 50, 64) is None
