"""Forecast's options: quantiles, rollouts, normalisation by instance, penalties, baselines."""

import dataclasses
import json
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.nn import NeighborhoodConfig
from stpatch_jax.tasks import Forecast, ForecastConfig

HORIZON, QUANTILES = 5, (0.1, 0.5, 0.8)
BACKBONE = dataclasses.replace(NeighborhoodConfig.forward(1), lags=3, features=6, hidden=(8,))


def make_batch(channels=2, targets=2, examples=4):
    rng = np.random.default_rng(0)
    context = rng.normal(size=(examples, 6, 3, channels)).astype(np.float32)
    target = rng.normal(size=(examples, HORIZON, 3, targets)).astype(np.float32)
    return {
        "context": context,
        "target": target,
        "target_mask": rng.random(target.shape) < 0.8,
        "persistence": context[:, -1:, :, :targets].copy(),
    }


def build(batch, backbone=BACKBONE, **fields: Any) -> tuple[Forecast, Any]:
    """The task and a model whose head is not zero any more."""
    facts = {"target_channels": fields.pop("target_channels", None)}
    task = Forecast(ForecastConfig(**fields), **facts)
    model: Any = task.build(backbone, {k: v.shape for k, v in batch.items()}, rngs=nnx.Rngs(0))
    kernel = model.head.dense.kernel
    values = np.random.default_rng(1).normal(size=kernel.shape) / 5
    kernel[...] = jnp.asarray(values, jnp.float32)
    return task, model


def zero_head(model):
    model.head.dense.kernel[...] = jnp.zeros_like(model.head.dense.kernel[...])
    return model


MODES = {
    "quantiles": {"quantiles": QUANTILES, "time": "flatten"},
    "rollout": {"normalize": "instance", "mode": "rollout", "rollout_step": 2, "residual": "none"},
}


@pytest.mark.parametrize("mode", MODES)
def test_one_batch_is_learnt_and_every_parameter_takes_part(mode):
    batch = make_batch(examples=2)
    task, model = build(batch, **MODES[mode])
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        def step(_, carry):
            model, optimizer = carry
            gradient = nnx.grad(lambda model: task.loss(model, batch)[0])(model)
            optimizer.update(model, gradient)
            return model, optimizer

        (first, _), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        nnx.fori_loop(0, 400, step, (model, optimizer))
        return first, gradient, *task.loss(model, batch)

    first, gradient, loss, metrics = train(model, optimizer)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    assert loss < 0.2 * first
    naive = np.repeat(batch["persistence"], HORIZON, axis=1) - batch["target"]
    assert metrics["rmse"] < 0.6 * naive[batch["target_mask"]].std()


