"""Optimisers by name: clip, weight decay, rule and learning rate as one optax transformation."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from stpatch_jax.nn.blocks import is_stacked
from stpatch_jax.training.config import OptimizerConfig


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate, a scalar, as a function of the number of updates made before.

    `rate * min(1, (count + 1) / warmup)`, and for `cosine` times
    `(1 + cos(pi * (count - warmup) / (steps - warmup))) / 2` once the warm-up is over.

    >>> schedule = learning_rate_schedule(OptimizerConfig(learning_rate=0.5, warmup_steps=4), 10)
    >>> [round(float(schedule(count)), 3) for count in (0, 1, 3, 9)]
    [0.125, 0.25, 0.5, 0.5]
    """
    warmup = config.warmup_steps

    def schedule(count: jax.typing.ArrayLike) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        rate = config.learning_rate * jnp.minimum(1.0, (count + 1) / max(warmup, 1))
        if config.schedule == "cosine":
            done = jnp.clip((count - warmup) / max(steps - warmup, 1), 0.0, 1.0)
            rate = rate * (1 + jnp.cos(jnp.pi * done)) / 2
        return rate

    return schedule


def decays(params: optax.Params) -> optax.Params:
    """Returns, leaf by leaf, whether weight decay applies: biases and norm scales are spared."""

    def decays(leaf: Any) -> bool:
        return jnp.ndim(leaf) - is_stacked(leaf) >= 2

    return jax.tree.map(decays, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def make_optimizer(
    config: OptimizerConfig, steps: int, *, decayed: Any = decays
) -> optax.GradientTransformation:
    """Builds the optimiser that `config` names, for a run of `steps` updates.

    The gradient is clipped by its global norm, then (for `adam` and `sgd`) the L2 term
    `weight_decay * weight` is added to it, then the rule applies; `adamw` instead takes
    `learning_rate * weight_decay * weight` off the weight beside the rule
    (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

    Args:
        config: The rule.
        steps: Updates of the run.
        decayed: What weight decay applies to, as `optax.masked` takes it; a network with stacked
            blocks, whose arrays do not say it by their axes, gives `decays` of its parameters.
    """
    rate = learning_rate_schedule(config, steps)
    clip = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    kept = config.moment_dtype
    if config.name == "adamw":
        decay = {"weight_decay": config.weight_decay, "mask": decayed}
        return optax.chain(clip, optax.adamw(rate, mu_dtype=kept, **decay))
    if config.name == "adam":
        rule = optax.adam(rate, mu_dtype=kept)
    else:
        rule = optax.sgd(rate, momentum=config.momentum, accumulator_dtype=kept)
    return optax.chain(clip, optax.add_decayed_weights(config.weight_decay, decayed), rule)
