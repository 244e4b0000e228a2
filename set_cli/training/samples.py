"""What rules look at before an evolution: activations and gradients of every sparse layer on some training rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from set_cli.config import Config
from set_cli.data.inputs import Inputs
from set_cli.models.activations import Activation
from set_cli.models.cnn import SparseConvolution
from set_cli.models.counts import sparse_layers
from set_cli.models.rbm import NAME, RBM
from set_cli.sparse import SparseLinear
from set_cli.sparse.rules import Sample
from set_cli.system import streams
from set_cli.training.loss import cross_entropy
from set_cli.training.sampling import Sampler

LOOK = 2**20  # of the streams of `evolve`, beside the layers' numbers
MOST_IMAGES = 32  # of a batch that goes through sparse convolutions, whose patches take 9 times the memory
MOMENTUM = 0.9  # by which an earlier batch's gradient counts less than the next one's

Samples = Mapping[str, Sample]


def batches_of_rows(inputs: Inputs, config: Config, epoch: int, step: int, most: int) -> list[Tensor]:
    """Rows of method.batches batches, drawn without replacement as far as there are enough."""
    rng = streams.generator(config.seed, "evolve", epoch, LOOK, step)
    size = min(config.train.batch_size, most, len(inputs))
    wanted = config.method.batches * size
    rows = torch.from_numpy(rng.permutation(len(inputs))).repeat(-(-wanted // len(inputs)))[:wanted]
    return list(torch.split(rows, size))


def weights_of(batches: list[Tensor]) -> list[float]:
    """The weight of each batch, the latest 1, as momentum has it."""
    return [MOMENTUM ** (len(batches) - 1 - i) for i in range(len(batches))]


def supervised_samples(model: nn.Module, inputs: Inputs, config: Config, epoch: int, step: int) -> Samples:
    """Samples of each sparse layer, by name, of the network as it is: without dropout, with the rows as they are.

    The gradients are those of the mean loss of a batch. Of several batches they are an exponential mean: each is
    weighted, so that what a rule adds up over the rows is that mean. The model's parameters get no gradients.
    """
    layers, was_training = sparse_layers(model), model.training
    is_convolution = any(isinstance(layer, SparseConvolution) for layer in layers.values())
    rows = batches_of_rows(inputs, config, epoch, step, MOST_IMAGES if is_convolution else len(inputs))
    weights = weights_of(rows)
    found: dict[str, list[Sample]] = {name: [] for name in layers}
    model.eval()
    try:
        for batch, weight in zip(rows, weights, strict=True):
            x, y = inputs.batch(batch)
            for name, sample in _one_batch(model, layers, x, y, config, weight / sum(weights)).items():
                found[name].append(sample)
    finally:
        model.train(was_training)
    return {name: _together(samples) for name, samples in found.items()}


def _one_batch(
    model: nn.Module, layers: Mapping[str, SparseLinear], x: Tensor, y: Tensor, config: Config, weight: float
) -> dict[str, Sample]:
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    behind: dict[str, Tensor] = {}
    names = {id(layer): name for name, layer in layers.items()}
    handles = []
    for layer, activation in _with_activations(model, layers):
        name = names[id(layer)]

        def keep(module: nn.Module, arguments: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
            seen[name] = (arguments[0].detach(), out)

        def keep_behind(module: nn.Module, arguments: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
            behind[name] = out.detach()

        handles.append(layer.register_forward_hook(keep))
        if activation is not None:
            handles.append(activation.register_forward_hook(keep_behind))
    try:
        with torch.enable_grad():
            loss = cross_entropy(model(x).float(), y, config.train.label_smoothing)
            gradients = torch.autograd.grad(weight * loss, [out for _, out in seen.values()])
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: layers[name].as_rows(given, gradient, behind.get(name, out.detach()))
        for (name, (given, out)), gradient in zip(seen.items(), gradients, strict=True)
    }


def _with_activations(
    model: nn.Module, layers: Mapping[str, SparseLinear]
) -> list[tuple[SparseLinear, Activation | None]]:
    """Each sparse layer with the activation that follows it before the next layer."""
    own = {id(layer) for layer in layers.values()}
    modules = [module for module in model.modules() if id(module) in own or isinstance(module, Activation | nn.Linear)]
    found: list[tuple[SparseLinear, Activation | None]] = []
    for module, after in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, SparseLinear):
            found.append((module, after if isinstance(after, Activation) else None))
    return found


def _together(samples: list[Sample]) -> Sample:
    if len(samples) == 1:
        return samples[0]

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        there = [part for part in parts if part is not None]
        # As the kernels want them: the rows of the batches contiguous.
        return torch.cat([part.t() for part in there], dim=1).t() if there else None

    return Sample(
        joined([each.inputs for each in samples]),
        joined([each.output_gradients for each in samples]),
        joined([each.outputs for each in samples]),
    )


@torch.no_grad()
def contrastive_samples(model: RBM, inputs: Inputs, config: Config, epoch: int, step: int) -> Samples:
    """The statistics of contrastive divergence, which are an RBM's gradient, from the data in every case.

    inputs are the visible units of the data, then those after CD's steps; output gradients the hidden units'
    probabilities, divided by the number of rows, negative for the data; outputs these probabilities. Several batches
    are weighted as in `supervised_samples`.
    """
    assert config.model.cd_steps is not None
    if not isinstance(model.layer1, SparseLinear):
        return {}
    batches = batches_of_rows(inputs, config, epoch, step, len(inputs))
    rows = torch.cat(batches)
    weights = torch.cat([torch.full((len(b),), w) for b, w in zip(batches, weights_of(batches), strict=True)])
    share = (weights / weights.sum()).unsqueeze(1).to(inputs.device)
    sampler = Sampler(streams.torch_seed(config.seed, "evolve", epoch, LOOK, step), inputs.device)
    x, _ = inputs.batch(rows)
    v = x if inputs.is_binary else sampler.values(x)
    h, h0 = sampler.units_and_probabilities(model.hidden_input(v))
    v1 = sampler.units(model.visible_input(h))
    for _ in range(config.model.cd_steps - 1):
        h = sampler.units(model.hidden_input(v1))
        v1 = sampler.units(model.visible_input(h))
    _, h1 = sampler.units_and_probabilities(model.hidden_input(v1))
    h = torch.cat([h0, h1])
    gradients = torch.cat([-share * h0, share * h1])
    return {NAME: Sample(torch.cat([v, v1]), gradients, h)}
