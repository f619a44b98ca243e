"""How much arithmetic a function asks for, counted in its program and not by a backend."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.interpreters.partial_eval import dce_jaxpr


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Counts the multiplications and additions of matrix products and convolutions.

    Those are what the peak of a device is stated for. The body of a `scan` counts once a turn
    (XLA's own analysis counts it once), of a `cond` the dearest branch (of `platform_dependent` the
    default), of a `while` one turn, of `shard_map` once a device, of `pallas_call` what its
    `cost_estimate` says or once a point of its grid. What nobody reads does not count, as compilers
    drop it, nor do integers. Nothing is computed.

    >>> x = jax.ShapeDtypeStruct((8, 4), "float32")
    >>> count_flops(lambda x: x.T @ x, x)
    256
    >>> count_flops(lambda x: jax.vjp(lambda x: x @ x.T, x)[1](jax.numpy.ones((8, 8)))[0], x)
    1024
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _of_jaxpr(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def gradient_flops(loss_fn: Callable[..., Any], model: nnx.Module, batch: Any) -> int:
    """The arithmetic of one gradient of a loss with respect to the weights; see `count_flops`.

    The loss is `(model, batch) -> (loss, metrics)`; shapes and dtypes do for model and batch.

    >>> linear = nnx.eval_shape(lambda: nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0)))
    >>> x = jax.ShapeDtypeStruct((8, 4), "float32")
    >>> gradient_flops(lambda model, x: (model(x).sum(), {}), linear, x)
    256
    """
    graphdef, state = nnx.split(model)

    def gradient(state: nnx.State, batch: Any) -> Any:
        model = nnx.merge(graphdef, state, copy=True)
        return nnx.value_and_grad(loss_fn, has_aux=True)(model, batch)

    return count_flops(gradient, state, batch)


def _of_jaxpr(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name in ("dot_general", "conv_general_dilated"):
        floating = jax.numpy.issubdtype(equation.outvars[0].aval.dtype, jax.numpy.inexact)
        return 2 * _products(equation) if floating else 0
    inner = [_of_jaxpr(getattr(x, "jaxpr", x)) for x in _programs(params)]
    if name == "shard_map":
        return sum(inner) * params["mesh"].size
    if name == "cond":
        # What depends on the platform counts in the form without a platform's name.
        return inner[-1] if params.get("branches_platforms") else max(inner)
    if name == "pallas_call":
        stated = params["cost_estimate"]
        return stated.flops if stated else sum(inner) * math.prod(params["grid_mapping"].grid)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _programs(params: dict[str, Any]) -> list[Any]:
    """The programs among the parameters of an equation."""
    values = [x for v in params.values() for x in (v if isinstance(v, tuple | list) else (v,))]
    return [x for x in values if hasattr(getattr(x, "jaxpr", x), "eqns")]


def _products(equation: Any) -> int:
    """How many numbers are multiplied with each other."""
    left, right = (x.aval.shape for x in equation.invars[:2])
    out = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        contracted = equation.params["dimension_numbers"][0][0]
        return out * math.prod(left[axis] for axis in contracted)
    kernel = equation.params["dimension_numbers"].rhs_spec
    # All of the kernel but its axis of outputs takes part in each output.
    return out * math.prod(right) // right[kernel[0]]


def compiled_bytes(compiled: Any) -> int | None:
    """Bytes that a compiled function needs on one device, as its compiler planned them.

    Its arguments, its results where they do not take the place of donated arguments, and what it
    keeps in between; not what the process holds beside it. None where the compiler does not tell.

    >>> compiled_bytes(jax.jit(lambda x: x + 1).lower(jax.numpy.zeros(256)).compile())
    2048
    """
    plan: Any = compiled.memory_analysis()
    if plan is None:
        return None
    parts = (getattr(plan, f"{part}_size_in_bytes") for part in ("argument", "output", "temp"))
    return sum(parts) - plan.alias_size_in_bytes
