"""Parts of a field for a task without targets: to be reconstructed where they are hidden."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from stpatch_jax.data.fields.choosing import Auto
from stpatch_jax.data.fields.problem import FieldConfig, FieldData
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.data.protocols import EVERYTHING, InputAxes
from stpatch_jax.data.sampling.batches import Batch, Source


@dataclass(frozen=True)
class FieldPartsConfig(FieldConfig):
    """Parts of any file that `open_field` reads, all of space and some time steps each.

    Rows are split, cleaned and scaled as those of `FieldConfig`, and targets tell which channels.

    Attributes:
        horizon: Number of time steps of a part; "auto" as in `FieldConfig`.
        context: Rows before a part, of which nothing is seen.
    """

    context: int | Auto = 1

    def load(self) -> "FieldParts":
        """Opens the file, splits it and fits the cleaning to the training rows.

        Raises:
            InputError: If it cannot be read or is too short.
        """
        return FieldParts.like(super().load())

    def of(self, values: Any) -> "FieldParts":
        """The parts of a field in memory, all that `as_field` takes.

        Raises:
            InputError: If it is no field, or too short.
        """
        return FieldParts.like(super().of(values))

    def _restored(self, given: Any, state: Mapping[str, Any], future: Any = None) -> "FieldParts":
        """Another field, out of a file or in memory, for a trained run: parts side by side."""
        whole = super()._restored(given, state, future)
        rows = range(whole.past, len(whole.field))
        return FieldParts.like(replace(whole, splits={EVERYTHING: rows}))


@dataclass(frozen=True, eq=False)
class FieldParts(FieldData):
    """What `FieldPartsConfig` loads: examples of a `field` and of where it is known."""

    @classmethod
    def like(cls, data: FieldData) -> "FieldParts":
        """The parts of the targets of a forecast problem."""
        return cls(**{field.name: getattr(data, field.name) for field in fields(data)})

    def source(self, split: str) -> Source:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The parts of a split: `field` [horizon, *space, channel] and `field_mask`."""
        return _Parts(self._windows(split))

    def input_axes(self, split: str, number: int) -> InputAxes:
        """Coordinates of space, the times of the part, and the names of its channels."""
        row = self._windows(split).starts[number]
        axes = super().input_axes(split, number)
        coords = {**axes.coords, "time": self.times[row : row + self.horizon]}
        return replace(axes, coords=coords, channels=self.roles.targets)

    def names(self, split: str) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """The time at which each part begins."""
        return {"start": self.times[self._windows(split).starts]}

    def _windows(self, split: str) -> FieldWindows:
        windows = super().source(split).windows
        return replace(windows, stride=self.horizon) if split == EVERYTHING else windows


@dataclass(frozen=True, eq=False)
class _Parts:
    windows: FieldWindows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int, /) -> Batch:
        example = self.windows[i]
        return {"field": example["target"], "field_mask": example["target_mask"]}
