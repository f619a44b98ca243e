"""How like two images are: PSNR and SSIM, one for each image."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError, check_range
from stpatch_jax.losses.reduction import check_one_shape
from stpatch_jax.metrics.sums import Array, divide

# A Gaussian of sigma 1.5 cells cut at 3.5 sigma, the 11 cells of the paper.
_RADIUS, _SIGMA = 5, 1.5


def psnr(
    prediction: Array, target: Array, *, data_range: float, mask: Array | None = None
) -> jax.Array:
    """Peak signal-to-noise ratio of each image, `10 log10(data_range^2 / mse)`, in decibels.

    The mean squared error is taken over the image and its channels.

    Args:
        prediction: [..., height, width, channel]; the axes before are images, times included.
        target: Shape of `prediction`; ignored where the mask is False, also if it is NaN there.
        data_range: Distance between the lowest and the highest possible value (255 for 8-bit
            images), in the target's units.
        mask: Bool, shape of `target`, True where the target is real; None means everywhere.

    Returns:
        Float32 [...], one for each image, higher is better: infinite if all is equal, NaN if
        nothing is real.

    Raises:
        InputError: If shapes or range do not fit.

    >>> psnr(jnp.zeros((2, 2, 1)), jnp.full((2, 2, 1), 0.1), data_range=1.0).round(3).tolist()
    20.0
    """
    _check_images("psnr", prediction, target, data_range)
    check_one_shape("target and mask of psnr", target, mask)
    error = jnp.asarray(prediction, jnp.float32) - jnp.asarray(target, jnp.float32)
    real = jnp.ones(error.shape, bool) if mask is None else jnp.asarray(mask)
    image = (-3, -2, -1)
    squared = jnp.sum(jnp.square(jnp.where(real, error, 0)), axis=image)
    mean = divide(squared, jnp.sum(real, axis=image))
    return 10 * jnp.log10(data_range**2 / mean)


def ssim(prediction: Array, target: Array, *, data_range: float) -> jax.Array:
    """Structural similarity of each image, averaged over its cells and channels.

    Means, variances and covariance under a Gaussian window of 11 x 11 cells, sigma 1.5; constants
    `(0.01 data_range)^2` and `(0.03 data_range)^2`. The five cells at each border, whose windows
    reach outside, are left out. Equal to scikit-image's `structural_similarity` with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

    Args:
        prediction: [..., height, width, channel], at least 11 x 11 cells; the axes before are
            images, times included.
        target: Shape of `prediction`.
        data_range: As in `psnr`.

    Returns:
        Float32 [...], one for each image, in [-1, 1]; 1 if all is equal, NaN if a value is NaN.

    Raises:
        InputError: If shapes or range do not fit.

    References:
        Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
        structural similarity", IEEE Trans. Image Process. 13 (2004).

    >>> bool(jnp.isclose(ssim(jnp.ones((11, 11, 1)), jnp.ones((11, 11, 1)), data_range=1.0), 1.0))
    True
    """
    _check_images("ssim", prediction, target, data_range)
    *batch, height, width, _ = target.shape
    if min(height, width) < 2 * _RADIUS + 1:
        raise InputError(
            f"images of ssim must have at least {2 * _RADIUS + 1} x {2 * _RADIUS + 1} cells, got "
            f"{height} x {width}; use psnr for smaller ones"
        )
    # Every channel of every image becomes a plane of its own, shifted by the target's mean: small
    # numbers keep their digits in the variances, which no shift changes.
    x, y = (
        jnp.moveaxis(jnp.asarray(a, jnp.float32), -1, -3).reshape(-1, height, width)
        for a in (prediction, target)
    )
    shift = y.mean(axis=(1, 2), keepdims=True)
    x, y = x - shift, y - shift
    mx, my, xx, yy, xy = _smooth(jnp.stack([x, y, x * x, y * y, x * y]))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    mx, my = mx + shift, my + shift
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return (luminance * contrast).reshape(*batch, -1).mean(axis=-1)


def _smooth(planes: jax.Array) -> jax.Array:
    """Filters [..., height, width] by the Gaussian, keeping whole windows only."""
    distance = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (distance / _SIGMA) ** 2)
    # A sum of shifted slices, which XLA fuses: a convolution of single channels takes ten times
    # as long on a CPU, and on a GPU it would have to be kept from rounding to TF32.
    for axis in (-2, -1):
        length = planes.shape[axis] - 2 * _RADIUS
        shifted = (
            float(weight) * jax.lax.slice_in_dim(planes, start, start + length, axis=axis)
            for start, weight in enumerate(kernel / kernel.sum())
        )
        planes = functools.reduce(operator.add, shifted)
    return planes


def _check_images(name: str, prediction: Array, target: Array, data_range: float) -> None:
    check_one_shape(f"prediction and target of {name}", prediction, target)
    if target.ndim < 3:
        raise InputError(
            f"images of {name} must have the axes (..., height, width, channel), got shape "
            f"{target.shape}; add the missing axes"
        )
    check_range("data_range", data_range, 0, math.inf, bounds="()")
