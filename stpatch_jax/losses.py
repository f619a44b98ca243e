"""Losses: scalars to minimise, masked, accumulated in float32.

All of them share one reduction: the mean over the entries whose mask is True, over every axis at
once (weighted, where there are class weights), so that an example with few real targets weighs
little. With no real entry the loss is 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError


def _error(
    name: str, prediction: jax.Array, target: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the error, 0 where masked, and the number of real entries, both in float32."""
    if prediction.shape != target.shape:
        raise InputError(
            f"{name} needs prediction and target of one shape, got {prediction.shape} and "
            f"{target.shape}; reshape one of them instead of relying on broadcasting"
        )
    if mask is not None and mask.shape != target.shape:
        raise InputError(
            f"{name} needs a mask of the target's shape {target.shape}, got {mask.shape}; "
            "broadcast the mask to the target first"
        )
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    if mask is None:
        return error, jnp.asarray(error.size, jnp.float32)
    # Selecting the difference (not the loss of it) keeps a NaN target out of the gradient too.
    return jnp.where(mask, error, 0.0), jnp.sum(mask, dtype=jnp.float32)


def _mean(values: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.sum(values) / jnp.maximum(count, 1.0)


def mse(prediction: jax.Array, target: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Mean squared error, `sum(mask * (prediction - target)^2) / sum(mask)`.

    Args:
        prediction: Any floating dtype, any shape.
        target: Shape of `prediction`; what it holds where the mask is False, NaN included, counts
            neither in the loss nor in its gradient.
        mask: Bool, shape of `target`, True where the target is real; None means everywhere.

    Returns:
        Scalar, float32, in the square of the target's units; 0 if nothing is real.

    Raises:
        InputError: If the shapes differ.

    >>> float(mse(jnp.array([1.0, 5.0]), jnp.array([3.0, 0.0]), mask=jnp.array([True, False])))
    4.0
    """
    error, count = _error("mse", prediction, target, mask)
    return _mean(jnp.square(error), count)


def mae(prediction: jax.Array, target: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Mean absolute error, `sum(mask * |prediction - target|) / sum(mask)`.

    Args:
        prediction: Any floating dtype, any shape.
        target: Shape of `prediction`; ignored where the mask is False, also if it is NaN there.
        mask: Bool, shape of `target`, True where the target is real; None means everywhere.

    Returns:
        Scalar, float32, in the target's units; 0 if nothing is real.

    Raises:
        InputError: If the shapes differ.

    >>> float(mae(jnp.array([1.0, 5.0]), jnp.array([3.0, 4.0])))
    1.5
    """
    error, count = _error("mae", prediction, target, mask)
    return _mean(jnp.abs(error), count)


def huber(
    prediction: jax.Array,
    target: jax.Array,
    *,
    mask: jax.Array | None = None,
    delta: float = 1.0,
) -> jax.Array:
    """Mean Huber loss: `e^2 / 2` where `|e| <= delta`, `delta (|e| - delta / 2)` beyond it.

    Args:
        prediction: Any floating dtype, any shape.
        target: Shape of `prediction`; ignored where the mask is False, also if it is NaN there.
        mask: Bool, shape of `target`, True where the target is real; None means everywhere.
        delta: Error, in the target's units, at which squares turn into absolute values; > 0.

    Returns:
        Scalar, float32: the mean over the real entries; 0 if nothing is real.

    Raises:
        InputError: If the shapes differ or `delta` is not positive.

    References:
        Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).

    >>> float(huber(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0]), delta=1.0))
    1.5
    """
    if delta <= 0:
        raise InputError(f"huber needs a delta > 0, got {delta}; give it in the target's units")
    error, count = _error("huber", prediction, target, mask)
    size = jnp.abs(error)
    # |e| clipped at delta makes both branches one polynomial, without a select in the gradient.
    clipped = jnp.minimum(size, delta)
    return _mean(clipped * (size - 0.5 * clipped), count)


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
    _check_labels(logits.shape, label.shape, None if mask is None else mask.shape)
    if not 0 <= label_smoothing < 1:
        raise InputError(f"cross_entropy needs 0 <= label_smoothing < 1, got {label_smoothing}")
    if class_weights is not None and len(class_weights) != classes:
        raise InputError(
            f"cross_entropy needs one class weight for each of {classes} classes, "
            f"got {len(class_weights)}"
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
    weight = jnp.ones(label.shape, jnp.float32)
    if class_weights is not None:
        weight = jnp.asarray(class_weights, jnp.float32)[index]
    if mask is not None:
        weight, entropy = jnp.where(mask, weight, 0.0), jnp.where(mask, entropy, 0.0)
    total = jnp.sum(weight)
    return jnp.sum(weight * entropy) / jnp.where(total > 0, total, 1.0)


def _check_labels(
    logits: tuple[int, ...], label: tuple[int, ...], mask: tuple[int, ...] | None
) -> None:
    if label != logits[:-1] or mask not in (None, label):
        raise InputError(
            "cross_entropy needs logits (*batch, classes) and labels and mask (*batch), "
            f"got {logits}, {label} and {mask}; reshape them to belong together"
        )
