"""Extraction and fold of fields split over devices, each device on its own share of the windows."""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches import extraction, folding
from stpatch_jax.patches.blends import Blend, Weighting
from stpatch_jax.patches.canonical import axis_name
from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.folding import Reduce
from stpatch_jax.patches.halo.exchange import Halo, Names, Ring, exchange, slice_at
from stpatch_jax.patches.lowerings import Axes, choose
from stpatch_jax.patches.windows import AxisWindows, Windows, WindowSpec

AnyMesh = Mesh | AbstractMesh
Splits = tuple[Names, ...]  # the mesh axes that split each array axis
Partition = PartitionSpec | Sequence[str | Sequence[str] | None]


@dataclasses.dataclass(frozen=True)
class Share:
    """What shard `r` reads: `cells` from `start + r * drift` on, counted in shard and halo."""

    halo: Halo
    start: int
    drift: int
    cells: int


def sharded_extract_patches(
    x: ArrayLike, spec: Spec, *, partition: Partition, mesh: AnyMesh | None = None
) -> jax.Array:
    """Extracts patches of a field split over devices, by neighbour exchange; nothing is gathered.

    Equals `extract_patches(x, spec)` bit for bit with every option of the spec. The patch grid
    is split as the field is, so every device cuts an equal share of the windows, from its own cells
    and a halo of its neighbours' (see `halo_exchange`). Derivatives of any order work, and
    send the halo back.

    Windows that keep pace with the shards (`stride * grid = size`, as SAME, CAUSAL and wrap padding
    give where the stride divides the shard length) need the smallest halo, one window less a
    stride; others, such as VALID ones, are evened out by a longer halo.

    Args:
        x: Field `[*batch, time, *space, channel]`, any dtype.
        spec: A `WindowSpec` or a bare window.
        partition: How the field lies on the mesh, one entry per axis as in a `PartitionSpec`:
            a mesh axis, several, or None; missing entries at the end are None. Batch and channel
            axes may be split too.
        mesh: The mesh; without it, that of the surrounding `jax.set_mesh`.

    Returns:
        Patches `[*batch, nt, *ns, *window, channel]` of the dtype of `x`, batch, grid and channel
        partitioned as the field's axes.

    Raises:
        InputError: An axis or its patch grid does not split evenly, a halo is longer than
            the field, or partition and mesh do not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> mesh = jax.make_mesh((1, jax.device_count()), ("data", "space"))
        >>> rows = jax.P("data", None, "space")
        >>> x = jnp.zeros((2, 6, 8 * jax.device_count(), 3))  # batch, time, space, channel
        >>> x = jax.device_put(x, jax.NamedSharding(mesh, rows))
        >>> spec = WindowSpec((2, 4), stride=(2, 2), padding=("VALID", "SAME"))
        >>> patches = sharded_extract_patches(x, spec, partition=rows, mesh=mesh)
        >>> patches.shape[1:3] == spec.grid_shape(x.shape[1:3])
        True
    """
    x, mesh = jnp.asarray(x), known_mesh(mesh)
    return _extract(x, WindowSpec.of(spec), names=split_names(partition, x.ndim, mesh), mesh=mesh)


@functools.partial(jax.jit, static_argnames=("spec", "names", "mesh"), inline=True)
def _extract(x: jax.Array, spec: WindowSpec, *, names: Splits, mesh: AnyMesh) -> jax.Array:
    windows = extraction.windows_of(x.shape, spec)
    require_even(x.shape, windows.axes, names, mesh)
    local, shares = plan(windows, names, mesh)
    fill = extraction.fill_scalar(spec.fill_value, x.dtype)
    cut = choose("auto", local.axes, x.dtype, flat=False)

    def copy(x: jax.Array, fill: np.ndarray) -> jax.Array:
        near = extraction.padded(neighbourhood(x, shares, fill), local.axes, fill)
        return extraction.masked(cut(near), local.mask, fill)

    def linear(tangent: jax.Array) -> jax.Array:
        wide = tangent.astype(extraction.accumulator(tangent.dtype))
        return _linear(wide, local, shares).astype(tangent.dtype)

    return jax.shard_map(
        lambda x: extraction.exact_copy(copy, linear, x, fill),
        mesh=mesh,
        in_specs=PartitionSpec(*names),
        out_specs=patches_partition(names, spec.rank),
    )(x)


def sharded_fold_patches(
    patches: ArrayLike,
    spec: Spec,
    shape: Sequence[int],
    *,
    partition: Partition,
    mesh: AnyMesh | None = None,
    reduce: Reduce = "mean",
    blend: Blend = "uniform",
) -> jax.Array:
    """Puts patches back into a field split over devices; the sums cross shards by neighbours.

    Equals `fold_patches` up to the order of the sums (1e-6 relative; integers exactly), and with
    `reduce="sum"` is the exact transpose of `sharded_extract_patches`. No device holds more than
    its share of patches and field, and the halo.

    Arguments as in `fold_patches`; `partition` says how the *field* `[*batch, time, *space,
    channel]` lies on the mesh, as in `sharded_extract_patches`, and the patches' batch, grid and
    channel lie likewise.

    Returns:
        Field `[*batch, time, *space, channel]`, partitioned by `partition`, of the dtype that
        `fold_patches` gives.

    Raises:
        InputError: The patches do not fit spec and shape, an axis or its patch grid does not split
            evenly, a halo is longer than the field, or a name is not known.

    Examples:
        >>> import jax.numpy as jnp
        >>> mesh = jax.make_mesh((jax.device_count(),), ("time",))
        >>> split = {"partition": jax.P("time"), "mesh": mesh}
        >>> x = jnp.arange(8.0 * jax.device_count())[:, None]
        >>> x = jax.device_put(x, jax.NamedSharding(mesh, jax.P("time")))
        >>> spec = WindowSpec((4,), stride=2, padding="SAME")
        >>> y = sharded_fold_patches(
        ...     sharded_extract_patches(x, spec, **split), spec, x.shape[:1], **split, blend="hann"
        ... )
        >>> bool(jnp.allclose(y, x))
        True
    """
    patches, mesh = jnp.asarray(patches), known_mesh(mesh)
    check_choice("reduce", reduce, get_args(Reduce))
    windows = WindowSpec.of(spec).resolve(shape)
    weighting = Weighting.of(blend, windows.window)
    folding.require_fit(patches.shape, windows)
    names = split_names(partition, patches.ndim - len(windows.axes), mesh)
    return _fold(patches, windows, names=names, mesh=mesh, reduce=reduce, weighting=weighting)


