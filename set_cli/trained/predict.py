"""Predictions for rows as they are in the data file: scaled as in training, batch by batch, by the trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from set_cli.data.card import Card
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Labels, Part, Values
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import Scaling
from set_cli.errors import ConfigError, DataError
from set_cli.models.rbm import RBM, log_odds
from set_cli.runs.inputs import RunInputs
from set_cli.system import streams
from set_cli.training import contrastive
from set_cli.training.architectures import evaluation_rows
from set_cli.training.sampling import Sampler
from set_cli.training.supervised import evaluate
from set_cli.training.trainers import Contrastive

if TYPE_CHECKING:
    from set_cli.trained.run import TrainedRun


def scaling_of(inputs: RunInputs) -> Scaling:
    """How the run scales its rows."""
    return Scaling(inputs.offset, inputs.scale, inputs.fill, inputs.clip)


def make_inputs(inputs: RunInputs, values: Values, labels: Labels | None, device: torch.device) -> Inputs:
    """These rows (n, features) as training would have them."""
    card = Card(
        name="rows",
        title="",
        domain="",
        kind=inputs.kind,
        features=len(inputs.offset),
        classes=len(inputs.classes),
        train=0,
        valid=0,
        test=len(values),
        homepage="",
        licence="",
        citation="",
        shape=inputs.shape,
        maximum=inputs.maximum,
    )
    part = Part(values, labels)
    return Inputs(part, DataSet(card, part, None, part, scaling_of(inputs), "rows", {}, "custom"), device)


def logits(run: TrainedRun, values: Values) -> NDArray[np.float32]:
    """(n, classes) outputs of the network; ConfigError for an RBM, which has none."""
    model = run.trained_network()
    if isinstance(model, RBM):
        raise ConfigError(
            f"{run.path}: an RBM has no classes to predict; run.hidden(X), run.reconstruct(X) and "
            "run.log_probability(X) say what it has learned"
        )
    return _by_batches(run, model, values, model, run.n_classes)


def probabilities(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, classes) softmax of logits."""
    powers = np.exp(found - found.max(axis=1, keepdims=True))
    softmax: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return softmax


def hidden(run: TrainedRun, values: Values) -> NDArray[np.float32]:
    """(n, n_hidden) probabilities of the hidden units."""
    model = rbm_of(run)
    return _by_batches(run, model, values, model, model.n_hidden)


def reconstruct(run: TrainedRun, values: Values) -> NDArray[np.float32]:
    """(n, features) probabilities of the visible units, given those of the hidden ones."""
    model = rbm_of(run)
    return _by_batches(run, model, values, model.reconstruct, model.n_visible)


def log_probability(run: TrainedRun, values: Values) -> NDArray[np.float64]:
    """(n,) nats; their mean is what `evaluate_rows` gives."""
    model, inputs = rbm_of(run), run.known_inputs()
    scores = score_rows(run, values, None)
    log_z = -scores["free_energy"] - scores["log_probability"]
    device = model.visible.bias.device
    rows, sampler = make_inputs(inputs, values, None, device), _sampler(run, device)
    found = np.empty(len(values))
    for start in range(0, len(values), contrastive.EVALUATION_ROWS):
        stop = min(start + contrastive.EVALUATION_ROWS, len(values))
        x, _ = rows.batch(torch.arange(start, stop))
        v = x if rows.is_binary else sampler.values(x)  # the draws of contrastive.monitor
        found[start:stop] = -model.free_energy(v).double().cpu().numpy() - log_z
    return found


def _sampler(run: TrainedRun, device: torch.device) -> Sampler:
    return Sampler(streams.torch_seed(run.settings().seed, "rbm", 0), device)


def score_rows(run: TrainedRun, values: Values, labels: Labels | None) -> dict[str, float]:
    """What the run's last measurement says of its test rows, of these: accuracy and loss, or an RBM's log-probability.

    values  (n, features), at least one row; labels (n,) class numbers, None for an RBM
    """
    model, config, inputs = run.trained_network(), run.settings(), run.known_inputs()
    rows = make_inputs(inputs, values, labels, next(model.parameters()).device)
    if not isinstance(model, RBM):
        return evaluate(model, rows, rows=evaluation_rows(config))
    assert inputs.mean is not None
    trainer = Contrastive(config, model, log_odds(inputs.mean, inputs.rows), [])
    name = "valid" if config.data.valid else "test"  # the part that its best epoch is chosen on
    return trainer.measure({name: rows}, config.train.epochs, lambda: None)[name]


def rbm_of(run: TrainedRun) -> RBM:
    """The trained RBM; ConfigError where the run trained another model."""
    model = run.trained_network()
    if not isinstance(model, RBM):
        raise ConfigError(
            f"{run.path}: expected an RBM, found an {run.config['model']['name'].upper()}; run.predict(X)"
        )
    return model


@torch.no_grad()
def _by_batches(
    run: TrainedRun, model: nn.Module, values: Values, function: Callable[[Tensor], Tensor], outputs: int
) -> NDArray[np.float32]:
    """(n, outputs) of a function of network inputs, in the batches in which the run is evaluated."""
    inputs, at_once = run.known_inputs(), evaluation_rows(run.settings())
    device = next(model.parameters()).device
    found = np.empty((len(values), outputs), np.float32)
    for start in range(0, len(values), at_once):
        rows = make_inputs(inputs, values[start : start + at_once], None, device)
        x, _ = rows.batch(torch.arange(len(rows)))
        found[start : start + at_once] = function(x).float().cpu().numpy()
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        row = int(np.argmax(broken))
        raise DataError(f"row {row} (the first is 0) is so far from the training rows that the outputs are not finite")
    return found