def test_quantiles_are_scored_by_pinball_and_the_point_is_the_median():
    batch = make_batch(targets=1)
    task, model = build(batch, quantiles=QUANTILES)
    prediction = nnx.jit(task.predict)(model, batch)
    assert prediction.shape == (*batch["target"].shape, 3)
    assert (np.diff(prediction, axis=-1) > 0).all()
    point = task.point(prediction)
    np.testing.assert_array_equal(point, prediction[..., 1])
    mask = batch["target_mask"]
    expected = np.mean(
        [
            sklearn.metrics.mean_pinball_loss(batch["target"][mask], values[mask], alpha=q)
            for q, values in zip(QUANTILES, np.moveaxis(np.asarray(prediction), -1, 0), strict=True)
        ]
    )
    loss, metrics = nnx.jit(task.loss)(model, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    errors = LeadTimeErrors.of(np.asarray(point), batch["target"], mask=mask).pooled()
    np.testing.assert_allclose(metrics["mae"], errors.mae()[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["rmse"], errors.rmse()[0], rtol=1e-5)
    untrained = task.point(nnx.jit(task.predict)(zero_head(model), batch))
    np.testing.assert_array_equal(untrained, batch["persistence"] + 0 * batch["target"])


@hypothesis.given(
    st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True), st.integers(0, 9)
)
def test_the_point_is_the_quantile_function_at_one_half(percents, seed):
    """Linear between the levels and flat beyond them, as NumPy interpolates."""
    levels = tuple(p / 100 for p in sorted(percents))
    task = Forecast(ForecastConfig(quantiles=levels))
    values = np.sort(np.random.default_rng(seed).normal(size=(3, len(levels))), axis=-1)
    expected = [np.interp(0.5, levels, of) for of in values]
    np.testing.assert_allclose(task.point(values), expected, rtol=1e-12)
    if 0.5 in levels:
        np.testing.assert_array_equal(task.point(values), values[:, levels.index(0.5)])
    named = [f"{q:g}" for q in levels if f"{q:g}" in task.point_name.split()]
    assert named or task.point_name == "the median"


def test_weighed_quantiles_move_with_their_point_and_stay_as_far_apart(monkeypatch):
    batch, levels = make_batch(), (0.1, 0.8)
    own = batch["target"][..., None] + np.array([0, 2], np.float32)
    monkeypatch.setattr(Forecast, "_members", lambda *_: [own])
    weighed = Forecast(ForecastConfig(quantiles=levels, model_weight=0.25))
    found, naive = np.asarray(weighed.predict(nnx.Module(), batch)), batch["persistence"]
    expected = naive + 0.25 * (weighed.point(own) - naive)
    np.testing.assert_allclose(weighed.point(found), expected, atol=1e-5)
    np.testing.assert_allclose(np.diff(found), 2, atol=1e-5)


def test_a_rollout_is_the_loop_by_hand():
    batch = make_batch()
    options: tuple[Any, ...] = ({}, {"normalize": "instance"})
    for fields in options:
        task, model = build(batch, mode="rollout", rollout_step=2, **fields)
        assert model.head.shape[0] == 2
        step = Forecast(ForecastConfig(**fields)).predict
        predict = nnx.jit(lambda model, batch, step=step: step(model, batch))
        context, parts = batch["context"], []
        for _ in range(3):
            parts.append(predict(model, {"context": context, "persistence": context[:, -1:]}))
            context = np.concatenate([context, parts[-1]], axis=1)[:, -6:]
        expected = np.concatenate(parts, axis=1)[:, :HORIZON]
        got = nnx.jit(task.predict)(model, batch)
        assert got.shape == batch["target"].shape
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_dropout_draws_anew_at_each_turn_of_a_rollout_and_not_in_evaluation():
    batch = make_batch()
    backbone = dataclasses.replace(BACKBONE, dropout=0.5)
    task, model = build(batch, backbone, mode="rollout")
    evaluate = nnx.view(model, deterministic=True)

    @nnx.jit
    def predict(model, evaluate):
        return [task.predict(m, batch) for m in (model, model, evaluate, evaluate)]

    before = int(model.backbone.dropout.rngs.count[...])
    noisy, noisier, first, second = predict(model, evaluate)
    assert (noisy != noisier).any()
    np.testing.assert_array_equal(first, second)
    assert int(model.backbone.dropout.rngs.count[...]) == before + 2 * HORIZON


def test_before_training_the_forecast_is_what_the_residual_is_taken_to():
    batch = make_batch()
    mean = batch["context"].mean(1, keepdims=True) + 0 * batch["target"]
    persistence = batch["persistence"] + 0 * batch["target"]
    cases: Any = (
        ({"normalize": "instance", "residual": "none"}, mean),
        ({"residual": "none"}, 0 * persistence),
        ({"mode": "rollout", "normalize": "instance"}, persistence),
    )
    for fields, expected in cases:
        task, model = build(batch, **fields)
        got = nnx.jit(task.predict)(zero_head(model), batch)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"residual": "none", "quantiles": QUANTILES}])
