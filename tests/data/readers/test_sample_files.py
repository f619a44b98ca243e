"""Sample files of ESMValTool and iris: CMIP6 in five calendars, ocean grids, rotated poles."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stpatch_jax import WindowSpec
from stpatch_jax.data import (
    Cleaner,
    CleaningConfig,
    FieldWindows,
    forecast_dataset,
    open_field,
)
from stpatch_jax.data.fields.describing import patch_summary
from stpatch_jax.errors import InputError

netCDF4 = pytest.importorskip("netCDF4")
cftime = pytest.importorskip("cftime")
pytestmark = pytest.mark.slow

# What has no time, not even a single one, is no field.
REFUSED = {
    "mesh_C4_synthetic_float.nc": "a field must have one time dim, got none among nexample_C4_face",
    "space_weather.nc": "a field must have one time dim, got none among height, rLat, rLon",
}


def files():
    found = []
    for package in ("esmvaltool_sample_data", "iris_sample_data"):
        spec = find_spec(package)
        for folder in [] if spec is None else spec.submodule_search_locations or ():
            found += sorted(Path(folder).rglob("*.nc"))
    return found


FILES = files()


def by_netcdf4(path, field):
    """The dates of a file by cftime, and its values along (time, *space, channel)."""
    with warnings.catch_warnings(), netCDF4.Dataset(path) as data:
        warnings.simplefilter("ignore")
        named = [v for v in data.variables.values() if getattr(v, "standard_name", "") == "time"]
        times = np.ma.filled(np.ma.atleast_1d(named[0][:]))
        calendar = getattr(named[0], "calendar", "standard")
        dates = cftime.num2date(times, named[0].units, calendar)
        masked = [data[str(each)][:].astype(float) for each in field.channel.values]
    values = np.stack([np.ma.filled(each, np.nan) for each in masked], -1)
    return dates, values.reshape(field.shape).astype(field.dtype)


def moments(dates):
    """Dates of any kind as texts to the second."""
    if dates.dtype.kind == "M":
        return [str(each) for each in dates.astype("M8[s]")]
    return [each.strftime("%Y-%m-%dT%H:%M:%S") for each in dates]


def test_the_samples_are_there():
    if not FILES:
        pytest.skip("the sample files are not installed")
    assert len(FILES) == 341


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_sample_is_read_cut_and_written_with_its_times(path, tmp_path):
    if path.name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[path.name]):
            open_field(path)
        return
    field = open_field(path)
    dates, values = by_netcdf4(path, field)
    assert moments(field.time.values) == moments(dates)
    np.testing.assert_array_equal(field.values, values)
    spec = WindowSpec((min(2, len(field)), *(None for _ in field.dims[1:-1])))
    summary = patch_summary(field, spec)
    assert summary["missing_share"] == pytest.approx(np.isnan(values).mean())
    if len(field) < 3:
        return
    cleaner = Cleaner.fit(field, range(len(field)), CleaningConfig(steps=()))
    windows = FieldWindows(field, range(1, len(field)), cleaner, context=1, horizon=1)
    context = windows[0]["context"][0]
    np.testing.assert_allclose(context[known := np.isfinite(values[0])], values[0][known])
    # The last row, and what follows the file.
    index = np.array([len(field) - 1, len(field)])
    forecast = forecast_dataset(field.values[index - 1][:, None], field, index=index)
    forecast.to_netcdf(tmp_path / "forecast.nc")
    with netCDF4.Dataset(tmp_path / "forecast.nc") as written:
        valid, start = written["valid_time"], written["init_time"]
        # 365_day is another name of noleap.
        calendar = cftime.datetime(2000, 1, 1, calendar=valid.calendar).calendar
        assert calendar in (dates[0].calendar, "proleptic_gregorian")
        told = cftime.num2date(valid[:], valid.units, valid.calendar)
        assert moments(told[0]) == moments(dates[-1:])
        begun = cftime.num2date(start[:], start.units, start.calendar)
        assert moments(begun) == moments(dates[-2:])
        assert told[1, 0] > told[0, 0]
