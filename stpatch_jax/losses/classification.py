"""Losses of classes."""

import math
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


def dice(
    logits: jax.Array,
    label: jax.Array,
    *,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    smooth: float = 1e-5,
) -> jax.Array:
    """Mean soft Dice loss of the examples of a batch, from 0 (all right) to 1.

    That of an example is the mean over its classes of `1 - (2 sum(p t) + s) / (sum(p) + sum(t) +
    s)`, summed over its real cells, of probabilities `p = softmax(logits)`, targets t of 0 and 1,
    and the smoothing s. A class that an example lacks counts too: all that is said of it is wrong.

    Args:
        logits: [batch, *cells, classes], any floating dtype; the softmax is taken in float32.
        label: [batch, *cells] integers from 0 to classes - 1.
        mask: Bool [batch, *cells], True where the label is real; None means everywhere.
        weights: [batch] how much each example counts; None means 1 for all.
        smooth: Added above and below, > 0, so that a class that is nowhere has a number.

    Returns:
        Scalar, float32; 0 if the weights are.

    Raises:
        InputError: If shapes or options do not fit.

    References:
        Milletari, Navab and Ahmadi, "V-Net", 3DV 2016; averaged as MONAI averages it.

    >>> sure = 50 * jax.nn.one_hot(jnp.array([[0, 1, 1]]), 2)
    >>> float(dice(sure, jnp.array([[0, 1, 1]])))
    0.0
    """
    check_last_axis("dice", "class", logits.shape, label.shape)
    check_one_shape("label and mask of dice", label, mask)
    check_range("smooth", smooth, 0, math.inf, bounds="()")
    classes, axes = logits.shape[-1], tuple(range(1, label.ndim))
    target = jax.nn.one_hot(label, classes, dtype=jnp.float32)
    if mask is not None:
        # Cleared before the softmax, whose gradient would spread a NaN.
        logits = jnp.where(mask[..., None], logits, 0)
    said = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    if mask is not None:
        said, target = (jnp.where(mask[..., None], values, 0.0) for values in (said, target))
    both, sizes = jnp.sum(said * target, axis=axes), jnp.sum(said + target, axis=axes)
    each = jnp.mean(1 - (2 * both + smooth) / (sizes + smooth), axis=-1)
    weight = jnp.ones(each.shape) if weights is None else weights
    return masked_mean(weight * each, jnp.sum(weight))
