"""Resized squares: as Pillow makes them, and exact where that is plain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stpatch_jax.data.labelled.clips import resized

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 19), st.integers(0, 29))
def test_squares_of_whole_pixels_are_a_mean_of_their_neighbourhood(size, side, top, left):
    top, left = min(top, 20 - side), min(left, 30 - side)
    out = resized(FRAMES, (top, left), side, size)
    assert out.shape == (2, size, size, 3)
    assert out.dtype == np.float32
    assert FRAMES.min() - 1e-3 <= out.min() <= out.max() <= FRAMES.max() + 1e-3
    if side == size:
        square = FRAMES[:, top : top + side, left : left + side]
        np.testing.assert_allclose(out, square, atol=1e-3)


@pytest.mark.parametrize("size", [7, 20, 33])
def test_a_whole_picture_is_as_pillow_resizes_it(size):
    out = resized(FRAMES[:, :, :20], (0, 0), 20, size)
    for frame, ours in zip(FRAMES[:, :, :20], out, strict=True):
        for channel in range(3):
            image = Image.fromarray(frame[..., channel].astype(np.float32))
            other = image.resize((size, size), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(ours[..., channel], np.asarray(other), atol=0.01)


def test_a_plane_stays_a_plane_inside():
    rows, columns = np.mgrid[:20, :30]
    plane = (2.0 * rows + columns)[None, ..., None]
    out = resized(plane, (4.5, 7.25), 8, 4)[0, ..., 0]
    places = (np.arange(4) + 0.5) * 2 - 0.5
    np.testing.assert_allclose(out, 2 * (places[:, None] + 4.5) + places + 7.25, rtol=1e-5)
