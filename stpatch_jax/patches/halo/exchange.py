"""Halo exchange: the cells that a shard lacks, fetched from its neighbours."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError
from stpatch_jax.patches import canonical
from stpatch_jax.patches.bits import accumulator, exact_copy
from stpatch_jax.patches.canonical import PaddingMode
from stpatch_jax.patches.extraction import fill_scalar

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Ring:
    """The shards along some mesh axes, the last of which is the fastest.

    `lax.ppermute` numbers the devices of several axes in the order that the mesh has them, whatever
    order it is given; `devices[r]` is what it calls shard `r`.
    """

    names: Names
    in_mesh_order: Names
    devices: tuple[int, ...]

    @classmethod
    def over(cls, names: Names, mesh: Mesh | AbstractMesh) -> "Ring":
        """The ring over some axes of a mesh."""
        ordered = tuple(sorted(names, key=mesh.axis_names.index))
        sizes = [mesh.shape[name] for name in ordered]
        devices = np.arange(math.prod(sizes)).reshape(sizes)
        devices = devices.transpose([ordered.index(name) for name in names])
        return cls(names, ordered, tuple(devices.ravel().tolist()))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.devices)

    def receive(self, x: jax.Array, hop: int, *, closed: bool) -> jax.Array:
        """The `x` of the shard `hop` places in front; zeros where an open ring has none."""
        pairs = [
            (self.devices[source], self.devices[(source + hop) % self.shards])
            for source in range(self.shards)
            if closed or 0 <= source + hop < self.shards
        ]
        return lax.ppermute(x, self.in_mesh_order, pairs)

    def index(self) -> jax.Array:
        """The number of this device's shard."""
        return lax.axis_index(self.names)


@dataclasses.dataclass(frozen=True)
class Halo:
    """Cells that a shard lacks along array axis `axis`, which counts from the end."""

    axis: int
    ring: Ring
    before: int
    after: int
    mode: PaddingMode


def halo_exchange(
    x: ArrayLike,
    *,
    axis: int,
    axis_name: str | Sequence[str],
    before: int,
    after: int,
    padding_mode: PaddingMode = "constant",
    fill_value: bool | int | float | complex = 0,
) -> jax.Array:
    """Adds to a shard the cells that lie before and after it; for use inside `jax.shard_map`.

    Shard `r` of a field `[..., n * shards, ...]` becomes the field's cells `r * n - before` to
    `(r + 1) * n + after`, with the padding mode's cells outside the field, so that the result is a
    slice of `jnp.pad(field, (before, after), padding_mode)`. A bit-exact copy for every dtype; the
    gradient sends every cell's share home and adds in a fixed order. Only neighbours exchange cells
    (`lax.ppermute`): one message each way while the halo fits into a shard, and one more for every
    further shard that it reaches into.

    Args:
        x: This device's shard, any dtype.
        axis: The array axis along which the field is split.
        axis_name: The mesh axis (or axes) over which it is split.
        before: Cells to add in front.
        after: Cells to add behind.
        padding_mode: What lies outside the field: `constant`, `edge`, `reflect` or `wrap`; with
            wrap the ring of devices is closed.
        fill_value: The cells outside with `constant`.

    Returns:
        The shard with its halo, `[..., before + n + after, ...]`, of the dtype of `x`.

    Raises:
        InputError: The halo is longer than the field (reflect: than the field less one cell), or
            the mesh axis is not one of the surrounding `shard_map`.

    Examples:
        >>> import jax.numpy as jnp
        >>> mesh = jax.make_mesh((1,), ("space",))
        >>> widen = lambda x: halo_exchange(
        ...     x, axis=0, axis_name="space", before=1, after=2, padding_mode="wrap"
        ... )
        >>> run = jax.shard_map(widen, mesh=mesh, in_specs=jax.P("space"), out_specs=jax.P("space"))
        >>> field = jax.device_put(jnp.arange(4), jax.NamedSharding(mesh, jax.P("space")))
        >>> run(field).tolist()
        [3, 0, 1, 2, 3, 0, 1]

    References:
        Ghost cells: Kjolstad and Snir, "Ghost cell pattern", ParaPLoP 2010.
    """
    x = jnp.asarray(x)
    if not -x.ndim <= axis < x.ndim:
        raise InputError(
            f"axis must be one of the {x.ndim} axes of the shard, got {axis} for shape {x.shape}; "
            "name the axis that is split"
        )
    # A pair stays a pair; `int` says so to the type checker.
    before, after = map(int, canonical.padding((before, after), "the halo"))
    padding_mode = canonical.padding_mode(padding_mode, "padding_mode")
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    try:
        lax.axis_size(names)
    except NameError as error:
        raise InputError(
            f"halo_exchange must run inside jax.shard_map over the mesh axis {axis_name!r}, got "
            "none of that name; wrap it in shard_map or correct axis_name"
        ) from error
    ring = Ring.over(names, jax.sharding.get_abstract_mesh())
    longest = ring.shards * x.shape[axis] - (padding_mode == "reflect")
    if max(before, after) > longest:
        raise InputError(
            f"the halo must be at most {longest} cells wide ({padding_mode!r} padding) for a field "
            f"of {ring.shards} x {x.shape[axis]} cells along array axis {axis}, got "
            f"{(before, after)}; take a shorter halo"
        )
    halo = Halo(axis % x.ndim - x.ndim, ring, before, after, padding_mode)

    def linear(tangent: jax.Array) -> jax.Array:
        wide = accumulator(tangent.dtype)
        return exchange(tangent.astype(wide), halo, np.zeros((), wide)).astype(tangent.dtype)

    fill = fill_scalar(canonical.fill_value(fill_value), x.dtype)
    return exact_copy(lambda x, fill: exchange(x, halo, fill), linear, x, fill)


