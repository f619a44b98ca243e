"""Forecast problems on fields: splits, naive forecasts, and the published rows of two files."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, reject
from hypothesis import strategies as st

from stpatch_jax.data import CleaningConfig, FieldConfig, FieldData, sequential_batches
from stpatch_jax.data.protocols import truth
from stpatch_jax.data.sampling.spacing import GapRule
from stpatch_jax.errors import InputError

ROWS, CONTEXT, HORIZON = 240, 48, 12


def field(*space: int, missing: float = 0.0) -> xr.DataArray:
    """A daily wave of hours with noise; `missing` of its values are NaN."""
    random = np.random.default_rng(0)
    hours = np.arange(ROWS).reshape(-1, *[1] * (len(space) + 1))
    values = 10 + np.sin(2 * np.pi * hours / 24) + 0.1 * random.normal(size=(ROWS, *space, 1))
    values[random.random(values.shape) < missing] = np.nan
    dims = ("time", "y", "x")[: 1 + len(space)]
    return xr.DataArray(
        values,
        dims=(*dims, "channel"),
        coords={"time": pd.date_range("2024-01-01", periods=ROWS, freq="h"), "channel": ["load"]}
        | {name: np.arange(n) for name, n in zip(dims[1:], space, strict=True)},
    )


def problem(values: xr.DataArray, **changes) -> FieldData:
    return FieldData.of(values, FieldConfig(context=CONTEXT, horizon=HORIZON, **changes))


def everything(data: FieldData, split: str) -> dict[str, np.ndarray]:
    source = data.source(split)
    return next(sequential_batches(source, batch_size=len(source)))


@pytest.mark.parametrize("space", [(), (2, 3)])
def test_targets_and_naive_forecasts_are_the_rows_of_the_file(space):
    values = field(*space)
    data = problem(values, season=24, climatology="hour")
    batch = everything(data, "test")
    rows = batch["index"][:, None] + np.arange(HORIZON)
    np.testing.assert_allclose(data.in_units(batch["target"], batch["index"]), values.values[rows])
    np.testing.assert_array_equal(truth(data, batch["index"]), values.values[rows])
    day_before = data.in_units(batch["season"], batch["index"])
    np.testing.assert_allclose(day_before, values.values[rows - 24], rtol=1e-5)
    train = values[: data.splits["train"].stop]
    means = train.groupby(train.time.dt.hour).mean("time").values
    hours = values.time.dt.hour.values[rows]
    climatology = data.in_units(batch["climatology"], batch["index"])
    np.testing.assert_allclose(climatology, means[hours], rtol=1e-5)


def test_a_season_shorter_than_the_horizon_repeats():
    values = field()
    batch = everything(problem(values, season=5), "validation")
    data = problem(values, season=5)
    got = data.in_units(batch["season"], batch["index"])
    for lead in range(HORIZON):
        row = batch["index"] + lead - 5 * (lead // 5 + 1)
        np.testing.assert_allclose(got[:, lead], values.values[row], rtol=1e-5)


def test_the_scaler_sees_training_rows_only():
    values = field(3)
    other = values.copy(deep=True)
    other[data_stop(values) :] += 100.0
    assert problem(values).digest("train") == problem(other).digest("train")
    other[0] += 1
    assert problem(values).digest("train") != problem(other).digest("train")


def data_stop(values: xr.DataArray) -> int:
    return problem(values).splits["train"].stop


def test_test_targets_cover_their_span_and_no_other():
    data = problem(field(missing=0.1), stride=7)
    seen = {
        name: set(np.unique(everything(data, name)["index"][:, None] + np.arange(HORIZON)))
        for name in data.splits
    }
    for name, targets in data.splits.items():
        assert seen[name] == set(targets)
    assert data.splits["test"].start == ROWS - int(ROWS * 0.2)
    assert data.splits["test"].stop == ROWS
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    assert not everything(data, "test")["target_mask"].all()
    assert np.isfinite(everything(data, "test")["context"]).all()


def test_series_are_named_cells_or_channels():
    panel = field(2)
    panel["y"] = ["A", "B"]
    values = np.arange(6.0).reshape(1, 1, 2, 3)
    series = problem(panel).series
    assert list(series) == ["A", "B"]
    assert values[series["B"]].tolist() == [[[[3, 4, 5]]]]
    series = problem(field(2)).series
    assert list(series) == ["load"]
    assert values[series["load"]].tolist() == [[[[0], [3]]]]


def test_only_the_first_rows_are_used(tmp_path):
    frame = pd.DataFrame({"date": field().time.values, "load": field().values[:, 0]})
    frame.to_csv(tmp_path / "load.csv", index=False)
    config = FieldConfig(path=str(tmp_path / "load.csv"), context=24, horizon=4, most_rows=200)
    with pytest.warns(UserWarning, match=r"40 of 240 rows are left out.*data\.most_rows"):
        data = config.load()
    assert len(data.times) == data.report["rows"] == 200
    assert data.report["notes"] == ["40 of 240 rows are left out, those after 2024-01-09T07:00."]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"context": 0}, r"context must .*, got 0"),
        ({"train_share": 0.9, "test_share": 0.1}, r"got 0\.9 and 0\.1"),
        ({"season": -1}, r"season must .*, got -1"),
    ],
)
def test_wrong_settings_are_told_in_one_sentence(changes, told):
    with pytest.raises(InputError, match=told):
        FieldConfig(**{"context": CONTEXT, **changes})


def test_missing_paths_and_splits_are_told():
    with pytest.raises(InputError, match=r"data\.path must name the data, got none"):
        FieldConfig().load()
    with pytest.raises(InputError, match="got 'nothing'"):
        FieldConfig(path="catalog:nothing").load()
    with pytest.raises(InputError, match="split must be 'train', 'validation' or 'test'"):
        problem(field()).source("dev")


# Published rows of repeating the last value: MSE and MAE of scaled values.
REPEAT = {
    ("etth1", 96): (1.295, 0.713),
    ("etth1", 192): (1.325, 0.733),
    ("etth1", 336): (1.323, 0.744),
    ("etth1", 720): (1.339, 0.756),
    ("exchange_rate", 96): (0.081, 0.196),
    ("exchange_rate", 192): (0.167, 0.289),
    ("exchange_rate", 336): (0.305, 0.396),
    ("exchange_rate", 720): (0.823, 0.681),
}


@pytest.mark.parametrize(("name", "horizon"), REPEAT)
def test_the_published_rows_of_repeat_come_out(data_dir, name, horizon):
    official = {"train_share": 0.6, "most_rows": 14400} if name == "etth1" else {}
    config = FieldConfig(path=f"catalog:{name}", context=1, horizon=horizon, season=0, **official)
    data = config.load()
    source = data.source("test")
    count = len(source) // 32 * 32  # the published rows drop the last batch of 32
    rows = source[0]["index"] + np.arange(count)[:, None] + np.arange(-1, horizon)
    scaled = data.cleaner.scaled(data.values(slice(None)), channels=[0], clip=False)
    errors = scaled[rows[:, 1:]] - scaled[rows[:, :1]]
    assert config.cleaning == CleaningConfig(per="cell")
    assert (errors**2).mean() == pytest.approx(REPEAT[name, horizon][0], abs=5.1e-4)
    assert np.abs(errors).mean() == pytest.approx(REPEAT[name, horizon][1], abs=5.1e-4)


def test_the_unit_of_an_array_in_memory_is_told_as_that_of_a_file():
    values = field().isel(channel=0, drop=True).assign_attrs(units="K")
    config = FieldConfig(context=CONTEXT, horizon=HORIZON)
    assert config.of(values).unit == config.of(values.to_dataset(name="load")).unit == "K"
    assert config.of(values.drop_attrs()).unit == config.of(values.values[:, None]).unit


def without(values: xr.DataArray, *rows: int) -> xr.DataArray:
    return values.isel(time=np.setdiff1d(np.arange(len(values)), rows))


@given(
    gaps=st.lists(st.tuples(st.integers(1, ROWS - 30), st.integers(1, 20)), max_size=4),
    context=st.integers(1, 12),
    horizon=st.integers(1, 6),
    season=st.sampled_from([0, 8]),
)
def test_no_window_or_season_crosses_a_gap(gaps, context, horizon, season):
    left_out = {row for first, count in gaps for row in range(first, first + count)}
    values = without(field(), *left_out)
    config = FieldConfig(context=context, horizon=horizon, season=season)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            data = config.of(values)
        except InputError:
            reject()
    hours = (values.time.values - values.time.values[0]) // np.timedelta64(1, "h")
    whole, past = np.diff(hours, prepend=-1) == 1, max(context, season)
    assert len(data.report["gaps"]) == np.count_nonzero(~whole)
    assert sum(gap["missing"] for gap in data.report["gaps"]) == hours[-1] + 1 - len(hours)
    first = np.flatnonzero(~whole).min(initial=len(hours))
    for split, rows in data.splits.items():
        starts = data.source(split).windows.starts
        # In the first segment a season may reach back to where nothing is known.
        expected = [
            row
            for row in range(rows.start, rows.stop - horizon + 1)
            if whole[max(0, row - (past if row >= first else context)) + 1 : row + horizon].all()
        ]
        assert starts.tolist() == expected
        assert data.report["splits"][split]["windows"] == len(expected)


def test_gaps_that_leave_no_window_are_told():
    values = without(field(), *range(10, ROWS, 11))
    with (
        pytest.warns(UserWarning, match=r"21 gaps in time \(1 row missing"),
        pytest.raises(InputError, match=r"train split must hold 12 rows .* data\.gaps insert"),
    ):
        FieldConfig(context=8, horizon=4).of(values)


def test_missing_rows_are_advised_only_where_they_may_be_put_in():
    values = without(field(), *(row for row in range(ROWS) if row % 20 > 8))
    told = r"train split must hold 12 rows .*; use a shorter .* or a file with fewer gaps$"
    rules: dict[GapRule, str] = {"split": told, "insert": "must be whole rows, no more of them"}
    for rule, message in rules.items():
        with pytest.warns(UserWarning, match="gaps"), pytest.raises(InputError, match=message):
            FieldConfig(path="f.nc", context=8, horizon=4, gaps=rule).of(values)


def test_many_gaps_are_told_in_one_sentence():
    with pytest.warns(UserWarning, match=r"21 gaps in time .*put in as missing"):
        data = FieldConfig(context=8, horizon=4, gaps="auto").of(
            without(field(), *range(10, ROWS, 11))
        )
    notes = [note for note in data.report["notes"] if note.startswith("Gap")]
    assert len(notes) == 9
    assert "13 rows missing in 13 more, the first after 2024-01-05" in notes[-1]


def test_many_missing_rows_are_a_gap_by_themselves():
    values = without(field(), *range(100, 160))
    with pytest.warns(UserWarning, match="no window crosses one"):
        data = FieldConfig(context=8, horizon=4, gaps="auto").of(values)
    assert len(data.segments) == 2
    assert data.config.gaps == "split"


def test_a_season_of_yesterday_is_exact_beside_a_gap():
    hours = np.arange(ROWS)
    values = field().copy(data=np.sin(2 * np.pi * hours / 24)[:, None])
    with pytest.warns(UserWarning, match=r"1 gap in time \(13 rows missing between .*no window"):
        data = FieldConfig(context=24, horizon=6, season=24).of(without(values, *range(100, 113)))
    for split in data.splits:
        batch = everything(data, split)
        np.testing.assert_allclose(batch["season"], batch["target"], atol=1e-5)


@pytest.mark.parametrize("rule", ["insert", "auto"])
def test_missing_rows_are_put_in_on_request(rule):
    values, left_out = field(), [7, 30, 31, 90, 200]
    config = FieldConfig(context=24, horizon=6, season=24, gaps=rule)
    with pytest.warns(UserWarning, match=r"4 gaps in time .*put in as missing"):
        data = config.of(without(values, *left_out))
    expected = values.values.copy()
    expected[left_out] = np.nan
    np.testing.assert_array_equal(data.times, values.time.values)
    np.testing.assert_array_equal(data.values(slice(None)), expected)
    assert data.report["gaps"] == []
    assert sum(note.startswith("Gap: ") for note in data.report["notes"]) == 4
    assert len(data.source("train")) == len(config.of(values).source("train"))


@pytest.mark.parametrize(
    ("step", "changes", "told"),
    [
        ("MS", {"climatology": "hour"}, "data.climatology must be a phase .* 1 month apart differ"),
        ("D", {"climatology": "hour"}, "1 day apart differ, got hour; give .* day_of_year"),
        ("D", {"cleaning": CleaningConfig(missing="climatology")}, "data.cleaning.phase must be"),
        ("W", {"climatology": "weekday_hour"}, "7 days apart differ, got weekday_hour"),
    ],
)
def test_a_phase_that_all_rows_share_is_refused(step, changes, told):
    values = field().assign_coords(time=pd.date_range("1990-01-01", periods=ROWS, freq=step))
    with pytest.raises(InputError, match=told):
        FieldConfig(context=24, horizon=6, **changes).of(values)


def test_a_phase_of_rows_without_dates_is_refused():
    values = field().assign_coords(time=np.arange(ROWS) / 25)
    with pytest.raises(InputError, match=r"left out for rows that have no dates, got hour"):
        FieldConfig(context=24, horizon=6, climatology="hour").of(values)


@pytest.mark.parametrize(
    ("step", "season", "sound"),
    [
        *[("h", 24, 1), ("h", 168, 1), ("MS", 12, 1), ("D", 7, 1), ("D", 365, 1), ("B", 5, 1)],
        *[("15min", 96, 1), ("MS", 24, 0), ("6h", 24, 0), ("B", 7, 0), ("h", 23, 0)],
    ],
)
def test_a_season_that_is_no_period_of_the_calendar_is_told(step, season, sound):
    values = field().assign_coords(time=pd.date_range("1990-01-01", periods=ROWS, freq=step))
    config = FieldConfig(context=24, horizon=6, season=season)
    if sound:
        assert config.of(values).report["notes"] == []
    else:
        with pytest.warns(UserWarning, match=rf"A season of {season} rows"):
            assert len(config.of(values).report["notes"]) == 1


def test_infinite_values_are_told_as_missing():
    values = field(2)
    values[5, 0], values[9, 1] = np.inf, -np.inf
    note = "Infinite values, 2 of them, are read as missing."
    with pytest.warns(UserWarning, match=f"the training rows: {note}"):
        data = problem(values)
    assert note in data.report["notes"]
    assert np.isfinite(everything(data, "train")["context"]).all()
    values[-1, 0] = np.inf
    with pytest.warns(UserWarning, match="the DataArray: Infinite values, 1 of them, are read"):
        found = data.config.restore_values(values, data.state())
    assert found.report["notes"] == ["Infinite values, 1 of them, are read as missing."]


def test_a_meridian_that_is_there_twice_is_told():
    values = field(3, 5)
    for last, told in ((360.0, 1), (288.0, 0)):
        degrees = values.rename(x="longitude").assign_coords(longitude=np.linspace(0, last, 5))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = FieldConfig(context=CONTEXT, horizon=HORIZON).of(degrees)
        notes = " ".join(data.report["notes"])
        assert notes.count("1 of 5 cells along longitude lie where") == told
        assert len(caught) == told


@given(rows=st.integers(40, 240), horizon=st.integers(1, 12), share=st.sampled_from([0.01, 0.1]))
def test_validation_and_test_hold_a_horizon_where_their_share_is_less(rows, horizon, share):
    config = FieldConfig(context=2, horizon=horizon, train_share=0.9 - share, test_share=share)
    data = FieldData.of(field()[:rows], config)
    spans = {name: len(of) for name, of in data.splits.items()}
    shares = rows - int(rows * (1 - share)), int(rows * share)
    assert spans["test"] == max(int(rows * share), horizon)
    assert spans["validation"] >= horizon
    assert spans["train"] + 2 + spans["validation"] + spans["test"] == rows
    told = any("one horizon, or more" in note for note in data.report["notes"])
    assert told == (data.splits["train"].stop < int(rows * (0.9 - share)) or shares[1] < horizon)
