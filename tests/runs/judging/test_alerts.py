"""Alerts: probabilities from past errors, scores against scikit-learn, and what a run reports."""

import jax
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from sklearn.metrics import brier_score_loss

from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig, FieldData
from stpatch_jax.errors import InputError
from stpatch_jax.metrics import brier_score
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs import judges
from stpatch_jax.runs.judging.alerts import FieldJudge, alert_counts, alert_metrics
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh


def scored_alerts(probability, event, scored):
    """The metrics of some probabilities, an example each, as a report has them."""
    probability, event, scored = (np.asarray(x) for x in (probability, event, scored))
    axes = tuple(range(1, event.ndim))
    brier = np.where(scored, brier_score(probability, event > 0), 0.0).sum(axes)
    counts = alert_counts(probability >= 0.5, event > 0, scored > 0, axes)
    return alert_metrics({"brier": brier, "counts": counts}, int(scored.sum()))


def test_alerts_are_scored_as_scikit_learn_and_by_hand():
    random = np.random.default_rng(0)
    probability, event = random.random((5, 2, 3, 1)), random.random((5, 2, 3, 1)) < 0.3
    scored = random.random((5, 2, 3, 1)) < 0.8
    reference = brier_score_loss(event[scored], probability[scored])
    assert scored_alerts(probability, event, scored)["brier"] == pytest.approx(reference)
    # Warned and came: 1; came without warning: 2; warned in vain: 1; not scored: the last.
    found = scored_alerts([0.9, 0.1, 0.2, 0.5, 0.0, 0.9], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0])
    assert found["csi"] == pytest.approx(1 / 4)
    assert found["detected"] == pytest.approx(1 / 3)
    assert found["false_alarms"] == pytest.approx(1 / 2)
    assert found["brier"] == pytest.approx((0.01 + 0.81 + 0.64 + 0.25 + 0) / 5)


def test_thresholds_are_quantiles_of_the_training_rows():
    rows = np.random.default_rng(0).normal(size=(30, 4))
    rows[:, 3], rows[2, 1] = 7.0, np.nan
    found = AlertConfig("above", 0.9, quantile=True).thresholds(rows)
    for series in range(3):
        known = rows[:, series][np.isfinite(rows[:, series])]
        assert found[series] == pytest.approx(np.quantile(known, 0.9))
    assert np.isnan(found[3])
    frost = AlertConfig("below", 0.0)
    assert frost.thresholds(rows)[:3].tolist() == [0, 0, 0]
    assert frost.happened(np.array([-1.0, 0.0, np.nan]), np.zeros(3)).tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"event": "frost"}, r"data\.alert\.event must be 'none', 'above' or 'below', got 'frost'"),
        (
            {"quantile": True, "threshold": 90.0},
            r"data\.alert\.threshold, .* must be in \(0, 1\), got 90",
        ),
        ({"probability": 1.0}, r"data\.alert\.probability must be in \(0, 1\), got 1"),
    ],
)
def test_wrong_alerts_are_told_in_one_sentence(changes, told):
    with pytest.raises(InputError, match=told):
        AlertConfig(**changes)


@pytest.mark.parametrize(
    ("unit", "own"), [("K", 273.15), ("degC", 0.0), ("°F", 32.0), ("celsius", 0.0)]
)
def test_a_threshold_is_converted_into_the_unit_of_the_file(unit, own):
    frost = AlertConfig("below", 273.15, unit="K")
    assert frost.compared({"t2m": unit}) == (frost, "")
    field = noise(t2m=unit)
    data = FieldConfig(context=4, horizon=2, alert=frost).of(field)
    np.testing.assert_allclose(data.alert_thresholds(), own, atol=1e-9)


