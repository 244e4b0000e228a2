"""CIFAR-10 images in a file that is small enough to travel, and back in the format in which they are published.

Neighbouring pixels and the three colours are alike: differences are packed to less than the images themselves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
NAME = "cifar10_10000.npz"
SHAPE, ROW = (3, 32, 32), 1 + 3 * 32 * 32
FOLDER = "cifar-10-batches-bin"
BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"


def residuals(pixels: Bytes) -> Bytes:
    """(n, 3, 32, 32) differences of (n, 3072) pixels, modulo 256."""
    planes = pixels.reshape(-1, *SHAPE).copy()
    planes[:, 0] -= planes[:, 1]
    planes[:, 2] -= planes[:, 1]
    down = np.diff(planes, axis=2, prepend=np.uint8(0))
    return np.diff(down, axis=3, prepend=np.uint8(0)).astype(np.uint8)


def pixels_of(differences: Bytes) -> Bytes:
    """What `residuals` was given."""
    across = np.cumsum(differences, axis=3, dtype=np.uint8)
    planes = np.cumsum(across, axis=2, dtype=np.uint8)
    planes[:, 0] += planes[:, 1]
    planes[:, 2] += planes[:, 1]
    return planes.reshape(len(planes), -1)


def rows_of(content: bytes) -> tuple[Bytes, Bytes]:
    """(n, 3072) pixels and (n,) labels of a published batch."""
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, ROW)
    return rows[:, 1:], rows[:, 0]


def content_of(pixels: Bytes, labels: Bytes) -> bytes:
    return np.concatenate([labels[:, None], pixels], axis=1).tobytes()


def write_batches(source: Path, folder: Path) -> list[Path]:
    """The five training batches, each with the same images, and the test batch."""
    with np.load(source) as arrays:
        train = content_of(pixels_of(arrays["x_train_residual"]), arrays["y_train"])
        test = content_of(pixels_of(arrays["x_test_residual"]), arrays["y_test"])
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*BATCHES, TEST):
        (folder / name).write_bytes(test if name == TEST else train)
    return [folder / name for name in (*BATCHES, TEST)]


def made_up(n: int, seed: int) -> tuple[Bytes, Bytes]:
    """Images that a network can tell apart: a colour for each class, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.uint8) % 10
    colours = np.random.default_rng(0).integers(60, 190, (10, 3))
    pixels = rng.integers(-50, 50, (n, 3, 1024)) + colours[labels][:, :, None]
    return pixels.astype(np.uint8).reshape(n, -1), labels


def save(target: Path, train: tuple[Bytes, Bytes], test: tuple[Bytes, Bytes]) -> None:
    np.savez_compressed(
        target,
        x_train_residual=residuals(train[0]),
        y_train=train[1],
        x_test_residual=residuals(test[0]),
        y_test=test[1],
    )
