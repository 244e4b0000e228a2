"""Pack the first 10,000 training and 1,000 test images of CIFAR-10 for tools/gpu_check.py.

    python tools/gpu_data.py SRC DST

SRC is a data folder's cifar10 with the published binary batches, DST a folder; prints the file, its size and SHA-256.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import numpy as np
from gpu import images

TESTED = 1000


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
def main(source: Path, target: Path) -> None:
    """Pack the images of SOURCE into TARGET."""
    folder = source / images.FOLDER if (source / images.FOLDER).is_dir() else source
    train = images.rows_of((folder / images.BATCHES[0]).read_bytes())
    tests = sorted(folder.glob("test_batch*.bin"))
    if not tests:
        raise click.UsageError(f"{folder}: expected test_batch.bin")
    pixels, labels = images.rows_of(tests[0].read_bytes())
    target.mkdir(parents=True, exist_ok=True)
    packed = target / images.NAME
    images.save(packed, train, (pixels[:TESTED], labels[:TESTED]))
    with np.load(packed) as arrays:
        if not np.array_equal(images.pixels_of(arrays["x_train_residual"]), train[0]):
            raise click.ClickException(f"{packed}: does not unpack to what was packed")
    content = packed.read_bytes()
    print(f"{packed}: {len(train[1]):,} images, {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
