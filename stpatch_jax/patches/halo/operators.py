"""Extraction and fold of fields split over devices, each device on its own share of the windows."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import ArrayLike

from stpatch_jax.patches.extraction import (
    Spec,
    accumulator,
    exact_copy,
    fill_scalar,
    linear_extract,
    masked,
    padded,
    windows_of,
)
from stpatch_jax.patches.folding import (
    Blend,
    Reduce,
    blended,
    divisors,
    outer,
    require_fit,
    transposed,
)
from stpatch_jax.patches.halo.exchange import Names
from stpatch_jax.patches.halo.shares import (
    Partition,
    Share,
    known_mesh,
    neighbourhood,
    patches_partition,
    plan,
    require_even,
    shard_count,
    split_names,
)
from stpatch_jax.patches.lowerings import choose
from stpatch_jax.patches.windows import Windows, WindowSpec


def sharded_extract_patches(
    x: ArrayLike, spec: Spec, *, partition: Partition, mesh: Mesh | AbstractMesh | None = None
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
def _extract(
    x: jax.Array, spec: WindowSpec, *, names: tuple[Names, ...], mesh: Mesh | AbstractMesh
) -> jax.Array:
    windows = windows_of(x.shape, spec)
    require_even(x.shape, windows.axes, names, mesh)
    local, shares = plan(windows, names, mesh)
    fill = fill_scalar(spec.fill_value, x.dtype)
    cut = choose("auto", local.axes)

    def copy(x: jax.Array, fill: np.ndarray) -> jax.Array:
        near = padded(neighbourhood(x, shares, fill), local.axes, fill)
        return masked(cut(near, local.axes), local.mask, fill)

    def linear(tangent: jax.Array) -> jax.Array:
        wide = tangent.astype(accumulator(tangent.dtype))
        return _linear(wide, local, shares).astype(tangent.dtype)

    return jax.shard_map(
        lambda x: exact_copy(copy, linear, x, fill),
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
    mesh: Mesh | AbstractMesh | None = None,
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
    windows = WindowSpec.of(spec).resolve(shape)
    require_fit(patches.shape, windows)
    names = split_names(partition, patches.ndim - len(windows.axes), mesh)
    return _fold(patches, windows, names=names, mesh=mesh, reduce=reduce, blend=blend)


@functools.partial(
    jax.jit, static_argnames=("windows", "names", "mesh", "reduce", "blend"), inline=True
)
def _fold(
    patches: jax.Array,
    windows: Windows,
    *,
    names: tuple[Names, ...],
    mesh: Mesh | AbstractMesh,
    reduce: Reduce,
    blend: Blend,
) -> jax.Array:
    rank = len(windows.axes)
    over, batch = names[-1 - rank : -1], patches.shape[: len(names) - 1 - rank]
    require_even((*batch, *windows.shape, patches.shape[-1]), windows.axes, names, mesh)
    local, shares = plan(windows, names, mesh)
    cells = [n // shard_count(part, mesh) for n, part in zip(windows.shape, over, strict=True)]

    def add(patches: jax.Array) -> jax.Array:
        return transposed(lambda x: _linear(x, local, shares), patches, cells)

    def weights(tapers: Sequence[np.ndarray], dtype: jnp.dtype) -> list[jax.Array]:
        if windows.mask is None:
            factors = [jnp.asarray(factor, dtype) for factor in divisors(windows, tapers)]
            return list(map(_own_part, factors, range(rank), over, cells))
        # With a footprint the weights are a field, folded as the patches are: no device holds it
        # whole.
        taper = outer(tapers).astype(jnp.finfo(dtype).dtype)[..., None]
        taper = jnp.broadcast_to(taper, (*local.grid, *taper.shape))
        total = add(lax.pcast(taper, sum(over, ()), to="varying"))[..., 0]
        return [jnp.where(total > 0, total, 1).astype(dtype)]

    return jax.shard_map(
        lambda patches: blended(patches, windows, add, weights, reduce=reduce, blend=blend),
        mesh=mesh,
        in_specs=patches_partition(names, rank),
        out_specs=PartitionSpec(*names),
    )(patches)


def _own_part(values: jax.Array, axis: int, names: Names, cells: int) -> jax.Array:
    """This shard's part of values that every device holds."""
    if not names:
        return values
    return lax.dynamic_slice_in_dim(values, lax.axis_index(names) * cells, cells, axis)


def _linear(x: jax.Array, local: Windows, shares: Sequence[Share]) -> jax.Array:
    """The linear part of sharded extraction, in the form whose transpose is the sharded fold."""
    return linear_extract(neighbourhood(x, shares, np.zeros((), x.dtype)), local)
