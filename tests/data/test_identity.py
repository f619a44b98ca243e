"""A second field is brought to the first one where that is exact, and refused where it is not."""

import importlib.util
import json
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given

from stpatch_jax.data.identity import FieldIdentity, change_of
from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

LATITUDE, LONGITUDE = np.linspace(60, 50, 5), np.linspace(-180, 90, 4)


def world(**coords) -> xr.DataArray:
    """A map of two channels by the hour."""
    times = coords.pop("time", pd.date_range("2021-01-01", periods=6, freq="h"))
    sizes = {"latitude": 5, "longitude": 4} | {name: len(x) for name, x in coords.items()}
    shape = (len(times), sizes["latitude"], sizes["longitude"], 2)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return xr.DataArray(
        values,
        dims=("time", "latitude", "longitude", "channel"),
        coords={
            "time": times,
            "latitude": ("latitude", LATITUDE, {"units": "degrees_north"}),
            "longitude": ("longitude", LONGITUDE, {"units": "degrees_east"}),
            "channel": ["t2m", "wind"],
            "units": ("channel", ["K", "m s-1"]),
        }
        | {name: (name, x, {"units": "degrees"}) for name, x in coords.items()},
    )


RUN = FieldIdentity.of(world())


def with_units(*units: str) -> xr.DataArray:
    return world().assign_coords(units=("channel", list(units)))


def curved(turn: int = 1) -> xr.DataArray:
    """A grid whose latitudes and longitudes are no axes."""
    y, x = np.mgrid[0:40.0, 0:3.0]
    field = xr.DataArray(
        np.arange(240.0).reshape(2, 40, 3, 1),
        dims=("time", "y", "x", "channel"),
        coords={
            "time": [0, 1],
            "channel": ["sst"],
            "nav_lat": (("y", "x"), 30 + y + 0.1 * x, {"units": "degrees_north"}),
            "nav_lon": (("y", "x"), 170 + 10 * x - y, {"units": "degrees_east"}),
        },
    )
    return field[:, ::turn]


def test_the_same_field_is_left_as_it_is():
    field, notes = RUN.match(world(), name="same.nc")
    xr.testing.assert_identical(field, world())
    assert notes == ()


def test_it_goes_through_json():
    for field in (
        world(),
        curved(),
        world().isel(latitude=0),
        world()[..., 0, :].drop_vars("units"),
    ):
        identity = FieldIdentity.of(field)
        again = FieldIdentity.from_dict(json.loads(json.dumps(identity.to_dict())))
        assert again == identity
        assert again.change(identity) == ""


@given(
    st.lists(st.sampled_from(["latitude", "longitude", "channel"]), max_size=3),
    st.integers(0, 3),
    st.permutations(["time", "latitude", "longitude"]),
    st.sampled_from([0.0, 360.0, -720.0]),
)
def test_what_is_but_told_in_another_order_is_the_same(turned, roll, dims, around):
    field = world().isel({dim: slice(None, None, -1) for dim in turned})
    field = field.roll(longitude=roll, roll_coords=True).transpose(*dims, "channel")
    attrs = field.longitude.attrs
    field = field.assign_coords(longitude=(field.longitude + around) % (720 + abs(around)))
    field.longitude.attrs = attrs
    back, _ = RUN.match(field.transpose("time", ..., "channel"), name="other.nc")
    xr.testing.assert_allclose(back.drop_vars("units"), world().drop_vars("units"))
    assert back.dims == world().dims
    assert back.units.values.tolist() == ["K", "m s-1"]


