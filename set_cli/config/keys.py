"""What a configuration means: type, unit and bounds of every key. Values and defaults are in conf/*.yaml.

A `Config` exists only once everything in it was checked, so the rest of the code never asks again.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from set_cli.config.method import Method
from set_cli.config.section import Fraction, Plain, Section, about

LARGEST_WIDTH = 2**31 - 1  # neurons are counted in int32
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e6  # of a class that has one


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, int | str) and not isinstance(value, bool) else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_numbers(value: object) -> object:
    return (value,) if isinstance(value, float) else _as_list(value)


def _as_class_weights(value: object) -> object:
    """Floats where numbers were given; ValueError, with one sentence instead of one for each type, where not."""
    if value is None or value == "balanced":
        return value
    numbers = _as_numbers(value)
    if not isinstance(numbers, list | tuple) or not all(
        isinstance(number, int | float)
        and not isinstance(number, bool)
        and (number == 0 or SMALLEST_WEIGHT <= number <= LARGEST_WEIGHT)
        for number in numbers
    ):
        raise ValueError(
            "train.class_weights: expected balanced, or for each class a number from 0.000001 to 1,000,000, or 0, such "
            f"as [1,2.5], found {reprlib.repr(value)}"
        )
    if not any(numbers):
        raise ValueError(f"train.class_weights: expected a number above 0 among them, found {reprlib.repr(value)}")
    return tuple(number + 0.0 for number in numbers)


Width = Annotated[int, Field(ge=1, le=LARGEST_WIDTH)]
Rows = Annotated[int, Field(ge=0, le=10**9)]
SomeRows = Annotated[int, Field(ge=1, le=10**9)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Pixels = Annotated[int, Field(ge=0, le=10**6)]
# Of a run's epochs: 1 is its end.
Moment = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Listed = BeforeValidator(_as_list)  # one value where a list is expected is a list of one
ClassWeights = tuple[Annotated[float, Field(ge=0, le=10**6)], ...]


DatasetName = Literal[
    "adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web", "caltech16", "caltech28",
    "mnist_binary", "mnist", "cifar10", "higgs", "fashion_mnist", "digits", "custom",
]  # fmt: skip
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Dataset(Section):
    """The data set; what is known of the catalogue's is in set_cli/data/catalog.py."""

    name: Annotated[DatasetName, about("the data set; typed as dataset=NAME, which also chooses the pair's settings")]
    path: Annotated[
        Text | None,
        about("your file: a table (.csv, .parquet, .arff), arrays (.npz, .mat) or .svmlight; datasets/custom.md"),
    ] = None
    test_path: Annotated[Text | None, about("a second file of yours, which holds the test rows")] = None
    features: Annotated[
        Name | None, about("array of an npz or mat file that holds the rows; null: one of the usual names")
    ] = None
    label: Annotated[
        Name | None, about("column or array of your file that holds the class; null: the one called label")
    ] = None
    group: Annotated[
        Name | None, about("column or array of your file; a split never separates rows that have the same value in it")
    ] = None
    drop: Annotated[
        Annotated[tuple[Name, ...], Field(min_length=1, max_length=100_000, strict=False), Listed] | None,
        about("columns of your file that are left out"),
    ] = None
    binarize: Annotated[
        Literal["sample", "threshold"] | None,
        about(
            "how pixels become 0 and 1; sample: drawn once, with the intensity as probability; threshold: 1 from 128"
        ),
    ] = None
    checksum: Annotated[Sha256 | None, about("SHA-256 that your file must have; null: whatever it has, recorded")] = (
        None
    )
    test_checksum: Annotated[Sha256 | None, about("the same for dataset.test_path")] = None

    @model_validator(mode="after")
    def _keys_belong_to_their_sets(self) -> Self:
        for key in ("path", "test_path", "features", "label", "group", "drop", "test_checksum"):
            if getattr(self, key) is not None and self.name != "custom":
                raise ValueError(f"dataset.{key} is for dataset=custom, not for {self.name}")
        if (self.binarize is None) == (self.name == "mnist_binary"):
            raise ValueError("dataset.binarize is for dataset=mnist_binary, which needs it")
        return self


