"""The paper's CNN (Fig. 7): three blocks of two 3x3 convolutions, then sparse (or dense) layers as in the MLP."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from set_cli.config import Model
from set_cli.models.activations import ReLU
from set_cli.models.mlp import LayerPlan, Wire, add_layers, plan_layer, plan_mlp, wire_at_random
from set_cli.models.normalization import NORMALIZATIONS
from set_cli.models.stack import SparseSequential
from set_cli.sparse import SparseLinear
from set_cli.sparse.rules import Sample
from set_cli.system import streams

KERNEL = 3  # pixels, height and width; the border is padded so that images keep their size
TAPS = KERNEL * KERNEL
POOL = 2
CONVOLUTION_STREAM = 100  # of `init`: the layers behind draw from 1, 2, … as an MLP's


class Images(nn.Module):
    """Rows (n, channels * height * width) to images (n, channels, height, width)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        # Channels last in memory is what the convolutions are fastest with, on CPU and GPU.
        return x.reshape(len(x), *self.shape).contiguous(memory_format=torch.channels_last)


class SparseConvolution(SparseLinear):
    """A 3x3 convolution whose kernels have weights only where there is a connection; images in, images out.

    Truly sparse, not masked: a SparseLinear from the 9 * channels values of every patch to the output channels, so it
    prunes, regrows and is counted as one. What it costs is the patches, 9 times the input's memory (docs/cnn.md).
    """

    def __init__(self, *arguments: Any, init: str = "glorot", **named: Any) -> None:
        super().__init__(*arguments, init=init, **named)
        if init == "glorot":  # the dense convolution's fans: an output channel is seen by 9 pixels
            wrong, right = self.in_features + self.out_features, self.in_features + TAPS * self.out_features
            with torch.no_grad():
                self.weight.mul_(math.sqrt(wrong / right))

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        y = super().forward(_patches(x))
        images: Tensor = y.t().reshape(self.out_features, n, height, width).transpose(0, 1)
        return images.contiguous(memory_format=torch.channels_last)

    def as_rows(self, x: Tensor, output_gradient: Tensor, y: Tensor) -> Sample:
        """What went through `forward`: a row for each pixel of each image."""
        return Sample(_patches(x), _pixels(output_gradient), _pixels(y))


def _patches(x: Tensor) -> Tensor:
    """(n, channels, height, width) to (n * height * width, 9 * channels): the values that each output pixel sees."""
    patches = F.unfold(x, KERNEL, padding=KERNEL // 2)  # (n, channels * 9, height * width)
    return patches.transpose(0, 1).flatten(start_dim=1).t()  # as the kernels want them: pixels contiguous


def _pixels(y: Tensor) -> Tensor:
    """(n, channels, height, width) to (n * height * width, channels), in the order of `_patches`."""
    return y.transpose(0, 1).flatten(start_dim=1).t()


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width) of (height, width) or of itself; ValueError where the channels seem to be last."""
    channels, height, width = (1, *shape) if len(shape) == 2 else tuple(shape)
    if width in (1, 3, 4) and channels > 4:
        expected = f"({width}, {channels}, {height})"
        raise ValueError(f"expected images as (channels, height, width), such as {expected}, found {tuple(shape)}")
    return channels, height, width


def flattened(model: Model, shape: Sequence[int]) -> int:
    """Values behind the last pooling; ValueError where an image is too small for that."""
    assert model.channels is not None
    _, height, width = image_shape(shape)
    blocks = len(model.channels)
    smallest: int = POOL**blocks
    if min(height, width) < smallest:
        raise ValueError(
            f"expected images of at least {smallest}x{smallest} for the {blocks} blocks of model.channels, found "
            f"{height}x{width}; take fewer blocks"
        )
    return model.channels[-1] * (height // smallest) * (width // smallest)


def plan_cnn(model: Model, epsilon: float | None, shape: Sequence[int], classes: int) -> list[LayerPlan]:
    """The convolutions, then the layers of the MLP behind them: which are sparse, which dense, and why.

    shape  of an image, (height, width) or (channels, height, width); ValueError where it is too small
    """
    assert model.channels is not None
    channels = [image_shape(shape)[0], *(width for width in model.channels for _ in range(2))]
    own = epsilon if model.sparse_convolutions else None
    plans = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(channels), start=1):
        plan = plan_layer(f"conv{i}", TAPS * n_in, n_out, own)
        if epsilon is not None and own is None:
            plan = replace(plan, reason="convolution: dense, as in the paper (model.sparse_convolutions=true: sparse)")
        plans.append(replace(plan, convolution=True))
    return plans + plan_mlp(model, epsilon, flattened(model, shape), classes)


def build_cnn(
    plans: list[LayerPlan],
    model: Model,
    engines: Mapping[str, str],
    seed: int,
    shape: Sequence[int],
    wire: Wire = wire_at_random,
) -> nn.Sequential:
    """conv1, its ReLU with dropout, conv2, its ReLU, pool, …, then layer1 and so on as `build_mlp`.

    (n_batch, features) to (n_batch, classes) logits. Dropout stands behind the first convolution of each block, as in
    the paper's Fig. 7, and behind the hidden layers.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict(images=Images(image_shape(shape)))
    convolutions = [plan for plan in plans if plan.convolution]
    for i, plan in enumerate(convolutions, start=1):
        rng = streams.generator(seed, "init", CONVOLUTION_STREAM + i)
        if plan.sparse:
            modules[plan.name] = SparseConvolution(
                plan.n_in, plan.n_out, pattern=wire(plan, rng), init=model.init, engine=engines[plan.name], seed=rng
            )
        else:
            modules[plan.name] = _convolution(plan, model.init, rng)
        first = i % 2 == 1
        if model.norm is not None:
            modules[f"{plan.name}_norm"] = NORMALIZATIONS[model.norm](plan.n_out)
        modules[f"{plan.name}_activation"] = ReLU((model.dropout or 0.0) if first else 0.0, fused=True)
        if not first:
            modules[f"pool{i // 2}"] = nn.MaxPool2d(POOL)
    modules["flatten"] = nn.Flatten()
    add_layers(modules, plans[len(convolutions) :], model, engines, seed, wire)
    return SparseSequential(modules)


def _convolution(plan: LayerPlan, init: str, rng: np.random.Generator) -> nn.Conv2d:
    """Glorot's limits from kernel size times channels on both sides, as Keras has them."""
    layer = nn.Conv2d(plan.n_in // TAPS, plan.n_out, KERNEL, padding=KERNEL // 2)
    limit = math.sqrt(6 / (plan.n_in + TAPS * plan.n_out) if init == "glorot" else 6 / plan.n_in)
    with torch.no_grad():
        draws = np.float32(limit) * (2 * rng.random(layer.weight.shape, dtype=np.float32) - 1)
        layer.weight.copy_(torch.from_numpy(draws))
        assert layer.bias is not None
        layer.bias.zero_()
    return layer
