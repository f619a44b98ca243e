"""A linear forecast trained with L2 is ridge regression, with and without a constant."""

import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import Ridge

from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Forecast, ForecastConfig
from stpatch_jax.training import OptimizerConfig
from stpatch_jax.training.optimizers import make_optimizer

CONTEXT, HORIZON, EXAMPLES, DECAY, STEPS = 5, 3, 40, 0.1, 400


@pytest.mark.parametrize("bias", [True, False])
def test_adam_with_l2_ends_at_ridge_regression(bias):
    random = np.random.default_rng(0)
    x = random.normal(1, 1, size=(EXAMPLES, CONTEXT, 1)).astype(np.float32)
    y = (x[:, :HORIZON] + x[:, -1:] + 1).astype(np.float32)
    batch = {"context": x, "target": y, "target_mask": y < np.inf, "persistence": x[:, -1:]}
    task = Forecast(ForecastConfig(residual="none", bias=bias))
    shapes = {name: values.shape for name, values in batch.items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None,))), shapes, rngs=nnx.Rngs(0))
    config = OptimizerConfig(
        name="adam", learning_rate=0.1, weight_decay=DECAY, schedule="cosine", clip_norm=None
    )
    optimizer = nnx.Optimizer(model, make_optimizer(config, STEPS), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        @nnx.scan(in_axes=(nnx.Carry,), out_axes=nnx.Carry, length=STEPS)
        def step(carry):
            model, optimizer = carry
            optimizer.update(model, nnx.grad(lambda model: task.loss(model, batch)[0])(model))
            return model, optimizer

        step((model, optimizer))
        return task.predict(model, batch)

    # The loss is a mean over examples and lead times, its penalty half of what is decayed.
    ridge = Ridge(alpha=DECAY / 2 * EXAMPLES * HORIZON, fit_intercept=bias)
    expected = ridge.fit(x[..., 0], y[..., 0]).predict(x[..., 0])
    np.testing.assert_allclose(train(model, optimizer)[..., 0], expected, atol=2e-3)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == 1 + bias
