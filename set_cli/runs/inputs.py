"""inputs.npz: how rows as they are in the data file become the network's inputs, and what classes and features are
called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError
from set_cli.system.files import parse_json, read_arrays, write_arrays

INPUTS = "inputs.npz"
ABOUT = "about"  # array: the bytes of a JSON object
LARGEST = 2**33  # bytes that the arrays of a file that anybody may have written can take

Kind = Literal["binary", "bounded", "real"]
Dtype = Literal["uint8", "float32", "float64"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """What a trained network must be told to make use of a row: a network input is clip((x - offset) * scale).

    offset, scale  (features,) float64
    fill           (features,) float64: what stands for a missing value; None where none was expected
    clip           largest size of an input; None: any
    kind, maximum  of the values: 'binary' 0 and 1, 'bounded' 0 to maximum, 'real'
    dtype          of the rows that the run was trained on
    shape          of one image; None where rows are no images
    classes        what the classes are called, in the order of the outputs; empty: 0, 1, …
    features       what the features are called; empty: nobody knows
    rows           training rows
    mean           (features,) float32 mean of the training rows as the network gets them, of an RBM: estimates of
                   log Z start from it; None for other models
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    fill: NDArray[np.float64] | None
    clip: float | None
    kind: Kind
    maximum: int
    dtype: Dtype
    shape: tuple[int, ...] | None
    classes: tuple[str, ...]
    features: tuple[str, ...]
    rows: int
    mean: NDArray[np.float32] | None

    def agrees_with(self, other: RunInputs) -> bool:
        """Whether rows mean the same; other processors may have another last bit in a mean."""
        own, others = self._arrays(), other._arrays()
        return (
            self._about() == other._about()
            and own.keys() == others.keys()
            and all(
                own[name].shape == others[name].shape and np.allclose(own[name], others[name], rtol=1e-5, atol=1e-12)
                for name in own
            )
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"offset": self.offset, "scale": self.scale, "fill": self.fill, "training_mean": self.mean}
        return {name: array for name, array in arrays.items() if array is not None}

    def _about(self) -> dict[str, Any]:
        return {
            "clip": self.clip,
            "kind": self.kind,
            "maximum": self.maximum,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "classes": list(self.classes),
            "features": list(self.features),
            "training_rows": self.rows,
        }


def write_inputs(folder: Path, inputs: RunInputs) -> None:
    """Write inputs.npz; StorageError where the disk does not take it."""
    about = np.frombuffer(json.dumps(inputs._about()).encode(), np.uint8)
    write_arrays(folder / INPUTS, {**inputs._arrays(), ABOUT: about}, compress=True)


def read_inputs(folder: Path) -> RunInputs:
    """DataError where the file is missing, damaged or says what cannot be."""
    path = folder / INPUTS
    arrays = read_arrays(path, LARGEST)
    try:
        about = parse_json(arrays[ABOUT].tobytes())
        return _checked(arrays, about)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected offset, scale and names of a run, found something else ({error})") from None


def _checked(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> RunInputs:
    offset = _vector(arrays["offset"], None)
    features = len(offset)
    columns = {name: _vector(arrays[name], features) for name in ("scale", "fill", "training_mean") if name in arrays}
    mean, names, classes = columns.get("training_mean"), about["features"], about["classes"]
    shape, clip, maximum, rows = about["shape"], about["clip"], about["maximum"], about["training_rows"]
    if about["kind"] not in KINDS or about["dtype"] not in DTYPES:
        raise ValueError("an unknown kind of values")
    if not all(isinstance(name, str) for name in [*names, *classes]) or len(names) not in (0, features):
        raise ValueError("names that are none")
    if shape is not None and (len(shape) not in (2, 3) or not all(type(n) is int and n > 0 for n in shape)):
        raise ValueError("no shape of an image")
    if shape is not None and int(np.prod(shape, dtype=object)) != features:
        raise ValueError("the shape of images of another size")
    if type(maximum) is not int or type(rows) is not int or maximum < 1 or rows < 0:
        raise ValueError("counts that are none")
    if clip is not None and not (isinstance(clip, int | float) and clip > 0):
        raise ValueError("no limit")
    return RunInputs(
        offset,
        columns["scale"],
        columns.get("fill"),
        None if clip is None else float(clip),
        about["kind"],
        maximum,
        about["dtype"],
        None if shape is None else tuple(shape),
        tuple(classes),
        tuple(names),
        rows,
        None if mean is None else mean.astype(np.float32),
    )


def _vector(values: NDArray[Any], length: int | None) -> NDArray[np.float64]:
    """One finite number per feature."""
    if values.dtype.kind != "f" or values.ndim != 1 or (length is not None and len(values) != length):
        raise ValueError("an array of another shape")
    if not np.isfinite(values).all():
        raise ValueError("numbers that are not finite")
    return values.astype(np.float64)
