"""Moving numbers bit for bit: what a compiler might round on the way is moved as integers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir


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
    (out,) = _copy.bind(*args, program=jax.make_jaxpr(copy)(*args), linear=linear)
    return out


def _run(*args: Any, program: ClosedJaxpr, linear: Callable[..., jax.Array]) -> list[Any]:
    del linear
    return jaxpr_as_fun(program)(*args)


def _batched(
    args: Any, dims: Any, *, program: ClosedJaxpr, linear: Callable[..., jax.Array]
) -> tuple[list[Any], tuple[int]]:
    def many(fn: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(fn, in_axes=tuple(dims))

    # The tangent's batch axis is where that of `x` was.
    copy = many(lambda *args: jaxpr_as_fun(program)(*args)[0])
    return [_transposable(copy, many(linear), *args)], (0,)


def _transposed(
    cotangents: Any, x: Any, *traced: Any, program: ClosedJaxpr, linear: Callable[..., jax.Array]
) -> list[Any]:
    del program
    none = [None] * len(traced)
    if isinstance(cotangents[0], ad.Zero):
        return [ad.Zero(x.aval), *none]
    return [*jax.linear_transpose(lambda x: linear(x, *traced), x.aval)(cotangents[0]), *none]


_copy.def_impl(_run)
_copy.def_abstract_eval(lambda *_, program, linear: program.out_avals)
mlir.register_lowering(_copy, mlir.lower_fun(_run, multiple_results=True))
batching.primitive_batchers[_copy] = _batched
ad.primitive_transposes[_copy] = _transposed
