"""Predictions that are arrays, one an item: hidden patches, and what else is a field."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data import Affine, FieldParts, UnlabelledFields
from stpatch_jax.data.labelled.clips import UnlabelledClips
from stpatch_jax.errors import warn
from stpatch_jax.files import clear_unfinished, has_suffix, replaced, unfinished
from stpatch_jax.runs.predicting.pictures import WRITE
from stpatch_jax.runs.predicting.predictor import Predictor, predictors
from stpatch_jax.tasks import Reconstruct

Room = Callable[[tuple[int, ...], np.dtype], np.ndarray]
"""Where the answers go: an array of a shape and dtype, in memory or on disk."""


class ArrayPredictor(Predictor):
    """Base of predictors that give an array for every item: a subclass writes `filled`.

    A `.npz` has the variables and coordinates of the result as arrays, a `.npy` the first variable
    alone, a `.nc` all of it. No more than a part of the answers is in memory while they are
    computed.
    """

    suffixes = (".npz", ".npy", ".nc")

    def filled(self, room: Room) -> xr.Dataset:
        """The result, of which the answers were put into `room`."""
        raise NotImplementedError

    def result(self) -> xr.Dataset:
        """The answers in memory, one variable first."""
        return self.filled(np.empty)

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if told := clear_unfinished(target.parent, name=target.name):
            warn(told, stacklevel=3)
        beside: Any = {"dir": target.parent, "prefix": f"{unfinished(target).name}~"}
        with replaced(target) as part, tempfile.TemporaryDirectory(**beside) as folder:
            stored = Path(folder, "answers.npy")

            def room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
                return np.lib.format.open_memmap(stored, "w+", dtype, shape)

            made = self.filled(room)
            self.save(part, made)
            count = made.sizes["item"]
        return f"{count} item{'s' * (count > 1)}: {target}"

    def save(self, part: Path, made: xr.Dataset) -> None:
        """Writes the result into a file in the making."""
        first, *_ = made.data_vars.values()
        if has_suffix(part, ".nc"):
            made.to_netcdf(part)
        elif has_suffix(part, ".npy"):
            np.save(part, first.values)
        else:
            with zipfile.ZipFile(part, "w") as archive:
                for name, of in made.variables.items():
                    with archive.open(f"{name}.npy", WRITE, force_zip64=True) as entry:
                        np.lib.format.write_array(entry, of.to_numpy(), allow_pickle=False)

    def named(self, rows: np.ndarray) -> dict[str, Any]:
        """What tells some examples apart, as coordinates along `item`."""
        return {name: ("item", np.asarray(of)[rows]) for name, of in self.names().items()}


@predictors(Reconstruct, object)
class ReconstructionPredictor(ArrayPredictor):
    """Hides patches of every item, the same ones, and fills them as the model does.

    Its result has `field` [item, time, *space, channel], float32, which is the item where it was
    shown, and `hidden` [time, *space], True where the model filled it; both in the units of the
    items where their scaling is known, else in scaled units.
    """

    task: Reconstruct

    def filled(self, room: Room) -> xr.Dataset:
        """As in `ArrayPredictor`."""
        rows = np.arange(len(self.examples))
        first = self.batch(rows[:1])
        shape = first["field"].shape[1:]
        hidden = np.asarray(self.task.evaluation_mask(first))[0]
        values = room((len(rows), *shape), np.dtype(np.float32))
        # One by one: of several in a batch each has other patches hidden.
        for part, made in self.answered(rows, at_once=1):
            shown = self.batch(part)["field"]
            values[part] = self.in_units(np.where(hidden[..., None], made, shown))
        space = [f"axis_{at}" for at in range(len(shape) - 2)]
        variables = {
            "field": (["item", "time", *space, "channel"], values),
            "hidden": (["time", *space], hidden),
        }
        return xr.Dataset(variables, self.named(rows), self.run.identity)

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Values [item, time, *space, channel] in the units of the items."""
        return values


@predictors(Reconstruct, UnlabelledFields)
@predictors(Reconstruct, UnlabelledClips)
class ScaledReconstructionPredictor(ReconstructionPredictor):
    """As `ReconstructionPredictor`, in the units of the items."""

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """As in `ReconstructionPredictor`."""
        scaler = Affine.from_dict(self.data.state())
        return scaler.inverse(values.astype(np.float64)).astype(np.float32)


@predictors(Reconstruct, FieldParts)
class PartsPredictor(ReconstructionPredictor):
    """As `ReconstructionPredictor`, in the units of the field."""

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """As in `ReconstructionPredictor`."""
        return self.data.in_units(values, np.zeros(len(values), np.int64)).astype(np.float32)
