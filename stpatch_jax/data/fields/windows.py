"""Forecast examples of a lazy field: context and target windows, cleaned, scaled, in tiles."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.cleaning import Cleaner, as_floats, channel_numbers, check_field
from stpatch_jax.data.fields.covariates import ahead, lead_times
from stpatch_jax.data.fields.forcings import CalendarFeature, calendar_features
from stpatch_jax.data.fields.slabs import CACHE_BYTES, SlabReader
from stpatch_jax.data.sampling.batches import Batch
from stpatch_jax.data.transforms.cleaning import forward_fill
from stpatch_jax.errors import check_size, require
from stpatch_jax.patches.windows import WindowSpec


@dataclass(frozen=True, eq=False)
class FieldWindows:
    """The examples of one split of a field by number; reads only what an example needs.

    An example is a window of time, and of space where a tile is given. Examples are numbered tile
    by tile within a time, then by time. Each is a dict, float32 unless said:

    * `context` [context, *space, channels]: inputs, scaled, without NaN. Its channels are those of
      the field, then the known covariates ahead, see `lead_times`, the static fields, the calendar
      features, then with `mask_channel` one more per channel of the field and covariate ahead, 1
      where its value was known;
    * `target` [horizon, *space, targets], scaled, 0 where missing, and `target_mask`, bool of the
      same shape, True where it is known;
    * `persistence` [1, *space, targets], the last known value of the context, scaled, else 0;
    * `valid_share`, the share of the context's values that are known;
    * `index`, int64, the row of the first target, and `tile` [space axes], int64, the first cell.

    No input depends on a row after the context, but for those of `known_channels`, of which none
    depends on a row after the horizon: gaps are filled from these rows themselves.

    Attributes:
        field: The field (time, *space, channel), in memory or lazy.
        targets: Target rows of the split, see `chronological_splits`, or the parts of them that
            have windows, see `spans_between_gaps`; contexts may reach back, and up to one horizon
            may lie behind the end of the field, where it is missing.
        cleaner: Cleaning and scaling, fitted to training rows.
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        stride: Time steps between windows. The last window always ends its part, so that with a
            stride up to the horizon every target row is covered.
        target_channels: Names of the predicted channels; all by default.
        known_channels: Names of the channels that are known in advance over the horizon.
        coming: What these are in the rows behind the field [row, *space, known channel].
        static: Static fields, scaled [*space, static field]: channels that are constant in time.
        static_channels: Their names.
        calendar: Calendar features that become channels, see `calendar_features`.
        mask_channel: Whether the context tells where it was known.
        tile: Cells of a tile, one number per space axis; None for the whole space.
        tile_stride: Cells between tiles; the tile itself by default. The last tile along an axis
            always ends it.
        training: Whether outliers among the targets are clipped, too.
        chunks: Cells per chunk by dim, for `SlabReader`; by default as stored.
        cache_bytes: Size of the chunks kept in memory, in bytes.

    Raises:
        InputError: If a window, tile, stride, channel or target row does not fit the field.

    >>> field = xr.DataArray(
    ...     np.arange(12.0)[:, None], dims=("time", "channel"),
    ...     coords={"time": np.arange(12), "channel": ["load"]},
    ... )
    >>> from stpatch_jax.data.fields.cleaning import CleaningConfig
    >>> cleaner = Cleaner.fit(field, range(8), CleaningConfig(steps=()))
    >>> windows = FieldWindows(field, range(8, 12), cleaner, context=3, horizon=2)
    >>> windows[0]["context"][:, 0].tolist(), windows[-1]["target"][:, 0].tolist()
    ([5.0, 6.0, 7.0], [10.0, 11.0])
    """

    field: xr.DataArray
    targets: range | tuple[range, ...]
    cleaner: Cleaner
    _: KW_ONLY
    context: int
    horizon: int
    stride: int = 1
    target_channels: Sequence[str] | None = None
    known_channels: Sequence[str] = ()
    coming: xr.DataArray | None = None
    static: np.ndarray | None = None
    static_channels: tuple[str, ...] = ()
    calendar: Sequence[CalendarFeature] = ()
    mask_channel: bool = False
    tile: tuple[int, ...] | None = None
    tile_stride: tuple[int, ...] | None = None
    training: bool = False
    chunks: Mapping[str, int] | None = None
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        check_field(self.field)
        names = tuple(str(name) for name in self.field.channel.values)
        require(
            names == self.cleaner.channels,
            "a field must have the channels its cleaning was fitted to, "
            f"{', '.join(self.cleaner.channels)}, got {', '.join(names)}; select them",
        )
        for name in ("context", "horizon", "stride"):
            check_size(name, getattr(self, name))
        self._check_targets()
        self._check_tiles()
        # Made here, so that what is wrong with them is told at once.
        _ = self.target_numbers, self.ahead_cleaner, self.forcings

    def __len__(self) -> int:
        return len(self.starts) * len(self.tiles)

    def __getitem__(self, i: int, /) -> Batch:
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        at, tile = divmod(i % len(self), len(self.tiles))
        row, cells = int(self.starts[at]), self.tiles[tile]
        first = row - self.context
        slab = self.reader.read(slice(first, row + self.horizon), *cells)
        if behind := self.context + self.horizon - len(slab):
            slab = self._with_rows_behind(slab, behind, cells)
        inputs, known = self._inputs(self.cleaner, slab[: self.context], first, cells)
        past, target = self._scaled(slab, cells)
        mask = np.isfinite(target)
        if not mask.all():
            target = np.where(mask, target, 0.0)
        return {
            "context": self._with_channels(inputs, known, slab, first, cells),
            "target": target.astype(np.float32, copy=False),
            "target_mask": mask,
            "persistence": np.where(np.isfinite(past), past, 0.0).astype(np.float32, copy=False),
            "valid_share": np.asarray(np.count_nonzero(known) / known.size, np.float32),
            "index": np.asarray(row, np.int64),
            "tile": np.asarray([cell.start for cell in cells], np.int64),
        }

    @property
    def in_channels(self) -> tuple[str, ...]:
        """Names of the channels of `context`."""
        names = self.cleaner.channels
        ahead = [f"{name}_ahead_{lead}" for lead in self.leads for name in self.known_channels]
        waves = [f"{feature}_{wave}" for feature in self.calendar for wave in ("sin", "cos")]
        masks = [f"{name}_known" for name in (*names, *ahead)] if self.mask_channel else []
        return (*names, *ahead, *self.static_channels, *waves, *masks)

    @property
    def leads(self) -> tuple[int, ...]:
        """The leads at which known covariates are channels, see `lead_times`."""
        every = lead_times(context=self.context, horizon=self.horizon)
        return every if self.known_channels else ()

    @cached_property
    def target_numbers(self) -> tuple[int, ...]:
        """Numbers of the predicted channels among those of the field."""
        return channel_numbers(self.cleaner.channels, self.target_channels)

    @cached_property
    def known_numbers(self) -> list[int]:
        """Numbers of the known covariates among the channels of the field."""
        return list(channel_numbers(self.cleaner.channels, self.known_channels))

    @cached_property
    def ahead_cleaner(self) -> Cleaner:
        """Cleaning and scaling of the known covariates."""
        return self.cleaner.select(tuple(self.known_channels))

    @cached_property
    def forcings(self) -> np.ndarray:
        """The calendar features of all rows of the field, float32 [time, features]."""
        if not self.calendar:
            return np.zeros((len(self.field), 0), np.float32)
        return calendar_features(self.field.time.values, features=self.calendar)

    @property
    def spans(self) -> tuple[range, ...]:
        """The parts of the split that have windows."""
        return (self.targets,) if isinstance(self.targets, range) else self.targets

    @cached_property
    def starts(self) -> np.ndarray:
        """First target row of each window in time, ascending, int64."""
        size = {"window": self.horizon, "stride": self.stride}
        return np.concatenate(
            [span.start + np.asarray(_starts(len(span), **size)) for span in self.spans]
        )

    @cached_property
    def tiles(self) -> tuple[tuple[slice, ...], ...]:
        """The tiles in row-major order, each one slice per space axis."""
        sizes = self.field.shape[1:-1]
        tile = self.tile or sizes
        stride = self.tile_stride or tile
        axes = [
            [slice(at, at + n) for at in _starts(size, n, by)]
            for size, n, by in zip(sizes, tile, stride, strict=True)
        ]
        return tuple(itertools.product(*axes))

    @cached_property
    def reader(self) -> SlabReader:
        """What reads the field and counts bytes."""
        return SlabReader(self.field, chunks=self.chunks, cache_bytes=self.cache_bytes)

    def chunk_order(self) -> np.ndarray:
        """Numbers of all examples in the order in which the store is read through just once, int64.

        Tiles that begin in the same chunks of space belong together; within them time runs forward.
        Without chunks, or with a single tile, that is the order of their numbers.
        """
        chunks = self.reader.chunks
        numbers = np.arange(len(self)).reshape(len(self.starts), len(self.tiles))
        if chunks is None:
            return numbers.ravel()
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, cells in enumerate(self.tiles):
            corner = tuple(
                cell.start // chunk for cell, chunk in zip(cells, chunks[1:-1], strict=True)
            )
            groups.setdefault(corner, []).append(number)
        return np.concatenate([numbers[:, tiles].ravel() for tiles in groups.values()])

    def _scaled(self, slab: np.ndarray, cells: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The last known value of each series of the context, as one row, and the target rows."""
        choice: dict[str, Any] = {"channels": self.target_numbers, "cells": cells}
        choice["clip"] = self.training
        scaled = self.cleaner.scaled(slab[self.context - 1 :], **choice)
        past, target = scaled[:1], scaled[1:]
        # Earlier rows are needed only where the last one has gaps.
        if not np.isfinite(past).all():
            past = forward_fill(self.cleaner.scaled(slab[: self.context], **choice))[-1:]
        return past, target

    def _inputs(
        self, cleaner: Cleaner, rows: np.ndarray, first: int, cells: tuple[slice, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows from the first on, cleaned and scaled, and where they were known."""
        last = first + len(rows)
        needed = cleaner.config.missing in ("interpolate", "climatology")
        times = self._timeline[first:last] if needed else np.arange(first, last)
        return cleaner.inputs(rows, times=times, cells=cells)

    @cached_property
    def _timeline(self) -> np.ndarray:
        """The times of all rows, and of those behind the field."""
        behind = [] if self.coming is None else [self.coming.time.values]
        return np.concatenate([self.field.time.values, *behind])

    def _with_rows_behind(
        self, slab: np.ndarray, count: int, cells: tuple[slice, ...]
    ) -> np.ndarray:
        """The slab with so many rows behind the field, of which only covariates are known."""
        behind = [(0, count), *[(0, 0)] * (slab.ndim - 1)]
        slab = np.pad(as_floats(slab), behind, constant_values=np.nan)
        if self.coming is not None:
            coming = self.coming.variable[(slice(0, count), *cells)].values
            slab[-count:, ..., self.known_numbers] = coming
        return slab

    def _with_channels(
        self,
        inputs: np.ndarray,
        known: np.ndarray,
        slab: np.ndarray,
        first: int,
        cells: tuple[slice, ...],
    ) -> np.ndarray:
        parts, masks = [inputs], [known]
        if self.leads:
            rows = slab[..., self.known_numbers]
            pair = self._inputs(self.ahead_cleaner, rows, first, cells)
            values, there = (ahead(of, self.leads, context=self.context) for of in pair)
            parts.append(values)
            masks.append(there)
        if self.static is not None:
            static = self.static[cells]
            parts.append(np.broadcast_to(static, (self.context, *static.shape)))
        if self.calendar:
            waves = self.forcings[first : first + self.context]
            waves = waves.reshape(len(waves), *[1] * (inputs.ndim - 2), waves.shape[-1])
            parts.append(np.broadcast_to(waves, (*inputs.shape[:-1], waves.shape[-1])))
        if self.mask_channel:
            parts += [mask.astype(np.float32) for mask in masks]
        return np.concatenate(parts, axis=-1) if len(parts) > 1 else inputs

    def _check_targets(self) -> None:
        stop = len(self.field) + self.horizon
        for rows in self.spans or (range(0),):
            require(
                rows.step == 1 and self.context <= rows.start and rows.stop <= stop,
                f"target rows must lie in {self.context}..{stop - 1} (after the first context, up "
                f"to a horizon behind the field) in steps of 1, got {rows}; give the rows of a "
                "split of this field",
            )
            require(
                len(rows) >= self.horizon,
                f"a split must hold one window of {self.horizon} target rows, got {len(rows)}; use "
                "a shorter horizon= or a longer split",
            )

    def _check_tiles(self) -> None:
        sizes = self.field.shape[1:-1]
        require(
            self.tile is not None or self.tile_stride is None,
            "tile must be given with a tile_stride, got none; give both or none",
        )
        for name, given in (("tile", self.tile), ("tile_stride", self.tile_stride)):
            if given is None:
                continue
            require(
                len(given) == len(sizes),
                f"{name} must have one number per space axis of the field, {len(sizes)}, got "
                f"{given}; give one for each of {', '.join(map(str, self.field.dims[1:-1]))}",
            )
            for value in given:
                check_size(name, value)
        for cells, size, dim in zip(self.tile or (), sizes, self.field.dims[1:-1], strict=False):
            require(
                cells <= size,
                f"a tile must fit into the field, got {cells} of {size} cells along {dim}; use a "
                "smaller tile",
            )


def _starts(size: int, window: int, stride: int) -> tuple[int, ...]:
    """First positions of windows along an axis, of which the last one ends it."""
    return WindowSpec((window,), stride=stride, padding="FLUSH").axes((size,))[0].starts
