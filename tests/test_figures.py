"""Pictures of receptive fields and of input degrees: the right numbers, in files that open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import set_cli
from set_cli.errors import ConfigError, DataError, StorageError
from set_cli.experiment import run
from set_cli.models.rbm import RBM
from set_cli.report import figures
from set_cli.report.figures import draw_filters, draw_input_degrees
from set_cli.sparse import SparseLinear
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from tests.conftest import Compose

SMALL = ("dataset=digits", "model=rbm", "epsilon=3", "train.epochs=2", "model.hidden=[12]", "snapshots.every=1")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    kept: list[Figure] = []
    save = figures.save_figure

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "save_figure", keep)
    return kept


def pictures(figure: Figure) -> list[NDArray[np.float64]]:
    images = [image for axes in figure.axes for image in axes.get_images()]
    return [np.ma.filled(np.ma.asarray(image.get_array(), np.float64), np.nan) for image in images]


def test_a_sparse_rbms_filters_are_its_weights() -> None:
    layer = SparseLinear(30, 12, epsilon=2, seed=0)
    rbm = RBM(layer, np.zeros(30, np.float32))
    filters = rbm.filters()
    assert filters.shape == (12, 30)
    v = torch.rand(4, 30)
    assert layer.bias is not None
    np.testing.assert_allclose(rbm.hidden_input(v).detach(), v @ torch.from_numpy(filters).T, atol=1e-5)
    assert np.count_nonzero(filters) == layer.nnz


def test_a_dense_rbms_filters_are_a_copy_of_its_weights() -> None:
    rbm = RBM(nn.Linear(30, 12), np.zeros(30, np.float32))
    filters = rbm.filters()
    filters += 1
    assert rbm.layer1.weight.max() < 1


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_filters_are_drawn_largest_first_without_what_is_not_connected(
    suffix: str, tmp_path: Path, drawn: list[Figure]
) -> None:
    filters = np.zeros((5, 6), np.float32)
    filters[3, 2], filters[1, 4] = -2, 1
    path = tmp_path / f"filters.{suffix}"
    draw_filters(filters, (2, 3), path, count=2)
    first, second = pictures(drawn[0])
    assert (first[0, 2], second[1, 1]) == (-2, 1)
    assert np.isnan(first).sum() == np.isnan(second).sum() == 5
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_trained_runs_degrees_are_drawn_on_one_scale(tmp_path: Path, drawn: list[Figure], compose: Compose) -> None:
    with StopSignals() as stop:
        path = run(compose(*SMALL), {}, ["set-train"], NoView(), stop).path
    trained = set_cli.load(path)
    degrees = trained.input_degrees()
    assert list(degrees) == [0, 1, 2]
    assert all(int(values.sum()) == trained.topology(epoch)["layer1"].nnz for epoch, values in degrees.items())
    draw_input_degrees(degrees, (8, 8), tmp_path / "degrees.png")
    shown = pictures(drawn[0])[:3]
    for picture, values in zip(shown, degrees.values(), strict=True):
        assert np.array_equal(picture.ravel(), values)
    limits = {image.get_clim() for axes in drawn[0].axes[:3] for image in axes.get_images()}
    assert limits == {(0, max(values.max() for values in degrees.values()))}
    assert [axes.get_title() for axes in drawn[0].axes[:3]] == ["start", "epoch 1", "epoch 2"]
    with Image.open(tmp_path / "degrees.png") as image:
        assert min(image.size) > 300


def test_a_dense_layer_has_no_degrees_to_draw(compose: Compose) -> None:
    with StopSignals() as stop:
        path = run(compose(*SMALL, "method=dense"), {}, ["set-train"], NoView(), stop).path
    with pytest.raises(DataError, match="the first layer is not sparse"):
        set_cli.load(path).input_degrees()


def test_what_cannot_be_drawn_is_refused_in_a_sentence(tmp_path: Path) -> None:
    filters = np.ones((2, 6), np.float32)
    with pytest.raises(ConfigError, match=r"expected the height and width of 6 visible units, found \(2, 2\)"):
        draw_filters(filters, (2, 2), tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"a\.gif: expected a file name that ends in png, svg, pdf"):
        draw_filters(filters, (2, 3), tmp_path / "a.gif")
    for shape in ((-2, -3), (6,), (1, 2, 3)):
        with pytest.raises(ConfigError, match="expected the height and width"):
            draw_filters(filters, shape, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="expected at least 1 hidden unit to draw, found 0"):
        draw_filters(filters, (2, 3), tmp_path / "a.png", count=0)
    with pytest.raises(ConfigError, match="at least one epoch"):
        draw_input_degrees({}, (2, 3), tmp_path / "a.png")
    with pytest.raises(StorageError):
        draw_filters(filters, (2, 3), tmp_path / "none" / "a.png")
