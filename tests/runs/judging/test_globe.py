"""Errors on a globe, against the library scores and xarray, and where a report has them."""

import numpy as np
import pytest
import xarray as xr
from flax import nnx
from scores.continuous import additive_bias, rmse
from scores.continuous.correlation import pearsonr
from scores.functions import create_latitude_weights
from small_fields import small_field

from stpatch_jax.data import CleaningConfig, FieldConfig
from stpatch_jax.metrics import AreaErrors
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.alerts import FieldJudge
from stpatch_jax.runs.judging.globe import area_weights
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh

DIMS = ("init_time", "lead_time", "latitude", "longitude", "channel")
ALL = ["init_time", "latitude", "longitude"]


def forecasts(latitude):
    """Forecasts, what came and a climatology, each along DIMS."""
    random = np.random.default_rng(0)
    shape = (5, 3, len(latitude), 4, 2)
    coords = {"latitude": latitude, "longitude": np.arange(4) * 90.0}
    return [xr.DataArray(random.normal(2, 1, shape), coords, DIMS) for _ in range(3)]


def errors_of(forecast, real, climatology, **told):
    weights = area_weights(real.isel(lead_time=0).rename(init_time="time"))
    assert weights is not None
    values = (forecast.values, real.values, weights)
    return AreaErrors.of(*values, climatology=climatology.values, **told)


def test_rmse_and_bias_are_those_of_scores():
    forecast, real, climatology = forecasts([60.0, 20, -20, -70])
    found = errors_of(forecast, real, climatology)
    weights = create_latitude_weights(real.latitude)
    told = {"reduce_dims": ALL, "weights": weights / weights.mean()}
    np.testing.assert_allclose(found.rmse(), np.asarray(rmse(forecast, real, **told)), rtol=1e-6)
    np.testing.assert_allclose(
        found.bias(), np.asarray(additive_bias(forecast, real, **told)), rtol=1e-6
    )


def test_the_anomaly_correlation_is_the_weighted_one_of_each_forecast():
    forecast, real, climatology = forecasts([60.0, 20, -20, -70])
    a, b = forecast - climatology, real - climatology
    over = ["latitude", "longitude"]

    def mean(values):
        return values.weighted(np.cos(np.deg2rad(real.latitude))).mean(over)

    expected = (mean(a * b) / np.sqrt(mean(a**2) * mean(b**2))).mean("init_time")
    found = errors_of(forecast, real, climatology)
    np.testing.assert_allclose(found.acc(), expected, rtol=1e-6)
    # Where all weigh the same it is Pearson's of anomalies and their negatives, whose mean is 0.
    forecast, real, climatology = forecasts([50.0, -50.0])
    a, b = ((x - climatology).stack(cell=over) for x in (forecast, real))
    a, b = (xr.concat([x.reset_index("cell"), -x.reset_index("cell")], "cell") for x in (a, b))
    expected = np.asarray(pearsonr(a, b, reduce_dims="cell").mean("init_time"))
    np.testing.assert_allclose(errors_of(forecast, real, climatology).acc(), expected, rtol=1e-6)


def test_what_is_not_real_does_not_count():
    forecast, real, climatology = forecasts([60.0, 20, -20, -70])
    mask = np.random.default_rng(1).random(real.shape) < 0.7
    mask[:, :, :, :, 1] &= False
    holed = errors_of(forecast.where(mask, np.nan), real.where(mask), climatology, mask=mask)
    zeros = errors_of(forecast.where(mask, 7), real.where(mask, 5), climatology, mask=mask)
    for name in ("rmse", "bias", "acc"):
        np.testing.assert_array_equal(getattr(holed, name)(), getattr(zeros, name)())
        assert np.isnan(getattr(holed, name)()[:, 1]).all()
        assert np.isfinite(getattr(holed, name)()[:, 0]).all()


def named(dim, *, units=None, values=None):
    field = small_field((3, 4, 2), ("t",)).rename(latitude=dim)
    places = [10.0, 20, 30, 40] if values is None else values
    return field.assign_coords({dim: (dim, places, {} if units is None else {"units": units})})


@pytest.mark.parametrize(
    ("field", "weighs"),
    [
        (named("latitude"), True),
        (named("lat", units="degrees_north"), True),
        (named("rlat", units="degrees"), True),
        (named("q", units="degrees_north"), True),
        (named("y"), False),
        (named("y", units="m"), False),
        (named("lat", units="km"), False),
        (named("lat", values=[0.0, 40, 80, 120]), False),
        (named("lat", values=list("abcd")), False),
        (small_field((3, 4)), False),
    ],
    ids=lambda value: "" if isinstance(value, bool) else str(value.dims[1]),
)
def test_a_field_is_on_a_globe_where_an_axis_holds_latitudes(field, weighs):
    weights = area_weights(field)
    assert (weights is not None) == weighs
    if weights is not None:
        assert weights.shape == (1, 1, 4, 1, 1)
        assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize("climatology", ["hour", None])
def test_a_report_has_the_errors_of_every_rule_and_variable(climatology):
    config = FieldConfig(
        context=3, horizon=2, climatology=climatology, cleaning=CleaningConfig(per="channel")
    )
    data = config.of(small_field((90, 3, 2)))
    task = ForecastConfig().create()
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None, 1, 1))), shapes, rngs=nnx.Rngs(0))
    judge = FieldJudge(task, data, make_mesh(), batch_size=8)
    judged = judge(model, "test")
    found = judge.report(judged)["globe"]
    assert {name: of["unit"] for name, of in found.items()} == {"t2m": "K", "wind": "m s-1"}
    climatological = {"climatology", "anomaly_persistence"} if climatology else set()
    rules = {"model", "persistence", "drift", "running_mean", *climatological}
    assert found["wind"]["rules"].keys() == rules
    rows = np.arange(data.splits["test"].start, data.splits["test"].stop - 1)[:, None] + [0, 1]
    real, past = data.field.values[rows, ..., 1], data.field.values[rows[:, :1] - 1, ..., 1]
    of = found["wind"]["rules"]["persistence"]
    assert of.keys() == {"rmse", "bias"} | ({"acc"} if climatology else set())
    assert len(of["rmse"]["per_lead"]) == 2
    weights = area_weights(data.field)
    assert weights is not None
    weights = np.broadcast_to(weights[..., 0], real.shape)
    expected = np.average(past - real, weights=weights)
    assert of["bias"]["all"] == pytest.approx(expected, rel=1e-3)
    text = "\n".join(judge.markdown({**REPORT, "test": judge.report(judged), "data": data.report}))
    assert "| wind (m s-1) | RMSE | bias |" in text
    assert ("ACC" in text) == bool(climatology)


REPORT = {"context": 3, "horizon": 2}
