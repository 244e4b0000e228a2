"""Batches of network inputs: rows gathered, scaled and changed, by the compiled kernels where they can."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from set_cli import native
from set_cli.data.augment import Changes, changed
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import in_chunks, unscaled
from set_cli.native import records

RESIDENT = 0.25  # of a GPU's free memory: a part that takes more stays in the machine's


class Batches(Protocol):
    """What the training loop needs of its rows, wherever they come from; see `Inputs`."""

    @property
    def device(self) -> torch.device: ...

    @property
    def home(self) -> torch.device: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def is_resident(self) -> bool: ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor, changes: Changes | None = None) -> tuple[Tensor, Tensor]: ...

    def in_order(self, rows: Tensor, changes: Changes | None = None) -> InOrder | None: ...


class InOrder:
    """Rows one batch after the other, as the compiled kernels take them: many batches in one call.

    features  of a row
    labels    (n,) int64
    """

    def __init__(self, inputs: Inputs, rows: Tensor, changes: Changes | None) -> None:
        self._inputs, self._rows = inputs, rows.contiguous()
        self._changes = Changes() if changes is None else changes.for_kernels()
        self.features: int = inputs.x.shape[1]
        self.labels = inputs.y[rows]

    @property
    def clip(self) -> float:
        """The largest absolute value of an input; 0: any."""
        return self._inputs.clip or 0.0

    def are_labels_below(self, classes: int) -> bool:
        """Whether every label is one of so many classes."""
        return bool(len(self.labels)) and 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes

    def gathering(self, first: int, x: Tensor) -> records.GatherChanged:
        """What gathers row `first` and those behind it into x (n_batch, features), columns."""
        return self._inputs.gathering(self._rows[first:], self._changes.after(first), x)


class Inputs:
    """A part of the data set, scaled batch by batch (the whole in float32 would be four times larger).

    device  of the batches
    home    where the rows are: on the device too, unless they are too many for it
    """

    def __init__(self, part: Part, data: DataSet, device: torch.device) -> None:
        scaling, rows, self.clip = data.scaling, part.x, data.scaling.clip
        if rows.dtype == np.float64:  # float32 could not tell large values apart before the offset is taken off
            rows, scaling = in_chunks(scaling, rows), unscaled(data.card.features)
        # Arrays made of a file's bytes are read-only, which torch does not know: those are copied.
        self.home = device if _fits(rows.nbytes, device) else torch.device("cpu")
        self.x = torch.from_numpy(np.require(rows, requirements="W")).to(self.home)
        no_class = torch.full((len(part),), -1)
        self.y = (no_class if part.y is None else torch.from_numpy(part.y)).to(self.home)
        self.offset = torch.from_numpy(scaling.offset.astype(np.float32)).to(device)
        self.scale = torch.from_numpy(scaling.scale.astype(np.float32)).to(device)
        blank = np.zeros(data.card.features) if data.scaling.blank is None else data.scaling.blank
        self.blank = torch.from_numpy(blank.astype(np.float32)).to(device)
        self.shape = data.card.shape or (1, data.card.features)
        self.device = device
        self.is_binary = data.card.kind == "binary"
        self._fused = native.takes(self.offset, self.scale) and self.x.dtype in (torch.uint8, torch.float32)
        if self._fused:
            self.x = self.x.contiguous()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_resident(self) -> bool:
        """Whether the rows are where the batches are."""
        return self.home == self.device

    def batch(self, rows: Tensor, changes: Changes | None = None) -> tuple[Tensor, Tensor]:
        """x (n, features) float32, scaled and, with changes of as many images, changed; y (n,).

        rows (n,) int64; on the CPU negative ones are refused (IndexError), on a GPU nobody waits to look at them.
        ValueError for changes of another shape.
        """
        if changes is not None:
            changes.check(len(rows))
        rows = self._checked(rows)
        y = self.y[rows].to(self.device)
        if self._fused:
            x = self._gather(rows, changes)
        else:
            x = (self.x[rows].to(self.device).float() - self.offset) * self.scale
            # Scaled first, then changed: the order of the authors' script.
            x = x if changes is None else changed(x, changes.to(self.device), self.shape, self.blank)
        return x if self.clip is None else x.clamp_(-self.clip, self.clip), y

    def in_order(self, rows: Tensor, changes: Changes | None = None) -> InOrder | None:
        """These rows (n,) int64 for the compiled kernels, changed as in `batch`; None where they do not take them."""
        return InOrder(self, self._checked(rows), changes) if self._fused else None

    def _checked(self, rows: Tensor) -> Tensor:
        if rows.is_cpu and len(rows) and int(rows.min()) < 0:  # too large ones are y's to refuse
            raise IndexError(f"expected rows 0 to {len(self) - 1}, got {int(rows.min())}")
        return rows.to(self.home, torch.int64)

    def _gather(self, rows: Tensor, changes: Changes | None) -> Tensor:
        rows = rows.contiguous()
        x = native.new_columns(len(rows), self.x.shape[1])
        work = x.numel() * native.ELEMENTWISE * (1 if changes is None else 4)  # four neighbours of every pixel
        changes = Changes() if changes is None else changes.for_kernels()
        record, threads = self.gathering(rows, changes, x), native.threads(work)
        assert native.core is not None
        if changes.is_nothing:
            plain = records.Gather(source=record.source, rows=record.rows, out=record.out, n_batch=record.n_batch)
            native.core.gather(plain, threads)
        else:
            native.core.gather_changed(record, threads)
        return x

    def gathering(self, rows: Tensor, changes: Changes, x: Tensor) -> records.GatherChanged:
        """What gathers the first of rows (n,) into x (n_batch, features), columns; changes: as for_kernels has them."""
        features = self.x.shape[1]
        height, width = self.shape[-2:] if len(self.shape) > 1 else (1, features)
        return records.GatherChanged(
            source=records.Source(
                data=self.x.data_ptr(),
                is_bytes=self.x.dtype == torch.uint8,
                features=features,
                offset=self.offset.data_ptr(),
                scale=self.scale.data_ptr(),
            ),
            image=records.Image(channels=features // (height * width), height=height, width=width),
            rows=rows.data_ptr(),
            crops=records.address(changes.crops),
            maps=records.address(changes.maps),
            squares=records.address(changes.squares),
            blank=self.blank.data_ptr(),
            out=records.columns(x),
            n_batch=len(x),
        )


def _fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes leave the device enough room to train."""
    return device.type != "cuda" or size <= RESIDENT * torch.cuda.mem_get_info(device)[0]
