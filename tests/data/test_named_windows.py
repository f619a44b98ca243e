"""Windows along named dims: what xbatcher gives, no cell read in vain, predictions put back."""

import cftime
import jax
import numpy as np
import pytest
import xarray as xr
import xbatcher
from hypothesis import given, settings
from hypothesis import strategies as st

import stpatch_jax
from stpatch_jax.data import NamedWindows, batch_iterator, windows
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.errors import InputError

RANDOM = np.random.default_rng(0)


def field(time=9, lat=6, lon=4):
    """A field with times, a coordinate of two dims and one of none."""
    values = RANDOM.normal(size=(time, lat, lon)).astype(np.float32)
    coords = {
        "time": np.datetime64("2024-02-27", "ns") + np.arange(time) * np.timedelta64(6, "h"),
        "lat": np.linspace(50, 40, lat),
        "lon": np.arange(lon) * 2.5,
        "area": (("lat", "lon"), RANDOM.random((lat, lon))),
        "height": 2.0,
    }
    dims = ("time", "lat", "lon")
    return xr.DataArray(values, coords, dims, "t2m", {"units": "K"})


def dataset():
    one = field()
    sea = xr.DataArray(RANDOM.random((6, 4)) > 0.5, dims=("lat", "lon"))
    count = one.astype(np.int16).rename(None).drop_attrs()
    return xr.Dataset({"t2m": one, "sea": sea, "count": count}, attrs={"title": "made"})


