"""NextTokenHead: even odds before training, float32 logits, refused feature maps."""

import re

import jax.numpy as jnp
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import LayerOptions, NextTokenHead


def test_an_untrained_head_is_even_and_gives_float32():
    head = NextTokenHead(3, vocabulary=7, options=LayerOptions(dtype="bfloat16"), rngs=nnx.Rngs(0))
    logits = head(jnp.ones((2, 4, 3), jnp.bfloat16))
    assert logits.shape == (2, 4, 7)
    assert logits.dtype == jnp.float32
    assert (logits == 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="vocabulary must be a whole number >= 2, got 1"):
        NextTokenHead(3, vocabulary=1, rngs=nnx.Rngs(0))
    head = NextTokenHead(3, vocabulary=7, rngs=nnx.Rngs(0))
    for shape in ((2, 4, 5), (2, 4, 1, 3)):
        message = f"(batch, time, 3) without space, got shape {shape}"
        with pytest.raises(InputError, match=re.escape(message)):
            head(jnp.zeros(shape))