AisSchedule = Literal["quick", "paper"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of an architecture without torch; what is done with it is in training/architectures.py.

    keys                 of `model` that it needs and others, unless they name them too, do not have
    needs_labels         whether it learns from labels
    needs_images         whether its inputs are images
    needs_probabilities  whether its inputs have to lie between 0 and 1
    sees_features        whether the inputs of its first layer are the data's features
    """

    keys: tuple[str, ...]
    needs_labels: bool = True
    needs_images: bool = False
    needs_probabilities: bool = False
    sees_features: bool = True


ModelName = Literal["mlp", "cnn", "rbm"]
MODELS: dict[ModelName, ModelFacts] = {
    "mlp": ModelFacts(keys=("activation", "dropout")),
    "cnn": ModelFacts(
        keys=("activation", "dropout", "channels", "sparse_convolutions"), needs_images=True, sees_features=False
    ),
    "rbm": ModelFacts(keys=("cd_steps", "persistent", "ais", "ais_last"), needs_labels=False, needs_probabilities=True),
}
LIKE_MOST = ModelFacts(keys=())


def model_facts(name: str) -> ModelFacts:
    """The facts of an architecture of this name, as a run folder has it."""
    return MODELS.get(name, LIKE_MOST)  # type: ignore[call-overload, no-any-return]


class Model(Section):
    """The architecture. Keys of one architecture are None for the others."""

    name: Annotated[ModelName, about("the architecture; typed as model=NAME, which also chooses its settings")]
    hidden: Annotated[
        tuple[Width, ...],
        Field(min_length=1, max_length=1000, strict=False),
        Listed,
        about("neurons of each hidden layer: [300,300]; model=rbm has one layer", "neurons"),
    ]
    init: Annotated[
        Literal["glorot", "sparse_fan_in", "normal"],
        about(
            "initial weights; glorot: limits from the dense layer's fans, as the authors; sparse_fan_in: from the "
            "connections a neuron has; normal: standard deviation 0.05 (model=rbm)"
        ),
    ]
    activation: Annotated[
        Literal["srelu", "relu", "leaky_relu", "all_relu", "gelu"] | None,
        about("activation of the hidden layers (mlp, cnn); all_relu: leaky, its slope negative in every second layer"),
    ] = None
    slope: Annotated[
        Annotated[float, Field(ge=-10, le=10), Plain] | None,
        about("slope of activation=leaky_relu and all_relu below 0; null: 0.01, of all_relu 0.6"),
    ] = None
    norm: Annotated[
        Literal["batch", "layer"] | None,
        about("normalisation before the activations (mlp, cnn), over the rows of a batch or the neurons; null: none"),
    ] = None
    dropout: Annotated[Fraction | None, about("fraction of every hidden layer's outputs set to 0 (mlp, cnn)")] = None
    channels: Annotated[
        Annotated[tuple[Width, ...], Field(min_length=1, max_length=8, strict=False), Listed] | None,
        about("channels of the two convolutions of each block (cnn)", "channels"),
    ] = None
    sparse_convolutions: Annotated[bool | None, about("whether convolutions prune and regrow too (cnn)")] = None
    cd_steps: Annotated[
        Annotated[int, Field(ge=1, le=10**5)] | None, about("steps of contrastive divergence (rbm)", "steps")
    ] = None
    persistent: Annotated[
        bool | None, about("true: persistent contrastive divergence, in train.batch_size chains (rbm)")
    ] = None
    ais: Annotated[
        AisSchedule | None, about("schedule of the estimate of log Z; quick: 1,000 steps; paper: 14,500 (rbm)")
    ] = None
    ais_last: Annotated[
        AisSchedule | None, about("the same, for the last epoch and for one that seems the best so far (rbm)")
    ] = None
    ais_every: Annotated[
        Epochs | None, about("epochs between two estimates (rbm); null: about 50 estimates in a run", "epochs")
    ] = None

    @model_validator(mode="after")
    def _keys_belong_to_their_architecture(self) -> Self:
        owners: dict[str, list[str]] = {}
        for name, facts in MODELS.items():
            for key in facts.keys:
                owners.setdefault(key, []).append(name)
        for key, names in owners.items():
            if (getattr(self, key) is None) == (self.name in names):
                needs = "needs" if len(names) == 1 else "need"
                raise ValueError(f"model.{key} is for model={' and model='.join(names)}, which {needs} it")
        if self.name != "rbm" and self.ais_every is not None:
            raise ValueError("model.ais_every is for model=rbm")
        if self.norm is not None and self.name == "rbm":
            raise ValueError("model.norm is for model=mlp and model=cnn")
        if self.slope is not None and self.activation not in ("leaky_relu", "all_relu"):
            raise ValueError("model.slope is for model.activation=leaky_relu and all_relu")
        if self.name != "rbm" and self.init == "normal":
            raise ValueError("model.init=normal is for model=rbm: expected glorot or sparse_fan_in")
        if self.name == "rbm" and len(self.hidden) != 1:
            raise ValueError(f"model.hidden: expected one hidden layer for model=rbm, found {list(self.hidden)}")
        return self

    @property
    def facts(self) -> ModelFacts:
        return MODELS[self.name]


class Backend(Section):
    """Device, engine, precision and threads that compute."""

    name: Annotated[
        Literal["auto", "cpu", "cuda"], about("the device; auto: a GPU where torch finds one, else the CPU")
    ]
    engine: Annotated[
        Literal["auto", "native", "torch", "triton", "masked"],
        about("what computes sparse products; auto: the fastest that works on the device"),
    ]
    threads: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        about("threads on the CPU; null: as many of the cores as make it faster, by measurement", "threads"),
    ]
    precision: Annotated[
        Literal["float32", "bfloat16"], about("of activations on a GPU; weights and sums are float32 (mlp, cnn)")
    ]
    deterministic: Annotated[
        bool, about("whether results on a GPU repeat bit for bit, slower; those on the CPU do anyway")
    ]
    cuda_graphs: Annotated[
        bool,
        about("whether a training step on a GPU is recorded once and started as a whole; the numbers are the same"),
    ] = True


# Where neither the command nor a file says them: torch's, save the rate of sgd, which is the paper's.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01, "momentum": 0.9, "nesterov": False},
    "adam": {"lr": 0.001},
    "adamw": {"lr": 0.001},
}
ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "adam_eps": 1e-8}


class Train(Section):
    """The optimiser, its learning rate and how long it trains."""

    epochs: Annotated[Epochs, about("passes over the training rows", "epochs")]
    batch_size: Annotated[Annotated[int, Field(ge=1, le=10**7)], about("rows of one step", "rows")]
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw"],
        about(
            "sgd: stochastic gradient descent with momentum (the paper's); adam: Adam, weight decay in the gradient; "
            "adamw: Adam with decoupled weight decay"
        ),
    ] = "sgd"
    lr: Annotated[
        Annotated[float, Field(gt=0, le=10**6)],
        about("learning rate; null: 0.01, for train.optimizer=adam and adamw 0.001", filled=True),
    ]
    momentum: Annotated[Fraction | None, about("momentum of train.optimizer=sgd; null: 0.9")] = None
    nesterov: Annotated[
        bool | None, about("whether the momentum of train.optimizer=sgd is Nesterov's; null: false")
    ] = None
    betas: Annotated[
        Annotated[tuple[Fraction, ...], Field(strict=False), BeforeValidator(_as_numbers)] | None,
        about("decay rates of the two moments of train.optimizer=adam and adamw; null: [0.9,0.999]"),
    ] = None
    adam_eps: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        about("what train.optimizer=adam and adamw add to the root of the second moment; null: 1e-8"),
    ] = None
    bias_correction: Annotated[
        Literal["step", "age"],
        about(
            "how train.optimizer=adam and adamw correct the moments; step: by the steps of the run; age: by the steps "
            "since a connection grew (docs/adam.md)"
        ),
    ] = "step"
    weight_decay: Annotated[
        Annotated[float, Field(ge=0, le=1), Plain], about("factor of the squared weights' penalty (connections only)")
    ]
    l1: Annotated[
        Annotated[float, Field(ge=0, le=1), Plain], about("factor of the absolute weights' penalty (connections only)")
    ]
    clip: Annotated[
        Annotated[float, Field(gt=0, le=10**6)] | None,
        about("largest norm of all gradients together, which are scaled down to it; null: any"),
    ] = None
    schedule: Annotated[
        Literal["constant", "cosine", "linear", "exponential", "step"],
        about(
            "how the learning rate goes from train.lr to train.lr_end, step by step until the end of the run; step: it "
            "is multiplied by train.lr_factor at each of train.lr_steps"
        ),
    ] = "constant"
    warmup: Annotated[
        Annotated[float, Field(ge=0, le=10**6), Plain],
        about("epochs at the start in which the learning rate grows to train.lr, step by step", "epochs"),
    ] = 0.0
    lr_end: Annotated[
        Annotated[float, Field(ge=0, le=10**6), Plain] | None,
        about("learning rate at the end; null: 0, for train.schedule=exponential a hundredth of train.lr"),
    ] = None
    lr_steps: Annotated[
        Annotated[tuple[Moment, ...], Field(min_length=1, max_length=100, strict=False), BeforeValidator(_as_numbers)]
        | None,
        about("when train.schedule=step lowers the rate, as fractions of the run; null: [0.5,0.75]"),
    ] = None
    lr_factor: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        about("what train.schedule=step multiplies the rate by; null: 0.1"),
    ] = None
    label_smoothing: Annotated[
        Fraction, about("part of the training target that is spread evenly over all classes (mlp, cnn)")
    ] = 0.0
    class_weights: Annotated[
        ClassWeights | Literal["balanced"] | None,
        BeforeValidator(_as_class_weights),
        about(
            "weights of the classes, in proportion to which an epoch's rows are drawn: one number for each class, in "
            "their order; balanced: all classes become equally frequent; null: each row comes once (mlp, cnn)"
        ),
    ] = None

    ema: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        about(
            "decay per step of an exponential moving average of the weights, which is measured beside them (mlp, cnn); "
            "null: none"
        ),
    ] = None

    patience: Annotated[
        Epochs | None,
        about(
            "epochs without a better score of the validation rows (data.valid) after which the run ends; null: it ends "
            "after train.epochs",
            "epochs",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _what_is_null_is_the_optimisers(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name = str(values.get("optimizer", "sgd"))
        found = {**values, **{key: usual for key, usual in OPTIMIZERS.get(name, {}).items() if values.get(key) is None}}
        if name != "sgd":  # one run, whether they are typed or not
            found |= {key: None for key, usual in ADAM.items() if _as_tuple(values.get(key)) == usual}
        return found

    @model_validator(mode="after")
    def _keys_belong_to_their_optimiser(self) -> Self:
        adams = ("betas", "adam_eps", "bias_correction")
        for key in adams if self.optimizer == "sgd" else ("momentum", "nesterov"):
            if getattr(self, key) != type(self).model_fields[key].default:
                owner = "adam and adamw" if key in adams else "sgd"
                raise ValueError(f"train.{key} is for train.optimizer={owner}, found train.optimizer={self.optimizer}")
        if self.betas is not None and len(self.betas) != 2:
            raise ValueError(f"train.betas: expected two numbers, such as [0.9,0.999], found {list(self.betas)}")
        if self.nesterov and not self.momentum:
            raise ValueError("train.nesterov=true needs train.momentum above 0")
        return self

    @model_validator(mode="after")
    def _rates_belong_to_their_schedule(self) -> Self:
        if self.lr_end is not None and self.schedule not in ("cosine", "linear", "exponential"):
            raise ValueError("train.lr_end is for train.schedule=cosine, linear and exponential")
        for key in ("lr_steps", "lr_factor"):
            if getattr(self, key) is not None and self.schedule != "step":
                raise ValueError(f"train.{key} is for train.schedule=step")
        if self.lr_end is not None and self.lr_end > self.lr:
            raise ValueError(f"train.lr_end: expected at most train.lr={self.lr:g}, found {self.lr_end:g}")
        if self.lr_end == 0 and self.schedule == "exponential":
            raise ValueError("train.lr_end: expected more than 0 for train.schedule=exponential, found 0")
        if self.lr_steps is not None and list(self.lr_steps) != sorted(set(self.lr_steps)):
            raise ValueError(f"train.lr_steps: expected ascending fractions, found {list(self.lr_steps)}")
        if self.warmup >= self.epochs:
            raise ValueError(f"train.warmup: expected fewer than train.epochs={self.epochs}, found {self.warmup:g}")
        return self

    @property
    def has_one_rate(self) -> bool:
        """Whether every step has the same learning rate."""
        return self.schedule == "constant" and self.warmup == 0

    @property
    def optimizer_copies(self) -> int:
        """Numbers that are kept for each weight: the momentum, or Adam's two moments, and its average."""
        return ((1 if self.momentum else 0) if self.optimizer == "sgd" else 2) + (self.ema is not None)

    @property
    def has_ages(self) -> bool:
        """Whether the optimiser keeps for each sparse connection when it grew, too."""
        return self.bias_correction == "age"


class Evolve(Section):
    """When connections are removed and regrown, and how many (method=set)."""

    schedule: Annotated[
        Literal["constant", "cosine", "linear"],
        about("how zeta goes from its value to 0, which it has at evolve.until; constant: it stays"),
    ] = "constant"
    every: Annotated[Epochs, about("epochs between two evolutions", "epochs")] = 1
    every_steps: Annotated[
        Annotated[int, Field(ge=1, le=10**9)] | None,
        about("steps between two evolutions, within epochs too; null: evolve.every epochs", "steps"),
    ] = None
    until: Annotated[Moment, about("after which part of the run nothing is regrown any more")] = 1.0
    final: Annotated[
        Literal["end", "until", "none"],
        about(
            "when connections are removed and not regrown; end: after the last epoch (the paper's); until: at "
            "evolve.until, and the rest of the run trains what is left; none: never"
        ),
    ] = "end"
    epsilon_start: Annotated[
        Annotated[float, Field(gt=0, le=10**9)] | None,
        about("epsilon at the start, from which it falls to its value; null: it has its value from the start"),
    ] = None
    density_start: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        about("share of its cells that a layer has connections in at the start, in the place of evolve.epsilon_start"),
    ] = None
    epsilon_schedule: Annotated[
        Literal["cubic", "sigmoid"],
        about("how connections become fewer from evolve.epsilon_start on; cubic: fast, then slow; sigmoid: as an S"),
    ] = "cubic"
    epsilon_until: Annotated[Moment, about("after which part of the run epsilon has its value")] = 0.5

    @property
    def falls(self) -> bool:
        """Whether layers start with more connections than they end with."""
        return self.epsilon_start is not None or self.density_start is not None

    def last_epoch(self, epochs: int) -> int:
        """The epoch of a run of so many after which nothing is regrown any more."""
        return max(1, math.floor(self.until * epochs))

    @model_validator(mode="after")
    def _density_falls_while_it_evolves(self) -> Self:
        if self.every_steps is not None and self.every != 1:
            raise ValueError(
                f"evolve.every_steps={self.every_steps}: expected no evolve.every beside it, found {self.every}"
            )
        given = [key for key in ("epsilon_schedule", "epsilon_until") if key in self.model_fields_set]
        changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
        if self.epsilon_start is not None and self.density_start is not None:
            raise ValueError("expected one of evolve.epsilon_start and evolve.density_start, found both")
        if not self.falls and changed:
            raise ValueError(f"evolve.{changed[0]} is for a run with evolve.epsilon_start or evolve.density_start")
        if self.falls and self.epsilon_until > self.until:
            raise ValueError(
                f"evolve.epsilon_until: expected at most evolve.until={self.until:g}, since connections go where the "
                f"network evolves, found {self.epsilon_until:g}"
            )
        return self


