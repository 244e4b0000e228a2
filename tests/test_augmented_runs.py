"""Runs whose rows are cropped, cut out, mixed and weighed, and whose labels are smoothed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Config, from_mapping, identity
from set_cli.data.augment import check_images
from set_cli.data.inputs import Inputs
from set_cli.data.mixup import MixedLabels
from set_cli.errors import ConfigError
from set_cli.runs.summary import read_rows
from set_cli.training.architectures import make_trainer
from set_cli.training.augmentation import Augmented, last_augmented
from set_cli.training.doubts import doubts_at_end
from set_cli.training.group import ALONE
from set_cli.training.network import build_network
from set_cli.training.optimizer import build_optimizer
from set_cli.training.pairs import check_pair, with_checksum
from tests.builders import MODELS, TINY, digits, interrupted, load_own, science, train
from tests.conftest import Compose, compose_mapping

CPU = torch.device("cpu")
ALL = (
    "data.augment.crop=2",
    "data.augment.cutout=3",
    "data.augment.mixup=0.4",
    "train.label_smoothing=0.1",
    "train.class_weights=balanced",
)


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", "model=mlp", *words))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_run_resumes_within_an_epoch_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS[model], *ALL, "data.augment.until=0.7")
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120), (3, 80)))) == science(whole.path)


def test_the_defaults_are_no_part_of_a_runs_identity() -> None:
    mapping = copy.deepcopy(dict(compose_mapping("dataset=digits", "model=mlp")))
    for key in ("crop", "cutout", "mixup", "until"):
        del mapping["data"]["augment"][key]
    for key in ("label_smoothing", "class_weights"):
        del mapping["train"][key]
    assert identity(from_mapping(mapping)) == identity(composed()) == "ec7c86e0"  # as the README names it
    ending = "data.augment.mixup=0.4 data.augment.until=0.5"
    found = {identity(composed(*words.split())) for words in (*ALL, ending, "train.class_weights=[1]", "seed=0")}
    assert len(found) == len(ALL) + 3
    assert identity(composed("train.class_weights=[2]")) == identity(composed("train.class_weights=[2.0]"))


def test_augmentation_ends_where_it_is_asked_to() -> None:
    found = [last_augmented(until, 100) for until in (1.0, 0.29, 0.57, 0.575, 0.001)]
    assert found == [100, 29, 57, 57, 1]
    config = composed("train.epochs=3", "data.augment.until=0.7", "data.augment.mixup=1", "data.augment.crop=3")
    data = digits(config)
    inputs, rows = Inputs(data.train, data, CPU), torch.arange(100)
    plain = inputs.batch(rows)[0].clone()
    for epoch, is_plain in ((1, False), (2, False), (3, True)):
        x, _, mixed = Augmented(config, inputs, epoch, torch.arange(len(inputs))).batch(rows, is_whole=True)
        assert torch.equal(x, plain) is is_plain
        assert (mixed is None) is is_plain


def test_parts_of_a_batch_are_mixed_as_the_whole_is() -> None:
    """As several processes share it."""
    config = composed(*ALL, "train.batch_size=100")
    data = digits(config)
    inputs, order = Inputs(data.train, data, CPU), torch.randperm(len(data.train))
    augmented = Augmented(config, inputs, 2, order)
    x, y, mixed = augmented.batch(order[100:200], is_whole=True)
    assert mixed is not None
    assert not torch.equal(mixed.others, y)
    for part in (slice(0, 37), slice(37, 100)):
        found, labels, others = augmented.batch(order[100:200][part], is_whole=False)
        assert isinstance(others, MixedLabels)
        torch.testing.assert_close(found, x[part], rtol=0, atol=1e-6)
        assert torch.equal(labels, y[part])
        assert torch.equal(others.others, mixed.others[part])
        assert torch.equal(others.shares, mixed.shares[part])


def untrained_losses(*words: str) -> tuple[float, dict[str, float], nn.Module, Config]:
    """Training loss and measurements of a network that a rate of nearly 0 leaves as it is."""
    config = composed("train.lr=1e-30", "model.dropout=0", "model.hidden=[30]", *words)
    data = digits(config)
    model = build_network(config, data, CPU).model
    with torch.no_grad():
        model.get_parameter("output.weight").mul_(20)  # so that it tells classes apart
    trainer, inputs = make_trainer(config, data, model, [], ALONE), Inputs(data.train, data, CPU)
    loss = trainer.train(inputs, build_optimizer(model, config.train), 1, lambda *_: None, {})
    return loss, trainer.measure({"train": inputs}, 1, lambda: None)["train"], model, config


def test_the_training_loss_is_what_is_minimised_and_others_are_plain() -> None:
    loss, plain, model, config = untrained_losses("train.label_smoothing=0.2")
    data = digits(config)
    x, y = torch.from_numpy(np.array(data.scaling(data.train.x))), torch.from_numpy(data.train.labels)
    with torch.no_grad():
        logits = model.eval()(x)
    assert loss == pytest.approx(float(nn.CrossEntropyLoss(label_smoothing=0.2)(logits, y)), rel=1e-4)
    assert plain["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-4)
    mixed, as_before, *_ = untrained_losses("data.augment.mixup=1", "train.label_smoothing=0.2")
    assert mixed != pytest.approx(loss, rel=1e-2)
    assert as_before == plain
    # Of one class alone, the loss of its rows.
    of_three, *_ = untrained_losses("train.class_weights=[0,0,0,1,0,0,0,0,0,0]")
    assert of_three == pytest.approx(float(nn.functional.cross_entropy(logits[y == 3], y[y == 3])), rel=1e-3)


@pytest.mark.parametrize("scaling", ["standardize", "unit"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_what_is_cut_out_becomes_the_mean(dtype: type, scaling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x: NDArray[Any] = np.random.default_rng(0).integers(0, 256, (40, 64)).astype(dtype)
    augment = {"rotation": 0.0, "shift": 0.0, "flip": False, "cutout": 4}
    monkeypatch.setattr("set_cli.data.prepare.check_images", lambda *_: None)  # a table's rows have no shape
    data = load_own(monkeypatch, x, np.arange(40) % 2, holdout=10, scaling=scaling, augment=augment)
    inputs = Inputs(data.train, data, CPU)
    scaled = data.scaling(data.train.x).mean(axis=0)
    torch.testing.assert_close(inputs.blank, torch.from_numpy(scaled), rtol=0, atol=1e-5)


def test_rows_of_a_table_are_mixed_but_not_cropped(compose: Compose, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'x' if a > b else 'y'}" for a, b in rng.random((200, 2))]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,label", *rows]))
    words = ("dataset=custom", f"dataset.path={tmp_path}/table.csv", "data.holdout=50", "model.hidden=[20]")
    mixed = (*words, "train.epochs=2", "data.augment.mixup=0.2", "train.class_weights=[1,3]", "progress=none")
    losses = [row["train_loss"] for row in read_rows(train(with_checksum(compose(*mixed))).path / "metrics.jsonl")]
    assert len(losses) == 2
    for key in ("crop=2", "cutout=1", "flip=true"):
        with pytest.raises(ConfigError, match=r"^data\.augment needs images; custom has none"):
            train(with_checksum(compose(*words, f"data.augment.{key}")))
    with pytest.raises(ConfigError, match=r"expected 2 numbers, one for each class of table\.csv, found 3"):
        train(with_checksum(compose(*words, "train.class_weights=[1,2,3]")))


REFUSED = {
    "train.label_smoothing: expected less than 1, found 1": ("train.label_smoothing=1",),
    "data.augment.crop: expected greater than or equal to 0, found -1": ("data.augment.crop=-1",),
    "data.augment.cutout: expected a valid integer, found 2.5": ("data.augment.cutout=2.5",),
    "data.augment.mixup: expected less than or equal to 1000": ("data.augment.mixup=1e4",),
    "data.augment.until: expected greater than 0": ("data.augment.until=0", "data.augment.flip=true"),
    "data.augment.until=0.5 ends the augmentation, which is off": ("data.augment.until=0.5",),
    "train.label_smoothing is for model=mlp and model=cnn; model=rbm": ("model=rbm", "train.label_smoothing=0.1"),
    "train.class_weights is for model=mlp and model=cnn; model=rbm": ("model=rbm", "train.class_weights=balanced"),
    "data.augment changes the rows of model=mlp and cnn; model=rbm": ("model=rbm", "data.augment.mixup=0.2"),
    "data.augment changes the rows of model=mlp and cnn; model=rbm is": ("model=rbm", "data.augment.crop=1"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_has_no_meaning_is_refused(sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_pair(composed(*REFUSED[sentence]))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("word", "shape", "sentence"),
    [
        (
            "crop=7",
            (3, 7, 12),
            "data.augment.crop: expected fewer than 7 pixels, the shorter side of the images of my, ",
        ),
        ("cutout=8", (12, 7), "data.augment.cutout: expected at most 7 pixels, the shorter side of the images of my, "),
        (
            "flip=true",
            (9, 1),
            "data.augment.rotation, shift and flip need images of at least 2 pixels a side; those of",
        ),
        (
            "shift=0.1",
            (1, 9),
            "data.augment.rotation, shift and flip need images of at least 2 pixels a side; those of",
        ),
        ("crop=1", None, "data.augment needs images; my has none"),
    ],
)
def test_more_than_an_image_has_is_refused(word: str, shape: tuple[int, ...] | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        check_images(composed(f"data.augment.{word}").data.augment, "my", shape)
    check_images(composed("data.augment.crop=6", "data.augment.cutout=7").data.augment, "my", (3, 7, 12))
    check_images(composed("data.augment.mixup=1").data.augment, "my", None)


def test_a_refusal_comes_before_anything_is_made(compose: Compose) -> None:
    config = compose("data.augment.crop=8")
    with pytest.raises(ConfigError, match=r"of digits, which a reflected border cannot exceed, found 8$"):
        train(config)
    assert not Path(config.runs_dir).exists()


def test_weights_of_classes_may_be_why_accuracy_is_low(compose: Compose) -> None:
    config = compose(*TINY, *MODELS["mlp"], "train.class_weights=[1,0,0,0,0,0,0,0,0,0]")
    data = digits(config)
    (doubt,) = doubts_at_end(config, data, {"epoch": 3, "test_accuracy": 5.0})
    assert doubt.endswith(": train.class_weights trains on other proportions of the classes than the test rows have")
