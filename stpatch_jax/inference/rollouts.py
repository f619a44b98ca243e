"""Rollouts over whole fields: every tiled forecast becomes context of the next."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_size
from stpatch_jax.inference.job import Predict, TiledJob
from stpatch_jax.inference.program import Constants, Program, run
from stpatch_jax.patches.blends import Blend
from stpatch_jax.patches.extraction import Spec, as_field, windows_of
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
    x, spec = as_field(x), WindowSpec.of(spec)
    time = windows_of(x.shape, spec).axes[0]
    if time.count != 1 or time.window != time.size:
        raise InputError(
            f"a window must take the whole context of {time.size} time steps, got windows of "
            f"{time.window} at {time.count} times; give None along time"
        )
    check_size("step", step)
    check_size("horizon", horizon)
    x = x.astype(jnp.promote_types(x.dtype, "bfloat16"))
    job = TiledJob.of(fn, x, spec, horizon=step, blend=blend, batch_size=batch_size)
    outputs = jax.tree.leaves(job.results)
    if len(outputs) != 1 or outputs[0].shape[-1] != x.shape[-1]:
        raise InputError(
            f"a forecast must be one array with the {x.shape[-1]} channels of its context, got "
            f"{[output.shape for output in outputs]}; forecast all channels"
        )
    return _roll(job.program, *job.arguments(x), turns=-(-horizon // step), horizon=horizon)


@functools.partial(jax.jit, static_argnames=("program", "turns", "horizon"))
def _roll(
    program: Program, arrays: Any, x: jax.Array, constants: Constants, *, turns: int, horizon: int
) -> jax.Array:
    time = x.ndim - program.spec.rank - 1

    def turn(context: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        (ahead,) = jax.tree.leaves(run(program, arrays, context, constants))
        ahead = ahead.squeeze(time).astype(context.dtype)
        both = jnp.concatenate([context, ahead], axis=time)
        return lax.slice_in_dim(both, ahead.shape[time], None, axis=time), ahead

    _, ahead = lax.scan(turn, x, length=turns)
    ahead = jnp.moveaxis(ahead, 0, time)
    ahead = ahead.reshape(*x.shape[:time], -1, *x.shape[time + 1 :])
    return lax.slice_in_dim(ahead, 0, horizon, axis=time)
