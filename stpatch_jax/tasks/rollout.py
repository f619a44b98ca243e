"""Rollouts, whose forecasts become context, and normalisation by instance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Stepper = Callable[[Any, jax.Array], jax.Array]
"""`(model, context) -> forecast` of a few time steps, in the channels of the context."""


def rollout(forecast: Stepper, model: nnx.Module, context: jax.Array, *, horizon: int) -> jax.Array:
    """Forecasts a few steps at a time and feeds them back as context until the horizon.

    One compiled loop, through which reverse mode differentiates. Dropout draws anew at each turn.

    Args:
        forecast: Forecasts `[batch, step, *space, channel]` from a context; the number of its time
            steps may be more than the context's.
        model: What it is called with.
        context: [batch, context, *space, channel].
        horizon: Number of time steps wanted; what the last turn forecasts beyond it is cut off.

    Returns:
        [batch, horizon, *space, channel] in float32.
    """
    length = context.shape[1]
    graphdef, streams, rest = nnx.split(model, nnx.RngState, ...)

    def turn(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], jax.Array]:
        streams, context = carry
        step_model = nnx.merge(graphdef, streams, rest, copy=True)
        ahead = forecast(step_model, context)
        context = jnp.concatenate([context, ahead.astype(context.dtype)], axis=1)[:, -length:]
        return (nnx.state(step_model, nnx.RngState), context), ahead.astype(jnp.float32)

    step = nnx.eval_shape(forecast, model, context).shape[1]
    carry = (streams, context)
    (streams, _), ahead = jax.lax.scan(turn, carry, length=-(-horizon // step))
    nnx.update(model, streams)
    ahead = jnp.moveaxis(ahead, 0, 1)
    return ahead.reshape(len(context), -1, *context.shape[2:])[:, :horizon]


def instance_statistics(
    context: jax.Array, *, epsilon: float = 1e-5
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each example, cell and channel over the context's time.

    Args:
        context: [batch, context, *space, channel].
        epsilon: Added to the variance, so that a constant context has a deviation above 0.

    Returns:
        Both [batch, 1, *space, channel] in float32.

    >>> mean, deviation = instance_statistics(jnp.array([1.0, 3.0]).reshape(1, 2, 1), epsilon=0.0)
    >>> mean.item(), deviation.item()
    (2.0, 1.0)
    """
    context = context.astype(jnp.float32)
    mean = context.mean(axis=1, keepdims=True)
    variance = jnp.square(context - mean).mean(axis=1, keepdims=True)
    return mean, jnp.sqrt(variance + epsilon)