class Augment(Section):
    """Random changes of the training rows, anew in every epoch."""

    rotation: Annotated[Annotated[float, Field(ge=0, le=180), Plain], about("largest rotation, either way", "degrees")]
    shift: Annotated[Fraction, about("largest shift, either way, as a fraction of height and width")]
    flip: Annotated[bool, about("whether half of the images are flipped left to right")]
    crop: Annotated[
        Pixels,
        about("border by which an image is extended, reflecting it, before a part of its size is cut out", "pixels"),
    ] = 0
    cutout: Annotated[
        Pixels,
        about("side of a square, centred anywhere in the image, that becomes the training rows' mean", "pixels"),
    ] = 0
    mixup: Annotated[
        Annotated[float, Field(ge=0, le=1000), Plain],
        about(
            "alpha of the Beta(alpha, alpha) that says, for each batch, in which proportion its rows and labels are "
            "mixed with others of the batch; 0: they are not"
        ),
    ] = 0.0
    until: Annotated[Moment, about("after which part of the run the training rows are not changed any more")] = 1.0

    @model_validator(mode="after")
    def _an_end_needs_a_beginning(self) -> Self:
        if self.until < 1 and not self.is_on:
            raise ValueError(
                f"data.augment.until={self.until:g} ends the augmentation, which is off: expected another key of "
                "data.augment beside it"
            )
        return self

    @property
    def moves_images(self) -> bool:
        return self.rotation > 0 or self.shift > 0 or self.flip

    @property
    def changes_images(self) -> bool:
        return self.moves_images or self.crop > 0 or self.cutout > 0

    @property
    def is_on(self) -> bool:
        return self.changes_images or self.mixup > 0


