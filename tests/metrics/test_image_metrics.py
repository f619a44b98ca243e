"""PSNR and SSIM against scikit-image."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import psnr, ssim

SHAPE = (2, 3, 17, 14, 2)


def images(low, high, noise):
    """Smooth images, and the same with noise, between `low` and `high`."""
    rng = np.random.default_rng(0)
    waves = rng.random((*SHAPE[:2], 1, 1, SHAPE[-1]))
    row, column = np.mgrid[: SHAPE[2], : SHAPE[3]]
    target = 0.5 + 0.5 * np.sin(waves * row[..., None] + 0.3 * column[..., None])
    noisy = np.clip(target + noise * rng.normal(size=SHAPE), 0, 1)
    return low + (high - low) * noisy, low + (high - low) * target


@pytest.fixture(scope="module")
def both():
    """PSNR, SSIM and the gradient of its mean, in one program; the range is part of it."""

    def quality(prediction, target, data_range):
        def mean(prediction):
            similarity = ssim(prediction, target, data_range=data_range)
            return similarity.mean(), similarity

        (_, similarity), slope = jax.value_and_grad(mean, has_aux=True)(prediction)
        return psnr(prediction, target, data_range=data_range), similarity, slope

    return jax.jit(quality, static_argnums=2)


# The last are pressures in hPa: far from 0, where float32 squares lose their digits.
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (1000.0, 1010.0)])
def test_equal_scikit_image_for_each_image(both, low, high):
    prediction, target = images(low, high, noise=0.1)
    decibels, similarity, slope = both(jnp.asarray(prediction), jnp.asarray(target), high - low)
    assert decibels.dtype == similarity.dtype == jnp.float32
    assert decibels.shape == similarity.shape == SHAPE[:2]
    assert np.isfinite(slope).all()
    # Only the border's gradient may be small, none of it is exactly 0.
    assert (np.asarray(slope) != 0).mean() > 0.99
    for at in np.ndindex(*SHAPE[:2]):
        truth, forecast = target[at], prediction[at]
        np.testing.assert_allclose(
            decibels[at],
            skimage.metrics.peak_signal_noise_ratio(truth, forecast, data_range=high - low),
            rtol=1e-4,
        )
        expected = skimage.metrics.structural_similarity(
            truth,
            forecast,
            data_range=high - low,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert 0.2 < np.float64(expected) < 0.99  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(similarity[at], expected, atol=1e-4)


def test_equal_images_are_perfect_and_nan_shows(both):
    _, target = images(0.0, 1.0, noise=0.0)
    decibels, similarity, slope = both(jnp.asarray(target), jnp.asarray(target), 1.0)
    assert np.isposinf(decibels).all()
    np.testing.assert_allclose(similarity, 1, atol=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    broken = target.copy()
    broken[0, 1, 8, 7, 0] = np.nan
    decibels, similarity, _ = both(jnp.asarray(broken), jnp.asarray(target), 1.0)
    for quality in (decibels, similarity):
        assert np.isnan(quality[0, 1])
        assert np.isnan(quality).sum() == 1


def test_masked_cells_do_not_count_in_psnr():
    prediction, target = images(0.0, 1.0, noise=0.1)
    mask = np.random.default_rng(1).random(SHAPE) < 0.5
    mask[1, 2] = False
    decibels = psnr(prediction, np.where(mask, target, np.nan), data_range=1.0, mask=mask)
    for at in np.ndindex(*SHAPE[:2]):
        real = mask[at]
        if real.any():
            expected = skimage.metrics.peak_signal_noise_ratio(
                target[at][real], prediction[at][real], data_range=1.0
            )
            np.testing.assert_allclose(decibels[at], expected, rtol=1e-4)
    assert np.isnan(decibels).sum() == 1


def test_images_that_do_not_fit_are_refused():
    image = np.zeros((12, 12, 1))
    for metric in (psnr, ssim):
        with pytest.raises(InputError, match=re.escape("one shape, got (12, 12, 1), (12, 1, 1)")):
            metric(image, image[:, :1], data_range=1.0)
        with pytest.raises(
            InputError, match=re.escape("(..., height, width, channel), got shape (12, 1)")
        ):
            metric(image[0], image[0], data_range=1.0)
        with pytest.raises(InputError, match="data_range must be above 0, got 0"):
            metric(image, image, data_range=0)
    with pytest.raises(InputError, match="at least 11 x 11 cells, got 12 x 10; use psnr"):
        ssim(image[:, :10], image[:, :10], data_range=1.0)
    with pytest.raises(InputError, match="target and mask of psnr must have one shape"):
        psnr(image, image, data_range=1.0, mask=np.ones((12, 12), bool))