def exchange(x: jax.Array, halo: Halo, fill: np.ndarray) -> jax.Array:
    """Widens a shard by its halo; linear in `x` where `fill` is 0."""
    cells, before, after = x.shape[halo.axis], halo.before, halo.after
    if halo.mode == "reflect":
        # At an end of the field, what the outside mirrors may lie further inside than the halo.
        before, after = max(before, after + 1 - cells), max(after, before + 1 - cells)
    parts = [
        *(_received(x, halo, hop, before) for hop in range(-(-before // cells), 0, -1)),
        x,
        *(_received(x, halo, -hop, after) for hop in range(1, -(-after // cells) + 1)),
    ]
    x = jnp.concatenate(parts, halo.axis)
    if halo.mode != "wrap":
        x = _filled_ends(x, halo, cells, before, fill)
    start = before - halo.before
    return lax.slice_in_dim(x, start, start + halo.before + cells + halo.after, axis=halo.axis)


def _received(x: jax.Array, halo: Halo, hop: int, width: int) -> jax.Array:
    """The cells, of a halo of `width`, from the shard `hop` places in front (negative: behind)."""
    cells = x.shape[halo.axis]
    width = min(cells, width - (abs(hop) - 1) * cells)
    start = cells - width if hop > 0 else 0
    part = lax.slice_in_dim(x, start, start + width, axis=halo.axis)
    # The zeros that an open ring gives are replaced by the padding mode.
    return halo.ring.receive(part, hop, closed=halo.mode == "wrap")


def _filled_ends(x: jax.Array, halo: Halo, cells: int, before: int, fill: np.ndarray) -> jax.Array:
    """Puts the padding mode's cells where a shard with `before` halo cells passes the field."""
    extent, last = x.shape[halo.axis], halo.ring.shards * cells - 1
    first = halo.ring.index() * cells - before  # in cells of the field
    form = [1] * x.ndim
    form[halo.axis] = extent
    number = first + np.arange(extent, dtype=np.int32).reshape(form)
    if halo.mode == "constant":
        return jnp.where((number < 0) | (number > last), fill, x)
    low, high = (_copied_end(x, halo, end - first) for end in (0, last))
    return jnp.where(number < 0, low, jnp.where(number > last, high, x))


def _copied_end(x: jax.Array, halo: Halo, end: jax.Array) -> jax.Array:
    """What every cell of `x` copies where it lies beyond the field's end at (traced) cell `end`.

    Where that end is not in `x`, nobody reads the result.
    """
    extent = x.shape[halo.axis]
    if halo.mode == "edge":
        return slice_at(x, end.clip(0, extent - 1), 1, halo.axis)
    mirrored = jnp.flip(x, halo.axis)
    # Cell i of `x` is to be cell `2 * end - i`; modulo, because the slice must lie inside.
    start = (extent - 1 - 2 * end) % extent
    return slice_at(jnp.concatenate([mirrored, mirrored], halo.axis), start, extent, halo.axis)


def slice_at(x: jax.Array, start: jax.Array, cells: int, axis: int) -> jax.Array:
    """The `cells` of one axis from a traced start on, which must lie inside."""
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return lax.dynamic_slice_in_dim(x, start, cells, axis)
    # JAX does not transpose a dynamic slice of integers; a gather of them it does, and their sums
    # do not depend on an order.
    return jnp.take(x, start + np.arange(cells, dtype=np.int32), axis, mode="clip")