class Data(Section):
    """Which rows are trained and tested on, and how they reach the network."""

    dir: Annotated[
        Text | None, about("folder of the data files; null: environment variable SET_DATA_DIR, else ./datasets")
    ]
    fetch: Annotated[Literal["auto", "never"], about("auto: download what is missing; never: refuse")]
    holdout: Annotated[
        Rows, about("training rows that become the test set; the official test file is then not touched", "rows")
    ]
    valid: Annotated[
        Rows, about("validation rows: the source's own where it has some, else cut from the training rows", "rows")
    ]
    train_limit: Annotated[SomeRows | None, about("use only so many training rows; null: all", "rows")]
    test_limit: Annotated[SomeRows | None, about("use only so many test rows; null: all", "rows")]
    split: Annotated[
        Literal["stratified", "random", "last"],
        about(
            "which training rows are held out, or kept within data.train_limit; last: the end of the file, as the "
            "paper's sets; stratified: drawn, each class in proportion; random: drawn"
        ),
    ] = "last"
    missing: Annotated[
        Literal["refuse", "mean", "median", "zero"],
        about("what stands for a missing value of your file; refuse: it ends the run"),
    ] = "refuse"
    scaling: Annotated[
        Literal["standardize", "unit"],
        about("standardize: each feature to mean 0, standard deviation 1 of the training rows; unit: to [0, 1]"),
    ]
    clip: Annotated[
        Annotated[float, Field(gt=0, le=10**6)] | None,
        about("largest size of a standardised value, which is cut off there; null: any", "deviations"),
    ] = None
    augment: Augment


