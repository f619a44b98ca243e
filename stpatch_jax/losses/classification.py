"""Losses of classes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError, check_range
from stpatch_jax.losses.reduction import (
    check_last_axis,
    check_one_shape,
    entry_weights,
    masked_mean,
)


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    mask: jax.Array | None = None,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> jax.Array:
    """Mean cross-entropy of class probabilities `p = softmax(logits)`, in nats.

    `sum(w * e) / sum(w)` over the real labels, where w is the weight of an entry's class and
    `e = -(1 - s) log p[label] - s mean(log p)` with the label smoothing s.

    Args:
        logits: [*batch, classes], any floating dtype; the softmax is taken in float32.
        label: [*batch] integers from 0 to classes - 1. A real label outside of that makes the loss
            NaN, and not a number that looks right.
        mask: Bool [*batch], True where the label is real; None means everywhere.
        label_smoothing: Share of the target that is spread evenly over all classes, in [0, 1).
        class_weights: One weight >= 0 per class; None means 1 for all.

    Returns:
        Scalar, float32; 0 if no label is real.

    Raises:
        InputError: If shapes or options do not fit.

    References:
        Label smoothing: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.

    >>> uniform = cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))
    >>> bool(jnp.isclose(uniform, jnp.log(4.0)))
    True
    """
    classes = logits.shape[-1]
    check_last_axis("cross_entropy", "class", logits.shape, label.shape)
    check_one_shape("label and mask of cross_entropy", label, mask)
    check_range("label_smoothing", label_smoothing, 0, 1, bounds="[)")
    if class_weights is not None and len(class_weights) != classes:
        raise InputError(
            f"class_weights must be one for each of {classes} classes, got {len(class_weights)}; "
            "give the others 1"
        )
    if mask is not None:
        # Cleared before the softmax, whose gradient would spread a NaN.
        logits = jnp.where(mask[..., None], logits, 0)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    known = (label >= 0) & (label < classes)
    index = jnp.where(known, label, 0)
    entropy = -jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]
    entropy = (1 - label_smoothing) * entropy - label_smoothing * log_p.mean(axis=-1)
    entropy = jnp.where(known, entropy, jnp.nan)
    if mask is not None:
        entropy = jnp.where(mask, entropy, 0.0)
    weight = label_weights(label, mask=mask, class_weights=class_weights)
    return masked_mean(weight * entropy, jnp.sum(weight))


def label_weights(
    label: jax.Array, *, mask: jax.Array | None = None, class_weights: Sequence[float] | None = None
) -> jax.Array:
    """Returns how much each label counts in `cross_entropy`, which divides by the sum of it all.

    Arguments as in `cross_entropy`.

    Returns:
        [*batch] float32: the weight of the label's class, 0 where it is not real.

    >>> label_weights(jnp.array([1, 0]), class_weights=[2.0, 3.0]).tolist()
    [3.0, 2.0]
    """
    real = jnp.ones(label.shape, bool) if mask is None else mask
    if class_weights is None:
        return entry_weights(real)
    # A label that is no class makes the loss NaN whatever it weighs.
    index = jnp.clip(label, 0, len(class_weights) - 1)
    return entry_weights(real, weights=jnp.asarray(class_weights, jnp.float32)[index])
