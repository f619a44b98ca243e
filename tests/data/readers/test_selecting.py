"""Axes too many: one position is chosen, lone cells are dropped and told, members are refused."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stpatch_jax.data import open_field
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.errors import InputError

HOURS = pd.date_range("2021-01-01", periods=5, freq="h")


def write(path, sizes, coords=None, attrs=None):
    """A netCDF file of one variable over time, the sizes and a map of 3 x 4 cells."""
    dims = ("time", *sizes, "lat", "lon")
    shape = (len(HOURS), *sizes.values(), 3, 4)
    values = np.random.default_rng(0).random(shape, np.float32)
    data = xr.Dataset(
        {"t2m": (dims, values)},
        {"time": HOURS, "lat": [50.0, 51, 52], "lon": [0.0, 1, 2, 3], **(coords or {})},
    )
    for name, of in (attrs or {}).items():
        data[name].attrs.update(of)
    data.to_netcdf(path)
    return data.t2m


@pytest.mark.parametrize("name", ["level", "height", "expver", "number", "surface", "band"])
@pytest.mark.parametrize("named", [True, False])
def test_an_axis_of_one_cell_is_dropped_and_told(tmp_path, name, named):
    there = write(tmp_path / "a.nc", {name: 1}, {name: [7.0]} if named else {})
    field = open_field(tmp_path / "a.nc")
    assert field.dims == ("time", "lat", "lon", "channel")
    np.testing.assert_array_equal(field.values[..., 0], there.values[:, 0])
    (note,) = notes_of(field)
    assert note == f"The axis {name} of length 1{', at 7.0,' if named else ''} was dropped."


def test_variables_with_and_without_a_lone_level_are_one_field(tmp_path):
    there = write(tmp_path / "a.nc", {"height": 1}, {"height": [2.0]})
    both = xr.Dataset({"t2m": there, "sp": there[:, 0].drop_vars("height") + 1})
    both.to_netcdf(tmp_path / "b.nc")
    field = open_field(tmp_path / "b.nc")
    assert field.channel.values.tolist() == ["sp", "t2m"]
    assert field.dims == ("time", "lat", "lon", "channel")


@pytest.mark.parametrize("dims", [("station",), ("lat", "lon")])
def test_one_place_stays(tmp_path, dims):
    data = xr.Dataset(
        {"q": (("time", *dims), np.arange(5.0).reshape(-1, *(1,) * len(dims)))}, {"time": HOURS}
    )
    data.to_netcdf(tmp_path / "a.nc")
    field = open_field(tmp_path / "a.nc")
    assert field.dims == ("time", *dims, "channel")
    assert notes_of(field) == ()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    positions=st.lists(
        st.floats(-1e5, 1e5, width=32, allow_nan=False), min_size=2, max_size=5, unique_by=round
    ),
    data=st.data(),
)
def test_a_position_is_chosen_as_xarray_selects_it(tmp_path, positions, data):
    path = tmp_path / "a.nc"
    there = write(path, {"level": len(positions)}, {"level": positions})
    at = data.draw(st.integers(0, len(positions) - 1))
    value = data.draw(st.sampled_from([positions[at], repr(positions[at])]))
    field = open_field(path, select={"level": value})
    np.testing.assert_array_equal(field.values[..., 0], there.isel(level=at).values)
    assert notes_of(field)[0].endswith(f"{value} was chosen.")


@pytest.mark.parametrize(
    ("positions", "value", "at"),
    [
        (["a", "b"], "b", 1),
        (None, "1", 1),
        (None, 0, 0),
        ([True, False], "0", 1),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "2021-01-01", 1),
    ],
)
def test_positions_may_be_words_dates_or_numbers(tmp_path, positions, value, at):
    there = write(tmp_path / "a.nc", {"run": 2}, {} if positions is None else {"run": positions})
    field = open_field(tmp_path / "a.nc", time="time", select={"run": value})
    np.testing.assert_array_equal(field.values[..., 0], there[:, at].values)


def test_streams_of_era5_are_refused_and_chosen(tmp_path):
    path = tmp_path / "a.nc"
    there = write(path, {"expver": 2}, {"expver": [1, 5]})
    with pytest.raises(InputError, match=r"expver of length 2 \(1, 5; in ERA5 .*\{\"expver\": 1"):
        open_field(path)
    field = open_field(path, select={"expver": 5})
    np.testing.assert_array_equal(field.values[..., 0], there[:, 1].values)


@pytest.mark.parametrize(
    ("name", "attrs"),
    [("number", {}), ("Realization", {}), ("e", {"standard_name": "realization"})],
)
def test_members_of_an_ensemble_are_no_space(tmp_path, name, attrs):
    write(tmp_path / "a.nc", {name: 3}, {name: [0, 1, 2]}, {name: attrs})
    with pytest.raises(InputError, match=rf"got {name} of length 3 \(0, 1, 2; the members"):
        open_field(tmp_path / "a.nc")


def test_levels_are_space(tmp_path):
    write(tmp_path / "a.nc", {"level": 2}, {"level": [850, 500]})
    assert open_field(tmp_path / "a.nc").dims == ("time", "level", "lat", "lon", "channel")


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"depth": 5}, r"must name axes of a.nc beside its time, level \(40\), lat \(3\), lon"),
        ({"time": 0}, "beside its time"),
        ({"level": 7.5}, r"one of the positions of level .* 0, 1, .* and 32 more, got 7.5"),
        ({"level": "low"}, "got low; choose one of them"),
    ],
)
def test_what_is_not_there_is_not_chosen(tmp_path, select, message):
    write(tmp_path / "a.nc", {"level": 40}, {"level": np.arange(40)})
    with pytest.raises(InputError, match=message) as refused:
        open_field(tmp_path / "a.nc", select=select)
    assert len(str(refused.value)) < 400
