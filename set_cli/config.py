"""What a configuration means: type, unit and bounds of every key. Values and defaults are in conf/*.yaml.

A `Config` exists only once everything in it was checked, so the rest of the code never asks again.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from set_cli.errors import ConfigError

MOST_SHOWN = 60  # characters of what was found
LARGEST_WIDTH = 2**31 - 1  # neurons are counted in int32

Width = Annotated[int, Field(ge=1, le=LARGEST_WIDTH)]
# -0.0 is 0: equal numbers are one run
Plain = AfterValidator(lambda value: value + 0.0)
Fraction = Annotated[float, Field(ge=0, lt=1), Plain]
Rows = Annotated[int, Field(ge=0, le=10**9)]
SomeRows = Annotated[int, Field(ge=1, le=10**9)]


class Section(BaseModel):
    """Exact types, no unknown keys, no NaN or infinity, never changed afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


DatasetName = Literal[
    "adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web", "caltech16", "caltech28",
    "mnist_binary", "mnist", "cifar10", "higgs", "fashion_mnist", "digits", "custom",
]  # fmt: skip
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Name = Annotated[str, Field(min_length=1, max_length=1000)]


class Dataset(Section):
    """checksum: of a custom or imported file: other data is another run; filled in where the user gives none.

    label, group, drop  columns (or arrays) of a custom file: the class, rows that belong together, what is left out
    features            array of a custom npz or mat that holds the rows
    test_path           a second custom file, which holds the test rows
    """

    name: DatasetName
    path: Annotated[str, Field(min_length=1)] | None = None
    test_path: Annotated[str, Field(min_length=1)] | None = None
    features: Name | None = None
    label: Name | None = None
    group: Name | None = None
    drop: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100_000, strict=False)] | None = None
    binarize: Literal["sample", "threshold"] | None = None
    checksum: Sha256 | None = None
    test_checksum: Sha256 | None = None

    @model_validator(mode="after")
    def _keys_belong_to_their_sets(self) -> Self:
        for key in ("path", "test_path", "features", "label", "group", "drop", "test_checksum"):
            if getattr(self, key) is not None and self.name != "custom":
                raise ValueError(f"dataset.{key} is for dataset=custom, not for {self.name}")
        if (self.binarize is None) == (self.name == "mnist_binary"):
            raise ValueError("dataset.binarize is for dataset=mnist_binary, which needs it")
        return self


AisSchedule = Literal["quick", "paper"]


class Model(Section):
    """Keys of one architecture are None for the others."""

    name: Literal["mlp", "cnn", "rbm"]
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=1000, strict=False)]  # neurons per layer
    init: Literal["glorot", "sparse_fan_in", "normal"]
    activation: Literal["srelu", "relu"] | None = None
    dropout: Fraction | None = None  # of every hidden layer's outputs
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8, strict=False)] | None = None  # per block
    sparse_convolutions: bool | None = None
    cd_steps: Annotated[int, Field(ge=1, le=10**5)] | None = None
    persistent: bool | None = None
    ais: AisSchedule | None = None
    ais_last: AisSchedule | None = None  # of the last and the best epoch
    ais_every: Annotated[int, Field(ge=1, le=10**6)] | None = None  # epochs

    @model_validator(mode="after")
    def _keys_belong_to_their_architecture(self) -> Self:
        own = {"rbm": ("cd_steps", "persistent", "ais", "ais_last"), "cnn": ("channels", "sparse_convolutions")}
        owners: dict[str, tuple[str, ...]] = {key: (name,) for name, keys in own.items() for key in keys}
        owners |= dict.fromkeys(("activation", "dropout"), ("mlp", "cnn"))
        for key, names in owners.items():
            if (getattr(self, key) is None) == (self.name in names):
                needs = "needs" if len(names) == 1 else "need"
                raise ValueError(f"model.{key} is for model={' and model='.join(names)}, which {needs} it")
        if self.name != "rbm" and self.ais_every is not None:
            raise ValueError("model.ais_every is for model=rbm")
        if self.name != "rbm" and self.init == "normal":
            raise ValueError("model.init=normal is for model=rbm: expected glorot or sparse_fan_in")
        if self.name == "rbm" and len(self.hidden) != 1:
            raise ValueError(f"model.hidden: expected one hidden layer for model=rbm, found {list(self.hidden)}")
        return self

    def epochs_between_estimates(self, epochs: int) -> int:
        """Epochs between two estimates of log Z: what was asked, or about 50 estimates in the run."""
        return self.ais_every or max(1, round(epochs / 50))


class Method(Section):
    name: Literal["set", "fixprob", "dense"]
    regrow_init: Literal["zero", "random"]


class Backend(Section):
    name: Literal["auto", "cpu", "cuda"]
    engine: Literal["auto", "native", "torch", "triton", "masked"]
    threads: Annotated[int, Field(ge=1, le=4096)] | None
    precision: Literal["float32", "bfloat16"]  # of activations; weights and sums are float32
    deterministic: bool  # on a GPU: torch's operations repeat bit for bit; on the CPU they do anyway


class Train(Section):
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    batch_size: Annotated[int, Field(ge=1, le=10**7)]  # rows
    lr: Annotated[float, Field(gt=0, le=10**6)]
    momentum: Fraction
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, le=1), Plain]
    l1: Annotated[float, Field(ge=0, le=1), Plain]
    clip: Annotated[float, Field(gt=0, le=10**6)] | None = None  # largest norm of all gradients together; null: any

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("train.nesterov=true needs train.momentum above 0")
        return self