class Counted(LazyArray):
    """An array on disk that counts the bytes read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.bytes_read = values, values.shape, values.dtype, 0

    def read(self, key):
        part = self.values[np.ix_(*(np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)))]
        self.bytes_read += part.nbytes
        return part


def on_disk(array, **chunks):
    counted = Counted(array.values)
    lazy = counted.field(array.dims, dict(array.coords)).rename(array.name)
    lazy.encoding["preferred_chunks"] = chunks
    return lazy, counted


@st.composite
def cuts(draw):
    """Two or all dims of `field` in some order, with a window and a stride each."""
    dims = draw(st.permutations(["time", "lat", "lon"]))[: draw(st.integers(2, 3))]
    window = {dim: draw(st.integers(1, 4)) for dim in dims}
    return window, {dim: draw(st.integers(1, cells)) for dim, cells in window.items()}


@settings(max_examples=10)
@given(cuts(), st.booleans())
def test_windows_are_the_batches_of_xbatcher(cut, whole):
    # Of three dims it would stack two that are not named.
    window, stride = cut
    source = dataset() if whole else field()
    overlap = {dim: window[dim] - stride[dim] for dim in window}
    theirs = xbatcher.BatchGenerator(source, window, input_overlap=overlap)
    ours = windows(source, window, stride=stride)
    assert len(ours) == len(theirs)
    for at in range(0, len(ours), 5):
        xr.testing.assert_identical(ours[at], theirs[at])


def test_a_batch_is_the_concatenated_batch_of_xbatcher():
    window = {"time": 3, "lat": 2, "lon": 2}
    source = dataset()
    (theirs,) = xbatcher.BatchGenerator(source, {**window}, concat_input_dims=True)
    ours = windows(source, window).to_xarray()
    xr.testing.assert_identical(ours.rename(window="input_batch"), theirs)
    xr.testing.assert_identical(windows(source.t2m, window).to_xarray(), ours.t2m)


@settings(max_examples=6)
@given(st.sampled_from(["edge", "reflect", "wrap"]), st.integers(2, 3), st.data())
def test_windows_with_padding_are_those_of_a_padded_array(mode, stride, data):
    source, window = field(), {"lon": 2, "time": 4}
    padding = {dim: tuple(data.draw(st.integers(0, 3)) for _ in "ab") for dim in window}
    ours = windows(source, window, stride=stride, padding=padding, padding_mode=mode)
    theirs = windows(source.pad(padding, mode=mode), window, stride=stride)
    np.testing.assert_array_equal(ours.values, theirs.values)
    if mode == "wrap":  # in no other mode xarray pads coordinates as values
        xr.testing.assert_identical(ours[-1], theirs[-1])
    ends = np.pad(source.lon, padding["lon"], mode=mode)
    np.testing.assert_array_equal(ours.coords["lon"][0], ends[:2])


def test_batches_are_the_stacked_windows_in_any_order():
    source = dataset()
    patches = stpatch_jax.windows(source, {"lon": 2, "time": 4}, stride={"time": 2})
    assert isinstance(patches, NamedWindows)
    assert repr(patches) == "NamedWindows(6 windows of lon 2, time 4)"
    order = jax.random.permutation(jax.random.key(0), len(patches))
    batches = list(patches[order].batches(4))
    assert [len(batch) for batch in batches] == [4, 2]
    assert {name: of.shape for name, of in batches[0].values.items()} == {
        "t2m": (4, 4, 6, 2),
        "sea": (4, 6, 2),
        "count": (4, 4, 6, 2),
    }
    for at, number in enumerate(order):
        batch, one = batches[at // 4], patches[int(number)]
        for name in source.data_vars:
            np.testing.assert_array_equal(batch.values[name][at % 4], one[name])
        for name in ("time", "lon", "area"):
            np.testing.assert_array_equal(batch.coords[name][at % 4], one[name])
    mask = np.asarray(order) > 2
    np.testing.assert_array_equal(patches[order][mask].numbers, np.asarray(order)[mask])
    xr.testing.assert_identical(patches[-1], list(patches)[5])
    patches[0].t2m[...] = 0  # a window may be written to
    np.testing.assert_array_equal(patches[0].t2m, source.t2m[:4, :, :2])
    drawn = next(batch_iterator(patches, batch_size=3, seed=0, start_step=0))
    assert drawn["t2m"].shape == (3, 4, 6, 2)
    with pytest.raises(IndexError):
        patches[6]


def test_only_the_cells_of_a_batch_are_read():
    lazy, counted = on_disk(field())
    patches = windows(lazy, {"time": 4, "lon": 2}, stride={"time": 1}, padding={"lon": (1, 1)})
    ring = windows(lazy, {"lon": 3}, stride=1, padding="SAME", padding_mode="wrap")
    assert (len(patches), patches[3:].coords["lon"].shape) == (18, (15, 2))
    assert counted.bytes_read == 0
    patches[4]
    assert counted.bytes_read == 4 * 6 * 2 * 4
    assert patches[[4, 10]].values.nbytes == counted.bytes_read - 4 * 6 * 2 * 4
    before = counted.bytes_read
    assert ring[0].lon.values.tolist() == [7.5, 0, 2.5]
    assert counted.bytes_read - before == 9 * 6 * 3 * 4


@pytest.mark.parametrize("form", ["disk", "dask"])
def test_chunks_are_read_once_in_their_order_and_once_a_batch_in_any(form):
    source = field(24, 8, 8)
    lazy, counted = on_disk(source, time=12, lat=4, lon=8)
    if form == "dask":
        lazy = lazy.chunk(time=12, lat=4, lon=8)
    # Room for nothing but the chunks of one window.
    patches = windows(lazy, {"time": 4, "lat": 2}, cache_bytes=0)
    order = patches.chunk_order()
    ordered = [window for batch in patches[order].batches(5) for window in batch.values]
    assert counted.bytes_read == source.nbytes
    at = int(np.flatnonzero(order == 7)[0])
    np.testing.assert_array_equal(ordered[at], source[4:8, 6:8])
    counted.bytes_read = 0
    shuffled = windows(lazy, {"time": 4, "lat": 2}, cache_bytes=0)
    _ = shuffled[RANDOM.permutation(len(patches))].values
    assert counted.bytes_read == source.nbytes
    assert windows(source, {"time": 4})[::-1].chunk_order().tolist() == list(range(6))


@pytest.mark.parametrize(
    ("padding", "mode", "blend", "reached"),
    [
        ("VALID", "edge", "uniform", (8, 4)),
        ("COVER", "wrap", "hann", (9, 6)),
        ("FLUSH", "edge", "hann", (9, 6)),
    ],
)
def test_what_is_put_back_is_the_field_where_windows_reach(padding, mode, blend, reached):
    source = field()
    options = {"padding": padding, "padding_mode": mode, "stride": {"time": 2, "lat": 3}}
    patches = windows(source, {"lat": 4, "time": 4}, **options)
    patches = patches[RANDOM.permutation(len(patches))]
    back = patches.restore(patches.values, blend=blend)
    inside = np.zeros(source.shape, bool)
    inside[: reached[0], : reached[1]] = True
    expected = source.where(inside)
    xr.testing.assert_allclose(back, expected, rtol=1e-5)
    assert set(back.coords) == set(source.coords)


def test_predictions_may_have_other_dims_than_the_source():
    source = dataset()
    patches = windows(source, {"time": 3, "lat": 2}, stride={"lat": 1})
    read = patches.values
    classes = np.stack([read["t2m"] > 0, read["t2m"] <= 0], axis=1)[..., 0]
    back = patches.restore(classes, dims=("kind", "time", "lat"))
    assert back.sizes == {"kind": 2, "time": 9, "lat": 6}
    np.testing.assert_array_equal(back.sel(kind=1), source.t2m[..., 0] <= 0)
    assert set(back.coords) == {"time", "lat", "height"}
    half = patches.restore(read["t2m"][..., :2].mean(1), dims=("lat", "lon"))
    expected = source.t2m[..., :2].mean("time")
    np.testing.assert_allclose(half, expected, rtol=1e-5, atol=1e-6)
    assert "lon" not in half.coords
    named = patches.restore({"t2m": read["t2m"], "sea": read["sea"]})
    xr.testing.assert_allclose(named.t2m, source.t2m, rtol=1e-5)
    np.testing.assert_array_equal(named.sea, source.sea)
    assert named.sea.dims == ("lat", "lon")


def test_times_stay_as_they_are():
    times = xr.date_range("2001-02-27", periods=6, calendar="noleap", use_cftime=True)
    source = xr.DataArray(np.arange(6.0), {"time": times}, ("time",))
    patches = windows(source, {"time": 2})
    assert patches[0].time.values[1] == cftime.DatetimeNoLeap(2001, 2, 28)
    assert patches.coords["time"][1, 0] == cftime.DatetimeNoLeap(2001, 3, 1)
    back = patches[:2].restore(patches[:2].values)
    assert back.time.identical(source.time)
    assert np.isnan(back.values).tolist() == [False] * 4 + [True] * 2
    assert np.isnan(patches[:0].restore(patches[:0].values)).all()
    half = patches.restore(jax.numpy.asarray(patches.values, jax.numpy.bfloat16))
    assert half.dtype == jax.numpy.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": np.zeros(3)}, "dataset must be an xarray.DataArray .*, got ndarray; wrap"),
        ({"dataset": xr.Dataset()}, "dataset must be .* of variables, got no variable; wrap"),
        ({"window": (3, 2)}, r"window must be the cells along 1 to 4 dims by name, got \(3, 2\);"),
        ({"window": {"level": 3}}, "window must name dims among time, lat, lon, got level; name"),
        ({"window": {"lat": 7}}, r"window must be no longer than the input \(6,\) along lat, got"),
        ({"window": {"lat": 0}}, "window along lat must be an integer of at least 1, got 0;"),
        ({"stride": 0}, "stride along lat must be an integer of at least 1, got 0;"),
        ({"stride": {"lon": 1}}, "stride must name dims among lat, got lon; name others"),
        ({"padding": "EDGE"}, "padding along lat must be one of VALID, .*, got 'EDGE';"),
        ({"padding": (6, 0), "padding_mode": "reflect"}, "at most 5 cells .* along lat; pad less"),
        ({"padding_mode": "constant"}, "padding_mode along lat must be 'edge', .*'constant'; ch"),
        ({"cache_bytes": -1}, "cache_bytes must be a whole number >= 0, got -1; use such"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    given = {"dataset": field(), "window": {"lat": 2}} | arguments
    with pytest.raises(InputError, match=message):
        windows(given.pop("dataset"), given.pop("window"), **given)


def test_predictions_that_do_not_fit_are_refused():
    patches = windows(dataset(), {"lat": 2, "lon": 2})
    one = np.zeros((6, 2, 2))
    for predictions, dims, message in [
        (one, None, "dims must be given for .* no variable, got None; name the axes"),
        (one[1:], ("lat", "lon"), r"axes window 6, lat 2, lon 2, got shape \(5, 2, 2\); join"),
        (one[..., :1], ("lat", "lon"), r"got shape \(6, 2, 1\); join those of"),
        ([one[:4], one[4:]], ("lat", "lon"), "got arrays of several shapes; join those of batches"),
        (one, "lat", "dims must hold a dim of the windows and none twice, got l, a, t; name"),
        (one, ("lat", "lat"), "dims must hold a dim of the windows and none twice, got lat, lat;"),
    ]:
        with pytest.raises(InputError, match=message):
            patches.restore(predictions, dims=dims)
    with pytest.raises(InputError, match="batch_size must be a whole number >= 1, got 0; use"):
        patches.batches(0)
