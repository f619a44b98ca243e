"""Tubelet embedding: one product for every kind of window."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import WindowSpec, extract_patches, patchify
from stpatch_jax.errors import InputError
from stpatch_jax.nn import TubeletEmbedding
from stpatch_jax.nn.windows import embed_patches


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


OVERLAPPING = {
    "series": WindowSpec((4,), stride=2, padding="CAUSAL", fill_value=0.5),
    "frames": WindowSpec((1, 2, 3), stride=(1, 1, 2), padding_mode="reflect", padding="SAME"),
    "times": WindowSpec((2, 1), stride=(1, 1), dilation=(2, 1)),
    "padded": WindowSpec((1, 2), stride=(2, 1), padding=((1, 0), (0, 2)), padding_mode="edge"),
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_on_a_tpu_overlapping_windows_are_convolved(name, normal, monkeypatch):
    spec = OVERLAPPING[name]
    x = normal(0, 2, *(6, 5, 4)[: spec.rank], 3)
    kernel = normal(1, *(n or 0 for n in spec.window), 3, 5)

    def energy(x, kernel):
        return (embed_patches(x, kernel, spec) ** 2).sum()

    slopes = jax.value_and_grad(energy, (0, 1))
    by_platform = {
        chip: jax.jit(slopes).trace(x, kernel).lower(lowering_platforms=(chip,)).as_text()
        for chip in ("cpu", "cuda", "tpu")
    }
    convolved = {chip: "stablehlo.convolution" in text for chip, text in by_platform.items()}
    assert convolved == {"cpu": False, "cuda": False, "tpu": True}
    expected = jax.jit(slopes)(x, kernel)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, tpu, **_: tpu(*a))
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4),
        jax.jit(jax.value_and_grad(lambda *a: energy(*a), (0, 1)))(x, kernel),
        expected,
    )


@pytest.mark.parametrize(
    "change", [{"stride": None}, {"padding": "FLUSH"}, {"footprint": np.tri(3)}]
)
def test_what_a_convolution_cannot_hold_stays_patches(change, normal):
    spec = WindowSpec((3, 3), stride=2).replace(**change)
    x, kernel = normal(0, 1, 6, 6, 1), normal(1, 3, 3, 1, 2)
    program = jax.jit(lambda x: embed_patches(x, kernel, spec)).trace(x)
    assert "convolution" not in program.lower(lowering_platforms=("tpu",)).as_text()
