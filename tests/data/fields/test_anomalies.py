"""The climatology in examples: departures, what is known in advance, and what must not leak."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from small_fields import small_field

from stpatch_jax.data import CleaningConfig, Climatology, FieldConfig, FieldData
from stpatch_jax.data.fields.climatology import phase_numbers, relative_levels
from stpatch_jax.data.protocols import truth
from stpatch_jax.errors import InputError

PLAIN = FieldConfig(
    context=6,
    horizon=3,
    train_share=0.6,
    season=24,
    climatology="hour",
    cleaning=CleaningConfig(per="channel"),
)
ALL = dataclasses.replace(PLAIN, anomalies=True, climatology_channel=True)


def problems(field: xr.DataArray) -> tuple[FieldData, FieldData]:
    return FieldData.of(field, PLAIN), FieldData.of(field, ALL)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_departures_and_climatology_add_up_to_the_plain_context(split):
    plain, data = problems(small_field((90, 3, 2), missing=0.1))
    before, example = plain.source(split)[1], data.source(split)[1]
    row, channels = int(example["index"]), 2
    times, means = data.times, data.means
    assert means is not None
    assert example["context"].shape == (6, 3, 2, 2 * channels)
    assert example["context"].dtype == np.float32
    whole = example["context"][..., :channels] + means.at(times[row - 6 : row])
    np.testing.assert_allclose(whole, before["context"], atol=1e-5)
    # The last row of the outlook belongs to the last target.
    outlook = example["context"][-1, ..., channels:] + means.mean.mean(axis=0)
    np.testing.assert_allclose(outlook, example["climatology"][-1], atol=1e-5)
    for name in ("target", "target_mask", "persistence", "season"):
        np.testing.assert_array_equal(example[name], before[name])


def test_inputs_see_training_rows_and_their_own_context_only():
    field = small_field((90, 3))
    data = FieldData.of(field, ALL)
    last = data.source("test")[len(data.source("test")) - 1]
    row = int(last["index"])
    other = field.copy(deep=True)
    other[row:] += 100.0
    again = FieldData.of(other, ALL).source("test")
    for name in ("context", "persistence", "climatology", "season"):
        np.testing.assert_array_equal(again[len(again) - 1][name], last[name])
    other = field.copy(deep=True)
    other[data.splits["validation"].start :] += 100.0
    assert FieldData.of(other, ALL).digest("train") == data.digest("train")
    other[0] += 100.0
    assert FieldData.of(other, ALL).digest("train") != data.digest("train")


def test_a_season_may_be_longer_than_the_context_and_is_0_before_the_first_row():
    field = small_field((90, 3))
    data = FieldData.of(field, PLAIN)
    source = data.source("train")
    assert int(source[0]["index"]) == 6
    first, later = source[0]["season"], source[24]["season"]
    assert not first.any()
    expected = data.cleaner.scaled(field.values[6:9], channels=(0, 1), clip=False)
    np.testing.assert_allclose(later, expected, rtol=1e-6)


def test_working_days_and_weekends_have_their_own_hours():
    times = pd.date_range("2024-01-01", periods=24 * 14, freq="h").values
    numbers = phase_numbers(times, phase="workday_hour")
    dates = pd.DatetimeIndex(times)
    np.testing.assert_array_equal(numbers, dates.hour + 24 * (dates.day_name().str[0] == "S"))


RELATIVE = dataclasses.replace(ALL, relative=True, space_means=True)


def counts(scale: float = 1.0) -> xr.DataArray:
    field = small_field((90, 3, 2))
    return abs(field) * scale


@pytest.mark.parametrize("split", ["train", "test"])
def test_relative_departures_times_their_levels_add_up_to_the_plain_context(split):
    plain, data = FieldData.of(counts(), PLAIN), FieldData.of(counts(), RELATIVE)
    before, source = plain.source(split)[1], data.source(split)
    example, channels, levels, means = source[1], 2, source.levels, data.means
    assert levels is not None
    assert means is not None
    row = int(example["index"])
    past, coming = data.times[row - 6 : row], data.times[row : row + 3]
    level = levels.at(past)
    whole = example["context"][..., :channels] * level + means.at(past)
    np.testing.assert_allclose(whole, before["context"], atol=1e-5)
    np.testing.assert_allclose(example["level"], levels.at(coming), rtol=1e-6)
    # Levels are 1 on average, and the mean over space is that of departures to that of levels.
    np.testing.assert_allclose(levels.mean.mean(axis=(0, 1, 2)), 1)
    departures = (before["context"] - means.at(past)).mean(axis=(1, 2)) / level.mean(axis=(1, 2))
    cells = example["context"][:, 0, 0, 2 * channels : 3 * channels]
    np.testing.assert_allclose(cells, departures, atol=1e-5)


def test_relative_departures_do_not_depend_on_the_unit():
    one, other = (FieldData.of(counts(scale), RELATIVE).source("test")[0] for scale in (1.0, 50.0))
    for name in ("context", "level", "climatology"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_relative_departures_need_departures_and_no_negative_values():
    with pytest.raises(InputError, match=r"data\.anomalies must be on for data\.relative, got it"):
        dataclasses.replace(PLAIN, relative=True)
    data = FieldData.of(-counts(), RELATIVE)
    with pytest.raises(InputError, match=r"data\.relative must go with values of 0 and above"):
        data.source("train")


def test_nothing_usual_makes_a_level_of_one():
    none = relative_levels(Climatology("hour", np.zeros((24, 3, 1))))
    np.testing.assert_array_equal(none.mean, np.ones((24, 3, 1)))


@pytest.mark.parametrize("name", ["anomalies", "climatology_channel"])
def test_they_need_a_climatology(name):
    with pytest.raises(InputError, match=rf"must be a phase for data\.{name}, got none"):
        dataclasses.replace(FieldConfig(), **{name: True})


def naive(data: FieldData) -> dict[str, np.ndarray]:
    """Naive forecasts of all test windows in the units of the data, and the truth."""
    source = data.source("test")
    examples = [source[at] for at in range(len(source))]
    index = np.array([example["index"] for example in examples])
    found = {
        rule: data.in_units(np.stack([example[rule] for example in examples]), index)
        for rule in ("persistence", "season", "climatology")
    }
    return found | {"truth": truth(data, index), "index": index}


def rmse(forecast: np.ndarray, real: np.ndarray) -> float:
    """Mean over the lead times of the root of the mean square."""
    axes = (0, *range(2, real.ndim))
    return float(np.sqrt(np.square(forecast - real).mean(axis=axes)).mean())


def test_the_naive_rows_of_bikenyc_come_out(data_dir):
    data = FieldConfig(
        "catalog:bikenyc",
        context=3,
        horizon=1,
        train_share=0.75,
        test_share=0.1754,
        season=7 * 24,
        climatology="weekday_hour",
        cleaning=CleaningConfig(per="channel"),
    ).load()
    found = naive(data)
    assert len(found["index"]) == 240
    assert str(data.times[found["index"][0]])[:13] == "2014-09-21T00"
    scale = np.sqrt(128 / 81)
    rules = {"persistence": (9.36, 11.76), "season": (8.48, 10.66)}
    for rule, (raw, scaled) in rules.items():
        assert rmse(found[rule], found["truth"]) == pytest.approx(raw, abs=6e-3)
        assert rmse(found[rule], found["truth"]) * scale == pytest.approx(scaled, abs=6e-3)
    # The published mean is over all rows before the test span.
    before = data.splits["test"].start
    means = Climatology.fit(data.values(slice(before)), data.times[:before], phase="weekday_hour")
    forecast = means.at(data.times[found["index"]])[:, None]
    assert rmse(forecast, found["truth"]) == pytest.approx(6.88, abs=6e-3)
    assert rmse(forecast, found["truth"]) * scale == pytest.approx(8.64, abs=6e-3)
    changing = data.values(slice(0, data.splits["train"].stop)).max(axis=0) > 0
    assert changing.sum() == 2 * 81


@pytest.mark.parametrize("missing", ["interpolate", "climatology"])
@pytest.mark.parametrize("calendar", ["360_day", "noleap", "julian"])
def test_phases_and_gaps_in_values_are_those_of_every_calendar(calendar, missing):
    """The same hours in another calendar give the same examples."""
    cycle = 10 + 5 * np.sin(2 * np.pi * np.arange(240) / 24)[:, None]
    values = np.where(np.random.default_rng(0).random(cycle.shape) < 0.1, np.nan, cycle)
    told = {"periods": 240, "freq": "h", "use_cftime": True}
    config = FieldConfig(
        context=24,
        horizon=6,
        climatology="hour",
        anomalies=True,
        calendar=("hour",),
        cleaning=CleaningConfig(missing=missing),
    )
    examples = []
    for name in (calendar, "standard"):
        times = xr.date_range("2001-02-26", calendar=name, **told)
        field = xr.DataArray(values, dims=("time", "series"), coords={"time": times})
        examples.append(config.of(field).source("test")[3])
    for key, array in examples[0].items():
        np.testing.assert_allclose(array, examples[1][key], rtol=1e-5, atol=1e-6)
