"""More epochs for a finished run: a longer run that continues it, in a folder of its own.

After its last epoch a run removes connections and regrows none, which the longer run does not do there. So the longer
one takes over the checkpoint before the last one, and trains the last epoch again. The finished run stays as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from set_cli.config import Config, identity, scientific
from set_cli.config.length import tied_to_length
from set_cli.errors import ConfigError, DataError
from set_cli.runs.checkpoint import PREVIOUS, Checkpoint, read_checkpoint, save_checkpoint
from set_cli.runs.degrees import degrees_as_appended
from set_cli.runs.files import CHECKSUMS, METRICS_FILE, PART, TIMING_FILE, snapshot_epochs, snapshot_name
from set_cli.runs.folder import folder_name, read_status
from set_cli.runs.inputs import INPUTS
from set_cli.runs.summary import read_summary
from set_cli.runs.written import checksum_line
from set_cli.system.files import canonical_json, make_folder, read_json, write_atomic
from set_cli.system.plain_files import open_plain


@dataclass(frozen=True, slots=True)
class Shorter:
    """A finished run that a longer one continues.

    asked    epochs of its configuration
    trained  epochs it had, fewer where train.patience ended it
    """

    path: Path
    asked: int
    trained: int

    @property
    def line(self) -> str:
        return (
            f"extending {self.path}: its first {self.trained - 1:,} epochs are taken over, its last one is trained "
            "again without the final removal"
        )


def shorter_run(config: Config) -> Shorter:
    """The finished run that differs from this configuration by fewer epochs only; of several the longest.

    ConfigError where there is none, or where a longer run would differ from its first epochs on.
    """
    base = Path(config.runs_dir, config.dataset.name, config.model.name)
    found = [run for path in _alike(base, config) if (run := _shorter(path, config)) is not None]
    longest = max(found, key=lambda run: (run.asked, str(run.path)), default=None)
    tied = tied_to_length(config, config.train.epochs if longest is None else longest.asked)
    if tied:
        raise ConfigError(
            f"resume=extend: with {' and '.join(tied)} the first epochs of a longer run are others than those of a "
            "shorter one; resume=auto trains it from the start"
        )
    if longest is None:
        raise ConfigError(
            f"resume=extend: expected a finished run in {base} with fewer epochs than "
            f"train.epochs={config.train.epochs} and all else equal, found none; resume=auto starts one"
        )
    return longest


def _alike(base: Path, config: Config) -> list[Path]:
    """Folders of runs with this method, epsilon, zeta and seed."""
    prefix = folder_name(config).rpartition("-")[0] + "-"
    with suppress(OSError):
        return [path for path in base.iterdir() if path.name.startswith(prefix) and not path.is_symlink()]
    return []


def _shorter(path: Path, config: Config) -> Shorter | None:
    with suppress(DataError, LookupError, TypeError, AttributeError):
        if read_status(path) != "done":
            return None
        found = read_json(path / "config.json")
        asked = found["train"]["epochs"]
        if _but_for_epochs(found) == _but_for_epochs(scientific(config)) and asked < config.train.epochs:
            return Shorter(path, asked, read_json(path / "summary.json")["epochs"])
    return None


def _but_for_epochs(keys: Mapping[str, Any]) -> str:
    return canonical_json({**keys, "train": {**keys["train"], "epochs": None}})


def extend(path: Path, run: Shorter, config: Config) -> None:
    """Make this folder one of a run of this configuration that was interrupted before the shorter one's last epoch.

    What is of later epochs than the checkpoint is cut off where the run is resumed. The checkpoint comes last: without
    it nothing of this is looked at. DataError where the shorter run is not whole.
    """
    checksums = read_summary(run.path)["sha256"]
    checkpoint = _before_the_end(run, config)
    snapshots = [snapshot_name(epoch) for epoch in snapshot_epochs(run.path, checksums)]
    make_folder(path / "topology")
    for name in (INPUTS, "run.json", METRICS_FILE, TIMING_FILE, *snapshots):
        _copy(run.path / name, path / name)
    _write(path / PART, degrees_as_appended(run.path, checksums))
    _write(path / CHECKSUMS, "".join(checksum_line(name, checksums[name]) for name in snapshots).encode())
    save_checkpoint(path, replace(checkpoint, identity=identity(config)))


def _before_the_end(run: Shorter, config: Config) -> Checkpoint:
    """The state before the last epoch, or within it."""
    file = run.path / PREVIOUS
    if not file.exists():
        raise DataError(
            f"{file}: missing; resume=extend needs it, since the last checkpoint is after the final removal; "
            "resume=auto trains the longer run from the start"
        )
    shorter = config.model_copy(update={"train": config.train.model_copy(update={"epochs": run.asked})})
    checkpoint = read_checkpoint(file, identity(shorter))
    if checkpoint.epoch >= run.trained:
        raise DataError(f"{file}: expected a checkpoint before epoch {run.trained}, found one after it")
    return checkpoint


def _copy(source: Path, target: Path) -> None:
    """Copy a file; one that is not there (an older run's) is left out."""
    try:
        original = open_plain(source, follow=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{source}: could not be read ({error.strerror})") from None
    with original:
        write_atomic(target, lambda stream: shutil.copyfileobj(original, stream))


def _write(target: Path, content: bytes) -> None:
    write_atomic(target, lambda stream: stream.write(content))
