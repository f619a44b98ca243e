"""Forecasts that combine: a pair of networks, and a weight against persistence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig, PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Forecast, ForecastConfig, transfer_backbone

LINEAR = FlatPatchesConfig(WindowSpec((None, 1)))
PAIR = ForecastConfig(residual="none", normalize="both")


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    context = random.normal(3.0, 2.0, (4, 6, 3, 1)).astype(np.float32)
    target = random.normal(size=(4, 2, 3, 1)).astype(np.float32)
    return {
        "context": context,
        "target": target,
        "target_mask": random.random(target.shape) < 0.8,
        "persistence": context[:, -1:],
    }


@pytest.fixture(scope="module")
def pair(batch):
    model: Any = Forecast(PAIR).build(
        LINEAR, {name: x.shape for name, x in batch.items()}, rngs=nnx.Rngs(0)
    )
    for number, member in enumerate(model.members):
        kernel = member.head.dense.kernel
        kernel[...] = jax.random.normal(jax.random.key(number), kernel.shape)
    return model


def test_a_pair_forecasts_the_mean_of_its_linear_maps(batch, pair):
    got = nnx.jit(Forecast(PAIR).predict)(pair, batch)
    anchored, free = (member.head.dense.kernel[...] for member in pair.members)
    x = np.moveaxis(batch["context"][..., 0], 1, -1).astype(np.float64)
    mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
    first = mean + deviation * (((x - mean) / deviation) @ np.asarray(anchored, np.float64))
    expected = np.moveaxis((first + x @ np.asarray(free, np.float64)) / 2, -1, 1)[..., None]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_each_of_a_pair_learns_on_its_own_loss(batch, pair):
    task = Forecast(PAIR)
    loss, grads = nnx.jit(nnx.value_and_grad(lambda m: task.loss(m, batch)[0]))(pair)
    alone = []
    for number, normalize in enumerate(("instance", "none")):
        single = Forecast(dataclasses.replace(PAIR, normalize=normalize))
        value, gradient = nnx.jit(
            nnx.value_and_grad(lambda m, task=single: task.loss(m, batch)[0])
        )(pair.members[number])
        alone.append(value)
        ours = jax.tree.leaves(grads["members"][number])
        for x, y in zip(ours, jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(x, y / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, np.mean(alone), rtol=1e-5)


def test_a_trained_backbone_goes_to_both_of_a_pair_and_from_it(batch):
    shapes = {name: x.shape for name, x in batch.items()}
    backbone = PatchCNNConfig(WindowSpec((3, 1)), features=(3,))

    def build(seed, normalize) -> Any:
        task = Forecast(ForecastConfig(normalize=normalize))
        return task.build(backbone, shapes, rngs=nnx.Rngs(seed))

    def parameters(model):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model.backbone, nnx.Param))]

    trained, pair, later = build(0, "none"), build(1, "both"), build(2, "none")
    expected = parameters(trained)
    transfer_backbone(trained, pair)
    for member in pair.members:
        jax.tree.map(np.testing.assert_array_equal, parameters(member), expected)
    transfer_backbone(pair, later)
    jax.tree.map(np.testing.assert_array_equal, parameters(later), expected)


def test_a_weight_draws_the_forecast_to_persistence_but_not_the_training(batch):
    config = ForecastConfig(model_weight=0.25)
    weighted, whole = Forecast(config), Forecast(dataclasses.replace(config, model_weight=1.0))
    shapes = {name: x.shape for name, x in batch.items()}
    model: Any = whole.build(LINEAR, shapes, rngs=nnx.Rngs(0))
    model.head.dense.kernel[...] = jnp.ones_like(model.head.dense.kernel[...])
    full = whole.predict(model, batch)
    expected = batch["persistence"] + 0.25 * (np.asarray(full) - batch["persistence"])
    np.testing.assert_allclose(weighted.predict(model, batch), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(weighted.loss(model, batch)[0], whole.loss(model, batch)[0])


def test_wrong_weights_are_told():
    with pytest.raises(InputError, match=r"model_weight must be in \[0, 1\], got 2"):
        ForecastConfig(model_weight=2.0)
