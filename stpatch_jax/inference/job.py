"""A tiled prediction before it runs: arguments checked, windows planned, batch fitted."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh

from stpatch_jax.errors import InputError, check_size, listed, require, warn
from stpatch_jax.inference import memory
from stpatch_jax.inference.augmenting import Pair
from stpatch_jax.inference.blending import (
    blended_dtype,
    make_weights,
    real_dtype,
    require_cover,
    wide_dtype,
)
from stpatch_jax.inference.function import Arrays, Function, on_mesh
from stpatch_jax.inference.memory import MemoryPlan
from stpatch_jax.inference.program import Constants, Program, run
from stpatch_jax.inference.stitching import Sweep
from stpatch_jax.inference.tiles import Layout, Scales, layouts_of, region_of, used_windows
from stpatch_jax.patches.blends import Blend
from stpatch_jax.patches.extraction import Spec, windows_of
from stpatch_jax.patches.windows import WindowSpec

Predict = Callable[[jax.Array], Any]
"""From windows `[window, time, *space, channel]` to one array, or a tree of arrays, per window."""


Finish = Callable[[jax.stages.Lowered], Any]
"""What compiles a lowered program."""

Reduce = Callable[[Any], Any]
"""From blended values `[*cells, channel]`, or a tree of them, to any function of each cell."""


@dataclasses.dataclass(frozen=True)
class TiledJob:
    """A program with its arguments but the field; `results` are like what a cell becomes.

    `results` has the shapes of a batch of windows, or of a slab where they are reduced.
    """

    split: Callable[[jax.ShapeDtypeStruct], tuple[Function, Arrays]]
    channels: int
    dtype: Any
    program: Program
    arrays: tuple[Arrays, Arrays]
    constants: Constants
    results: Any

    @classmethod
    def of(
        cls,
        fn: Predict,
        x: jax.Array | jax.ShapeDtypeStruct,
        spec: Spec,
        *,
        blend: Blend = "hann",
        scale: Scales = 1,
        horizon: int | None = None,
        region: np.ndarray | None = None,
        mesh: Mesh | AbstractMesh | None = None,
        fill: float | None = None,
        reduce: Reduce | None = None,
        augment: Sequence[Pair] = (),
        batch_size: int | Literal["auto"] = "auto",
    ) -> "TiledJob":
        """Checks the arguments and plans where windows and outputs lie.

        No batch is larger than there are windows; an `"auto"` one is of a usual size.
        """
        spec, mesh = WindowSpec.of(spec), _auto(mesh)
        devices = 1 if mesh is None else mesh.size
        _check_batch_size(batch_size, devices)
        require(callable(fn), f"fn must be a function of windows, got {fn!r}; give one")
        windows = windows_of(x.shape, spec)
        require(
            max(spec.dilation) == 1,
            f"the windows of a tiled prediction must have dilation 1, got {spec.dilation}; thin "
            "the field out (x[..., ::2, :]) instead",
        )
        require(
            0 not in x.shape,
            f"the field must hold at least one example and channel, got shape {x.shape}; give a "
            "field",
        )
        region = None if region is None else np.asarray(region)
        batch = x.shape[: x.ndim - spec.rank - 1]
        known = all(isinstance(extent, int) for extent in batch)
        grid = used_windows(windows, region, math.prod(batch) if known else 1)
        if isinstance(batch_size, str):
            platform = memory.device_of(x, mesh).platform
            size = memory.usual_batch_size(windows.window, len(grid), devices, platform)
        else:
            # A function is traced once, with the batch that will run.
            size = memory.rounded_up(min(batch_size, len(grid)), devices)
        cut = jax.ShapeDtypeStruct((size, *windows.window, x.shape[-1]), x.dtype)
        split = functools.partial(Function.split, fn, augment=_pairs(augment))
        with on_mesh(mesh):
            function, arrays = split(cut)
            outputs = function.outputs(arrays, cut)
        layouts = layouts_of(outputs, windows.axes, scale, horizon, windows=size)
        regions = None
        if region is not None:
            regions = [region_of(layout, windows.axes, region) for layout in layouts]
        weights = []
        for at, (layout, output) in enumerate(zip(layouts, jax.tree.leaves(outputs), strict=True)):
            factors = make_weights(layout, blend, windows.mask)
            if fill is None:
                require_cover(layout, factors, None if regions is None else regions[at])
            dtype = real_dtype(wide_dtype(output.dtype))
            weights.append(jax.tree.map(lambda factor, to=dtype: factor.astype(to), factors))
        tree, results, reducing, held = jax.tree.structure(outputs), outputs, None, []
        if reduce is not None:
            reducing, held, results = _reduced(reduce, outputs, layouts, len(batch))
        structures = tree, reducing, jax.tree.structure(results)
        program = Program(function, spec, windows, layouts, *structures, len(batch), size, mesh)
        constants = Constants(grid, weights, regions, np.float32(0 if fill is None else fill))
        return cls(split, x.shape[-1], x.dtype, program, (arrays, held), constants, results)

    @property
    def devices(self) -> int:
        """Devices that share a batch."""
        return 1 if self.program.mesh is None else self.program.mesh.size

    def is_traced(self, field: Any) -> bool:
        """Whether the prediction is part of another program."""
        return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((self.arrays, field)))

    def batched(self, batch_size: int) -> "TiledJob":
        """The same job with another batch size; no larger than there are windows."""
        size = memory.rounded_up(min(batch_size, len(self.constants.grid)), self.devices)
        if size == self.program.batch_size:
            return self
        batch = (size, *self.program.windows.window, self.channels)
        with on_mesh(self.program.mesh):
            function, arrays = self.split(jax.ShapeDtypeStruct(batch, self.dtype))
        program = dataclasses.replace(self.program, function=function, batch_size=size)
        return dataclasses.replace(self, program=program, arrays=(arrays, self.arrays[1]))

    def sized(
        self,
        field: Any,
        batch_size: int | Literal["auto"],
        budget: int | None,
        *,
        finish: Finish = jax.stages.Lowered.compile,
    ) -> "TiledJob":
        """The same job; where its batch size is `"auto"`, with one that fits a budget."""
        if budget is not None:
            check_size("memory_budget", budget, most=2**63 - 1)
        if batch_size != "auto":
            return self
        if budget is None:
            budget = memory.default_budget(memory.device_of(field, self.program.mesh))
        usual = self.program.batch_size

        def plan(size: int) -> MemoryPlan | None:
            try:
                return self.batched(size).plan(field, finish=finish)
            except (jax.errors.JaxRuntimeError, InputError) as error:
                # The compilers of TPUs refuse what their chip cannot hold.
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                return None

        return self.batched(memory.fitted(plan, usual, budget, self.devices))

    def arguments(self, field: Any) -> tuple[Any, ...]:
        """The arguments of the program."""
        return self.arrays, field, self.constants

    def lowered(self, field: Any) -> jax.stages.Lowered:
        """The program for the devices that the field and the arrays lie on."""
        return run.lower(self.program, *self.arguments(field))

    def compiled(self, field: Any) -> Any:
        """The compiled program; JAX remembers it."""
        return self.lowered(field).compile()

    def plan(self, field: Any, *, finish: Finish = jax.stages.Lowered.compile) -> MemoryPlan:
        """Bytes on one device."""
        use = finish(self.lowered(field)).memory_analysis()
        results = use.output_size_in_bytes - use.alias_size_in_bytes
        sizes = use.argument_size_in_bytes, results, use.temp_size_in_bytes
        return MemoryPlan(self.program.batch_size, len(self.constants.grid), *sizes)

    def run(self, field: jax.Array) -> Any:
        """Predicts the field; where the device has too little memory, with half the batch again."""
        if self.is_traced(field):
            return run(self.program, *self.arguments(field))
        job = self
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
                        f"the device must hold the field and {size} windows, got too little "
                        "memory for them; give a smaller field or window, or predict_field, which "
                        "reads by regions"
                    ) from error
                warn(
                    f"the device ran out of memory with {size} windows at a time: going on with "
                    f"{half}",
                    category=RuntimeWarning,
                    stacklevel=3,
                )
                job = job.batched(half)


def _pairs(augment: Any) -> tuple[Pair, ...]:
    try:
        pairs = tuple((forward, inverse) for forward, inverse in augment)
    except (TypeError, ValueError):
        pairs = ((None, None),)
    require(
        all(callable(one) for pair in pairs for one in pair),
        f"augment must be pairs of functions, there and back, got {augment!r}; give flips(1, 2), "
        "rotations(1, 2) or your own",
    )
    return pairs


def _reduced(
    reduce: Reduce, outputs: Any, layouts: Sequence[Layout], batch_axes: int
) -> tuple[Function, Arrays, Any]:
    """A function of slabs of outputs, checked against one slab."""
    require(callable(reduce), f"reduce must be a function of values, got {reduce!r}; give one")
    sweep, batch = Sweep(tuple(layouts)), (1,) * batch_axes
    cells = [(*batch, *sweep.cells(layout)) for layout in layouts]
    leaves, tree = jax.tree.flatten(outputs)
    slab = tree.unflatten(
        jax.ShapeDtypeStruct((*shape, leaf.shape[-1]), blended_dtype(leaf.dtype))
        for shape, leaf in zip(cells, leaves, strict=True)
    )
    function, arrays = Function.split(reduce, slab)
    results = function.outputs(arrays, slab)
    for leaf in jax.tree.leaves(results):
        if leaf.shape[: len(cells[0])] not in cells:
            raise InputError(
                f"reduce must keep the axes of the cells, {listed({*map(str, cells)})} of a slab, "
                f"got shape {leaf.shape}; work along the last axis alone"
            )
    if not jax.tree.leaves(results):
        raise InputError("reduce must return at least one array, got none; return its result")
    return function, arrays, results


def _check_batch_size(batch_size: int | Literal["auto"], devices: int) -> None:
    if isinstance(batch_size, str) and batch_size == "auto":
        return
    whole = hasattr(batch_size, "__index__") and not isinstance(batch_size, bool)
    if not whole or batch_size < 1 or batch_size % devices:
        raise InputError(
            f'batch_size must be "auto" or a positive multiple of the number of devices, got '
            f"{batch_size!r} on {devices}; use a multiple of {devices}"
        )


def surrounding_mesh(x: Any) -> AbstractMesh | None:
    """The devices of `jax.set_mesh`, for a field that lies whole on them as far as is known."""
    mesh = jax.sharding.get_abstract_mesh()
    split = getattr(x, "sharding", None) if not isinstance(x, Tracer) else jax.typeof(x).sharding
    if mesh.empty or AxisType.Manual in mesh.axis_types:
        return None
    return mesh if split is None or split.is_fully_replicated else None


def _auto(mesh: Mesh | AbstractMesh | None) -> Mesh | AbstractMesh | None:
    """The same devices with axes that the compiler may use as it sees fit."""
    if mesh is None:
        return None
    types = {"axis_types": (AxisType.Auto,) * len(getattr(mesh, "axis_names", ()))}
    if isinstance(mesh, Mesh):
        return Mesh(mesh.devices, mesh.axis_names, **types)
    require(
        isinstance(mesh, AbstractMesh),
        f"mesh must be a jax.sharding.Mesh, got {mesh!r}; make one with jax.make_mesh",
    )
    return AbstractMesh(mesh.axis_sizes, mesh.axis_names, **types)
