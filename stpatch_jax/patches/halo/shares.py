"""Which windows of a split field each device cuts, and the cells it needs for them."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from stpatch_jax.errors import InputError
from stpatch_jax.patches.canonical import axis_name
from stpatch_jax.patches.halo.exchange import Halo, Names, Ring, exchange, slice_at
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import AxisWindows, Windows

Partition = PartitionSpec | Sequence[str | Sequence[str] | None]


@dataclasses.dataclass(frozen=True)
class Share:
    """What shard `r` reads: `cells` from `start + r * drift` on, counted in shard and halo."""

    halo: Halo
    start: int
    drift: int
    cells: int


def plan(
    windows: Windows, names: tuple[Names, ...], mesh: Mesh | AbstractMesh
) -> tuple[Windows, list[Share]]:
    """The windows of one device along every axis, and what it reads along the split ones."""
    local, shares = [], []
    for position, axis in enumerate(windows.axes):
        place = position - 1 - len(windows.axes)  # counted from the end, behind it the channel
        over = names[place]
        if shard_count(over, mesh) > 1:
            share = _share(axis, Ring.over(over, mesh), place=place, name=axis_name(position))
            shares.append(share)
            # Its halo brings the padding too.
            axis = dataclasses.replace(axis, size=share.cells, lo=0, hi=0)
        local.append(axis)
    return dataclasses.replace(windows, axes=tuple(local)), shares


def _share(axis: AxisWindows, ring: Ring, *, place: int, name: str) -> Share:
    """What a shard reads for its equal share of the windows.

    Shard `r` holds the cells from `r * size` on and cuts the windows from `r * count` on, which
    start at cell `r * count * stride - lo`: in its own cells at `r * drift - lo`. Where the windows
    keep pace with the shards the drift is 0. Else the last shard is furthest off, and since one
    program runs on all, every shard's halo is long enough for the first shard and for the last.
    """
    size, count = axis.size // ring.shards, axis.count // ring.shards
    cells = (count - 1) * axis.stride + axis.effective
    drift = count * axis.stride - size
    furthest = (ring.shards - 1) * drift
    before = max(axis.lo, axis.lo - furthest)
    after = max(0, cells - axis.lo - size, cells - axis.lo - size + furthest)
    if max(before, after) > axis.size:
        raise InputError(
            f"windows must not reach further beyond a shard than the field is long, got {before} "
            f"cells in front and {after} behind on a field of {axis.size} along {name}; pad less "
            "or split another axis"
        )
    return Share(Halo(place, ring, before, after, axis.mode), before - axis.lo, drift, cells)


def require_even(
    shape: tuple[int, ...], axes: Axes, names: tuple[Names, ...], mesh: Mesh | AbstractMesh
) -> None:
    """Refuses a field, or a patch grid, that does not split into equal shards."""
    first = len(shape) - 1 - len(axes)
    for place, (size, over) in enumerate(zip(shape, names, strict=True)):
        shards, position = shard_count(over, mesh), place - first
        inside = 0 <= position < len(axes)
        name = axis_name(position) if inside else f"array axis {place}"
        if size % shards:
            raise InputError(
                f"the field must split into {shards} equal shards along {name} (mesh axis "
                f"{', '.join(over)}), got {size} cells; pad or crop it, or split another axis"
            )
        if inside and axes[position].count % shards:
            raise InputError(
                f"the patch grid must split into {shards} equal shards along {name} (mesh axis "
                f"{', '.join(over)}), got {axes[position].count} windows of stride "
                f"{axes[position].stride} on {size} cells; choose a stride that divides the "
                f'{size // shards} cells of a shard with padding="SAME", or split another axis'
            )


def shard_count(names: Names, mesh: Mesh | AbstractMesh) -> int:
    """Number of parts that an array axis is split into over some mesh axes."""
    return math.prod(mesh.shape[name] for name in names)


def patches_partition(names: tuple[Names, ...], rank: int) -> PartitionSpec:
    """How patches lie on the mesh when their field lies by `names`."""
    return PartitionSpec(*names[:-1], *[None] * rank, names[-1])


def known_mesh(mesh: Mesh | AbstractMesh | None) -> Mesh | AbstractMesh:
    """The mesh that was given, or else that of the surrounding `jax.set_mesh`."""
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    if mesh.empty:
        raise InputError(
            "a sharded operator must know its mesh, got none; give mesh=... or call it inside "
            "jax.set_mesh(mesh)"
        )
    return mesh


def split_names(partition: Partition, ndim: int, mesh: Mesh | AbstractMesh) -> tuple[Names, ...]:
    """The mesh axes that split every array axis."""
    entries = tuple(partition)
    if len(entries) > ndim:
        raise InputError(
            f"partition must have at most one entry for each of the {ndim} axes of the field "
            f"(*batch, time, *space, channel), got {len(entries)}: {entries}; leave entries out"
        )
    names = [
        (entry,) if isinstance(entry, str) else () if entry is None else tuple(entry)
        for entry in entries
    ]
    flat = [name for entry in names for name in entry]
    if set(flat) - set(mesh.axis_names) or len(set(flat)) < len(flat):
        raise InputError(
            f"partition must name axes of the mesh {mesh.axis_names}, each at most once, got "
            f"{entries}; correct it or build another mesh"
        )
    return (*names, *[()] * (ndim - len(names)))


def neighbourhood(x: jax.Array, shares: Sequence[Share], fill: np.ndarray) -> jax.Array:
    """The cells that this device's windows read along the split axes."""
    for share in shares:
        start, axis = share.start, share.halo.axis
        x = exchange(x, share.halo, fill)
        if share.drift:
            start += share.drift * share.halo.ring.index()
            x = slice_at(x, start, share.cells, axis)
        else:
            x = lax.slice_in_dim(x, start, start + share.cells, axis=axis)
    return x
