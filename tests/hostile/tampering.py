"""Archives that were changed at random or on purpose, and what came of reading them."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError

SEED = int(os.environ.get("FAULT_SEED", "0"))
Arrays = dict[str, NDArray[Any]]
HOSTILE_NUMBERS = [-1, -(2**31), 2**31 - 1, 0, 1, 7, 2**16, 2**30]
DTYPES = [
    "int64",
    "uint32",
    "int8",
    ">i4",
    "float32",
    "float64",
    "bool",
    "S3",
    "U4",
    "complex64",
    "datetime64[s]",
    "V4",
]
NAMES = ["", "/", "x", "layer1", "layer1/", "/indptr", "../../x/indptr", "layer1/indptr/indptr", "layer9/indices",
         "<script>/out_degree", "\x1b[31m/in_degree", "layer1/out_degree", f"layer{10**99}/out_degree"]  # fmt: skip


class Owned:
    """What unpickling it would do is seen in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def rewrite(content: bytes, rng: random.Random) -> bytes:
    """One byte of one array's file changed, the archive's own checksum right again."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            member = bytearray(old.read(name))
            if name == chosen:
                # Half of them in the header, which says what the rest is.
                place = rng.randrange(len(member) if rng.random() < 0.5 else min(len(member), 128))
                member[place] = rng.choice((member[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
            new.writestr(name, bytes(member))
    return made.getvalue()


def flip(content: bytes, rng: random.Random) -> bytes:
    """Bytes of the archive itself."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def change_values(array: NDArray[Any], rng: random.Random) -> NDArray[Any]:
    """A number out of its range or its order, an array of another kind or shape."""
    changed = array.copy()
    flat = changed.reshape(-1)
    place = rng.randrange(max(1, flat.size))
    match rng.randrange(9):
        case 0 if flat.size:
            flat[place] = np.array(rng.choice(HOSTILE_NUMBERS)).astype(flat.dtype)  # as much of it as fits
        case 1 if flat.size > 1:
            flat[place] = flat[place - 1]
        case 2 if flat.size > 1:
            flat[[place, place - 1]] = flat[[place - 1, place]]
        case 3:
            changed = flat[::-1].reshape(changed.shape)
        case 4:
            changed = changed.astype(rng.choice(DTYPES[:-1]))
        case 5:
            changed = flat.view(rng.choice(["V4", "<f4", "uint32", ">i4", "i2,i2"]))
        case 6:
            changed = rng.choice([flat[None], flat[:, None, None], flat[:0], np.array(3, np.int32), flat[:place]])
        case 7:
            changed = np.concatenate([flat, flat[:1]])
        case _:
            changed = np.full(changed.shape, rng.choice(HOSTILE_NUMBERS), np.int32)
    return np.ascontiguousarray(changed) if changed.ndim else changed


def restructure(arrays: Mapping[str, NDArray[Any]], rng: random.Random, owned: Path) -> bytes:
    """The archive with arrays that are other ones, missing, of other names, pickled, or no arrays at all."""
    changed = {name: array.copy() for name, array in arrays.items()}
    raw: dict[str, bytes] = {}
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not changed:
            break
        name = rng.choice(list(changed))
        match rng.randrange(10):
            case 0:
                del changed[name]
            case 1:
                changed[rng.choice(NAMES)] = changed.pop(name)
            case 2:
                changed[rng.choice(NAMES)] = changed[name]
            case 3:
                raw[name or "x"] = rng.choice([b"", b"x", b"\x93NUMPY", b"\x93NUMPY\x01\x00", bytes(9999)])
                del changed[name]
            case 4 if name.endswith("shape"):
                sizes = [[64, 2**31 - 1], [2**31 - 1, 2], [-1, 12], [0, 0], [2**62, 2**62], [64], [64, 12, 9], [1.5, 2]]
                changed[name] = np.array(rng.choice([*sizes, [float("nan"), 1], [float("inf"), 1], ["64", "x"]]))
            case 5 if rng.random() < 0.3:
                array = np.empty(2, object)
                array[:] = [Owned(owned), Owned(owned)]
                changed[name] = array
            case 6:
                other = rng.choice(list(changed))
                changed[name], changed[other] = changed[other], changed[name]
            case _:
                changed[name] = change_values(changed[name], rng)
    return archive_of(changed, raw, compress=rng.random() < 0.2)


def archive_of(arrays: Mapping[str, NDArray[Any]], raw: Mapping[str, bytes], compress: bool = False) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(content, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(content, "a") as archive:
        for name, data in raw.items():
            archive.writestr(name, data)
    return content.getvalue()


def arrays_of(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def mutations(path: Path, count: int, owned: Path) -> Iterator[bytes]:
    """A tenth of them with bytes of the archive changed, two fifths with bytes of an array, half with other arrays."""
    content, arrays = path.read_bytes(), arrays_of(path)
    for i in range(count):
        rng = random.Random(f"{SEED} {path.name} {i}")
        if i % 10 == 0:
            yield flip(content, rng)
        elif i % 10 < 5:
            yield rewrite(content, rng)
        else:
            yield restructure(arrays, rng, owned)


LONGEST = 1000  # characters of a sentence, as of a reason


def tally(attempts: Iterator[Callable[[], object]]) -> Counter[str]:
    """What came of them: 'read', 'refused' by the sentence of a DataError, or what nobody expects."""
    found: Counter[str] = Counter()
    for attempt in attempts:
        try:
            attempt()
            found["read"] += 1
        except DataError as error:
            found["refused" if len(str(error)) < LONGEST else f"a sentence of over {LONGEST} characters"] += 1
        except Exception as error:
            found[f"{type(error).__name__}: {error}"[:150]] += 1
    return found


def assert_read_or_refused(found: Counter[str], count: int) -> None:
    assert set(found) <= {"read", "refused"}, found
    assert sum(found.values()) == count