@functools.partial(
    jax.jit, static_argnames=("windows", "names", "mesh", "reduce", "weighting"), inline=True
)
def _fold(
    patches: jax.Array,
    windows: Windows,
    *,
    names: Splits,
    mesh: AnyMesh,
    reduce: Reduce,
    weighting: Weighting,
) -> jax.Array:
    rank = len(windows.axes)
    over, batch = names[-1 - rank : -1], patches.shape[: len(names) - 1 - rank]
    require_even((*batch, *windows.shape, patches.shape[-1]), windows.axes, names, mesh)
    local, shares = plan(windows, names, mesh)
    cells = [n // shard_count(part, mesh) for n, part in zip(windows.shape, over, strict=True)]

    def add(patches: jax.Array) -> jax.Array:
        return folding.transposed(lambda x: _linear(x, local, shares), patches, cells)

    def factors() -> list[Any]:
        # Tables of all windows along an axis are small: every device takes its part of them.
        parts: list[Any] = weighting.factors(windows)
        for at, count in enumerate(local.grid):
            parts = [p if p.shape[at] == 1 else _own_part(p, at, over[at], count) for p in parts]
        return parts

    def totals(dtype: jnp.dtype) -> list[jax.Array]:
        if not weighting.own and windows.mask is None:
            divisors = [
                jnp.asarray(np.where(total > 0, total, 1), dtype)
                for total in weighting.totals(windows)
            ]
            return list(map(_own_part, divisors, range(rank), over, cells))
        # Other weights are a field, folded as the patches are: no device holds it whole.
        real = jnp.finfo(dtype).dtype
        taper = functools.reduce(operator.mul, factors()).astype(real)[..., None]
        taper = jnp.broadcast_to(taper, (*local.grid, *taper.shape[rank:]))
        total = add(lax.pcast(taper, sum(over, ()), to="varying"))[..., 0]
        return [jnp.where(total > 0, total, 1).astype(dtype)]

    def fold(patches: jax.Array) -> jax.Array:
        return folding.blended(patches, weighting, factors(), add, totals, reduce=reduce)

    return jax.shard_map(
        fold, mesh=mesh, in_specs=patches_partition(names, rank), out_specs=PartitionSpec(*names)
    )(patches)


def _own_part(values: jax.Array, axis: int, names: Names, cells: int) -> jax.Array:
    """This shard's part of values that every device holds."""
    if not names:
        return values
    return lax.dynamic_slice_in_dim(values, lax.axis_index(names) * cells, cells, axis)


def _linear(x: jax.Array, local: Windows, shares: Sequence[Share]) -> jax.Array:
    """The linear part of sharded extraction, in the form whose transpose is the sharded fold."""
    return extraction.linear_extract(neighbourhood(x, shares, np.zeros((), x.dtype)), local)


def plan(windows: Windows, names: Splits, mesh: AnyMesh) -> tuple[Windows, list[Share]]:
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


def require_even(shape: tuple[int, ...], axes: Axes, names: Splits, mesh: AnyMesh) -> None:
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
        if inside and shards > 1 and axes[position].back:
            raise InputError(
                f"windows must lie one stride apart along {name}, which is split over devices, got "
                f'padding="FLUSH"; use padding="COVER", or split another axis'
            )
        if inside and axes[position].count % shards:
            raise InputError(
                f"the patch grid must split into {shards} equal shards along {name} (mesh axis "
                f"{', '.join(over)}), got {axes[position].count} windows of stride "
                f"{axes[position].stride} on {size} cells; choose a stride that divides the "
                f'{size // shards} cells of a shard with padding="SAME", or split another axis'
            )


def shard_count(names: Names, mesh: AnyMesh) -> int:
    """Number of parts that an array axis is split into over some mesh axes."""
    return math.prod(mesh.shape[name] for name in names)


def patches_partition(names: Splits, rank: int) -> PartitionSpec:
    """How patches lie on the mesh when their field lies by `names`."""
    return PartitionSpec(*names[:-1], *[None] * rank, names[-1])


def known_mesh(mesh: AnyMesh | None) -> AnyMesh:
    """The mesh that was given, or else that of the surrounding `jax.set_mesh`."""
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    if mesh.empty:
        raise InputError(
            "a sharded operator must know its mesh, got none; give mesh=... or call it inside "
            "jax.set_mesh(mesh)"
        )
    return mesh


def split_names(partition: Partition, ndim: int, mesh: AnyMesh) -> Splits:
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