def test_normalised_forecasts_follow_the_shift_and_scale_of_a_cell(fields):
    batch = make_batch(channels=3, targets=2)
    batch["persistence"] = batch["context"][:, -1:, :, [2, 0]]
    task, model = build(batch, normalize="instance", target_channels=(2, 0), **fields)
    predict = nnx.jit(task.predict)
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.5, 20, size=(4, 1, 3, 3)).astype(np.float32)
    shift = 10 * rng.normal(size=scale.shape).astype(np.float32)
    scale[..., 1], shift[..., 1] = 1, 0  # A covariate counts as it is.
    moved = {**batch, "context": batch["context"] * scale + shift}
    scale, shift = scale[..., [2, 0]], shift[..., [2, 0]]
    moved["persistence"] = batch["persistence"] * scale + shift
    if "quantiles" in fields:
        scale, shift = scale[..., None], shift[..., None]
    expected = np.asarray(predict(model, batch)) * scale + shift
    np.testing.assert_allclose(predict(model, moved), expected, rtol=2e-4, atol=2e-3)


def test_penalty_and_weights_enter_the_loss_and_not_its_metrics():
    batch = make_batch()
    task, model = build(batch)
    loss, metrics = nnx.jit(task.loss)(model, batch)
    penalised, same = nnx.jit(build(batch, l1=0.1)[0].loss)(model, batch)
    weights = [p for p in jax.tree.leaves(nnx.state(model, nnx.Param)) if p.ndim > 1]
    expected = loss + 0.1 * sum(float(np.abs(w).sum()) for w in weights)
    np.testing.assert_allclose(penalised, expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same, metrics)

    cell = np.array([1.0, 0.0, 0.5], np.float32).reshape(1, 1, 3, 1)
    weighted, same = nnx.jit(task.loss)(model, {**batch, "weights": cell})
    error = np.square(np.asarray(nnx.jit(task.predict)(model, batch)) - batch["target"])
    share = np.broadcast_to(cell, error.shape) * batch["target_mask"]
    np.testing.assert_allclose(weighted, (error * share).sum() / share.sum(), rtol=1e-5)
    np.testing.assert_allclose(same.pop("weight"), share.sum(), rtol=1e-6)
    assert metrics.pop("weight") == batch["target_mask"].sum()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), same, metrics)


def test_the_naive_forecasts_that_a_batch_brings_are_passed_on():
    batch = make_batch()
    task = Forecast(ForecastConfig())
    assert set(task.baselines(batch)) == {"persistence"}
    batch["climatology"] = batch["persistence"] + 1
    batch["season"] = batch["target"] - 1
    naive = task.baselines(batch)
    np.testing.assert_array_equal(naive["season"], batch["target"] - 1)
    np.testing.assert_array_equal(naive["climatology"], naive["persistence"] + 1)


def test_a_rollout_needs_persistence_to_be_the_last_row():
    batch = make_batch()
    shifted = {**batch, "persistence": batch["persistence"] + 1}
    Forecast(ForecastConfig()).check_batch(shifted)
    task = Forecast(ForecastConfig(mode="rollout"))
    task.check_batch(batch)
    with pytest.raises(InputError, match="persistence must be the last row of the context"):
        task.check_batch(shifted)


def test_targets_that_are_not_in_the_context_are_refused():
    batch = make_batch(channels=3, targets=2)
    cases: Any = (
        ({"mode": "rollout"}, "target must have all 3 channels of the context, in their order"),
        ({"normalize": "instance"}, "the 2 targets are, to normalize them, got (0, 1, 2) of 3"),
        ({"normalize": "instance", "target_channels": (0, 3)}, "them, got (0, 3) of 3"),
    )
    for fields, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            build(batch, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantiles": (0.9, 0.5)}, "quantiles must increase strictly"),
        ({"quantiles": (0.5,), "mode": "rollout"}, "where there are quantiles, got rollout"),
        ({"mode": "both"}, "mode must be 'direct' or 'rollout', got 'both'"),
        ({"time": "first"}, "time must be 'last' or 'flatten', got 'first'"),
        ({"rollout_step": 0}, "rollout_step must be a whole number >= 1, got 0"),
        ({"l1": -1.0}, "l1 must be at least 0, got -1.0"),
    ],
)
def test_bad_options_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        ForecastConfig(**fields)


def test_options_go_to_json_and_back():
    config = ForecastConfig(quantiles=QUANTILES, normalize="instance")
    assert ForecastConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
