"""Moving numbers bit for bit: what a compiler might round on the way is moved as integers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

Linear = Callable[..., jax.Array]
Kernels = tuple[Linear | None, Linear | None]


def exact_copy(
    copy: Callable[..., jax.Array],
    linear: Callable[..., jax.Array],
    x: jax.Array,
    fill: np.ndarray,
    *traced: jax.Array,
) -> jax.Array:
    """Runs `copy(x, fill, *traced)` bit for bit; its tangent is `linear(tangent, *traced)`."""

    def primal(x: jax.Array, *traced: jax.Array) -> jax.Array:
        if not is_short_float(x.dtype):
            return copy(x, fill, *traced)
        # XLA may widen short floats even to move them, which quiets NaNs and flushes subnormals.
        bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")

        def as_bits(x: jax.Array, *traced: jax.Array) -> jax.Array:
            patches = copy(lax.bitcast_convert_type(x, bits), fill.view(bits), *traced)
            return lax.bitcast_convert_type(patches, x.dtype)

        return _transposable(as_bits, linear, x, *traced)

    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return primal(x, *traced)
    exact = jax.custom_jvp(primal)
    exact.defjvp(lambda primals, tangents: (exact(*primals), linear(tangents[0], *primals[1:])))
    return exact(x, *traced)


def is_short_float(dtype: jnp.dtype) -> bool:
    """Whether numbers of a dtype are floats of less than 32 bits."""
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which numbers of a dtype are added up: float32 for shorter floats."""
    return jnp.dtype(jnp.float32) if is_short_float(dtype) else dtype


# `jax.linear_transpose` of a copy goes through what is copied, and JAX has no transpose of a
# bitcast; `jax.custom_derivatives.linear_call`, which would take one, cannot be batched.
_copy = Primitive("stpatch_copy")
_copy.multiple_results = True


def _transposable(
    copy: Callable[..., jax.Array], linear: Callable[..., jax.Array], *args: jax.Array
) -> jax.Array:
    """`copy(*args)`, which transposes with respect to the first as `linear` does."""
    return _bound(copy, linear, (None, None), *args)


def copy_by_kernel(kernels: Kernels, copy: Linear, linear: Linear, x: jax.Array) -> jax.Array:
    """`copy(x)`, on a TPU by a kernel where a program is compiled for one device.

    The first kernel copies; the second, if there is one, transposes `linear`, which is the same
    copy in a form that has a transpose. No compiler splits a kernel over devices, and JAX exports
    none for several platforms at once, nor from 0.12 on for a TPU that it is not told.
    """
    return _bound(copy, linear, kernels, x)


def _bound(
    copy: Callable[..., jax.Array],
    linear: Callable[..., jax.Array],
    kernels: Kernels,
    *args: jax.Array,
) -> jax.Array:
    program = jax.make_jaxpr(copy)(*args)
    (out,) = _copy.bind(*args, program=program, linear=linear, kernels=kernels)
    return out


def _run(*args: Any, program: ClosedJaxpr, **_: Any) -> list[Any]:
    return jaxpr_as_fun(program)(*args)


def _lowered_for_tpu(ctx: mlir.LoweringRuleContext, *args: Any, kernels: Any, **rest: Any) -> Any:
    module = ctx.module_context
    context = module.axis_context
    # In `jax.shard_map` the program of a device is at hand, if all axes of the mesh are its own.
    names = set(getattr(getattr(context, "mesh", None), "axis_names", ()))
    alone = getattr(context, "num_devices", None) == 1
    alone |= bool(names) and names == set(getattr(context, "manual_axes", ()))
    if kernels[0] is None or not alone or module.lowering_parameters.for_export:
        return mlir.lower_fun(_run, multiple_results=True)(ctx, *args, **rest)
    return mlir.lower_fun(kernels[0], multiple_results=False)(ctx, *args)


def _batched(
    args: Any, dims: Any, *, program: ClosedJaxpr, linear: Linear, kernels: Kernels
) -> tuple[list[Any], tuple[int]]:
    def many(fn: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(fn, in_axes=tuple(dims))

    # The tangent's batch axis is where that of `x` was.
    copy = many(lambda *args: jaxpr_as_fun(program)(*args)[0])
    kernel, back = kernels
    kernels = kernel and many(kernel), back and jax.vmap(back, 0, dims[0])
    return [_bound(copy, many(linear), kernels, *args)], (0,)


def _transposed(
    cotangents: Any,
    x: Any,
    *traced: Any,
    program: ClosedJaxpr,
    linear: Linear,
    kernels: Kernels,
) -> list[Any]:
    none = [None] * len(traced)
    if isinstance(cotangents[0], ad.Zero):
        return [ad.Zero(x.aval), *none]

    def back(y: jax.Array) -> jax.Array:
        # Of whole numbers JAX gives `x` as what has no values.
        return jax.linear_transpose(lambda x: linear(x, *traced), program.in_avals[0])(y)[0]

    if kernels[1] is None:
        return [back(cotangents[0]), *none]
    return [_bound(back, back, (kernels[1], kernels[0]), cotangents[0])]


def _pushed(primals: Any, tangents: Any, **rest: Any) -> tuple[list[Any], list[Any]]:
    tangent = ad.instantiate_zeros(tangents[0])
    return _copy.bind(*primals, **rest), _copy.bind(tangent, *primals[1:], **rest)


_copy.def_impl(_run)
_copy.def_abstract_eval(lambda *_, program, **__: program.out_avals)
mlir.register_lowering(_copy, mlir.lower_fun(_run, multiple_results=True))
mlir.register_lowering(_copy, _lowered_for_tpu, platform="tpu")
batching.primitive_batchers[_copy] = _batched
ad.primitive_jvps[_copy] = _pushed
ad.primitive_transposes[_copy] = _transposed
