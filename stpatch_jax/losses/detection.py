"""Losses of detection: which cells hold an object, and how well boxes overlap.

A box is `(lo..., hi...)`, one lower and one upper bound per space axis, 1 to 3 axes, in any unit;
cell i of a grid reaches from i to i + 1. A box whose upper bound is below its lower one is empty.
"""

import math

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError, check_range
from stpatch_jax.losses.reduction import Mask, check_one_shape, masked_error, masked_mean

# Below this a volume counts as 0: the square of its inverse is no float32 any more.
_SMALLEST_VOLUME = 1e-15


def focal(
    logits: jax.Array,
    target: jax.Array,
    *,
    mask: Mask = None,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> jax.Array:
    """Sigmoid focal loss, `sum(-a (1 - p)^gamma log p) / positives`, in nats.

    p is the probability given to what is true, `sigmoid(logit)` where the target is True and
    `1 - sigmoid(logit)` elsewhere; a is `alpha` there and `1 - alpha` elsewhere. Easy entries (p
    near 1) weigh little, so that a few objects count beside many empty cells. The sum over all real
    entries is divided by the number of real True targets, or by 1 if there is none.

    Args:
        logits: Any shape, any floating dtype; computed in float32.
        target: Bool, shape of `logits`.
        mask: Bool, shape of `logits`, True where the target is real; None means everywhere.
        gamma: How fast easy entries lose weight, >= 0; 0 is cross-entropy.
        alpha: Weight of True targets, in [0, 1].

    Returns:
        Scalar, float32.

    Raises:
        InputError: If shapes or options do not fit.

    References:
        Lin et al., "Focal loss for dense object detection", ICCV 2017.

    >>> loss = focal(jnp.zeros(2), jnp.array([True, False]), gamma=0.0, alpha=0.5)
    >>> bool(jnp.isclose(loss, jnp.log(2.0)))
    True
    """
    check_one_shape("logits, target and mask of focal", logits, target, mask)
    if target.dtype != jnp.bool_:
        raise InputError(f"target of focal must be bool, got {target.dtype}; compare it with 0.5")
    check_range("gamma", gamma, 0, math.inf)
    check_range("alpha", alpha, 0, 1)
    if mask is not None:
        logits, target = jnp.where(mask, logits, 0), target & mask
    logits = logits.astype(jnp.float32)
    # log(1 - p) is the log-sigmoid of the other sign: no power of a difference that rounds to 0.
    signed = jnp.where(target, logits, -logits)
    loss = -jnp.exp(gamma * jax.nn.log_sigmoid(-signed)) * jax.nn.log_sigmoid(signed)
    loss = jnp.where(target, alpha, 1 - alpha) * loss
    if mask is not None:
        loss = jnp.where(mask, loss, 0.0)
    return masked_mean(loss, jnp.sum(target, dtype=jnp.float32))


def box_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of boxes, from 0 (apart) to 1 (the same box).

    Args:
        a: [*batch, 2 * space axes], bounds `(lo..., hi...)` in any floating dtype.
        b: Like `a`; batch axes of size 1 broadcast, so `a[:, None]` with `b[None]` gives all pairs.

    Returns:
        [*batch] float32; 0 where both boxes have no volume, with finite gradients everywhere.

    Raises:
        InputError: If the shapes do not fit.

    >>> box_iou(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 1.0, 2.0])).tolist()
    0.5
    """
    shared, union, _ = _overlap("box_iou", a, b)
    return _ratio(shared, union)


def box_giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised intersection over union, from -1 (far apart) to 1 (the same box).

    `IoU - (H - U) / H` with the volumes U of the union and H of the smallest box around both, so
    that boxes that do not touch still have a gradient towards each other.

    Arguments as in `box_iou`.

    Returns:
        [*batch] float32; 0 where the box around both has no volume, with finite gradients
        everywhere.

    Raises:
        InputError: If the shapes do not fit.

    References:
        Rezatofighi et al., "Generalized intersection over union", CVPR 2019.

    >>> float(box_giou(jnp.array([0.0, 1.0]), jnp.array([3.0, 4.0])))
    -0.5
    """
    shared, union, hull = _overlap("box_giou", a, b)
    return _ratio(shared, union) - _ratio(hull - union, hull)