class Augment(Section):
    rotation: Annotated[float, Field(ge=0, le=180), Plain]  # degrees, either way
    shift: Fraction  # fraction of height and width, either way
    flip: bool

    @property
    def is_on(self) -> bool:
        return self.rotation > 0 or self.shift > 0 or self.flip


class Data(Section):
    dir: Annotated[str, Field(min_length=1)] | None
    fetch: Literal["auto", "never"]
    holdout: Rows
    valid: Rows
    train_limit: SomeRows | None
    test_limit: SomeRows | None
    split: Literal["stratified", "random", "last"] = (
        "last"  # which training rows are held out, or kept within train_limit
    )
    missing: Literal["refuse", "mean", "median", "zero"] = "refuse"  # what stands for a missing value of a custom file
    scaling: Literal["standardize", "unit"]
    clip: Annotated[float, Field(gt=0, le=10**6)] | None = None  # largest size of a standardised value, in deviations
    augment: Augment


class Snapshots(Section):
    every: Annotated[int, Field(ge=1, le=10**6)] | None  # epochs
    weights: bool

    def epochs_between(self, epochs: int) -> int:
        """Epochs between two snapshots: what was asked, or about 50 snapshots in the run."""
        return self.every or max(1, round(epochs / 50))


class Checkpoints(Section):
    minutes: Annotated[float, Field(ge=0, le=10**6), Plain] | None  # between two within an epoch; 0: after every step


class Config(Section):
    """One run, checked."""

    dataset: Dataset
    model: Model
    method: Method
    backend: Backend
    epsilon: Annotated[float, Field(gt=0, le=10**9)]
    zeta: Fraction
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    runs_dir: Annotated[str, Field(min_length=1)]
    resume: Literal["auto", "never", "must"]
    progress: Literal["auto", "rich", "plain", "none"]
    time_limit: Annotated[float, Field(gt=0, le=10**7)] | None  # minutes of one start
    retry_failed: bool  # by a sweep
    train: Train
    data: Data
    snapshots: Snapshots
    checkpoints: Checkpoints


UNSCIENTIFIC = {"runs_dir", "resume", "progress", "time_limit", "retry_failed", "snapshots", "checkpoints"}


def from_mapping(mapping: Mapping[str, Any]) -> Config:
    """The checked configuration, or ConfigError with one sentence that names the key."""
    _refuse_interpolation(mapping)
    try:
        return Config.model_validate(dict(mapping))
    except ValidationError as error:
        raise ConfigError(sentence(error)) from None


def scientific(config: Config) -> dict[str, Any]:
    """The keys that decide a run's numbers: no paths, threads or progress, nothing without meaning for the method.

    Two commands with the same dictionary are one run; its hash names the folder (`identity`).
    """
    keys = config.model_dump(mode="json", exclude=UNSCIENTIFIC | {"backend"})
    del keys["data"]["dir"], keys["data"]["fetch"], keys["dataset"]["path"], keys["dataset"]["test_path"]
    sections: dict[str, Section] = {"data": config.data, "train": config.train}
    for name, values in sections.items():
        keys[name] = {key: value for key, value in keys[name].items() if not _is_default(values, key)}
    for section in ("dataset", "model"):
        keys[section] = {key: value for key, value in keys[section].items() if value is not None}
    if config.method.name != "set":
        del keys["zeta"], keys["method"]["regrow_init"]
    if config.method.name == "dense":
        del keys["epsilon"]
        if config.model.sparse_convolutions:
            keys["model"]["sparse_convolutions"] = False  # without meaning here: one baseline, trained once
    asked = {"engine": (config.backend.engine, "auto"), "precision": (config.backend.precision, "float32")}
    if config.method.name == "dense":
        del asked["engine"]
    backend = {key: value for key, (value, default) in asked.items() if value != default}
    return keys | ({"backend": backend} if backend else {})


def _is_default(section: Section, key: str) -> bool:
    """Whether a key has the default of its class, which changes nothing.

    Keys that were added later have one, and are no part of a run's identity at it: older runs keep their folders.
    """
    return bool(type(section).model_fields[key].default == getattr(section, key))


def canonical_json(value: object) -> str:
    """Strict JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def identity(config: Config) -> str:
    """Eight hexadecimal digits of the SHA-256 of the scientific configuration."""
    return hashlib.sha256(canonical_json(scientific(config)).encode()).hexdigest()[:8]


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'lr': 0.1}} as {'train.lr': 0.1}: the names that one types."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean x?' where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every configuration key as one types it (train.lr), in the order of the classes above."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _refuse_interpolation(mapping: Mapping[str, Any]) -> None:
    for key, value in flatten(mapping).items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{key}: expected a plain value, found the interpolation {item!r}")


def sentence(error: ValidationError) -> str:
    """The first fault: what was expected of which key, and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message, found = first["msg"], first["input"]
    match first["type"]:
        case "extra_forbidden":
            return f"{key} is not a configuration key{did_you_mean(key, known_keys())} (set-train --cfg job lists them)"
        case "missing":
            return f"{key} has no value; give one with {key}=…"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "literal_error":
            names, found = first["ctx"]["expected"], str(found)[:MOST_SHOWN]
            near = did_you_mean(found, names.replace("'", "").replace(" or ", ", ").split(", "))
            return f"{key}={' '.join(found.split())} is not known: expected {names}{near}"
        case _:
            return f"{key}: {message.replace('Input should be', 'expected')}, found {reprlib.repr(found)}"
