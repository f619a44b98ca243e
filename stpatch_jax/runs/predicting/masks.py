"""Predictions that are masks: the class of every cell of items of any size."""

import gzip
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from flax import nnx

from stpatch_jax.data import UnsegmentedFields
from stpatch_jax.data.readers.nifti import NIFTI_SUFFIXES, nifti_bytes
from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix
from stpatch_jax.runs.judging.segmentation import classes_of
from stpatch_jax.runs.predicting.arrays import ArrayPredictor, Room
from stpatch_jax.runs.predicting.pictures import write_each
from stpatch_jax.runs.predicting.predictor import predictors
from stpatch_jax.tasks import Segment


@predictors(Segment, UnsegmentedFields)
class MaskPredictor(ArrayPredictor):
    """Gives every cell of every item the value that its class has in the masks of the run.

    Items of one size give `mask` [item, *cells] and `probability`, that of the class; items of
    several sizes a mask each, `mask_0`, `mask_1` ..., with their names as `item`. A `.png` is the
    mask of an image, in these values, see `write_each` of several ones; a `.nii` or `.nii.gz` that
    of one NIfTI volume, at its places. Items larger than the crops of the run are tiled.
    """

    suffixes = (*ArrayPredictor.suffixes, ".png", *NIFTI_SUFFIXES)
    task: Segment
    data: UnsegmentedFields

    def filled(self, room: Room) -> xr.Dataset:
        """As in `ArrayPredictor`."""
        window, codes = self.run.shapes["field"][1:-1], self.data.codes
        program = nnx.jit(lambda model, field: classes_of(self.task, model, field, window))
        shapes = [self._cells(at) for at in range(len(self.examples))]
        dtype = np.min_scalar_type(int(np.abs(codes).max()) * (-1 if codes.min() < 0 else 1))
        attrs = {**self.run.identity, "classes": list(self.data.classes), "values": codes.tolist()}
        one = len(set(shapes)) == 1
        masks: Any = room((len(shapes), *shapes[0]), dtype) if one else [None] * len(shapes)
        sure = np.empty(masks.shape, np.float32) if one else masks[:]
        for at, shape in enumerate(shapes):
            field = self.examples[at]["field"][None]
            found = jax.device_get(program(self.run.model, field))
            masks[at] = codes[found["label"]].reshape(shape).astype(dtype)
            sure[at] = found["probability"].reshape(shape)
        dims = [f"axis_{at}" for at in range(len(shapes[0]))]
        names = self.named(np.arange(len(shapes)))
        if one:
            answers = {"mask": (["item", *dims], masks), "probability": (["item", *dims], sure)}
            return xr.Dataset(answers, names, attrs)
        answers = {
            f"mask_{at}": ([f"{dim}_of_{at}" for dim in dims], mask)
            for at, mask in enumerate(masks)
        }
        return xr.Dataset(answers, names, attrs)

    def _cells(self, at: int) -> tuple[int, ...]:
        """The shape of the mask of an item: without the time that was put in."""
        cells = self.data.fields[at].shape[:-1]
        return cells[len(cells) - self.data.axes :]

    def save(self, part: Path, made: xr.Dataset) -> None:
        """As in `ArrayPredictor`."""
        first, *_ = made.data_vars.values()
        require(
            has_suffix(part, ".npz", ".nc") or "mask" in made,
            f"the items must be of one size for one array, got several sizes for {part.name}; give "
            "an .npz or .nc",
        )
        if has_suffix(part, *NIFTI_SUFFIXES):
            source = self.data.report["source"]
            require(
                has_suffix(source, *NIFTI_SUFFIXES) and len(first) == 1,
                f"a NIfTI mask must be of one NIfTI volume, got {len(first)} items of {source}; "
                "give an .npz",
            )
            made_of = nifti_bytes(first.values[0], source)
            packed = has_suffix(part, ".gz")
            part.write_bytes(gzip.compress(made_of, mtime=0) if packed else made_of)
            return
        super().save(part, made)

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, ".png"):
            return super().write(target)
        place = write_each(target, self.names(), self._writers())
        count = len(self.examples)
        return f"{count} item{'s' * (count > 1)}: {place}"

    def _writers(self) -> Iterator[Callable[[Path], None]]:
        """What writes the mask of each item."""
        from PIL import Image

        made = self.result()
        masks = made["mask"].values if "mask" in made else [of.values for of in made.values()]
        for mask in masks:
            require(
                mask.ndim == 2 and mask.dtype == np.uint8,
                f"a .png must be of images with classes from 0 to 255, got {mask.dtype} of shape "
                f"{mask.shape}; give an .npz",
            )
            yield partial(Image.fromarray(mask).save, format="PNG")
