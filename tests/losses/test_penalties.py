"""The penalty on weights against their sum."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 2), "bias": (2,), "scale": (), "embedding": (4, 1, 2)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def test_the_penalty_sums_kernels_and_spares_biases_scales_and_what_is_no_weight():
    params = parameters()
    kernels = np.concatenate([np.ravel(params[k]) for k in ("kernel", "embedding")])
    others = {"key": jax.random.key(0), "table": jnp.ones((2, 2), jnp.int32), "none": None}
    penalty = jax.jit(losses.l1_penalty)({**params, **others})
    np.testing.assert_allclose(penalty, np.abs(kernels).sum(), rtol=1e-6)
    assert losses.l1_penalty({"bias": params["bias"]}) == 0


def test_it_takes_the_state_of_a_module_and_sums_in_float32():
    model = nnx.Linear(100, 100, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.ones((100, 100), jnp.bfloat16)
    penalty = losses.l1_penalty(nnx.state(model, nnx.Param))
    assert penalty.dtype == jnp.float32
    # 10000 ones: a bfloat16 sum would stop growing long before.
    assert penalty == 10000
