"""What a report adds up: series of one unit and like size; all others only in scaled units."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from flax import nnx

from stpatch_jax.data import CleaningConfig, FieldConfig, FieldData
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.alerts import FieldJudge
from stpatch_jax.runs.judging.forecast import error_figure
from stpatch_jax.runs.judging.judge import Judged
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh

ROWS = 60


def report(field: xr.DataArray):
    """The judge of an untrained model, which is persistence, its report, and the lines of it."""
    config = FieldConfig(context=4, horizon=2, cleaning=CleaningConfig(per="cell"))
    data, task = FieldData.of(field, config), ForecastConfig().create()
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    spec = WindowSpec((None,) * (field.ndim - 1))
    model = task.build(FlatPatchesConfig(spec), shapes, rngs=nnx.Rngs(0))
    judge = FieldJudge(task, data, make_mesh(), batch_size=8)
    test = judge.report(judge(model, "test"))
    whole = {**judge.header(), "test": test, "data": data.report}
    return judge, test, judge.markdown(whole)


def panel(*sizes: float, unit: str = "") -> xr.DataArray:
    """Named series of such standard deviations."""
    values = np.array(sizes) * np.random.default_rng(0).normal(size=(ROWS, len(sizes)))
    coords = {
        "time": pd.date_range("2024-01-01", periods=ROWS, freq="h"),
        "series": [f"s{at}" for at in range(len(sizes))],
        "channel": ["value"],
    }
    field = xr.DataArray(values[..., None], coords, ("time", "series", "channel"))
    return field.assign_coords(units=("channel", [unit])) if unit else field


def weather(**units: str) -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(ROWS, 2, 2, len(units)))
    times = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    coords = {"time": times, "channel": list(units), "units": ("channel", list(units.values()))}
    return xr.DataArray(values, coords, ("time", "y", "x", "channel"))


@pytest.mark.parametrize(
    ("field", "added", "told"),
    [
        (panel(1, 1.5, 2), True, True),
        (panel(1, 1.5, 2, unit="K"), True, True),
        (panel(1, 10, 1000), False, False),  # Who knows what they are.
        (panel(1, 10, 1000, unit="EUR"), True, False),  # The largest would be all that counts.
        (weather(t2m="K"), True, True),
        (weather(t2m="K", d2m="K"), True, True),
        (weather(t2m="K", wind="m/s"), False, False),
        (weather(t2m="K", wind=""), False, False),
    ],
)
def test_errors_are_added_up_over_one_unit_and_told_over_like_series(field, added, told):
    judge, test, lines = report(field)
    assert ("original" in test) == added
    heads = [line for line in lines if line.startswith("Errors in ")]
    assert heads[0].startswith("Errors in scaled units")
    assert len(heads) == 1 + told
    # With each of these rows the rules stand in a table by lead time, too.
    assert sum(line.startswith("| all |") for line in lines) == 1 + 2 * told
    assert len(error_figure(test).axes) == 1 + told
    for name, of in test["series_errors"].items():
        assert of["model"]["mae"] == test["series"][name]["model"]
        assert of["unit"] == judge.units[name]
        assert sum(line.startswith(f"| {name} | {of['unit']} |") for line in lines) == 1


def test_each_series_is_judged_in_its_own_unit():
    field = panel(1, 10, 1000)
    _, test, _ = report(field)
    origins = np.arange(48, 59)  # The last fifth of 60 rows holds windows of two.
    for at, of in enumerate(test["series_errors"].values()):
        values = field.values[:, at, 0]
        error = values[origins[:, None] + np.arange(2)] - values[origins - 1][:, None]
        assert of["persistence"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert of["persistence"]["mse"] == pytest.approx(np.square(error).mean(), rel=1e-5)
        assert of["persistence"]["rmse"] == pytest.approx(np.square(error).mean() ** 0.5, rel=1e-5)
        assert of["skill"] == pytest.approx({"mae": 0, "mse": 0, "rmse": 0}, abs=1e-5)


def test_a_table_of_many_series_is_cut_and_says_so():
    _, test, lines = report(panel(*[1.0] * 60))
    assert len(test["series_errors"]) == 60
    assert sum(line.startswith("| s") for line in lines) == 1 + 50  # with the heading
    assert "10 more series stand in report.json under series_errors." in lines


@pytest.mark.parametrize("units", [{"t2m": "K"}, {"t2m": "K", "wind": "m/s"}])
def test_maps_have_a_row_for_each_variable_or_for_each_lead_of_one(units):
    data, task = FieldData.of(weather(**units), FieldConfig(context=4, horizon=2)), ForecastConfig()
    judge = FieldJudge(task.create(), data, make_mesh(), batch_size=8)
    values = np.arange(8.0 * len(units)).reshape(1, 2, 2, 2, len(units))
    answers = {"real": values, "units": {"model": values + 1}}
    shown = judge.shows(9)["map"].arrays({"index": np.array([50])}, answers)
    maps = judge._maps(Judged("test", 9, {}, {}, {"map": shown}))
    titles = [ax.get_title() for ax in maps.axes if ax.get_title()]
    rows = [f"{n}: truth" for n in units] if len(units) > 1 else ["truth", "truth"]
    assert [title.split(",")[0] for title in titles[::3]] == rows
    drawn = [np.asarray(ax.collections[0].get_array()) for ax in maps.axes[:6:3]]
    second = values[0, 1, ..., 1] if len(units) > 1 else values[0, 1, ..., 0]
    np.testing.assert_array_equal(drawn[1], second)
    assert {ax.get_ylabel() for ax in maps.axes} >= set(units.values())
