"""Facts about the data sets: sizes, shapes, files and their checksums. Choices about experiments are in conf/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One upstream file, compressed or not; size (bytes) and digest are those of the uncompressed content."""

    name: str
    role: Literal["train", "test"]
    size: int
    algorithm: Literal["sha256", "md5"]
    digest: str


@dataclass(frozen=True, slots=True)
class Card:
    """One data set.

    shape    of one image, (height, width) or (channels, height, width); features is its product
    maximum  the largest value a feature can have (the smallest is 0)
    bundled  comes with an installed package: no file is needed
    """

    name: str
    title: str
    features: int
    classes: int
    shape: tuple[int, ...]
    maximum: int
    train: int
    test: int
    source: str
    bundled: bool = False
    files: tuple[SourceFile, ...] = ()


def _mnist(name: str, role: Literal["train", "test"], size: int, sha256: str) -> SourceFile:
    return SourceFile(name, role, size, "sha256", sha256)


def _cifar(name: str, role: Literal["train", "test"], md5: str) -> SourceFile:
    return SourceFile(f"cifar-10-batches-bin/{name}", role, 30_730_000, "md5", md5)


CATALOG: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            name="digits",
            title="Optical recognition of handwritten digits (UCI), as bundled with scikit-learn",
            features=64,
            classes=10,
            shape=(8, 8),
            maximum=16,
            train=1438,
            test=359,
            source="sklearn.datasets.load_digits",
            bundled=True,
        ),
        Card(
            name="mnist",
            title="MNIST handwritten digits",
            features=784,
            classes=10,
            shape=(28, 28),
            maximum=255,
            train=60_000,
            test=10_000,
            source="https://ossci-datasets.s3.amazonaws.com/mnist/",
            files=(
                _mnist(
                    "train-images-idx3-ubyte",
                    "train",
                    47_040_016,
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                _mnist(
                    "train-labels-idx1-ubyte",
                    "train",
                    60_008,
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                _mnist(
                    "t10k-images-idx3-ubyte",
                    "test",
                    7_840_016,
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                _mnist(
                    "t10k-labels-idx1-ubyte",
                    "test",
                    10_008,
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
        ),
        Card(
            name="cifar10",
            title="CIFAR-10 tiny images, binary version",
            features=3072,
            classes=10,
            shape=(3, 32, 32),
            maximum=255,
            train=50_000,
            test=10_000,
            source="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            files=(
                _cifar("data_batch_1.bin", "train", "5dd7e06a14cb22eb9f671a540d1b7c25"),
                _cifar("data_batch_2.bin", "train", "5ea93a67294ea407fff1d09f752e9692"),
                _cifar("data_batch_3.bin", "train", "942cd6a4bcdd0dd3c604fbe906cb4421"),
                _cifar("data_batch_4.bin", "train", "ae636b3ba5c66a11e91e8cb52e771fcb"),
                _cifar("data_batch_5.bin", "train", "53f37980c15c3d472c316c40844f3f0d"),
                _cifar("test_batch.bin", "test", "803d5f7f4d78ea53de84dbe85f74fb6d"),
            ),
        ),
    )
}