@pytest.mark.parametrize(
    ("units", "told", "expected"),
    [
        (("K", "m/s"), [], (8.0, 9.0)),
        (("degC", "m s-1"), ["t2m is converted from degC to K."], (281.15, 9.0)),
        (("°F", "m s-1"), ["t2m is converted from °F to K."], ((8 - 32) / 1.8 + 273.15, 9.0)),
        (("K", "km/h"), ["wind is converted from km/h to m s-1."], (8.0, 2.5)),
    ],
)
def test_units_of_one_kind_are_converted_where_values_are_read(units, told, expected):
    field, notes = RUN.match(with_units(*units), name="f.nc")
    assert list(notes) == told
    assert list(field.attrs.get("notes", ())) == told
    assert field.dtype == np.float32
    assert field.units.values.tolist() == ["K", "m s-1"]
    np.testing.assert_allclose(field.values[0, 1, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        field.isel(latitude=[3, 1], channel=1).values, field.values[..., 1][:, [3, 1]]
    )
    np.testing.assert_array_equal(field[2:5, ::2, 1].values, field.values[2:5, ::2, 1])


def test_levels_and_projected_places_may_be_told_in_other_units():
    def levels(places, unit):
        field = world().rename(latitude="level")
        return field.assign_coords(level=("level", places, {"units": unit}))

    run = FieldIdentity.of(levels([1000.0, 850, 700, 500, 300], "hPa"))
    field, notes = run.match(levels([3e4, 5e4, 7e4, 85e3, 1e5], "Pa"), name="pa.nc")
    assert field.level.values.tolist() == [1e5, 85e3, 7e4, 5e4, 3e4]
    assert field[0, :, 0, 0].values.tolist() == [32, 24, 16, 8, 0]
    assert notes == (
        "The coordinate level is in Pa here and in hPa in the run.",
        "The axis level is turned round, to go from 1000 to 300.",
    )


def test_coordinates_are_equal_within_the_rounding_of_float32():
    hundredths = np.linspace(0, 359.9, 3600)
    field = world(longitude=hundredths)
    rounded = field.assign_coords(
        longitude=("longitude", hundredths.astype(np.float32), field.longitude.attrs)
    )
    assert FieldIdentity.of(field).match(rounded, name="rounded.nc")[1] == ()
    shifted = field.assign_coords(longitude=("longitude", hundredths + 0.01, field.longitude.attrs))
    with pytest.raises(
        InputError, match=r"got longitude 0.01 to 359.91 degrees with 0.01 in place of 0 in cell 1;"
    ):
        FieldIdentity.of(field).match(shifted, name="shifted.nc")


def test_large_numbers_are_no_reason_to_take_one_cell_for_the_next():
    stations = world(latitude=np.asarray([72000001, 72000002, 72000005, 72000007, 72000009]))
    run = FieldIdentity.of(stations)
    other = stations.assign_coords(latitude=stations.latitude + 1)
    with pytest.raises(InputError, match="with 72000002 in place of 72000001 in cell 1;"):
        run.match(other, name="other.nc")
    assert run.match(stations, name="same.nc")[1] == ()


OTHERS = {
    "the channels": (world()[..., :1], "every channel of the run, got none called wind among t2m;"),
    "a unit": (with_units("K", "Pa"), "wind in m s-1, as the run, got Pa, which is not converted"),
    "a place": (world(latitude=[60, 57.5, 55, 52, 50]), "with 52 in place of 52.5 in cell 4"),
    "a turned place": (
        world(latitude=[50, 52, 55, 57.5, 60]),
        "with 52 in place of 52.5 in cell 4",
    ),
    "the cells": (world()[:, :4], "latitude 60 to 50 degrees_north, got latitude 60 to 52.5 deg"),
    "an axis": (world()[:, 0], "the axes of the run, latitude, longitude, got longitude;"),
    "names": (
        world(latitude=list("abcde")).assign_coords(latitude=list("abcde")),
        "latitude a, b, c, d, e; give",
    ),
    "metres": (
        world().assign_coords(latitude=("latitude", LATITUDE, {"units": "m"})),
        "50 degrees_north, got latitude 60 to 50 m; give",
    ),
    "the step": (world()[::3], "rows 1 hour apart, as the run, got rows 3 hours apart;"),
    "months": (world(time=pd.date_range("2021", periods=6, freq="MS")), "got rows 1 month apart;"),
    "no step": (
        world(
            time=pd.to_datetime(
                ["2021-01-01", "2021-01-05", "2021-02-03", "2021-02-04", "2021-07-01", "2022-01-01"]
            )
        ),
        "got rows at uneven times;",
    ),
    "the calendar": (
        world(time=xr.date_range("2021", periods=6, freq="h", calendar="360_day", use_cftime=True)),
        "calendar standard, as the run, got 360_day;",
    ),
    "the type": (
        world().astype(np.uint8),
        "hold numbers of any range, as the run, got whole numbers",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_differs_is_told_of_both_sides(kind):
    field, told = OTHERS[kind]
    with pytest.raises(InputError) as error:
        RUN.match(field, name="other.nc")
    assert str(error.value).startswith("other.nc must ")
    assert told in str(error.value)
    assert len(str(error.value)) < 250
    assert RUN.change(FieldIdentity.of(field))


def test_what_is_told_of_one_side_alone_is_told():
    cases = {
        "t2m tells no unit here; it is taken to be in K, as the run.": with_units("", "m/s"),
        "The axis latitude is not compared, as its cells are only counted here.": world().drop_vars(
            "latitude"
        ),
        "The step is not compared, as the times are numbers here alone.": world(time=np.arange(6)),
        "The channels t2m, wind, only numbered here, are taken in order.": world().assign_coords(
            channel=["0", "1"]
        ),
    }
    for note, field in cases.items():
        with pytest.warns(UserWarning, match=f"f.nc: {note}"):
            assert RUN.match(field, name="f.nc")[1] == (note,)
    with pytest.warns(UserWarning, match="t2m is in K here, and the run tells no unit"):
        FieldIdentity.of(with_units("~", "m s-1")).match(world(), name="f.nc")


def test_channels_without_names_are_those_of_an_array_in_a_file():
    plain = [world().assign_coords(channel=names) for names in (["0", "1"], ["value_0", "value_1"])]
    for one, other in (plain, plain[::-1]):
        matched, notes = FieldIdentity.of(one).match(other, name="f.npy")
        assert (matched.channel.values.tolist(), notes) == (one.channel.values.tolist(), ())
    swapped = plain[0][..., ::-1]
    matched, _ = FieldIdentity.of(plain[0]).match(swapped, name="the table")
    np.testing.assert_array_equal(matched.values, plain[0].values)


@pytest.mark.parametrize("name", ["t2m_anomaly", "temperature_bias", "DeltaT"])
def test_a_difference_of_temperatures_is_not_converted(name):
    field = world()[..., :1].assign_coords(channel=[name], units=("channel", ["K"]))
    with pytest.raises(
        InputError, match="in K, as the run, got degC, maybe of a difference, which"
    ):
        FieldIdentity.of(field).match(field.assign_coords(units=("channel", ["degC"])), name="f.nc")


def test_more_channels_and_named_cells_are_left_out():
    more = xr.concat(
        [world(), world()[..., :1].assign_coords(channel=["rain"], units=("channel", ["mm"]))],
        "channel",
    )
    field, notes = RUN.match(more[..., ::-1], name="more.nc")
    assert notes == ("Along channel, rain is left out, as not in the run.",)
    xr.testing.assert_equal(field, world())
    panel = (
        world()[:, :, 0]
        .drop_vars("longitude")
        .rename(latitude="station")
        .assign_coords(station=list("abcde"))
    )
    field, notes = FieldIdentity.of(panel[:, [3, 1]]).match(panel, name="stations.csv")
    assert field.station.values.tolist() == ["d", "b"]
    assert notes == ("Along station, a, c, e is left out, as not in the run.",)
    with pytest.raises(
        InputError, match="every station of the run, got none called a, c, e among d, b;"
    ):
        FieldIdentity.of(panel).match(panel[:, [3, 1]], name="stations.csv")


def test_a_curved_grid_is_turned_round_by_its_latitudes():
    run = FieldIdentity.of(curved())
    assert run.match(curved(), name="same.nc")[1] == ()
    field, notes = run.match(curved(-1), name="turned.nc")
    xr.testing.assert_equal(field, curved())
    assert notes == ("The axis y is turned round, as in the run.",)
    rounded = curved()
    for name in ("nav_lat", "nav_lon"):
        rounded[name] = rounded[name].astype(np.float32)
    assert run.match(rounded, name="rounded.nc")[1] == ()
    across = curved().assign_coords(nav_lat=curved().nav_lat.transpose())
    assert run.match(across, name="across.nc")[1] == ()
    around = curved().assign_coords(nav_lon=curved().nav_lon % 360)
    around.nav_lon.attrs = curved().nav_lon.attrs
    assert run.match(around, name="around.nc")[1] == ()
    other = curved()
    other["nav_lat"] = other.nav_lat + 0.5
    with pytest.raises(InputError, match=r"grid of the run, nav_lat 30 to .*, got nav_lat 30.5 to"):
        run.match(other, name="other.nc")
    with pytest.warns(
        UserWarning, match="Not told here, so not compared with the run: nav_lat, nav_lon"
    ):
        run.match(curved().drop_vars(["nav_lat", "nav_lon"]), name="none.nc")


def test_another_level_is_another_field():
    field = world().assign_coords(level=((), 500, {"units": "hPa"}))
    run = FieldIdentity.of(field)
    same = world().assign_coords(level=((), 50000.0, {"units": "Pa"}))
    assert run.match(same, name="same.nc")[1] == (
        "The coordinate level is in Pa here and in hPa in the run.",
    )
    with pytest.raises(
        InputError, match="must be at level 500 hPa, as the run, got 850 hPa; choose the"
    ):
        run.match(field.assign_coords(level=((), 850, {"units": "hPa"})), name="other.nc")


def test_a_larger_field_may_be_tiled_where_its_cells_are_as_far_apart():
    large = world(latitude=np.linspace(70, 40, 13), longitude=np.linspace(-180, 90, 4))
    field, notes = RUN.match(large, name="large.nc", tiled=True)
    xr.testing.assert_equal(field, large)
    assert notes == ()
    field, notes = RUN.match(large[:, ::-1], name="large.nc", tiled=True)
    xr.testing.assert_equal(field, large)
    assert notes == ("The axis latitude is turned round, to go from 70 to 40.",)
    with pytest.raises(
        InputError, match=r"cells 2.5 apart along latitude, as the run, got cells 1 apart;"
    ):
        RUN.match(world(latitude=np.arange(70.0, 40, -1)), name="fine.nc", tiled=True)
    with pytest.raises(InputError, match=r"large.nc must lie on the grid of the run"):
        RUN.match(large, name="large.nc")
    # All of a size, it is the same place or another one.
    with pytest.raises(InputError, match="must lie on the grid of the run, latitude"):
        RUN.match(world(latitude=LATITUDE + 10), name="north.nc", tiled=True)


def test_rates_of_frames_are_compared():
    def clip(rate, dtype: type = np.uint8):
        field = world(time=np.arange(6) / rate).drop_vars("units")
        return field.astype(dtype)

    run = FieldIdentity.of(clip(25.0))
    assert run.match(clip(25.0001), name="same.mp4")[1] == ()
    with pytest.raises(InputError, match=r"rows 0.04 apart, as the run, got rows 0.0333333 apart;"):
        run.match(clip(30.0), name="fast.mp4")
    with pytest.raises(InputError, match="whole numbers from 0 to 255, as the run, got numbers of"):
        run.match(clip(25.0, np.float32), name="floats.npz")


def test_working_days_of_one_week_are_those_of_a_run():
    run = FieldIdentity.of(world(time=pd.bdate_range("2021-01-01", periods=60))[:, :1])
    week = world(time=pd.date_range("2021-05-03", periods=5))[:, :1]
    assert run.match(week, name="week.nc")[1] == ()
    with pytest.raises(InputError, match="rows 1 business day apart, as the run, got rows 1 day"):
        run.match(world(time=pd.date_range("2021-05-03", periods=9))[:, :1], name="days.nc")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (with_units("degC", "m s-1"), "t2m in degC in place of K"),
        (world()[:, ::-1], "the axis latitude of 50 to 60 degrees_north in place of 60 to 50 degr"),
        (world()[::2], "rows 2 hours apart in place of 1 hour apart"),
        (world()[..., ::-1], "the channels wind, t2m in place of t2m, wind"),
        (world()[:, 0], "the axis longitude of"),
    ],
)
def test_a_change_is_told_in_a_few_words(other, told):
    assert RUN.change(FieldIdentity.of(other)).startswith(told)
    assert RUN.change(RUN) == ""


def test_a_lazy_field_is_converted_where_it_is_read(tmp_path):
    pytest.importorskip("netCDF4")
    world().to_dataset("channel").drop_vars("units").to_netcdf(tmp_path / "f.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = open_field(tmp_path / "f.nc").assign_coords(units=("channel", ["degC", "m/s"]))
    field, _ = RUN.match(file.isel(latitude=slice(None, None, -1)), name="f.nc")
    assert not field._in_memory
    assert field.encoding.get("preferred_chunks") == file.encoding.get("preferred_chunks")
    expected = world().values + np.array([273.15, 0], np.float32)
    np.testing.assert_allclose(field.values, expected, rtol=1e-6)
    assert not field._in_memory


def test_what_changed_between_two_states_is_told():
    then, now = ({"identity": FieldIdentity.of(each).to_dict()} for each in (world(), world()[::2]))
    assert change_of(then, now) == "rows 2 hours apart in place of 1 hour apart"
    assert (
        change_of(then, then) == change_of(then, {}) == change_of({"identity": "mine"}, now) == ""
    )


def sample_files():
    """The netCDF files of two wheels of samples, of CMIP6 and of oceans and rotated poles."""
    for package in ("esmvaltool_sample_data", "iris_sample_data"):
        if (found := importlib.util.find_spec(package)) and found.origin:
            yield from sorted(Path(found.origin).parent.rglob("*.nc"))


@pytest.mark.slow
def test_every_sample_that_is_turned_round_is_brought_back():
    files = list(sample_files())
    if not files:
        pytest.skip("needs esmvaltool-sample-data and iris-sample-data")
    compared = 0
    for file in files:
        try:
            field = open_field(file)
        except InputError:
            continue
        identity = FieldIdentity.of(field)
        assert FieldIdentity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity
        assert identity.match(field, name=file.name)[1] == ()
        turned = field.isel({dim: slice(None, None, -1) for dim in field.dims[1:-1]})[:3]
        back, _ = identity.match(turned, name=file.name)
        np.testing.assert_array_equal(back.values, field[:3].values, err_msg=file.name)
        compared += 1
    assert compared > 0.95 * len(files)
