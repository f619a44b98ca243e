"""Explanations by gradients: integrated gradients and SmoothGrad."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial
from jax.typing import ArrayLike

from stpatch_jax.errors import check_range, check_size, warn
from stpatch_jax.explain.score import (
    FieldLike,
    Score,
    baseline_of,
    batches,
    on_grid,
    prepared,
    scores,
)


def integrated_gradients(
    fn: Score,
    field: FieldLike,
    *,
    baseline: ArrayLike = 0.0,
    points: int = 32,
    tolerance: float = 0.05,
    unit: str = "score",
    batch_size: int = 32,
) -> xr.DataArray:
    """Shares out what the score gains over a baseline among all values of a field.

    `a = (x - b) * integral of grad fn(b + s (x - b)) ds` from 0 to 1, by Gauss-Legendre quadrature.
    The attributions add up to `fn(x) - fn(b)` (completeness); that is checked.

    The quadrature has `points`, exact for polynomials of degree `2 * points`. The sum may miss the
    gain by the share `tolerance` of it; infinite allows any. Other arguments as in `occlusion`;
    `fn` must be differentiable.

    Returns:
        (time, *space, channel) in units of the score. Its attributes tell `score_gain`, what is
        shared out, and `completeness_gap`, the sum of the attributions minus it.

    Raises:
        InputError: The baseline does not fit the field, or `fn` does not give one number each.

    Warns:
        RuntimeWarning: The attributions miss the gain by more than the tolerance.

    Examples:
        >>> field = xr.DataArray([[3.0], [4.0]], dims=("time", "channel"))
        >>> shares = integrated_gradients(lambda x: x[:, 0, 0] * x[:, 1, 0], field)
        >>> shares.values.round(3).ravel().tolist()
        [6.0, 6.0]

    References:
        Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017.
    """
    score, field, x = prepared(fn, field)
    check_size("points", points)
    start = baseline_of(baseline, field)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = np.zeros(x.shape)
    for numbers, real in batches(points, batch_size):
        shares = ((nodes[numbers] + 1) / 2).astype(np.float32)
        shares = shares.reshape(-1, *[1] * x.ndim)
        slopes = np.asarray(_gradients(score, start[None] + shares * (x - start)[None]))
        total += np.tensordot(weights[numbers][:real] / 2, slopes[:real], axes=1)
    result = on_grid((x - start) * total, field, name="integrated_gradients", unit=unit)
    with_all, with_none = np.asarray(scores(score, np.stack([x, start])), np.float64)
    gain = with_all - with_none
    gap = float(result.sum()) - gain
    allowed = tolerance * abs(gain) if gain else 0.0
    if np.isfinite(tolerance) and abs(gap) > allowed + 1e-5 * max(1.0, abs(with_all)):
        warn(
            f"integrated gradients add up to {gain + gap:.6g}, but the score gains {gain:.6g} over "
            f"the baseline; take more than {points} points",
            category=RuntimeWarning,
            stacklevel=2,
        )
    return result.assign_attrs(score_gain=float(gain), completeness_gap=gap)


def smooth_grad(
    fn: Score,
    field: FieldLike,
    *,
    key: jax.Array,
    samples: int = 32,
    noise: float = 0.15,
    unit: str = "score",
    batch_size: int = 32,
) -> xr.DataArray:
    """Averages the gradient of the score over noisy copies of a field.

    `a = mean of grad fn(x + e)`, e normal with deviation `noise * (max x - min x)`: how the score
    answers a small change of each value, without what flickers from one point to the next.

    `key` draws `samples` noisy copies; `noise=0` gives the gradient. Other arguments as in
    `occlusion`; `fn` must be differentiable.

    Returns:
        (time, *space, channel) in units of the score per unit of the field.

    Raises:
        InputError: An option is out of range, or `fn` does not give one number each.

    Examples:
        >>> field = xr.DataArray([[3.0], [4.0]], dims=("time", "channel"))
        >>> smooth_grad(lambda x: x[:, 1, 0] ** 2, field, key=jax.random.key(0), noise=0.0).values
        array([[0.],
               [8.]])

    References:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
    """
    score, field, x = prepared(fn, field)
    check_size("samples", samples)
    check_range("noise", noise, 0, math.inf)
    deviation = np.float32(noise * np.ptp(x))
    total = np.zeros(x.shape)
    for number, (numbers, real) in enumerate(batches(samples, batch_size)):
        slopes = _noisy_gradients(score, x, deviation, key, number, count=len(numbers))
        total += np.asarray(slopes)[:real].sum(axis=0, dtype=np.float64)
    unit = f"{unit} per unit of input"
    return on_grid(total / samples, field, name="smooth_grad", unit=unit)


@jax.jit
def _gradients(score: Partial, fields: jax.Array) -> jax.Array:
    return jax.grad(lambda fields: jnp.sum(score(fields)))(fields)


@functools.partial(jax.jit, static_argnames="count")
def _noisy_gradients(
    score: Partial, x: jax.Array, scale: jax.Array, key: jax.Array, number: jax.Array, *, count: int
) -> jax.Array:
    noise = jax.random.normal(jax.random.fold_in(key, number), (count, *x.shape))
    return _gradients(score, x[None] + scale * noise)
