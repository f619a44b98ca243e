"""A function of windows applied to a whole field: cut, run, blended, put back."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike

from stpatch_jax.inference.augmenting import Pair
from stpatch_jax.inference.job import Predict, Reduce, TiledJob, surrounding_mesh
from stpatch_jax.inference.memory import MemoryPlan
from stpatch_jax.inference.tiles import Scales
from stpatch_jax.patches.blends import Blend
from stpatch_jax.patches.extraction import Spec, as_field


def sliding_window_apply(
    fn: Predict,
    x: ArrayLike,
    spec: Spec,
    *,
    blend: Blend = "hann",
    scale: Scales = 1,
    horizon: int | None = None,
    region: np.ndarray | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory_budget: int | None = None,
    mesh: Mesh | AbstractMesh | None = None,
    fill: float | None = None,
    reduce: Reduce | None = None,
    augment: Sequence[Pair] = (),
) -> Any:
    """Applies a function of windows to a whole field and blends its outputs.

    `y = sum_g w_g fn(window_g) / sum_g w_g` in every cell, over the windows `g` that hold it: what
    `fold_patches(fn(extract_patches(x)), blend=...)` gives, in one compiled loop that never holds
    more than a batch of windows. The mean is kept while windows come, `mean += w / sum w * (y -
    mean)`, in at least float32 and always in the same order: where windows agree it is exact, so
    that constants stay constant and a field comes back from the identity. What `fn` says of padding
    is dropped, but on a ring (`padding_mode="wrap"`), where it counts on the other side.

    Derivatives of any order and mode work, with respect to `x` and to all that `fn` holds; they are
    those of the weighted sums, whose value may differ in the last bits. Reverse mode runs `fn`
    again instead of keeping its intermediate values. Inside `jit` or `grad`
    nothing is known about memory: there `"auto"` takes a usual number of windows.

    Args:
        fn: Takes `[batch_size, *window, channel]` and returns `[batch_size, *window, features]` or
            a tree of such arrays. What it holds has its present values, and is an argument of the
            program, which is compiled once for all of them. A pytree (a Flax module,
            `jax.tree_util.Partial`) is taken apart; any other function is traced at every call,
            for milliseconds, which `jax.tree_util.Partial(fn)` spares one that never changes.
        x: Field `[*batch, time, *space, channel]`.
        spec: The windows, of dilation 1. Every cell must lie in a window, unless there is a
            `fill`: pad with `COVER`, or `FLUSH`, where windows do not fit evenly.
        blend: What a window's cells count, by name, as `("gaussian", width)`, or weights of the
            shape of its output (see `blend_weights`).
        scale: Output cells per input cell, for all axes or each (`1/4` for a coarser output); a
            dictionary of scales by name where `fn` returns a dictionary.
        horizon: Number of lead times where the output is a forecast `[windows, horizon, *window
            of space, features]`. Its first axis then holds times after the window, and windows
            along time are forecasts of their own that are not blended.
        region: Boolean `(time, *space)`, on the host: windows without a True cell are left out, and
            all other cells are 0, or `fill`.
        batch_size: Windows per call of `fn`, over all devices. `"auto"` takes as many as keep a
            device busy and fit the memory.
        memory_budget: Bytes of a device that may be used with `"auto"`; by default 80 % of what
            is free on an accelerator, and 2 GiB on a CPU.
        mesh: Devices among which the windows of a batch are split; the field lies whole on each.
            By default those of the surrounding `jax.set_mesh`, unless the field is split itself.
        fill: What cells hold that no weight reaches (NaN, say); by default they are refused.
        reduce: Any function of the blended values of a cell, such as the class with the largest or
            a quantile of its channels, in a small dtype: `reduce(sliding_window_apply(...))` to the
            last bit, but taken slab by slab along the first axis that has several windows. Blended
            values are held for the length of a window there (and a whole axis where a ring is
            first), so that memory hardly grows with the channels. Takes what `fn` returns for the
            cells of a slab, channels last, and must keep the axes in front of them. Not part of
            derivatives.
        augment: Pairs of functions, there and back, such as `flips(1, 2) + rotations(1, 2)`: `fn`
            also predicts what the first makes of its windows, the second undoes that in its
            outputs, and the mean with `fn(windows)` counts, taken in at least float32 and exact
            where all agree. A pair of one's own may turn channels round as well, such as winds.
            What shifted windows would add, a smaller stride does.

    Returns:
        What `fn` or `reduce` returns, each array as `[*batch, time, *space, features]`, or
        `[*batch, windows along time, horizon, *space, features]` with a horizon. Of `fn`, floats
        keep their dtype, whole numbers become float32.

    Raises:
        InputError: Windows do not fit the field or leave cells out, an output does not fit the
            declared scale or horizon, `reduce` changes the cells or meets a derivative, or the
            memory does not suffice.

    Warns:
        RuntimeWarning: The device ran out of memory and the batch was halved.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(10.0).reshape(10, 1)
        >>> from stpatch_jax import WindowSpec
        >>> spec = WindowSpec((4,), stride=2)
        >>> y = sliding_window_apply(lambda windows: 2 * windows, x, spec)
        >>> bool(jnp.allclose(y, 2 * x))
        True
        >>> signs = sliding_window_apply(lambda w: w - 4, x, spec, reduce=lambda y: y[..., 0] > 0)
        >>> signs.dtype, int(signs.sum())
        (dtype('bool'), 5)

        A function that runs on the host, such as a PyTorch model, is called by `jax.pure_callback`
        (`model(torch.from_numpy(np.array(windows))).numpy()` in the place of `np.square`); what it
        holds has no derivatives:

        >>> on_host = lambda windows: np.square(np.asarray(windows))
        >>> square = lambda w: jax.pure_callback(on_host, jax.typeof(w), w)
        >>> bool(jnp.allclose(sliding_window_apply(square, x, spec), x**2))
        True

    References:
        Overlap and blend: Isensee et al., "nnU-Net", Nature Methods 18, 2021.
    """
    field = as_field(x)
    mesh = surrounding_mesh(field) if mesh is None else mesh
    job = TiledJob.of(
        fn,
        field,
        spec,
        blend=blend,
        scale=scale,
        horizon=horizon,
        region=region,
        mesh=mesh,
        fill=fill,
        reduce=reduce,
        augment=augment,
        batch_size=batch_size,
    )
    # Inside another program nothing is known about memory.
    if batch_size != "auto" or not job.is_traced(field):
        job = job.sized(field, batch_size, memory_budget)
    return job.run(field)


def memory_plan(
    fn: Predict,
    x: ArrayLike | jax.ShapeDtypeStruct,
    spec: Spec,
    *,
    batch_size: int | Literal["auto"] = "auto",
    memory_budget: int | None = None,
    **options: Any,
) -> MemoryPlan:
    """Says what `sliding_window_apply` of the same arguments needs, and runs nothing.

    The program is compiled, and its compiler asked; what a library takes while it runs (the
    workspace of a convolution) may come on top.

    Arguments as there, `options` being `blend`, `scale`, `horizon`, `region`, `mesh`, `fill`,
    `reduce` and `augment`; the field may be its shape and dtype, a `jax.ShapeDtypeStruct`.

    Returns:
        Bytes on one device, and the batch size.

    Raises:
        InputError: As in `sliding_window_apply`.

    Examples:
        >>> import jax.numpy as jnp
        >>> field = jax.ShapeDtypeStruct((64, 64, 1), jnp.float32)
        >>> plan = memory_plan(jnp.sin, field, (16, 16), batch_size=2)
        >>> plan.windows, plan.results
        (16, 16384)
    """
    field = x if isinstance(x, jax.ShapeDtypeStruct) else as_field(x)
    if options.get("mesh") is None:
        options["mesh"] = surrounding_mesh(field)
    job = TiledJob.of(fn, field, spec, batch_size=batch_size, **options)
    return job.sized(field, batch_size, memory_budget).plan(field)
