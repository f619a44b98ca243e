"""A function of windows applied to a whole field: cut, run, blended, put back."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, warn
from stpatch_jax.inference import memory
from stpatch_jax.inference.memory import MemoryPlan
from stpatch_jax.inference.program import Function, Program, run
from stpatch_jax.inference.tiles import Scales, layouts_of, region_of, used_windows, weight_factors
from stpatch_jax.patches.extraction import Spec, windows_of
from stpatch_jax.patches.folding import Blend
from stpatch_jax.patches.windows import WindowSpec

Predict = Callable[[jax.Array], Any]
"""From windows `[window, time, *space, channel]` to one array, or a tree of arrays, per window."""


def sliding_window_apply(
    fn: Predict,
    x: ArrayLike,
    spec: Spec,
    *,
    blend: Blend | np.ndarray = "hann",
    scale: Scales = 1,
    horizon: int | None = None,
    region: np.ndarray | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory_budget: int | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """Applies a function of windows to a whole field and blends its outputs.

    `y = sum_g w_g fn(window_g) / sum_g w_g` in every cell, over the windows `g` that hold it: what
    `fold_patches(fn(extract_patches(x)), blend=...)` gives, in one compiled loop that never holds
    more than a batch of windows. Constants stay constant, and a field comes back from the identity
    whatever its shape. Sums are at least float32 and always added in the same order. What `fn` says
    of padding is dropped, but on a ring (`padding_mode="wrap"`), where it is added on the other
    side.

    Derivatives of any order and mode work, with respect to `x` and to all that `fn` holds; reverse
    mode runs `fn` again instead of keeping its intermediate values. Inside `jit` or `grad`
    nothing is known about memory: there `"auto"` takes a usual number of windows.

    Args:
        fn: Takes `[batch_size, *window, channel]` and returns `[batch_size, *window, features]` or
            a tree of such arrays. Where it is a pytree (a Flax module, `jax.tree_util.Partial`),
            its arrays are arguments of the program, which is then compiled once for all their
            values; what another function closes over becomes part of the program.
        x: Field `[*batch, time, *space, channel]`.
        spec: The windows, of dilation 1. Every cell must lie in a window: pad with `COVER` where
            windows do not fit evenly.
        blend: The taper of a window (see `blend_weights`), or weights of the shape of its output.
        scale: Output cells per input cell, for all axes or each (`1/4` for a coarser output); a
            dictionary of scales by name where `fn` returns a dictionary.
        horizon: Number of lead times where the output is a forecast `[windows, horizon, *window
            of space, features]`. Its first axis then holds times after the window, and windows
            along time are forecasts of their own that are not blended.
        region: Boolean `(time, *space)`, on the host: windows without a True cell are left out, and
            all other cells are 0.
        batch_size: Windows per call of `fn`, over all devices. `"auto"` takes as many as keep a
            device busy and fit the memory.
        memory_budget: Bytes of a device that may be used with `"auto"`; by default 80 % of what
            is free on an accelerator, and 2 GiB on a CPU.
        mesh: Devices among which the windows of a batch are split; the field lies whole on each.

    Returns:
        What `fn` returns, each array as `[*batch, time, *space, features]`, or `[*batch, windows
        along time, horizon, *space, features]` with a horizon. Floats keep their dtype, whole
        numbers become float32.

    Raises:
        InputError: Windows do not fit the field or leave cells out, an output does not fit the
            declared scale or horizon, or the memory does not suffice.

    Warns:
        RuntimeWarning: The device ran out of memory and the batch was halved.

    Examples:
        >>> x = jnp.arange(10.0).reshape(10, 1)
        >>> from stpatch_jax import WindowSpec
        >>> spec = WindowSpec((4,), stride=2)
        >>> y = sliding_window_apply(lambda windows: 2 * windows, x, spec)
        >>> bool(jnp.allclose(y, 2 * x))
        True

    References:
        Overlap and blend: Isensee et al., "nnU-Net", Nature Methods 18, 2021.
    """
    field = jnp.asarray(x)
    job = _Job.of(
        fn, field, spec, blend=blend, scale=scale, horizon=horizon, region=region, mesh=mesh
    )
    traced = any(isinstance(leaf, Tracer) for leaf in (*job.arrays, field))
    if batch_size != "auto" or not traced:
        job = job.sized(field, batch_size, memory_budget)
    return run(job.program, *job.arguments(field)) if traced else _run_halving(job, field)


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

    Arguments as there, `options` being `blend`, `scale`, `horizon`, `region` and `mesh`; the field
    may be its shape and dtype, a `jax.ShapeDtypeStruct`.

    Returns:
        Bytes on one device, and the batch size.

    Raises:
        InputError: As in `sliding_window_apply`.

    Examples:
        >>> field = jax.ShapeDtypeStruct((64, 64, 1), jnp.float32)
        >>> plan = memory_plan(jnp.sin, field, (16, 16), batch_size=2)
        >>> plan.windows, plan.results
        (16, 16384)
    """
    field = x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)
    job = _Job.of(fn, field, spec, **options)
    return job.sized(field, batch_size, memory_budget).plan(field)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A program with its arguments but the field."""

    program: Program
    arrays: list[Any]
    grid: np.ndarray
    weights: list[Any]
    regions: list[Any] | None

    @classmethod
    def of(
        cls,
        fn: Predict,
        x: jax.Array | jax.ShapeDtypeStruct,
        spec: Spec,
        *,
        blend: Blend | np.ndarray = "hann",
        scale: Scales = 1,
        horizon: int | None = None,
        region: np.ndarray | None = None,
        mesh: Mesh | None = None,
    ) -> "_Job":
        """Checks the arguments and plans where windows and outputs lie."""
        spec = WindowSpec.of(spec)
        windows = windows_of(x.shape, spec)
        if any(step > 1 for step in spec.dilation):
            raise InputError(
                f"the windows of a tiled prediction must have dilation 1, got {spec.dilation}; "
                "thin the field out (x[..., ::2, :]) instead"
            )
        grid = used_windows(windows, region, math.prod(x.shape[: x.ndim - spec.rank - 1]))
        if not len(grid):
            raise InputError(
                f"the field must hold at least one example, got shape {x.shape}; give a field"
            )
        function, arrays = Function.split(fn)
        size = memory.usual_batch_size(windows.window, len(grid), 1 if mesh is None else mesh.size)
        batch = jax.ShapeDtypeStruct((size, *windows.window, x.shape[-1]), x.dtype)
        output = jax.eval_shape(function, arrays, batch)
        layouts = layouts_of(output, windows.axes, scale, horizon, windows=size)
        weights = [weight_factors(layout, blend, windows.mask) for layout in layouts]
        weights = jax.tree.map(lambda factor: factor.astype(np.float32), weights)
        regions = None
        if region is not None:
            regions = [region_of(layout, windows.axes, region) for layout in layouts]
        tree = jax.tree.structure(output)
        program = Program(function, spec, windows, layouts, tree, size, mesh)
        return cls(program, arrays, grid, weights, regions)

    @property
    def devices(self) -> int:
        return 1 if self.program.mesh is None else self.program.mesh.size

    def batched(self, batch_size: int) -> "_Job":
        """The same job with another batch size; no larger than there are windows."""
        size = memory.rounded_up(min(batch_size, len(self.grid)), self.devices)
        return dataclasses.replace(self, program=dataclasses.replace(self.program, batch_size=size))

    def sized(self, field: Any, batch_size: int | Literal["auto"], budget: int | None) -> "_Job":
        """The same job with the batch size asked for, or with one that fits a budget."""
        if batch_size == "auto":
            budget = memory.default_budget() if budget is None else budget
            usual = self.program.batch_size
            return self.batched(
                memory.fitted(lambda n: self.batched(n).plan(field), usual, budget, self.devices)
            )
        if batch_size < 1 or batch_size % self.devices:
            raise InputError(
                f'batch_size must be "auto" or a positive multiple of the number of devices, got '
                f"{batch_size!r} on {self.devices}; use a multiple of {self.devices}"
            )
        return self.batched(batch_size)

    def arguments(self, field: Any) -> tuple[Any, ...]:
        return self.arrays, field, self.grid, self.weights, self.regions

    def compiled(self, field: Any) -> Any:
        """The compiled program; JAX remembers it."""
        return run.lower(self.program, *self.arguments(field)).compile()

    def plan(self, field: Any) -> MemoryPlan:
        use = self.compiled(field).memory_analysis()
        results = use.output_size_in_bytes - use.alias_size_in_bytes
        sizes = use.argument_size_in_bytes, results, use.temp_size_in_bytes
        return MemoryPlan(self.program.batch_size, len(self.grid), *sizes)


def _run_halving(job: _Job, field: jax.Array) -> Any:
    """Runs and waits; where the device has too little memory, with half the batch again."""
    while True:
        try:
            return jax.block_until_ready(job.compiled(field)(*job.arguments(field)))
        except jax.errors.JaxRuntimeError as error:
            size = job.program.batch_size
            half = size // 2 // job.devices * job.devices
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if not half:
                raise InputError(
                    f"the device must hold the field and {size} windows, got too little memory "
                    "for them; give a smaller field or window, or predict_field, which reads by "
                    "regions"
                ) from error
            warn(
                f"the device ran out of memory with {size} windows at a time: going on with {half}",
                category=RuntimeWarning,
                stacklevel=3,
            )
            job = job.batched(half)
