"""Transformers over a mesh: heads and hidden layers split over `model`, tokens over `sequence`.

Layers read the mesh of whoever traces them, `jax.sharding.get_abstract_mesh`; where it has neither
axis, or none is known, all of this changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from stpatch_jax.errors import require

MODEL, SEQUENCE = "model", "sequence"
SHARED = ("space", SEQUENCE, MODEL)
"""Axes along which devices work on the same examples; the others share a batch."""

OVER_MODEL = "over_model"
"""Metadata of a kernel: which of its axes, -2 (in) or -1 (out), lies split over `model`."""


def extent(*names: str) -> int:
    """How many devices there are along axes of the mesh, 1 if none or inside `shard_map`."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Manual in mesh.axis_types:
        return 1
    return math.prod(mesh.shape.get(name, 1) for name in names)


def batch_axes() -> tuple[str, ...]:
    """The axes of the mesh that share a batch."""
    names = jax.sharding.get_abstract_mesh().axis_names
    return tuple(name for name in names if name not in SHARED)


def gathered_sharding(share: NamedSharding) -> NamedSharding:
    """How weights lie that compute, of those that are stored so: whole but over `model`."""
    return NamedSharding(
        share.mesh, PartitionSpec(*(MODEL if entry == MODEL else None for entry in share.spec))
    )


def split(x: jax.Array, *entries: Any) -> jax.Array:
    """Has the axes behind the batch lie split over the mesh as `entries` say, if that is in use."""
    if extent(MODEL, SEQUENCE) == 1:
        return x
    known = (entry if extent(entry or "") > 1 else None for entry in entries)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(batch_axes(), *known))


def split_tokens(x: jax.Array) -> jax.Array:
    """Has [batch, *tokens, features] lie split over `sequence` along the first axis of tokens."""
    devices = extent(SEQUENCE)
    require(
        x.shape[1] % devices == 0,
        f"train.mesh.sequence must divide the {x.shape[1]} tokens that lie behind each other, got "
        f"{devices}; use a divisor, or windows that give as many",
    )
    return split(x, SEQUENCE)


def over_heads(
    attend: Callable[..., jax.Array], qkv: jax.Array, seen: Any, *, along_sequence: bool
) -> jax.Array:
    """Attends on each device for its own heads, to all tokens.

    Args:
        attend: `attend(qkv, seen)` for arrays as they come here.
        qkv: [batch, *rows, tokens, 3, heads, width].
        seen: Arrays [batch or 1, ...] or None.
        along_sequence: Whether `tokens` is the axis that lies split over `sequence`: then all
            tokens of some heads come to a device in exchange for some tokens of all heads.

    Returns:
        [batch, *rows, tokens, heads, width], the heads split.
    """
    heads, rows = qkv.shape[-2], qkv.ndim - 5
    names = [name for name in (MODEL, SEQUENCE)[: 1 + along_sequence] if extent(name) > 1]
    devices = extent(*names)
    require(
        heads % devices == 0,
        f"train.mesh.{' times train.mesh.'.join(names)} must divide the {heads} heads, got "
        f"{devices}; use a divisor",
    )
    batch = batch_axes() if qkv.shape[0] % extent(*batch_axes()) == 0 else None
    apart = not along_sequence and extent(SEQUENCE) > 1
    others = [SEQUENCE if apart and not row else None for row in range(rows)]

    def rows_of(x: jax.Array) -> PartitionSpec:
        return PartitionSpec(batch if x.shape[0] == qkv.shape[0] else None, *others)

    run = jax.shard_map(
        attend,
        in_specs=(
            PartitionSpec(batch, *others, None, None, tuple(names)),
            jax.tree.map(rows_of, seen),
        ),
        out_specs=PartitionSpec(batch, *others, None, tuple(names)),
        check_vma=False,
    )
    # Told on both sides, or the compiler gathers tokens instead of exchanging them for heads.
    places = [*[None] * rows, SEQUENCE] if along_sequence else [SEQUENCE, *[None] * rows]
    return split(run(split(qkv, *places, None, MODEL), seen), *places, MODEL)
