"""Penalties on weights against their sums and against weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.training.optimizers import decays


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 2), "bias": (2,), "scale": (), "embedding": (4, 1, 2)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def test_penalties_sum_kernels_and_spare_biases_scales_and_what_is_no_weight():
    params = parameters()
    kernels = np.concatenate([np.ravel(params[k]) for k in ("kernel", "embedding")])
    others = {"key": jax.random.key(0), "table": jnp.ones((2, 2), jnp.int32), "none": None}
    l1, l2 = jax.jit(lambda p: (losses.l1_penalty(p), losses.l2_penalty(p)))({**params, **others})
    np.testing.assert_allclose(l1, np.abs(kernels).sum(), rtol=1e-6)
    np.testing.assert_allclose(l2, np.square(kernels).sum() / 2, rtol=1e-6)
    assert losses.l1_penalty({"bias": params["bias"]}) == 0


def test_the_gradient_of_l2_is_what_weight_decay_adds():
    params = parameters()
    decay = optax.add_decayed_weights(0.1, decays)
    zeros = jax.tree.map(jnp.zeros_like, params)
    added, _ = decay.update(zeros, decay.init(params), params)
    gradient = jax.jit(jax.grad(lambda p: 0.1 * losses.l2_penalty(p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), gradient, added)


def test_penalties_take_the_state_of_a_module_and_sum_in_float32():
    model = nnx.Linear(100, 100, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.ones((100, 100), jnp.bfloat16)
    penalty = losses.l1_penalty(nnx.state(model, nnx.Param))
    assert penalty.dtype == jnp.float32
    # 10000 ones: a bfloat16 sum would stop growing long before.
    assert penalty == 10000
