"""Rollouts over whole fields: every tiled forecast becomes context of the next."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_size
from stpatch_jax.inference.program import Function
from stpatch_jax.inference.sliding_window import Predict, sliding_window_apply
from stpatch_jax.patches.extraction import Spec, windows_of
from stpatch_jax.patches.folding import Blend
from stpatch_jax.patches.windows import WindowSpec


def sliding_window_rollout(
    fn: Predict,
    x: ArrayLike,
    spec: Spec,
    *,
    step: int,
    horizon: int,
    blend: Blend = "hann",
    batch_size: int | Literal["auto"] = "auto",
) -> jax.Array:
    """Forecasts a whole field a few time steps at a time, from its own forecasts.

    Windows are blended after every turn, so that neighbours see each other and no seams grow. One
    compiled loop, through which derivatives go.

    Args:
        fn: Forecasts `[windows, step, *window of space, channel]` from `[windows, context, *window
            of space, channel]`, with the same channels.
        x: Context `[*batch, context, *space, channel]`.
        spec: The windows; along time one takes the whole context (None).
        step: Time steps that `fn` forecasts at once.
        horizon: Time steps wanted; what the last turn forecasts beyond is cut off.
        blend: The taper of a window.
        batch_size: Windows per call of `fn`, as in `sliding_window_apply`.

    Returns:
        `[*batch, horizon, *space, channel]` in the dtype of the context, or float32.

    Raises:
        InputError: Windows do not take the whole context, the channels of a forecast are others,
            or as in `sliding_window_apply`.

    Example:
        >>> x = jnp.ones((3, 8, 1))
        >>> spec = WindowSpec((None, 4), stride=(None, 2))
        >>> sliding_window_rollout(lambda w: w[:, -1:] + 1, x, spec, step=1, horizon=2)[:, 0, 0]
        Array([2., 3.], dtype=float32)
    """
    x, spec = jnp.asarray(x), WindowSpec.of(spec)
    time = windows_of(x.shape, spec).axes[0]
    if time.count != 1 or time.window != time.size:
        raise InputError(
            f"a window must take the whole context of {time.size} time steps, got windows of "
            f"{time.window} at {time.count} times; give None along time"
        )
    check_size("step", step)
    check_size("horizon", horizon)
    function, arrays = Function.split(fn)
    x = x.astype(jnp.promote_types(x.dtype, "bfloat16"))
    return _roll(
        arrays, x, function=function, spec=spec, options=(step, horizon, blend, batch_size)
    )


@functools.partial(jax.jit, static_argnames=("function", "spec", "options"))
def _roll(
    arrays: Any, x: jax.Array, *, function: Function, spec: WindowSpec, options: tuple[Any, ...]
) -> jax.Array:
    step, horizon, blend, batch_size = options
    time = x.ndim - spec.rank - 1
    fn = jax.tree_util.Partial(function, arrays)

    def turn(context: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        ahead = sliding_window_apply(
            fn, context, spec, horizon=step, blend=blend, batch_size=batch_size
        )
        ahead = ahead.squeeze(time).astype(context.dtype)
        if ahead.shape[-1] != context.shape[-1]:
            raise InputError(
                f"a forecast must have the {context.shape[-1]} channels of its context, got "
                f"{ahead.shape[-1]}; forecast all channels, or use a horizon of one turn"
            )
        both = jnp.concatenate([context, ahead], axis=time)
        return lax.slice_in_dim(both, step, None, axis=time), ahead

    _, ahead = lax.scan(turn, x, length=-(-horizon // step))
    ahead = jnp.moveaxis(ahead, 0, time)
    ahead = ahead.reshape(*x.shape[:time], -1, *x.shape[time + 1 :])
    return lax.slice_in_dim(ahead, 0, horizon, axis=time)
