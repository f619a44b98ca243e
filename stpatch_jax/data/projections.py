"""How the places of a grid lie on the Earth, as the grid mappings of CF files tell it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# The figure of the Earth moves no cell by more than it is wide.
_FIGURE = ("semi_major_axis", "semi_minor_axis", "inverse_flattening", "earth_radius")


def projection(attrs: Mapping[str, Any]) -> str:
    """The attributes of a grid mapping that say where cells are, as one text.

    >>> projection({"grid_mapping_name": "polar_stereographic", "standard_parallel": [60]})
    'grid_mapping_name polar_stereographic; standard_parallel 60'
    """
    told = {"grid_mapping_name": str(attrs.get("grid_mapping_name", ""))}
    for key in sorted({*attrs} - {*_FIGURE}):
        numbers = np.ravel(np.asarray(attrs[key]))
        if numbers.dtype.kind in "iuf":
            told[key] = " ".join(f"{number:.7g}" for number in numbers)
    return "; ".join(f"{key} {value}" for key, value in told.items() if value)


def other_projection(own: str, other: str) -> str:
    """The first thing that both tell and in which they differ, empty for none.

    >>> other_projection("standard_parallel 60; false_easting 0", "standard_parallel 70")
    'standard_parallel 70 in place of 60'
    """
    ours, theirs = (
        dict(part.split(" ", 1) for part in text.split("; ") if part) for text in (own, other)
    )
    changed = (
        f"{key} {theirs[key]} in place of {value}"
        for key, value in ours.items()
        if theirs.get(key, value) != value
    )
    return next(changed, "")
