"""The RBM: its formulas against enumeration, contrastive divergence against slow loops, log Z, runs from end to end."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neural_network import BernoulliRBM
from torch import Tensor, nn

import set_cli
from set_cli import native
from set_cli.data.bundled import bundled_digits
from set_cli.experiment import Outcome, run
from set_cli.models.rbm import RBM, log_odds
from set_cli.runs.summary import read_rows
from set_cli.sparse import SparseLinear
from set_cli.system import streams
from set_cli.system.files import read_arrays, read_json
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from set_cli.training import annealing
from set_cli.training.contrastive import Divergence
from set_cli.training.network import build_network
from set_cli.training.pairs import with_checksum
from set_cli.training.sampling import Sampler
from tests.builders import digits, randomised, sparse_rbm
from tests.conftest import Compose

Floats = NDArray[np.float64]
ENGINES = ["torch", "masked", *(["native"] if native.core is not None else [])]
SMALL = (
    "dataset=digits",
    "model=rbm",
    "epsilon=3",
    "train.epochs=4",
    "model.hidden=[12]",
    "model.cd_steps=2",
    "model.ais_last=quick",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small take longer on two, and far longer where another process has the second core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def dense_rbm(n_visible: int, n_hidden: int, seed: int = 0, scale: float = 1.0) -> RBM:
    return randomised(RBM(nn.Linear(n_visible, n_hidden), np.zeros(n_visible, np.float32)), seed, scale)


def arrays(rbm: RBM) -> tuple[Floats, Floats, Floats]:
    """W (n_visible, n_hidden), b and c as float64, for the oracles."""
    layer = rbm.layer1
    if isinstance(layer, SparseLinear):
        weights = np.zeros((rbm.n_visible, rbm.n_hidden))
        pattern = layer.pattern
        rows = np.repeat(np.arange(rbm.n_visible), np.diff(pattern.indptr))
        weights[rows, pattern.indices] = layer.weight.detach().numpy()
    else:
        weights = layer.weight.detach().numpy().T.astype(np.float64)
    assert layer.bias is not None
    b, c = (p.detach().numpy().astype(np.float64) for p in (rbm.visible.bias, layer.bias))
    return weights, b, c


def states(units: int) -> Floats:
    return np.array(list(itertools.product([0.0, 1.0], repeat=units)))


def energies(rbm: RBM) -> Floats:
    """v W h + b v + c h for every pair of states (2^n_visible, 2^n_hidden)."""
    weights, b, c = arrays(rbm)
    v, h = states(rbm.n_visible), states(rbm.n_hidden)
    return v @ weights @ h.T + (v @ b)[:, None] + (h @ c)[None, :]


@pytest.mark.parametrize("engine", [*ENGINES, "dense"])
def test_free_energy_and_conditionals_are_those_of_the_joint_distribution(engine: str) -> None:
    rbm = dense_rbm(6, 5) if engine == "dense" else sparse_rbm(6, 5, engine)
    joint = np.exp(energies(rbm))
    v = torch.from_numpy(states(6)).float()
    np.testing.assert_allclose(-rbm.free_energy(v), np.log(joint.sum(axis=1)), rtol=1e-5, atol=1e-5)
    given_v = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rbm(v), given_v @ states(5), atol=1e-5)
    given_h = joint / joint.sum(axis=0, keepdims=True)
    h = torch.from_numpy(states(5)).float()
    np.testing.assert_allclose(rbm.visible_input(h).sigmoid().detach(), given_h.T @ states(6), atol=1e-5)


@pytest.mark.parametrize("engine", [*ENGINES, "dense"])
def test_units_of_another_type_or_width_are_refused(engine: str) -> None:
    rbm = dense_rbm(6, 5) if engine == "dense" else sparse_rbm(6, 5, engine)
    for v in (torch.zeros(2, 6, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.uint8), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match=r"expected \(n, 6\) units as torch.float32 on cpu, got"):
            rbm(v)
        with pytest.raises(ValueError, match=r"expected \(n, 5\) units as torch.float32 on cpu, got"):
            rbm.visible_input(torch.zeros(2, 4))


@pytest.mark.skipif(native.core is None, reason=native.missing)
def test_the_kernels_take_no_other_type_for_float32() -> None:
    with pytest.raises(
        ValueError, match=r"engine native: expected a dense float32 tensor on the CPU, got torch.float64"
    ):
        native.to_columns(torch.zeros(3, 4, dtype=torch.float64))


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(7, 4), (4, 7), (5, 5), (1, 3)])
def test_enumeration_of_the_smaller_side_is_the_sum_over_all_states(n_visible: int, n_hidden: int) -> None:
    rbm = dense_rbm(n_visible, n_hidden, seed=n_visible)
    exact = math.log(np.exp(energies(rbm)).sum())
    assert annealing.enumerate_states(rbm).log_z == pytest.approx(exact, abs=1e-4)


def test_enumeration_refuses_what_would_take_for_ever() -> None:
    with pytest.raises(ValueError, match="at most 20 units, found 30 x 21"):
        annealing.enumerate_states(dense_rbm(30, 21))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("engine", sorted({*ENGINES, "dense"} - {"masked"}))
def test_annealing_is_within_its_own_error_of_the_exact_value(engine: str, seed: int) -> None:
    scale = 0.1 + 0.1 * seed
    rbm = dense_rbm(40, 12, seed, scale) if engine == "dense" else sparse_rbm(40, 12, engine, seed, scale)
    check_annealing(rbm, torch.zeros(40), seed)


def check_annealing(rbm: RBM, base: Tensor, seed: int) -> None:
    exact = annealing.enumerate_states(rbm).log_z
    found = annealing.anneal(rbm, base, annealing.schedule("quick"), annealing.CHAINS, seed)
    # Four standard errors: one test in sixteen thousand would fail by chance; the floor is float32's.
    assert abs(found.log_z - exact) < 4 * found.standard_error + 1e-3
    assert 1 <= found.effective_chains <= annealing.CHAINS
    assert found.temperatures == 1000


@pytest.mark.parametrize("method", ["set", "fixprob", "dense"])
def test_annealing_a_trained_rbm_is_within_its_own_error_of_the_exact_value(method: str, compose: Compose) -> None:
    """From the base rates of the training rows, as in a run; after training there are modes to find."""
    rbm = set_cli.load(train(compose, f"method={method}", "train.lr=0.2", "train.epochs=20").path).model
    assert isinstance(rbm, RBM)
    assert (rbm.compiled() is not None) == (method != "dense" and native.core is not None)
    rows = bundled_digits()[0]["train"].x
    check_annealing(rbm, torch.from_numpy(log_odds((rows / 16).mean(axis=0).astype(np.float32), len(rows))), seed=0)


def test_the_papers_schedule_has_its_14_500_steps() -> None:
    betas = annealing.schedule("paper")
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 500 + 4000 + 10_000 + 1)
    assert np.all(np.diff(betas) > 0)


@pytest.mark.parametrize("engine", [*ENGINES, "dense"])
def test_gradients_are_the_models_statistics_minus_the_datas(engine: str) -> None:
    rbm = dense_rbm(9, 7) if engine == "dense" else sparse_rbm(9, 7, engine)
    rng = np.random.default_rng(0)
    v0, v1 = (rng.integers(0, 2, (n, 9)).astype(np.float32) for n in (13, 4))
    h0, h1 = (rng.random((n, 7), dtype=np.float32) for n in (13, 4))
    rbm.set_gradients(*(torch.from_numpy(a) for a in (v0, h0, v1, h1)))
    slow = np.zeros((9, 7))
    for i, j in itertools.product(range(9), range(7)):
        slow[i, j] = np.mean(v1[:, i] * h1[:, j]) - np.mean(v0[:, i] * h0[:, j])
    layer = rbm.layer1
    assert layer.weight.grad is not None
    assert layer.bias is not None
    if isinstance(layer, SparseLinear):
        rows = np.repeat(np.arange(9), np.diff(layer.pattern.indptr))
        slow = slow[rows, layer.pattern.indices]
        np.testing.assert_allclose(layer.weight.grad, slow, atol=1e-6)
    else:
        np.testing.assert_allclose(layer.weight.grad.t(), slow, atol=1e-6)
    assert layer.bias.grad is not None
    assert rbm.visible.bias.grad is not None
    np.testing.assert_allclose(layer.bias.grad, h1.mean(axis=0) - h0.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(rbm.visible.bias.grad, v1.mean(axis=0) - v0.mean(axis=0), atol=1e-6)


def test_the_gradient_from_the_exact_distribution_is_that_of_the_log_probability() -> None:
    rbm = dense_rbm(6, 4)
    v0 = torch.from_numpy(states(6)[[3, 17, 40, 63]]).float()
    probability = np.exp(energies(rbm))
    probability /= probability.sum()
    every = torch.from_numpy(states(6)).float()
    weights = torch.from_numpy(probability.sum(axis=1)).float()
    # Model statistics are means over rows: rows weighted by probability times their number give the expectation.
    n = len(every)
    rbm.set_gradients(v0, rbm(v0), every * (weights * n)[:, None], rbm(every))
    assert rbm.layer1.weight.grad is not None
    gradient = rbm.layer1.weight.grad[2, 1].item()
    step = 1e-2

    def minus_log_probability(shift: float) -> float:
        with torch.no_grad():
            rbm.layer1.weight[2, 1] += shift
        value = float(rbm.free_energy(v0).mean()) + annealing.enumerate_states(rbm).log_z
        with torch.no_grad():
            rbm.layer1.weight[2, 1] -= shift
        return value

    slope = (minus_log_probability(step) - minus_log_probability(-step)) / (2 * step)
    assert gradient == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("engine", [*ENGINES, "dense"])
def test_contrastive_divergence_goes_from_side_to_side_as_written_down(engine: str, persistent: bool) -> None:
    """Inputs of 50 and more leave nothing to chance: every engine has to reach the same units."""
    rbm = dense_rbm(9, 7) if engine == "dense" else sparse_rbm(9, 7, engine)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.copy_(parameter.sign() * (50 if parameter.shape in ((9,), (7,)) else 100))
    weights, b, c = arrays(rbm)
    rng = np.random.default_rng(0)
    chains = rng.integers(0, 2, (5, 7)).astype(np.float64)
    if persistent:
        rbm.chains = torch.from_numpy(chains).float()
    divergence = Divergence(rbm, 2, seed=0)
    for n in (13, 13, 4):  # the last batch is smaller than the others and than the chains
        v0 = rng.integers(0, 2, (n, 9)).astype(np.float64)
        h0 = (v0 @ weights + c > 0).astype(np.float64)
        a = h0 @ weights.T + b
        h = chains if persistent else h0
        for _ in range(2):
            v1 = (h @ weights.T + b > 0).astype(np.float64)
            h = (v1 @ weights + c > 0).astype(np.float64)
        loss = float(divergence.differentiate(torch.from_numpy(v0).float()))
        assert loss == pytest.approx((np.maximum(a, 0) - v0 * a).sum(), rel=1e-5)
        slow = v1.T @ h / len(v1) - v0.T @ h0 / n
        layer = rbm.layer1
        assert layer.weight.grad is not None
        assert layer.bias is not None
        assert layer.bias.grad is not None
        assert rbm.visible.bias.grad is not None
        expected = slow[weights != 0] if isinstance(layer, SparseLinear) else slow.T
        np.testing.assert_allclose(layer.weight.grad, expected, atol=1e-6)
        np.testing.assert_allclose(layer.bias.grad, h.mean(axis=0) - h0.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(rbm.visible.bias.grad, v1.mean(axis=0) - v0.mean(axis=0), atol=1e-6)
        if persistent:
            chains = h
            assert rbm.chains is not None
            assert np.array_equal(rbm.chains, chains)
        else:
            assert rbm.chains is None


@pytest.mark.parametrize("kernels", [True, False])
def test_draws_have_their_probabilities(kernels: bool) -> None:
    p = torch.tensor([0.0, 0.2, 0.5, 1.0]).repeat(20_000, 1)
    with nullcontext() if kernels else native.without_kernels():
        sampler = Sampler(0, p.device)
        drawn, probabilities = sampler.units_and_probabilities(p.logit())
        again = sampler.units(p.logit())
        values = sampler.values(p)
    np.testing.assert_allclose(probabilities, p, atol=1e-6)
    for units in (drawn, again, values):
        assert set(units.flatten().tolist()) == {0.0, 1.0}
        np.testing.assert_allclose(units.mean(dim=0), p[0], atol=0.015)
    assert not torch.equal(drawn, again)


@pytest.mark.parametrize("engine", [*ENGINES, "dense"])
def test_units_of_another_width_never_reach_the_kernels(engine: str) -> None:
    rbm = dense_rbm(40, 30) if engine == "dense" else sparse_rbm(40, 30, engine)
    for width in (5, 50):
        with pytest.raises(ValueError, match=r"expected \(n, 40\) units"):
            Divergence(rbm, 1, 0).differentiate(torch.zeros(16, width))
    rbm.chains = torch.zeros(16, 29)
    with pytest.raises(ValueError, match=r"expected \(n, 30\) units"):
        Divergence(rbm, 1, 0).differentiate(torch.zeros(16, 40))
    with pytest.raises(ValueError, match=r"expected 40 visible biases, got shape \(1,\)"):
        annealing.anneal(rbm, torch.zeros(1), annealing.schedule("quick"), 10, 0)


@pytest.mark.parametrize("method", ["set", "dense"])
def test_visible_biases_start_at_the_log_odds_of_the_training_rows(method: str, compose: Compose) -> None:
    config = compose(*SMALL, f"method={method}")
    data = digits(config)
    model = build_network(config, data, torch.device("cpu")).model
    mean = (data.train.x / 16).mean(axis=0).astype(np.float32)
    np.testing.assert_allclose(model.get_parameter("visible.bias").detach(), log_odds(mean, len(data.train)), rtol=1e-5)
    assert np.ptp(log_odds(mean, len(data.train))) > 5  # not 0 everywhere


def test_log_odds_of_what_never_happens_are_finite() -> None:
    bias = log_odds(np.array([0.0, 0.5, 1.0], np.float32), 100)
    np.testing.assert_allclose(bias, [math.log(2.5 / 102.5), 0, math.log(102.5 / 2.5)], rtol=1e-5)


class StopAt(NoView):
    """Sends this process a signal after the first step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.at = epoch

    def step(self, epoch: int, rows: int, of: int) -> None:
        if epoch == self.at:
            self.at = -1
            os.kill(os.getpid(), signal.SIGINT)


