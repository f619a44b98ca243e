"""Occlusion: what the score loses without a patch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial
from jax.typing import ArrayLike

from stpatch_jax.errors import check_size
from stpatch_jax.explain.score import FieldLike, Score, baseline_of, batches, on_grid, prepared
from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.folding import fold_patches
from stpatch_jax.patches.windows import WindowSpec


def occlusion(
    fn: Score,
    field: FieldLike,
    spec: Spec,
    *,
    baseline: ArrayLike = 0.0,
    unit: str = "score",
    batch_size: int = 32,
) -> xr.DataArray:
    """Hides one patch at a time and tells how much the score falls.

    `a_g = fn(x) - fn(x with the baseline in the cells of window g)`, all channels at once; a cell
    gets the mean over the windows that hold it, so that patches may overlap. With windows of one
    cell a linear function gives weight times value.

    Args:
        fn: What is explained, see `Score`.
        field: One field (time, *space, channel) as `fn` takes it, without NaN: a DataArray, or an
            array with axes in this order.
        spec: The windows, of any stride, dilation, padding and footprint.
        baseline: What stands in place of hidden cells: one number, one per channel, or a field.
        unit: Unit of the score.
        batch_size: Fields per call of `fn`.

    Returns:
        (time, *space) in units of the score; 0 in cells that no window holds.

    Raises:
        InputError: Windows or baseline do not fit the field, or `fn` does not give one number each.

    Examples:
        >>> field = xr.DataArray([[1.0], [2.0], [3.0]], dims=("time", "channel"))
        >>> occlusion(lambda x: 10 * x[:, 1, 0], field, (1,)).values.tolist()
        [0.0, 20.0, 0.0]

    References:
        Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.
    """
    score, field, x = prepared(fn, field)
    windows = WindowSpec.of(spec).resolve(field.shape[:-1])
    check_size("batch_size", batch_size)
    grid, tables = windows.grid, []
    # Cells that do not exist, in padding, are one past the end, where writing is dropped. So are
    # all cells of the window behind the last one, which hides nothing and gives `fn(x)`.
    for axis in windows.axes:
        cells = axis.source_cells()
        tables.append(np.where(cells < 0, axis.size, cells))
    places = np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=-1)
    arrays = x, baseline_of(baseline, field), windows.mask
    parts = []
    for numbers, real in batches(len(places) + 1, batch_size):
        hides = (numbers < len(places))[:, None]
        chosen = places[np.minimum(numbers, len(places) - 1)]
        cells = tuple(
            np.where(hides, table[chosen[:, at]], axis.size)
            for at, (table, axis) in enumerate(zip(tables, windows.axes, strict=True))
        )
        parts.append(np.asarray(_without(score, *arrays, cells), np.float64)[:real])
    *without, whole = np.concatenate(parts)
    falls = whole - np.reshape(without, grid)
    return patch_map(falls, spec, field, name="occlusion", unit=unit)


def patch_map(
    values: np.ndarray, spec: Spec, field: xr.DataArray, *, name: str, unit: str
) -> xr.DataArray:
    """Values of patches (nt, *ns) on the cells of a field: the mean over the windows of a cell."""
    shape = field.shape[:-1]
    window = WindowSpec.of(spec).resolve(shape).window
    spread = values.reshape(*values.shape, *[1] * len(window), 1)
    patches = np.broadcast_to(spread, (*values.shape, *window, 1)).astype(np.float32)
    folded = np.asarray(fold_patches(patches, spec, shape))[..., 0]
    return on_grid(folded, field, name=name, unit=unit)


@jax.jit
def _without(
    score: Partial, x: jax.Array, baseline: jax.Array, footprint: Any, cells: tuple[jax.Array, ...]
) -> jax.Array:
    """The score without the cells of each window [batch, window] along each axis."""

    def hidden(*cells: jax.Array) -> jax.Array:
        inside = True if footprint is None else footprint
        mask = jnp.zeros(x.shape[:-1], bool)
        return mask.at[jnp.ix_(*cells)].max(inside, mode="drop")

    masks = jax.vmap(hidden)(*cells)[..., None]
    return score(jnp.where(masks, baseline[None], x[None]))
