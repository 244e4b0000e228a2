"""Tables of the user's own, as the readers of dataset=custom give them: what happens to them afterwards is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data import prepare
from set_cli.data.card import Card, Split
from set_cli.data.parts import Part, no_rows
from set_cli.data.prepare import DataSet, load_data
from tests.test_data import data_config

Array = NDArray[Any]


def own_card(parts: dict[Split, Part], classes: Sequence[str] = (), features: Sequence[str] = ()) -> Card:
    """What a reader says of these parts."""
    tables = [part.x for part in parts.values() if len(part)]
    lowest, largest = (float(f([f(x) for x in tables])) for f in (np.nanmin, np.nanmax))
    is_unit = lowest >= 0 and largest <= 1
    bytes_ = all(x.dtype == np.uint8 for x in tables)
    labels = [part.y for part in parts.values() if part.y is not None]
    n_classes = 0 if not labels else 1 + int(max(y.max() for y in labels if len(y)))
    return Card(
        name="custom",
        title="my.csv",
        domain="",
        kind=("binary" if is_unit else "bounded") if bytes_ else ("bounded" if is_unit else "real"),
        features=parts["train"].x.shape[1],
        classes=n_classes,
        maximum=255 if bytes_ and not is_unit else 1,
        train=len(parts["train"]),
        valid=len(parts["valid"]),
        test=len(parts["test"]),
        homepage="",
        licence="",
        citation="",
        class_names=tuple(classes),
        feature_names=tuple(features),
        notes=("read as it is",),
    )


def load_own(
    monkeypatch: pytest.MonkeyPatch,
    x: Array,
    y: Array | None,
    *,
    groups: Array | None = None,
    test: tuple[Array, Array] | None = None,
    classes: Sequence[str] = (),
    features: Sequence[str] = (),
    labels: bool = True,
    label: str | None = None,
    split: str = "stratified",
    **keys: Any,
) -> DataSet:
    """What a run sees of such a table; keys: of `data`."""
    none = no_rows(x.shape[1], y is not None)
    parts: dict[Split, Part] = {"train": Part(x, y, groups), "valid": none, "test": Part(*test) if test else none}
    card = own_card(parts, classes, features)
    monkeypatch.setattr(prepare, "_read", lambda *_: (card, parts, {}, "custom"))
    return load_data(
        Dataset(name="custom", path="my.csv", label=label), data_config(split=split, **keys), labels=labels
    )


def said(data: DataSet) -> str:
    """The doubts, as one text."""
    return "\n".join(data.doubts)