def train(compose: Compose, *overrides: str, view: NoView | None = None) -> Outcome:
    with StopSignals() as stop:
        return run(compose(*SMALL, *overrides), {}, ["set-train"], view or NoView(), stop)


def content(path: Path) -> dict[str, bytes]:
    """The bytes that decide a run's numbers."""
    found = {name: (path / name).read_bytes() for name in ("metrics.jsonl", "params.json")}
    for file in (path / "checkpoint.npz", *sorted((path / "topology").iterdir())):
        found |= {f"{file.name}:{name}": a.tobytes() for name, a in read_arrays(file).items() if name != "meta"}
    return found


@pytest.mark.parametrize("method", ["set", "fixprob", "dense"])
def test_a_run_of_each_method_has_the_contracts_numbers(method: str, compose: Compose) -> None:
    outcome = train(compose, f"method={method}", "data.valid=100", "train.lr=0.1")
    rows = read_rows(outcome.path / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for part, name in itertools.product(
        ("valid", "test"), ("log_probability", "log_z_error", "pseudo_log_likelihood", "reconstruction_loss")
    ):
        assert all(math.isfinite(row[f"{part}_{name}"]) for row in rows)
    assert rows[-1]["test_log_probability"] > rows[0]["test_log_probability"]
    assert {row["test_temperatures"] for row in rows} == {0}  # 12 hidden units: log Z is exact
    summary = outcome.summary
    assert (summary["metric"], summary["best_on"]) == ("log_probability", "valid")
    assert summary["last"] == rows[-1]["test_log_probability"] > -64 * math.log(2)  # better than coins
    total = read_json(outcome.path / "params.json")["total"]
    assert total["biases"] == 64 + 12
    assert total["dense_equivalent"] == 64 * 12
    assert (total["connections"] == 64 * 12) == (method == "dense")
    if method == "set":
        assert all(row["pruned"] == row["regrown"] > 0 for row in rows[:-1])
        assert rows[-1]["regrown"] == 0


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("method", ["set", "dense"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    method: str, persistent: bool, compose: Compose, tmp_path: Path
) -> None:
    asked = (f"method={method}", f"model.persistent={str(persistent).lower()}")
    whole = content(train(compose, *asked, f"runs_dir={tmp_path}/whole").path)
    with pytest.raises(set_cli.errors.Interrupted):
        train(compose, *asked, view=StopAt(3))
    resumed = train(compose, *asked)
    assert read_json(resumed.path / "run.json")[-1]["resumed_after_epoch"] == 2
    assert content(resumed.path) == whole
    assert ("checkpoint.npz:model/chains" in whole) == persistent


@pytest.mark.parametrize("method", ["set", "dense"])
@pytest.mark.parametrize(("rows", "lr"), [(1130, 0.05), (50, 0.1)], ids=["smaller last batch", "less than a batch"])
def test_persistent_chains_learn_and_are_kept(rows: int, lr: float, method: str, compose: Compose) -> None:
    asked = (f"method={method}", "model.persistent=true", f"data.train_limit={rows}", f"train.lr={lr}")
    outcome = train(compose, *asked, "train.epochs=40")
    found = [row["test_log_probability"] for row in read_rows(outcome.path / "metrics.jsonl")]
    assert np.mean(found[-5:]) > found[0] + 0.3  # of the mean, since persistent chains swing
    rbm = set_cli.load(outcome.path).model
    assert isinstance(rbm, RBM)
    assert rbm.chains is not None
    assert rbm.chains.shape == (min(rows, 100), 12)  # as many as a batch has rows
    assert set(rbm.chains.flatten().tolist()) == {0.0, 1.0}
    assert len({tuple(chain) for chain in rbm.chains.tolist()}) > 1
    assert np.array_equal(rbm.chains, read_arrays(outcome.path / "checkpoint.npz")["model/chains"])


def test_log_z_is_estimated_every_so_often_and_after_the_last_epoch(compose: Compose) -> None:
    outcome = train(compose, "model.ais_every=3", "model.hidden=[40]", "train.epochs=4", "data.train_limit=200")
    rows = read_rows(outcome.path / "metrics.jsonl")
    assert ["test_log_probability" in row for row in rows] == [False, False, True, True]
    assert not [key for row in rows[:2] for key in row if key.startswith("test_")]
    assert outcome.summary["best_epoch"] in (3, 4)
    assert all(row["test_log_z_error"] > 0 for row in rows[2:])  # 40 x 64: no enumeration


def test_an_epoch_that_seems_the_best_is_estimated_as_the_last_one_is(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """log Z made up for every epoch: the rough estimate, then the one of 14,500 temperatures."""
    made_up = {1: (10, 10), 2: (12, 0), 3: (8, 11), 4: (9, 9.5), 5: (9.8, 0), 6: (12, 10)}
    epoch_of = {streams.torch_seed(0, "ais", epoch): epoch for epoch in made_up}

    def anneal(
        model: RBM, base: Tensor, betas: Floats, chains: int, seed: int, check: Callable[[], None]
    ) -> annealing.Partition:
        epoch, temperatures = epoch_of[seed], len(betas) - 1
        log_z = made_up[epoch][temperatures == 14_500]
        carry = annealing.FEW_CHAINS - (epoch == 4)
        return annealing.Partition(log_z, 0.1, carry, temperatures)

    monkeypatch.setattr(annealing, "anneal", anneal)
    asked = ("method=fixprob", "model.hidden=[30]", "model.ais_last=paper", "train.epochs=6", "train.lr=1e-9")
    with pytest.raises(set_cli.errors.Interrupted):  # what was the best is known after that too
        train(compose, *asked, view=StopAt(2))
    outcome = train(compose, *asked)
    rows = read_rows(outcome.path / "metrics.jsonl")
    assert [row["test_temperatures"] for row in rows] == [14_500, 1000, 14_500, 14_500, 1000, 14_500]
    log_z = [-row["test_free_energy"] - row["test_log_probability"] for row in rows]
    assert log_z == pytest.approx([10, 12, 11, 9.5, 9.8, 10])
    assert [row["test_chains_agree"] for row in rows] == [True, True, True, False, True, True]
    summary = outcome.summary
    assert (summary["best_epoch"], summary["best"]) == (4, rows[3]["test_log_probability"])
    assert (summary["best_chains_agree"], summary["last_chains_agree"]) == (False, True)


def test_a_trained_rbm_is_loaded_with_its_reconstructions_and_hidden_units(compose: Compose) -> None:
    outcome = train(compose)
    rbm = set_cli.load(outcome.path).model
    assert isinstance(rbm, RBM)
    v = torch.randint(0, 2, (5, 64)).float()
    assert (rbm(v).shape, rbm.reconstruct(v).shape) == ((5, 12), (5, 64))
    assert rbm.reconstruct(v).max() <= 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.hidden=[5,5]"], "model.hidden: expected one hidden layer for model=rbm, found [5, 5]"),
        (["model.cd_steps=0"], "model.cd_steps: expected greater than or equal to 1, found 0"),
        (["+model.dropout=0.3"], "model.dropout is for model=mlp and model=cnn, which need it"),
    ],
)
def test_settings_of_another_architecture_are_refused(overrides: list[str], sentence: str, compose: Compose) -> None:
    with pytest.raises(set_cli.errors.ConfigError) as caught:
        compose(*SMALL, *overrides)
    assert str(caught.value) == sentence


@pytest.mark.slow  # trains scikit-learn's RBM too
def test_persistent_chains_learn_as_well_as_scikit_learns(compose: Compose, tmp_path: Path) -> None:
    """The same rows, hidden units, batches, learning rate and epochs; the same annealing measures all of them."""
    sampler, parts = Sampler(0, torch.device("cpu")), bundled_digits()[0]
    rows = {name: sampler.values(torch.from_numpy(parts[name].x) / 16) for name in ("train", "test")}
    file = tmp_path / "digits.npz"
    np.savez(file, allow_pickle=False, **{f"x_{name}": x.numpy().astype(np.uint8) for name, x in rows.items()})
    theirs = BernoulliRBM(64, learning_rate=0.02, batch_size=10, n_iter=40, random_state=0).fit(rows["train"].numpy())
    rbm = RBM(nn.Linear(64, 64), theirs.intercept_visible_.astype(np.float32))
    rbm.layer1.load_state_dict(
        {"weight": torch.from_numpy(theirs.components_), "bias": torch.from_numpy(theirs.intercept_hidden_)}
    )
    base = torch.from_numpy(log_odds(rows["train"].mean(dim=0).numpy(), len(rows["train"])))
    partition = annealing.anneal(rbm, base, annealing.schedule("quick"), annealing.CHAINS, 0)
    reached = -float(rbm.free_energy(rows["test"]).mean()) - partition.log_z
    assert reached > -25.5  # the base rates alone have -26.7
    for method in ("dense", "set"):
        config = compose(
            "dataset=custom", f"dataset.path={file}", "model=rbm", f"method={method}", "epsilon=11",
            "model.hidden=[64]", "model.persistent=true", "model.ais_every=40", "model.ais_last=quick",
            "train.lr=0.02", "train.momentum=0", "train.weight_decay=0", "train.batch_size=10", "train.epochs=40",
        )  # fmt: skip
        with StopSignals() as stop:
            summary = run(with_checksum(config), {}, ["set-train"], NoView(), stop).summary
        assert summary["last_chains_agree"]
        assert summary["last"] > reached - 0.5
