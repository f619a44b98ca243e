"""Tubelet embedding: one product for every kind of window, and kernels from 2-D networks."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import WindowSpec, extract_patches, patchify
from stpatch_jax.errors import InputError
from stpatch_jax.nn import TubeletEmbedding, inflate_kernel


def test_tokens_are_patches_times_the_kernel_whatever_the_windows(normal):
    x = normal(0, 2, 6, 8, 3)
    plain = TubeletEmbedding((2, 4), 3, 5, rngs=nnx.Rngs(0))
    plain.bias[...] = normal(1, 5)
    overlap = TubeletEmbedding(
        WindowSpec((2, 4), stride=1, dilation=(2, 1), padding="SAME", footprint="ball"),
        3,
        5,
        rngs=nnx.Rngs(0),
    )
    overlap.bias[...] = plain.bias[...]
    kernel, bias = np.asarray(plain.kernel[...]).reshape(24, 5), np.asarray(plain.bias[...])
    assert plain.kernel.shape == overlap.kernel.shape == (2, 4, 3, 5)
    np.testing.assert_array_equal(overlap.kernel[...], plain.kernel[...])

    @nnx.jit
    def run(plain, overlap, x):
        return plain(x), overlap(x), patchify(x, (2, 4)), extract_patches(x, overlap.spec)

    tiled, general, tokens, patches = run(plain, overlap, x)
    expected = np.asarray(tokens) @ kernel + bias
    np.testing.assert_allclose(tiled, expected.reshape(2, 3, 2, 5), rtol=1e-5, atol=1e-5)
    expected = np.asarray(patches).reshape(2, 6, 8, 24) @ kernel + bias
    np.testing.assert_allclose(general, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", [2, 3])
def test_inflated_kernels_see_a_still_video_as_its_image(normal, time):
    image, kernel = normal(0, 1, 1, 8, 8, 2), normal(1, 4, 4, 2, 3)
    flat = TubeletEmbedding((1, 4, 4), 2, 3, rngs=nnx.Rngs(0))
    flat.kernel[...] = kernel[None]
    tubes = TubeletEmbedding((time, 4, 4), 2, 3, rngs=nnx.Rngs(0))
    average = inflate_kernel(kernel, time, method="average_frame")
    central = inflate_kernel(kernel, time)

    @nnx.jit
    def run(flat, tubes, kernel, x):
        tubes.kernel[...] = kernel
        return flat(x), tubes(x)

    still = jnp.tile(image, (1, time, 1, 1, 1))
    for inflated in (average, central):
        frames, token = run(flat, tubes, inflated, still)
        np.testing.assert_allclose(token, frames[:, :1], rtol=1e-5, atol=1e-5)
    moving = normal(2, 1, time, 8, 8, 2)
    frames, token = run(flat, tubes, average, moving)
    np.testing.assert_allclose(token[:, 0], frames.mean(1), rtol=1e-5, atol=1e-5)
    frames, token = run(flat, tubes, central, moving)
    np.testing.assert_allclose(token[:, 0], frames[:, time // 2], rtol=1e-5, atol=1e-5)


def test_whole_axis_windows_need_the_shape_and_keep_to_it():
    with pytest.raises(InputError, match=re.escape("TubeletEmbedding needs the shape (time")):
        TubeletEmbedding((2, None), 1, 4, rngs=nnx.Rngs(0))
    model = TubeletEmbedding((2, None), 1, 4, shape=(4, 3), rngs=nnx.Rngs(0))
    assert model.kernel.shape == (2, 3, 1, 4)
    with pytest.raises(InputError, match=re.escape("windows of (2, 3), got (2, 5)")):
        model(jnp.zeros((1, 4, 5, 1)))


@pytest.mark.parametrize(
    ("time", "method", "shape", "message"),
    [
        (0, "central_frame", (2, 2, 1, 1), "inflate_kernel needs time >= 1, got 0"),
        (2, "first_frame", (2, 2, 1, 1), "needs method .*, got 'first_frame'"),
        (2, "central_frame", (1, 1), r"kernel \(\*space, in, out\), got shape \(1, 1\)"),
    ],
)
def test_kernels_that_cannot_be_inflated_are_refused(time, method, shape, message):
    with pytest.raises(InputError, match=message):
        inflate_kernel(np.zeros(shape), time, method=method)
