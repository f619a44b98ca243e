"""Which devices a collective joins, and along which axes of the mesh."""

import math
import re
from typing import Any

import numpy as np
from jax.sharding import Mesh

_IOTA = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"


def groups_of(attributes: str, devices: int) -> Any:
    """The devices that talk to each other, `(groups, devices of a group)`, by their places.

    Places are those in the mesh, flattened. Of a permutation every pair is a group. None where the
    text names them in a way that is not known.

    >>> groups_of("replica_groups={{0,2},{1,3}}, dimensions={0}", 4).tolist()
    [[0, 2], [1, 3]]
    >>> groups_of("replica_groups=[2,2]<=[2,2]T(1,0), channel_id=1", 4).tolist()
    [[0, 2], [1, 3]]
    >>> groups_of("replica_groups=mesh['x'=2,'y'=2] {'x'}, channel_id=1", 4).tolist()
    [[0, 2], [1, 3]]
    """
    if pairs := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", attributes):
        return _listed(pairs[1])
    if named := re.search(
        rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({_IOTA}\))? ?\{{([^}}]*)\}}", attributes
    ):
        return _of_mesh(named[1], named[2], named[3], named[4])
    if iota := re.search(rf"replica_groups=\[(\d+),(\d+)\]<={_IOTA}", attributes):
        return _counted(iota[3], iota[4]).reshape(int(iota[1]), int(iota[2]))
    if lists := re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", attributes):
        return _listed(lists[1]) if lists[1] else np.arange(devices)[None]
    return None


def axes_of(groups: np.ndarray, mesh: Mesh) -> tuple[str, ...]:
    """The axes of a mesh along which the places of a group lie apart.

    >>> from stpatch_jax import chips
    >>> mesh = chips.mesh("cpu:4", {"data": 2, "fsdp": 2})
    >>> axes_of(np.array([[0, 2], [1, 3]]), mesh), axes_of(np.array([[0, 1, 2, 3]]), mesh)
    (('data',), ('data', 'fsdp'))
    """
    places = np.unravel_index(groups, mesh.devices.shape)
    apart = [bool(np.any(place != place[:, :1])) for place in places]
    return tuple(name for name, spread in zip(mesh.axis_names, apart, strict=True) if spread)


def _listed(text: str) -> np.ndarray | None:
    rows = [[int(x) for x in row.split(",")] for row in re.findall(r"\{([\d,]+)\}", text)]
    return np.array(rows) if len({len(row) for row in rows}) == 1 else None


def _counted(sizes: str, order: str | None) -> np.ndarray:
    shape = [int(n) for n in sizes.split(",")]
    counted = np.arange(math.prod(shape)).reshape(shape)
    return counted.transpose([int(axis) for axis in order.split(",")]) if order else counted


def _of_mesh(axes: str, ids: str | None, order: str | None, joined: str) -> np.ndarray | None:
    sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", axes)}
    names = re.findall(r"'(\w+)'(:\(\d+\)\d+)?", joined)
    places = _counted(ids, order) if ids else np.arange(math.prod(sizes.values()))
    places = places.reshape(tuple(sizes.values()))
    axis_names = list(sizes)
    if any(part for _, part in names):  # parts of an axis: `'axis_0':(2)4`, 4 devices after 2
        places, axis_names, names = _split(joined, sizes, places)
    else:
        names = [name for name, _ in names]
    inner = [axis_names.index(name) for name in names]
    outer = [axis for axis in range(places.ndim) if axis not in inner]
    size = math.prod(places.shape[axis] for axis in inner)
    return places.transpose(outer + inner).reshape(-1, size)


def _split(
    joined: str, sizes: dict[str, int], places: np.ndarray
) -> tuple[np.ndarray, list[str], list[str]]:
    """The mesh with those axes cut that a group takes a part of."""
    parts = {n: (int(a), int(b)) for n, a, b in re.findall(r"'(\w+)':\((\d+)\)(\d+)", joined)}
    shape: list[int] = []
    axis_names: list[str] = []
    for name, size in sizes.items():
        before, part = parts.get(name, (1, size))
        shape += [before, part, size // before // part]
        axis_names += [f"{name} before", name, f"{name} after"]
    return places.reshape(shape), axis_names, re.findall(r"'(\w+)'", joined)
