"""Cells and series without a training value: nothing is made up for them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stpatch_jax.data import CleaningConfig, FieldConfig, FieldData, sequential_batches
from stpatch_jax.data.fields.cleaning import Cleaner
from stpatch_jax.data.fields.slabs import SlabReader, known_counts
from stpatch_jax.errors import InputError

ROWS, TRAIN = 40, 28
SETTINGS = {"context": 4, "horizon": 2, "train_share": 0.7, "test_share": 0.2}


def sea(land=((0, 0), (2, 1)), *, late=True, space=(3, 4)) -> xr.DataArray:
    """An hourly map whose `land` has no training value, and with `late` values from then on."""
    values = 12 + np.random.default_rng(0).normal(size=(ROWS, *space, 1))
    for cell in land:
        values[: TRAIN if late else ROWS, *cell] = np.nan
    hours = pd.date_range("2021-01-01", periods=ROWS, freq="h")
    return xr.DataArray(
        values, dims=("time", "y", "x", "channel"), coords={"time": hours, "channel": ["sst"]}
    )


@given(
    hnp.arrays(bool, (5, 3, 2, 2)),
    st.sampled_from(["channel", "cell"]),
    st.sampled_from([(), ("standard",), ("log1p", "min_max"), ("winsorize", "robust")]),
)
def test_what_had_no_training_value_is_missing_in_inputs_targets_and_outputs(gaps, per, steps):
    values = np.random.default_rng(1).uniform(1, 9, (9, 3, 2, 2))
    values[:5][gaps] = np.nan
    values[0, 0, 0] = 1.0  # Each channel has a value.
    known = np.asarray(np.isfinite(values[:5]).any(axis=0))
    coords = {"time": np.arange(9), "channel": ["a", "b"]}
    field = xr.DataArray(values, coords, ("time", "y", "x", "channel"))
    fitted = Cleaner.fit(field, range(5), CleaningConfig(per=per, steps=steps))
    assert (fitted.known is None) == known.all()
    for cleaner in (fitted, Cleaner.from_dict(fitted.to_dict())):
        inputs, told = cleaner.inputs(values[5:], times=np.arange(4))
        np.testing.assert_array_equal(told, np.broadcast_to(known, told.shape))
        assert (inputs[~told] == 0).all()
        scaled = cleaner.scaled(values[5:], channels=(0, 1), clip=False)
        np.testing.assert_array_equal(np.isfinite(scaled), told)
        back = cleaner.inverse(np.nan_to_num(scaled))
        np.testing.assert_allclose(back, np.where(told, values[5:], np.nan), rtol=1e-9)
        # Of a tile and some channels it is the same.
        tile = (slice(1, 3), slice(0, 1))
        part = cleaner.inverse(np.zeros((2, 1, 1)), channels=("b",), cells=tile)
        np.testing.assert_array_equal(np.isfinite(part), known[1:3, :1, 1:])


@given(hnp.arrays(bool, (12, 3)), st.integers(1, 4), st.integers(1, 200))
def test_values_are_counted_until_there_are_enough(known, enough, block):
    field = xr.DataArray(np.where(known, 1.0, np.nan), dims=("time", "channel"))
    found = known_counts(SlabReader(field), range(2, 12), enough=enough, block_bytes=block)
    counts = known[2:].sum(axis=0)
    np.testing.assert_array_equal(found >= enough, counts >= enough)
    assert (found <= counts).all()


@pytest.mark.parametrize("per", ["channel", "cell"])
def test_land_is_no_target_and_no_forecast_and_the_report_says_so(per, tmp_path):
    field = sea()
    data = FieldData.of(field, FieldConfig(cleaning=CleaningConfig(per=per), **SETTINGS))
    source = data.source("test")
    batch = next(sequential_batches(source, batch_size=len(source)))
    assert np.isfinite(field.values[32:]).all()
    land = ~batch["target_mask"][0, 0, ..., 0]
    assert land.sum() == 2
    assert land[0, 0]
    assert land[2, 1]
    assert (batch["context"][:, :, land] == 0).all()
    forecast = data.in_units(np.zeros((1, 2, 3, 4, 1)), np.array([35]))
    np.testing.assert_array_equal(np.isnan(forecast[0, 0, ..., 0]), land)
    assert "2 of 12 cells have no value in the training rows" in data.report["notes"][0]
    # A file of the same space keeps it, one of another space knows its own gaps alone.
    field.to_dataset("channel").to_netcdf(tmp_path / "same.nc")
    again = data.config.restore(str(tmp_path / "same.nc"), data.state())
    np.testing.assert_array_equal(again.cleaner.known, data.cleaner.known)
    wide = sea(space=(3, 5))
    wide.to_dataset("channel").to_netcdf(tmp_path / "wide.nc")
    if per == "channel":
        assert data.config.restore(str(tmp_path / "wide.nc"), data.state()).cleaner.known is None


def test_a_field_whose_cells_are_all_known_has_the_state_it_always_had():
    data = FieldData.of(sea(land=()), FieldConfig(**SETTINGS))
    assert "known" not in data.state()
    assert data.report["notes"] == []


def panel(**gaps) -> pd.DataFrame:
    """A wide table; of each series some of the first rows are missing."""
    random = np.random.default_rng(0)
    times = pd.date_range("2021-01-01", periods=ROWS, freq="h")
    table = pd.DataFrame({name: 100 + random.normal(size=ROWS) for name in gaps}, times)
    for name, rows in gaps.items():
        table.iloc[:rows, table.columns.get_loc(name)] = np.nan
    return table.rename_axis("date").reset_index()


def test_series_with_too_few_training_values_are_dropped_and_named(tmp_path):
    config = FieldConfig(path=str(tmp_path / "late.csv"), **SETTINGS)
    table = panel(old=0, none=ROWS, new=TRAIN, one=TRAIN - 1, two=TRAIN - 2)
    table.to_csv(config.path, index=False)
    with pytest.warns(UserWarning, match="3 of 5 series are dropped") as caught:
        data = config.load()
    assert len(caught) == 1
    assert list(data.series) == ["old", "two"]
    assert data.report["series_dropped"] == ["none", "new", "one"]
    assert "28 training rows: none (0), new (0), one (1)." in data.report["notes"][-1]
    # Another file may have them or not.
    kept = ["date", "old", "two"]
    for name, other in {"same.csv": table, "less.csv": table[kept]}.items():
        other.to_csv(tmp_path / name, index=False)
        assert list(config.restore(str(tmp_path / name), data.state()).series) == ["old", "two"]


def test_a_panel_whose_series_all_have_too_few_values_is_refused():
    table = panel(a=TRAIN - 1, b=TRAIN).set_index("date")
    values = xr.DataArray(
        table.values, {"time": table.index.values, "series": list(table)}, ("time", "series")
    )
    with pytest.raises(InputError, match=r"2 values or more among the 28 .*got at most 1 in any"):
        FieldConfig(**SETTINGS).of(values)


def test_series_with_gaps_but_values_enough_stay(tmp_path):
    table = panel(a=0, b=TRAIN // 2, c=0)
    table.loc[::2, "a"] = np.nan
    table.to_csv(tmp_path / "gaps.csv", index=False)
    with warnings.catch_warnings(action="error"):
        data = FieldConfig(path=str(tmp_path / "gaps.csv"), **SETTINGS).load()
    assert list(data.series) == ["a", "b", "c"]
    assert "series_dropped" not in data.report