def box_loss(
    prediction: jax.Array, target: jax.Array, *, mask: Mask = None, smooth_l1: float = 0.0
) -> jax.Array:
    """Mean of `1 - GIoU + smooth_l1 * L` over the real boxes.

    L is the mean smooth L1 over a box's bounds: `e^2 / 2` for an error of at most 1 unit of the
    boxes, `|e| - 1/2` beyond it. GIoU does not depend on the units; L does.

    Args:
        prediction: [*batch, 2 * space axes], bounds `(lo..., hi...)` in any floating dtype.
        target: Shape of `prediction`; ignored where the mask is False, also if it is NaN there.
        mask: Bool [*batch], True where the target is real; None means everywhere.
        smooth_l1: Weight of L, >= 0.

    Returns:
        Scalar, float32; 0 if no box is real.

    Raises:
        InputError: If the shapes differ or the weight is negative.

    References:
        Smooth L1: Girshick, "Fast R-CNN", ICCV 2015.

    >>> float(box_loss(jnp.array([[0.0, 1.0]]), jnp.array([[3.0, 4.0]]), smooth_l1=1.0))
    4.0
    """
    check_range("smooth_l1", smooth_l1, 0, math.inf)
    bounds = None
    if mask is not None:
        if mask.shape != target.shape[:-1]:
            raise InputError(
                f"mask of box_loss must have one value per box {target.shape[:-1]}, got "
                f"{mask.shape}; reshape it"
            )
        bounds = jnp.broadcast_to(mask[..., None], target.shape)
    error, count = masked_error("box_loss", prediction, target, bounds)
    if bounds is not None:
        prediction, target = jnp.where(bounds, prediction, 0), jnp.where(bounds, target, 0)
    loss = 1 - box_giou(prediction, target)
    if smooth_l1:
        size = jnp.abs(error)
        clipped = jnp.minimum(size, 1.0)
        loss = loss + smooth_l1 * jnp.mean(clipped * (size - 0.5 * clipped), axis=-1)
    if mask is not None:
        loss = jnp.where(mask, loss, 0.0)
    return masked_mean(loss, count / target.shape[-1])


def _overlap(name: str, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the volumes of intersection, union and the box around both, in float32."""
    numbers = a.shape[-1] if a.ndim else 0
    fits = a.ndim == b.ndim and numbers in (2, 4, 6) and b.shape[-1] == numbers
    if not fits or any(1 < m != n > 1 for m, n in zip(a.shape, b.shape, strict=True)):
        raise InputError(
            f"boxes of {name} must be (*batch, 2 * space axes) with 1 to 3 space axes and batch "
            f"axes that are equal or 1, got {a.shape} and {b.shape}; add axes of size 1 first"
        )
    a_lo, a_hi = jnp.split(a.astype(jnp.float32), 2, axis=-1)
    b_lo, b_hi = jnp.split(b.astype(jnp.float32), 2, axis=-1)
    shared = _volume(jnp.maximum(a_lo, b_lo), jnp.minimum(a_hi, b_hi))
    union = _volume(a_lo, a_hi) + _volume(b_lo, b_hi) - shared
    return shared, union, _volume(jnp.minimum(a_lo, b_lo), jnp.maximum(a_hi, b_hi))


def _volume(lo: jax.Array, hi: jax.Array) -> jax.Array:
    extents = jnp.maximum(hi - lo, 0.0)
    # A product of slices: the gradient of `prod` divides by entries that may be 0.
    volume = extents[..., 0]
    for axis in range(1, extents.shape[-1]):
        volume = volume * extents[..., axis]
    return volume


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Divides, with 0 for no volume."""
    some = whole > _SMALLEST_VOLUME
    return jnp.where(some, part, 0.0) / jnp.where(some, whole, 1.0)
