"""Forecast: starts as persistence, counts real targets only, learns, refuses what does not fit."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import sklearn.metrics
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import LeadTimeErrors, skill
from stpatch_jax.nn import ConvRecurrentConfig, ForecastHead, PatchCNNConfig, SCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Forecast, ForecastConfig
from stpatch_jax.tasks.forecast import ForecastModel

HORIZON = 3
LAYOUTS = {
    "series": ((8,), (4,)),
    "panel": ((8, 5), (4, 1)),
    "whole panel": ((8, 5), (4, None)),
    "video": ((4, 6, 4), (2, 3, 2)),
}


def make_batch(shape, channels=3, targets=1, examples=4):
    rng = np.random.default_rng(0)
    target = (examples, HORIZON, *shape[1:], targets)
    return {
        "context": rng.normal(size=(examples, *shape, channels)).astype(np.float32),
        "target": rng.normal(size=target).astype(np.float32),
        "target_mask": rng.random(target) < 0.8,
        "persistence": rng.normal(size=(examples, 1, *shape[1:], targets)).astype(np.float32),
    }


def shapes_of(batch):
    return {name: value.shape for name, value in batch.items()}


def build(layout="panel", **fields):
    shape, window = LAYOUTS[layout]
    batch = make_batch(shape)
    task = Forecast(ForecastConfig(**fields))
    config = ConvRecurrentConfig.tiny(window)
    return task, task.build(config, shapes_of(batch), rngs=nnx.Rngs(0)), batch


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_untrained_model_is_persistence(layout):
    task, model, batch = build(layout)
    prediction = nnx.jit(task.predict)(model, batch)
    baseline = task.baselines(batch)["persistence"]
    assert prediction.shape == baseline.shape == batch["target"].shape
    assert prediction.dtype == baseline.dtype == jnp.float32
    np.testing.assert_array_equal(prediction, baseline)
    for lead in range(HORIZON):
        np.testing.assert_array_equal(baseline[:, lead], batch["persistence"][:, 0])


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_loss_and_metrics_equal_scikit_learn_over_real_targets(name):
    task, model, batch = build(loss=name, huber_delta=0.5)
    loss, metrics = nnx.jit(task.loss)(model, batch)
    mask = np.asarray(batch["target_mask"])
    real = (
        np.asarray(batch["target"])[mask],
        np.asarray(batch["persistence"] + jnp.zeros_like(batch["target"]))[mask],
    )
    expected = {
        "mse": sklearn.metrics.mean_squared_error(*real),
        "mae": sklearn.metrics.mean_absolute_error(*real),
        "huber": scipy.special.huber(0.5, real[0] - real[1]).mean(),
    }
    np.testing.assert_allclose(loss, expected[name], rtol=1e-5)
    np.testing.assert_allclose(metrics["mae"], expected["mae"], rtol=1e-5)
    np.testing.assert_allclose(metrics["rmse"], expected["mse"] ** 0.5, rtol=1e-5)
    assert loss.shape == metrics["mae"].shape == metrics["rmse"].shape == ()


def test_examples_that_fill_a_batch_count_nowhere():
    task, model, batch = build()
    padded = jax.tree.map(lambda a: jnp.concatenate([a, a[-1:]]), batch)
    padded["example_mask"] = jnp.array([True] * 4 + [False])
    loss, predict = nnx.jit(task.loss), nnx.jit(task.predict)
    expected, got = loss(model, batch), loss(model, padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), expected, got)
    scores = [task.score(predict(model, of), of) for of in (batch, padded)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *scores)


def test_one_batch_is_learnt_and_beats_persistence_and_masked_targets_do_not_matter():
    task, model, batch = build()
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)
    hidden = jnp.where(batch["target_mask"], batch["target"], 1e6)
    batch = {**batch, "target": hidden}

    @nnx.jit
    def train_step(model, optimizer, batch):
        (loss, _), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        optimizer.update(model, gradient)
        return loss

    losses = [float(train_step(model, optimizer, batch)) for _ in range(200)]
    assert min(losses) < 0.02 * losses[0]
    forecasts = task.predict(model, batch), task.baselines(batch)["persistence"]
    trained, naive = (
        LeadTimeErrors.of(of, hidden, mask=batch["target_mask"]).rmse() for of in forecasts
    )
    assert (skill(trained, naive) > 0.8).all()


def test_computation_in_bfloat16_gives_float32_losses_and_forecasts():
    shape, window = LAYOUTS["panel"]
    batch = make_batch(shape)
    task = Forecast(ForecastConfig())
    config = dataclasses.replace(ConvRecurrentConfig.tiny(window), dtype="bfloat16")
    model = task.build(config, shapes_of(batch), rngs=nnx.Rngs(0))
    loss, _ = nnx.jit(task.loss)(model, batch)
    assert loss.dtype == jnp.float32
    assert nnx.eval_shape(task.predict, model, batch).dtype == jnp.float32


def test_any_backbone_fits_the_head():
    batch = make_batch((8, 6), targets=2)
    task = Forecast(ForecastConfig())
    overlapping = WindowSpec((4, 3), stride=(2, 1), padding=("CAUSAL", "SAME"))
    for config in (PatchCNNConfig.tiny(overlapping), SCNNConfig.tiny(1)):
        model = task.build(config, shapes_of(batch), rngs=nnx.Rngs(0))
        assert nnx.eval_shape(task.predict, model, batch).shape == batch["target"].shape


def test_building_works_on_shapes_alone():
    model = nnx.eval_shape(lambda: build("panel")[1])
    # Persistence plus a linear map of 16 features to 3 lead times x 1 company x 1 value.
    assert isinstance(model, ForecastModel)
    assert isinstance(model.head, ForecastHead)
    assert model.head.dense.kernel.shape == (16, 3)


def test_shapes_that_do_not_fit_are_refused():
    task = Forecast(ForecastConfig())
    config = ConvRecurrentConfig.tiny((4, 1))

    def attempt(context, target):
        return task.build(config, {"context": context, "target": target}, rngs=nnx.Rngs(0))

    with pytest.raises(InputError, match=re.escape("over the same space, got (2, 8, 5, 3) and")):
        attempt((2, 8, 5, 3), (2, 3, 4, 1))
    with pytest.raises(InputError, match=r"window .* along time"):
        attempt((2, 3, 5, 3), (2, 3, 5, 1))
    with pytest.raises(InputError, match="one entry per window axis"):
        attempt((2, 8, 3), (2, 3, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "rmse"}, "loss must be 'mse', 'mae' or 'huber', got 'rmse'"),
        ({"huber_delta": 0.0}, "huber_delta must be above 0, got 0"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        ForecastConfig(**fields)


def test_config_goes_to_json_and_back():
    config = ForecastConfig(loss="huber", huber_delta=0.5)
    assert ForecastConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