class Snapshots(Section):
    """The topology, stored for study."""

    every: Annotated[Epochs | None, about("epochs between two snapshots; null: about 50 in a run", "epochs")]
    weights: Annotated[bool, about("whether snapshots hold the weights too")]

    def epochs_between(self, epochs: int) -> int:
        """Epochs between two snapshots: what was asked, or about 50 snapshots in the run."""
        return self.every or max(1, round(epochs / 50))


class Checkpoints(Section):
    """What an interrupted run resumes from: written after every epoch, and within it."""

    minutes: Annotated[
        Annotated[float, Field(ge=0, le=10**6), Plain] | None,
        about("minutes between two within an epoch; 0: after every step; null: none within", "minutes"),
    ]


class Config(Section):
    """One run, checked."""

    dataset: Dataset
    model: Model
    method: Method
    backend: Backend
    epsilon: Annotated[
        Annotated[float, Field(gt=0, le=10**9)],
        about(
            "sparsity of the Erdős-Rényi topology: a layer has about epsilon · (n_in + n_out) connections of its "
            "n_in · n_out (the paper's ε)"
        ),
    ]
    density: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        about(
            "share of its n_in · n_out cells in which each sparse layer has a connection, in the place of epsilon "
            "(method.wiring=erk: all together, layers with fewer neurons a larger one); null: epsilon says it"
        ),
    ] = None
    zeta: Annotated[
        Fraction,
        about("fraction of the positive and of the negative weights removed after each epoch (the paper's ζ)"),
    ]
    seed: Annotated[Annotated[int, Field(ge=0, le=2**63 - 1)], about("of every random number of the run")]
    runs_dir: Annotated[Text, about("folder in which the run folders are made")]
    resume: Annotated[
        Literal["auto", "never", "must", "extend"],
        about(
            "what to do with an earlier run of the same configuration; auto: resume it, skip it where it is done; "
            "never: train again in a new folder; must: refuse where there is none; extend: where there is none, "
            "continue a finished run of fewer epochs"
        ),
    ]
    progress: Annotated[
        Literal["auto", "rich", "plain", "none"],
        about(
            "what is shown; rich: a live line; plain: a line per epoch; none: the result; auto: as the output allows"
        ),
    ]
    time_limit: Annotated[
        Annotated[float, Field(gt=0, le=10**7)] | None,
        about("minutes that one start of a run may take; null: as long as it takes", "minutes"),
    ]
    retry_failed: Annotated[bool, about("whether a sweep tries again what failed or diverged in an earlier one")]
    train: Train
    evolve: Evolve = Evolve()
    data: Data
    snapshots: Snapshots
    checkpoints: Checkpoints

    @model_validator(mode="after")
    def _connections_become_fewer(self) -> Self:
        start, share = self.evolve.epsilon_start, self.evolve.density_start
        if start is not None and self.density is not None:
            raise ValueError(
                f"evolve.epsilon_start={start:g}: expected evolve.density_start beside density={self.density:g}"
            )
        if start is not None and start < self.epsilon:
            raise ValueError(f"evolve.epsilon_start: expected at least epsilon={self.epsilon:g}, found {start:g}")
        if share is not None and self.density is not None and share < self.density:
            raise ValueError(f"evolve.density_start: expected at least density={self.density:g}, found {share:g}")
        if self.evolve.falls and "erk" in (self.method.wiring, self.method.wiring_inside):
            raise ValueError(
                "method.wiring=erk: expected connections that do not become fewer, or method.wiring=erdos_renyi with "
                "epsilon, which is the same law for layers that are no convolutions"
            )
        if self.evolve.falls and self.method.removal == "threshold":
            raise ValueError(
                "method.removal=threshold: expected connections that do not become fewer, since it may remove less "
                "than that takes; use magnitude"
            )
        if self.evolve.falls and self.method.redistribution != "none":
            raise ValueError(
                f"method.redistribution={self.method.redistribution}: expected connections that do not become fewer, "
                "which each layer does by itself, or method.redistribution=none"
            )
        if self.method.regrowth == "none" and self.method.evolves and not self.evolve.falls:
            raise ValueError(
                "method.regrowth=none: expected evolve.density_start or evolve.epsilon_start, from which connections "
                "become fewer; without one layers would lose zeta of them again and again"
            )
        evolve, epochs = self.evolve, self.train.epochs
        last = evolve.last_epoch(epochs)
        if evolve.final != "until":
            last = min(last, epochs - 1)
            last -= last % evolve.every
        if evolve.falls and self.method.evolves and last < evolve.epsilon_until * epochs:
            raise ValueError(
                f"evolve.{'epsilon' if share is None else 'density'}_start: no evolution comes after "
                f"evolve.epsilon_until={evolve.epsilon_until:g} of the {epochs} epochs, in which the last connections "
                "would go; expected an earlier one, or more evolutions"
            )
        return self

    @model_validator(mode="after")
    def _patience_needs_validation_rows(self) -> Self:
        if self.train.patience is not None and not self.data.valid:
            raise ValueError(
                f"train.patience={self.train.patience} needs validation rows, whose score it watches: expected "
                "data.valid above 0, found 0"
            )
        return self

    @property
    def amount(self) -> str:
        """'epsilon=20' or 'density=0.01': what says how many connections there are."""
        return f"epsilon={self.epsilon:g}" if self.density is None else f"density={self.density:g}"


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every configuration key as one types it (train.lr), in the order of the classes above."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'lr': 0.1}} as {'train.lr': 0.1}: the names that one types."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
