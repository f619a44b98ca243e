"""Tubelet embedding: one product for every kind of window."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import WindowSpec, extract_patches, patchify
from stpatch_jax.errors import InputError
from stpatch_jax.nn import TubeletEmbedding


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


def test_whole_axis_windows_need_the_shape_and_keep_to_it():
    with pytest.raises(InputError, match=re.escape("shape must be (time")):
        TubeletEmbedding((2, None), 1, 4, rngs=nnx.Rngs(0))
    model = TubeletEmbedding((2, None), 1, 4, shape=(4, 3), rngs=nnx.Rngs(0))
    assert model.kernel.shape == (2, 3, 1, 4)
    with pytest.raises(InputError, match=re.escape("built for, (2, 3), got (2, 5)")):
        model(jnp.zeros((1, 4, 5, 1)))