def test_a_threshold_is_not_compared_with_other_kinds_of_values():
    frost = AlertConfig("below", 273.15, unit="K")
    config = FieldConfig(context=4, horizon=2, alert=frost)
    # Of several channels those that it fits.
    thresholds = config.of(noise(t2m="degC", wind="m s-1")).alert_thresholds()
    np.testing.assert_allclose(thresholds[..., 0], 0, atol=1e-9)
    assert np.isnan(thresholds[..., 1]).all()
    for units in ({"rain": "mm"}, {"t2m": ""}):
        with pytest.warns(UserWarning, match=r"no alerts: the threshold of 273.15 K cannot be"):
            data = config.of(noise(**units))
        assert data.config.alert.event == "none"
        assert f"({units.get('rain', 'no unit')})" in data.report["notes"][-1]
    plain = FieldConfig(context=4, horizon=2, alert=AlertConfig("below", 2.0))
    assert (plain.of(noise(t2m="")).alert_thresholds() == 2.0).all()
    with pytest.raises(InputError, match=r"alert\.unit must be told .* t2m \(K\), wind \(m s-1\)"):
        plain.of(noise(t2m="K", wind="m s-1"))


def noise(**units: str) -> xr.DataArray:
    """A map of channels with such units."""
    values = np.random.default_rng(0).normal(size=(60, 2, 2, len(units)))
    hours = np.datetime64("2024-01-01T00", "ns") + np.arange(60) * np.timedelta64(1, "h")
    coords = {"time": hours, "channel": list(units), "units": ("channel", list(units.values()))}
    return xr.DataArray(values, coords, ("time", "y", "x", "channel"))


def test_every_rule_is_judged_on_the_test_split_by_its_errors_on_validation():
    hours = np.datetime64("2024-01-01T00", "ns") + np.arange(240) * np.timedelta64(1, "h")
    random = np.random.default_rng(0)
    wave = 10 + 3 * np.sin(2 * np.pi * np.arange(240) / 24)
    field = xr.DataArray(
        wave[:, None, None] + random.normal(size=(240, 2, 1)),
        dims=("time", "cell", "channel"),
        coords={"time": hours, "channel": ["flow"]},
    )
    config = FieldConfig(
        context=4,
        horizon=2,
        season=24,
        climatology="hour",
        anomalies=True,
        cleaning=CleaningConfig(per="channel"),
        alert=AlertConfig("above", 0.9, quantile=True),
    )
    data = FieldData.of(field, config)
    task = ForecastConfig(residual="climatology").create()
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None, 1))), shapes, rngs=nnx.Rngs(0))
    assert judges.of(task, data) is FieldJudge
    judge = FieldJudge(task, data, make_mesh(), batch_size=8)
    past = judge(model, "validation")
    judged = judge(model, "test", past=past)
    alerts = judged.rows["alerts"]
    climatological = {"climatology", "anomaly_persistence"}
    rules = {"model", "persistence", "drift", "season", "running_mean", *climatological}
    assert set(alerts["rules"]) == {*rules, "frequency"}
    # An untrained model is the climatology, in its forecasts and so in its warnings.
    sums = judged.sums["units"]
    for name in ("absolute", "squared"):
        of_model, of_rule = (getattr(sums[of], name) for of in ("model", "climatology"))
        np.testing.assert_allclose(of_model, of_rule, rtol=1e-5)
    ours, rule = (alerts["rules"][name]["counts"] for name in ("model", "climatology"))
    differ = np.abs(ours.hits - rule.hits) + np.abs(ours.false_alarms - rule.false_alarms)
    assert differ.sum() < 0.02 * alerts["scored"].sum()
    rows = judged.rows["index"][:, None] + np.arange(2)
    bounds = np.quantile(field.values[: data.splits["train"].stop], 0.9, axis=0)
    np.testing.assert_array_equal(alerts["events"], (field.values[rows] > bounds).sum((2, 3)))
    report = judge.report(judged)["alerts"]
    assert report["targets"] == rows.size * 2
    assert report["rules"]["climatology"]["brier"] < report["rules"]["persistence"]["brier"]
    assert "| frequency |" in "\n".join(judge.before_errors({"alerts": report}))
    assert "alerts" not in past.rows
    # The same without a validation at hand, and of validation again the same rows.
    again = judge.report(judge(model, "test"))
    assert again == judge.report(judged)
    assert jax.device_count() == 8
