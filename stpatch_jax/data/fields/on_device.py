"""Sampling on the device: a field that fits there is cut into examples without the host."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from stpatch_jax import gather_patches
from stpatch_jax.data.fields.slabs import time_blocks
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.errors import require

_BLOCK_BYTES = 2**26


class _Layout(NamedTuple):
    """What the program of one batch depends on beside its arrays."""

    context: int
    window: tuple[int, ...]
    targets: tuple[int, ...]
    fill: bool
    mask_channel: bool
    sharding: NamedSharding | None


@dataclass(frozen=True, eq=False)
class DeviceWindows:
    """The examples of `FieldWindows` with the field on the device, drawn there by `sample`.

    A batch has the arrays of `FieldWindows`, bit for bit (`valid_share` up to rounding), with
    32-bit integers, and is drawn uniformly with replacement. It depends on seed and step alone, so
    that a restart at any step goes on with the same batches.

    Attributes:
        scaled: The field [time, *space, channel] in scaled units, float32, NaN where missing.
        forcings: Calendar features [time, features], float32; may have no features.
        starts: First cell of each window [examples, 1 + space axes], int32, context included.
    """

    scaled: jax.Array
    forcings: jax.Array
    starts: jax.Array
    _layout: _Layout

    @classmethod
    def of(cls, source: FieldWindows, *, sharding: NamedSharding | None = None) -> "DeviceWindows":
        """Puts the field of a source on the device, cleaned and scaled.

        Args:
            source: The examples. Gaps must be filled forward or left, and no step may clip unless
                the source is for training, as one array serves for inputs and targets.
            sharding: Where batches shall lie, such as `training.batch_sharding(mesh)`; the field
                is then on every device of its mesh. By default all is on the default device.

        Raises:
            InputError: If the cleaning cannot be done on the device.
        """
        config = source.cleaner.config
        require(
            config.missing in ("forward_fill", "leave") and config.hampel_window == 0,
            "sampling on the device needs missing forward_fill or leave and no Hampel filter, but "
            f"they are {config.missing} and a window of {config.hampel_window}; sample on the host "
            "or clean differently",
        )
        require(
            source.training or not source.cleaner.pipeline.clips,
            "sampling on the device must clip inputs and targets alike, but this source clips "
            "inputs only; use it for training or without winsorize",
        )
        rank = source.field.ndim - 1
        starts = np.empty((len(source.starts), len(source.tiles), rank), np.int32)
        starts[..., 0] = (source.starts - source.context)[:, None]
        for number, cells in enumerate(source.tiles):
            starts[:, number, 1:] = [cell.start for cell in cells]
        layout = _Layout(
            context=source.context,
            window=(
                source.context + source.horizon,
                *(cell.stop - cell.start for cell in source.tiles[0]),
            ),
            targets=source.target_numbers,
            fill=config.missing == "forward_fill",
            mask_channel=source.mask_channel,
            sharding=sharding,
        )
        where = NamedSharding(sharding.mesh, PartitionSpec()) if sharding else None
        return cls(
            scaled=jax.device_put(_scaled(source), where),
            forcings=jax.device_put(source.forcings, where),
            starts=jax.device_put(starts.reshape(-1, rank), where),
            _layout=layout,
        )

    def sample(self, step: int | jax.Array, *, seed: int, batch_size: int) -> dict[str, jax.Array]:
        """The batch of a step; a jitted function, which may be called inside another one.

        Args:
            step: The global step, may be traced.
            seed: Seed of the draws.
            batch_size: Number of examples, static.

        Returns:
            The arrays of `FieldWindows`, each with a first axis of `batch_size`.
        """
        return _sample(
            self.scaled,
            self.forcings,
            self.starts,
            jnp.asarray(step, jnp.uint32),
            jnp.asarray(seed, jnp.uint32),
            batch_size=batch_size,
            layout=self._layout,
        )

    def batches(
        self, *, batch_size: int, seed: int, start_step: int
    ) -> Iterator[dict[str, jax.Array]]:
        """Endless batches from a step on, as `batch_iterator` makes them from the host.

        Args:
            batch_size: Size of the global batch, in examples.
            seed: Seed of the draws.
            start_step: First step to yield.
        """
        step = start_step
        while True:
            yield self.sample(step, seed=seed, batch_size=batch_size)
            step += 1


@functools.partial(jax.jit, static_argnames=("batch_size", "layout"))
def _sample(
    scaled: jax.Array,
    forcings: jax.Array,
    starts: jax.Array,
    step: jax.Array,
    seed: jax.Array,
    *,
    batch_size: int,
    layout: _Layout,
) -> dict[str, jax.Array]:
    key = jax.random.fold_in(jax.random.key(seed), step)
    chosen = starts[jax.random.randint(key, (batch_size,), 0, len(starts))]
    windows = gather_patches(scaled, chosen, layout.window)
    targets = windows[..., jnp.asarray(layout.targets)]
    past, future = targets[:, : layout.context], targets[:, layout.context :]
    mask = jnp.isfinite(future)
    raw = windows[:, : layout.context]
    known = jnp.isfinite(raw)
    rows = chosen[:, :1] + jnp.arange(layout.context)[None]
    waves = forcings[rows].reshape(*rows.shape, *[1] * (raw.ndim - 3), forcings.shape[-1])
    parts = [
        jnp.nan_to_num(_forward_fill(raw) if layout.fill else raw, nan=0.0),
        jnp.broadcast_to(waves, (*raw.shape[:-1], waves.shape[-1])),
        *([known.astype(jnp.float32)] if layout.mask_channel else []),
    ]
    batch = {
        "context": jnp.concatenate(parts, axis=-1),
        "target": jnp.where(mask, future, 0.0),
        "target_mask": mask,
        "persistence": jnp.nan_to_num(_forward_fill(past)[:, -1:], nan=0.0),
        "valid_share": known.mean(tuple(range(1, known.ndim)), dtype=jnp.float32),
        "index": chosen[:, 0] + layout.context,
        "tile": chosen[:, 1:],
    }
    if layout.sharding:
        return {
            name: jax.lax.with_sharding_constraint(array, layout.sharding)
            for name, array in batch.items()
        }
    return batch


def _forward_fill(values: jax.Array) -> jax.Array:
    """The last known value along the second axis, NaN where none precedes; see `forward_fill`."""
    rows = jnp.arange(values.shape[1]).reshape(1, -1, *[1] * (values.ndim - 2))
    last = jax.lax.cummax(jnp.where(jnp.isnan(values), 0, rows), axis=1)
    return jnp.take_along_axis(values, last, axis=1)


def _scaled(source: FieldWindows) -> np.ndarray:
    """The whole field in scaled units, float32, cleaned block by block."""
    result = np.empty(source.field.shape, np.float32)
    channels = tuple(range(source.field.shape[-1]))
    whole = tuple(slice(0, size) for size in source.field.shape[1:-1])
    rows = range(source.field.shape[0])
    for block in time_blocks(source.reader, rows, block_bytes=_BLOCK_BYTES):
        values = source.reader.read(block)
        result[block] = source.cleaner.scaled(values, channels=channels, clip=True, cells=whole)
    return result
