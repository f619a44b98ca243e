"""How a predicted field is stored: chunks, shards, codecs and dtype, named as xarray does."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stpatch_jax.errors import InputError, listed, require

_NAMES = ("chunks", "shards", "compressors", "dtype")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The form of all variables of a store as it was asked for, checked against their shape."""

    given: dict[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any] | None, shape: Sequence[int]) -> "Encoding":
        """What is asked for values of a shape."""
        given = dict(given or {})
        require(
            set(given) <= set(_NAMES),
            f"encoding must have the entries {', '.join(_NAMES)}, got {listed(given)}; leave the "
            "others out",
        )
        for name in ("chunks", "shards"):
            if name in given:
                given[name] = _extents(name, given[name], shape)
        chunks, shards = given.get("chunks"), given.get("shards")
        if shards is not None and (
            chunks is None or any(s % c for s, c in zip(shards, chunks, strict=True))
        ):
            raise InputError(
                f"the shards of encoding must be whole numbers of chunks, got {shards} of "
                f"{chunks}; give both"
            )
        return cls(given)

    def dtype(self, predicted: np.dtype) -> np.dtype:
        """What the store holds of predictions of a dtype."""
        asked = self.given.get("dtype", predicted)
        try:
            stored = np.dtype(asked)
        except TypeError:
            stored = np.dtype(object)
        # A number that does not fit would come back as another one.
        rule = "same_kind" if predicted.kind in "fc" else "safe"
        require(
            stored.kind in "fciub" and np.can_cast(predicted, stored, rule),
            f"the dtype of encoding must hold predictions of {predicted}, got {asked!r}; give a "
            "float for floats, or make whole numbers by reduce",
        )
        return stored

    def pieces(self, *, leads: bool) -> tuple[int, ...] | None:
        """Extents along (time, *space) that are written as one file; None where a region is one."""
        pieces = self.given.get("shards", self.given.get("chunks"))
        # Lead times are an axis that no region is cut along.
        return (pieces[0], *pieces[2:]) if pieces and leads else pieces

    @property
    def zarr_format(self) -> int:
        """2, which every library reads, but 3 where there are shards, which 2 does not have."""
        return 3 if "shards" in self.given else 2

    def form(self, regions: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
        """Arguments of zarr for an array of a dtype; by default a region is a chunk."""
        # With a number for missing ones, format 2 would have it read as such.
        missing = np.nan if dtype.kind in "fc" else None
        return {"chunks": regions, "fill_value": missing, **self.given, "dtype": dtype}

    def described(self) -> dict[str, str]:
        """What makes a store the same, as JSON values."""
        return {name: repr(value) for name, value in self.given.items()}


def _extents(name: str, given: Any, shape: Sequence[int]) -> tuple[int, ...]:
    try:
        extents = tuple(int(extent) for extent in given if extent == int(extent))
        fits = len(extents) == len(given) == len(shape) and all(extent > 0 for extent in extents)
    except (TypeError, ValueError):
        extents, fits = (), False
    require(
        fits,
        f"the {name} of encoding must be {len(shape)} extents in cells, for the target's shape "
        f"{tuple(shape)}, got {given!r}; give one for each axis",
    )
    return extents
