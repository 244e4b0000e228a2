"""Contrastive divergence: an epoch of an RBM, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from set_cli import streams
from set_cli.config import Config
from set_cli.data.inputs import Inputs
from set_cli.models.rbm import RBM
from set_cli.training.annealing import Partition, draw
from set_cli.training.optimizer import add_l1_gradient, connection_weights, drop_gradients

EVALUATION_ROWS = 1000  # per batch


@torch.no_grad()
def train_epoch(
    model: RBM,
    inputs: Inputs,
    optimizer: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    after_step: Callable[[int, int], None],
) -> float:
    """One pass of CD-k; mean reconstruction cross-entropy (nats per row), every row used once.

    Values between 0 and 1 are probabilities: each batch draws its visible units anew. The last hidden units are
    probabilities, all others draws (Hinton's practical guide, 3).
    after_step  called with (rows done, rows in all) after every step; may raise to stop
    """
    steps = config.model.cd_steps
    assert steps is not None
    generator = torch.Generator(inputs.device).manual_seed(streams.torch_seed(config.seed, "rbm", epoch))
    order = torch.from_numpy(streams.generator(config.seed, "data", epoch).permutation(len(inputs)))
    weights = connection_weights(model)
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for start in range(0, len(order), config.train.batch_size):
        x, _ = inputs.batch(order[start : start + config.train.batch_size])
        v0 = x if inputs.is_binary else draw(x, generator)
        h0 = model(v0)
        v1, h1 = v0, h0
        for step in range(steps):
            p1 = model.visible_input(draw(h1, generator)).sigmoid_()
            if step == 0:
                total += F.binary_cross_entropy(p1.clamp_(1e-7, 1 - 1e-7), v0, reduction="sum")
            v1 = draw(p1, generator)
            h1 = model(v1)
        drop_gradients(optimizer)
        model.set_gradients(v0, h0, v1, h1)
        if config.train.l1:
            add_l1_gradient(weights, config.train.l1)
        optimizer.step()
        after_step(start + len(x), len(order))
    return total.item() / len(order)


@torch.no_grad()
def monitor(model: RBM, inputs: Inputs, seed: int, partition: Partition | None) -> dict[str, float]:
    """What is measured of an RBM over all rows, means per row in nats.

    reconstruction_loss     cross-entropy of the mean-field reconstruction
    pseudo_log_likelihood   one unit per row flipped (stochastic; Hyvarinen 2006): cheap, biased
    log_probability         -free energy - log Z; with a partition only, as the next two
    log_z_error             standard error of log Z
    effective_chains        how many of the chains carry the estimate: few of many make log Z and its error doubtful
    """
    generator = torch.Generator(inputs.device).manual_seed(streams.torch_seed(seed, "rbm", 0))
    reconstruction = pseudo = energy = 0.0
    for start in range(0, len(inputs), EVALUATION_ROWS):
        x, _ = inputs.batch(torch.arange(start, min(start + EVALUATION_ROWS, len(inputs))))
        v = x if inputs.is_binary else draw(x, generator)  # the same draws in every epoch
        rows = torch.arange(len(v), device=v.device)
        unit = torch.randint(model.n_visible, (len(v),), generator=generator, device=v.device)
        flipped = v.clone()
        flipped[rows, unit] = 1 - flipped[rows, unit]
        free = model.free_energy(v)
        pseudo += model.n_visible * float(F.logsigmoid(model.free_energy(flipped) - free).sum())
        p = model.reconstruct(v).clamp_(1e-7, 1 - 1e-7)
        reconstruction += float(F.binary_cross_entropy(p, v, reduction="sum"))
        energy += float(free.double().sum())
    found = {"reconstruction_loss": reconstruction / len(inputs), "pseudo_log_likelihood": pseudo / len(inputs)}
    if partition is not None:
        found |= {
            "log_probability": -energy / len(inputs) - partition.log_z,
            "log_z_error": partition.standard_error,
            "effective_chains": partition.effective_chains,
        }
    return found
