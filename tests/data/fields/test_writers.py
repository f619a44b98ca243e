"""Forecasts to xarray and CSV: right times, right coordinates, nothing half-written."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from small_fields import small_field

from stpatch_jax.data.fields.writers import forecast_dataset, forecast_table, write_table
from stpatch_jax.data.readers.conventions import channel_units
from stpatch_jax.errors import InputError

INDEX = np.array([10, 12, 38, 40])


def forecasts(field, *, index=INDEX, horizon=3, channels=2):
    shape = (len(index), horizon, *field.shape[1:-1], channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_data_set_tells_when_and_where():
    field = small_field().assign_coords(altitude=("latitude", np.arange(6.0)), run=7)
    values = forecasts(field)
    data = forecast_dataset(values, field, index=INDEX)
    assert data.wind.dims == ("init_time", "lead_time", "latitude", "longitude")
    np.testing.assert_array_equal(data.wind, values[..., 1])
    assert data.wind.attrs["units"] == "m s-1"
    assert set(data.coords) == {
        "init_time", "lead_time", "valid_time", "latitude", "longitude", "altitude",
    }  # fmt: skip
    np.testing.assert_array_equal(data.init_time, field.time[INDEX - 1])
    np.testing.assert_array_equal(data.valid_time, data.init_time + data.lead_time)
    np.testing.assert_array_equal(data.valid_time[0], field.time[10:13])
    hour = np.timedelta64(1, "h")
    np.testing.assert_array_equal(
        data.valid_time[-1] - field.time.values[-1], hour * np.arange(1, 4)
    )


@pytest.mark.parametrize("freq", ["B", "MS", "ME", "QE", "YS"])
def test_forecasts_beyond_the_end_keep_to_the_calendar(freq):
    times = pd.date_range("2024-01-01", periods=43, freq=freq).to_numpy()
    field = small_field((40, 3)).assign_coords(time=times[:40])
    data = forecast_dataset(forecasts(field), field, index=INDEX)
    assert data.lead_time.values.tolist() == [1, 2, 3]
    for row, valid in zip(INDEX, data.valid_time.values, strict=True):
        np.testing.assert_array_equal(valid, times[row : row + 3])


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_forecasts_are_written_in_the_calendar_of_their_field(calendar, suffix, tmp_path):
    pytest.importorskip("netCDF4" if suffix == ".nc" else "zarr")
    told = {"calendar": calendar, "use_cftime": True}
    times = xr.date_range("2000-02-01", periods=43, freq="D", **told).values
    field = small_field((40, 3)).assign_coords(time=times[:40])
    field.time.encoding = {"units": "days since 1850-01-01", "calendar": calendar}
    data = forecast_dataset(forecasts(field), field, index=INDEX)
    path = tmp_path / f"f{suffix}"
    if suffix == ".nc":
        data.to_netcdf(path)
    else:
        data.to_zarr(path, zarr_format=2)
    with xr.open_dataset(path) as back:
        assert back.valid_time.values[-1].tolist() == times[40:].tolist()
        assert back.valid_time.encoding["units"] == "days since 1850-01-01"
        assert back.init_time.encoding["calendar"] == calendar
        assert back.init_time.encoding["dtype"] == np.int64
        np.testing.assert_array_equal(back.lead_time, np.arange(1, 4) * np.timedelta64(1, "D"))


def test_units_that_cannot_hold_what_follows_are_replaced(tmp_path):
    pytest.importorskip("netCDF4")
    field = small_field((40, 3))
    field.time.encoding = {"units": "days since 1850-01-01", "dtype": np.dtype("f4")}
    forecast_dataset(forecasts(field), field, index=INDEX).to_netcdf(tmp_path / "f.nc")
    with xr.open_dataset(tmp_path / "f.nc") as back:
        np.testing.assert_array_equal(back.valid_time[0], field.time[10:13])


def test_uneven_dates_and_numbered_steps_have_leads_in_steps():
    field = small_field((40, 3))
    days = np.sort(np.random.default_rng(0).choice(900, 40, replace=False)).astype("M8[D]")
    uneven = field.assign_coords(time=days.astype("M8[ns]"))
    data = forecast_dataset(forecasts(field, index=INDEX[:2]), uneven, index=INDEX[:2])
    assert data.lead_time.values.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(data.valid_time[0], days[10:13])
    with pytest.raises(InputError, match="must be at least two rows of one step to date what"):
        forecast_dataset(forecasts(field), uneven, index=INDEX)
    numbered = field.assign_coords(time=np.arange(40) * 2)
    data = forecast_dataset(forecasts(field), numbered, index=INDEX)
    assert data.valid_time.values[-1].tolist() == [80, 82, 84]


def test_units_come_from_a_mapping_one_text_or_a_coordinate():
    field = small_field()
    assert channel_units(field) == {"t2m": "K", "wind": "m s-1"}
    assert channel_units(field.assign_attrs(units="K")) == {"t2m": "K", "wind": "K"}
    assert channel_units(field.assign_attrs(units={"wind": "kn"})) == {"wind": "kn"}
    told = field.assign_coords(units=("channel", ["C", "kn"]))
    assert channel_units(told) == {"t2m": "C", "wind": "kn"}
    assert channel_units(told.assign_coords(units=("channel", ["C", ""]))) == {"t2m": "C"}
    assert channel_units(field.drop_attrs()) == {}


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_a_table_has_one_row_per_forecast(tmp_path, name):
    field = small_field((40, 3))
    data = forecast_dataset(forecasts(field), field, index=INDEX)
    write_table(tmp_path / name, forecast_table(data))
    write_table(tmp_path / name, forecast_table(data))
    table = pd.read_csv(tmp_path / name, parse_dates=["valid_time"])
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert list(table.columns) == ["init_time", "lead_time", "valid_time", "cell", "t2m", "wind"]
    assert len(table) == 4 * 3 * 3
    row = table[(table.valid_time == field.time.values[11]) & (table.cell == 0.25)]
    np.testing.assert_allclose(row.wind, data.wind.values[0, 1, 1], rtol=1e-6)


def test_quantiles_are_a_dim_and_columns_of_a_table(tmp_path):
    field, levels = small_field((40, 3)), (0.1, 1 / 3)
    values = np.stack([forecasts(field), forecasts(field) + 1], axis=-1)
    data = forecast_dataset(values, field, index=INDEX, quantiles=levels)
    assert data.wind.dims == ("quantile", "init_time", "lead_time", "cell")
    assert data["quantile"].dtype == np.float64
    np.testing.assert_array_equal(data.wind.sel(quantile=1 / 3), values[..., 1, 1])
    write_table(tmp_path / "q.csv", forecast_table(data.assign(wet=data.wind[0] > 0)))
    table = pd.read_csv(tmp_path / "q.csv")
    names = [f"{name}_{level}" for name in ("t2m", "wind") for level in levels]
    assert list(table.columns)[4:] == [*names, "wet"]
    np.testing.assert_allclose(table["t2m_0.1"], values[..., 0, 0].ravel(), rtol=1e-6)
    with pytest.raises(InputError, match=r"channel, quantile\) = \(4, 3, 3, 2, 1\), got"):
        forecast_dataset(values, field, index=INDEX, quantiles=(0.5,))


def test_places_that_cannot_be_written_are_refused(tmp_path):
    field = small_field((40, 3))
    data = forecast_dataset(forecasts(field), field, index=INDEX)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "out.csv", tmp_path / "nowhere" / "out.csv"):
        with pytest.raises(InputError, match=r"must be writable, got .*directory"):
            write_table(place, forecast_table(data))
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_forecasts_that_do_not_fit_are_refused():
    field = small_field((40, 3))
    with pytest.raises(InputError, match=r"= \(4, 3, 3, 2\), got \(4, 3, 3, 1\)"):
        forecast_dataset(forecasts(field, channels=1), field, index=INDEX)
    for index in ([0, 1], [3, 3], [41], [], [1.5], [[1]]):
        with pytest.raises(InputError, match=r"ascending rows in 1\.\.40, got"):
            forecast_dataset(forecasts(field), field, index=np.array(index))
    with pytest.raises(InputError, match="must be 't2m' or 'wind', got 'rain'"):
        forecast_dataset(forecasts(field), field, index=INDEX, channels=("rain",))


def test_channels_may_be_called_as_coordinates_are(tmp_path):
    names = ["lead_time", "latitude", "time", "wind"]
    field = small_field().isel(channel=[0, 0, 1, 1]).assign_coords(channel=names)
    values = forecasts(field, channels=4)
    data = forecast_dataset(values, field, index=INDEX)
    own = ["lead_time_value", "latitude_value", "time_value", "wind"]
    assert list(data.data_vars) == own
    np.testing.assert_array_equal(data.time_value, values[..., 2])
    write_table(tmp_path / "a.csv", forecast_table(data))
    assert set(own) < set(pd.read_csv(tmp_path / "a.csv").columns)


@pytest.mark.parametrize(
    "name",
    [
        *("wind km/h", "../../up", "..", "a\\b", "a\0b", "new\nline", ".zattrs", " lead", "-5", ""),
        *("°C", "x" * 300, "é" * 150, "\x1b[31m", "a\ud800"),
    ],
)
def test_every_channel_has_a_variable_and_a_column(tmp_path, name):
    pytest.importorskip("zarr")
    # One that would get the same name keeps its own.
    field = small_field((40, 2, 2), (name, name.replace("/", "_") + "_"))
    values = forecasts(field)
    data = forecast_dataset(values, field, index=INDEX)
    data.to_netcdf(tmp_path / "a.nc")
    data.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    zarr = {"engine": "zarr", "chunks": None, "consolidated": False}
    for path, how in (("a.nc", {}), ("a.zarr", zarr)):
        with xr.open_dataset(tmp_path / path, **how) as back:
            for at, own in enumerate(data.data_vars):
                np.testing.assert_array_equal(back[own], values[..., at])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc", "a.zarr"]
    write_table(tmp_path / "a.csv", forecast_table(data))
    table = pd.read_csv(tmp_path / "a.csv")
    assert len(table.columns) == 7
    np.testing.assert_allclose(table.iloc[:, -2:], values.reshape(-1, 2), rtol=1e-6)


def test_a_column_is_called_as_its_channel(tmp_path):
    field = small_field((40, 2, 2), ("wind km/h", "wind km_h"))
    data = forecast_dataset(forecasts(field), field, index=INDEX)
    assert data["wind km_h"].attrs["channel"] == "wind km/h"
    write_table(tmp_path / "a.csv", forecast_table(data))
    columns = pd.read_csv(tmp_path / "a.csv").columns
    assert columns[-2:].tolist() == ["wind km/h", "wind km_h_value"]
