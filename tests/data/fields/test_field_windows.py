"""Windows of fields: right examples, no leaks, nothing read that is not used."""

import itertools
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fields import small_field

from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.fields.forcings import calendar_features
from stpatch_jax.data.fields.slabs import SlabReader
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.data.sampling.batches import sequential_batches
from stpatch_jax.data.sampling.splits import chronological_splits
from stpatch_jax.errors import InputError

RULES = ("forward_fill", "interpolate", "climatology", "leave")


def windows(field, targets=range(24, 40), *, cleaning=None, **options):
    cleaner = Cleaner.fit(field, range(24), cleaning or CleaningConfig())
    chosen: dict[str, Any] = {"context": 6, "horizon": 3} | options
    return FieldWindows(field, targets, cleaner, **chosen)


def test_an_example_holds_the_rows_around_its_index():
    field = small_field(missing=0.2)
    source = windows(field, target_channels=("wind",), cleaning=CleaningConfig(steps=()))
    assert len(source) == 14
    for number, row in enumerate(range(24, 38)):
        example = source[number]
        assert example["index"] == row
        truth = field.values[row : row + 3, ..., 1:]
        np.testing.assert_array_equal(example["target"], np.nan_to_num(truth))
        np.testing.assert_array_equal(example["target_mask"], np.isfinite(truth))
        past = field[row - 6 : row]
        filled = past.to_dataframe("x").x.unstack("time").T.ffill().fillna(0.0)
        expected = (
            filled.stack(["latitude", "longitude", "channel"], future_stack=True)
            .to_xarray()
            .transpose(*past.dims)
        )
        np.testing.assert_allclose(
            example["context"], expected.sel(channel=past.channel), rtol=1e-6
        )
        np.testing.assert_array_equal(example["persistence"], example["context"][-1:, ..., 1:])
        np.testing.assert_allclose(example["valid_share"], np.isfinite(past.values).mean())
    assert {value.dtype.name for value in source[0].values()} == {"float32", "bool", "int64"}


@pytest.mark.parametrize("missing", RULES)
def test_no_input_sees_a_target_row_and_no_target_an_input_row(missing):
    field = small_field(missing=0.3)
    cleaning = CleaningConfig(missing=missing, hampel_window=4)
    for row in (24, 31):
        future = field.copy(data=np.where(np.arange(40)[:, None, None, None] >= row, 1e3, field))
        past = field.copy(data=np.where(np.arange(40)[:, None, None, None] < row, np.nan, field))
        cleaner = Cleaner.fit(field, range(24), cleaning)
        options = {"context": 6, "horizon": 3, "mask_channel": True}
        source, later, earlier = (
            FieldWindows(given, range(24, 40), cleaner, **options)
            for given in (field, future, past)
        )
        at = row - 24
        for name in ("context", "persistence", "valid_share"):
            np.testing.assert_array_equal(source[at][name], later[at][name])
        for name in ("target", "target_mask"):
            np.testing.assert_array_equal(source[at][name], earlier[at][name])
        assert (earlier[at]["persistence"] == 0).all()


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    st.integers(1, 3),
)
def test_tiles_and_windows_cover_every_target_of_the_test_span_and_no_other(tile, step, stride):
    field = small_field()
    splits = chronological_splits(40, context=6, horizon=3, validation_share=0.2, test_share=0.2)
    step = tuple(min(pair) for pair in zip(tile, step, strict=True))
    source = windows(field, splits["test"], tile=tile, tile_stride=step, stride=stride)
    seen = np.zeros(field.shape[:-1], bool)
    corners = list(itertools.product(source.starts, source.tiles))
    for number, (row, cells) in enumerate(corners):
        seen[(slice(row, row + 3), *cells)] = True
        assert [cell.stop - cell.start for cell in cells] == list(tile)
        if number % 97 == 0:
            example = source[number]
            assert (example["index"], *example["tile"]) == (row, *(c.start for c in cells))
            assert example["target"].shape == (3, *tile, 2)
    assert len(source) == len(corners)
    assert seen[32:].all()
    assert not seen[:32].any()


@pytest.mark.parametrize("per", ["channel", "cell"])
def test_a_tile_is_cut_out_of_the_example_of_the_whole_space(per):
    field = small_field(missing=0.2)
    cleaning = CleaningConfig(missing="climatology", per=per, steps=("winsorize", "standard"))
    options = {"calendar": ("hour", "weekday"), "mask_channel": True, "training": True}
    whole = windows(field, cleaning=cleaning, **options)
    tiled = windows(field, cleaning=cleaning, tile=(4, 2), tile_stride=(2, 3), **options)
    assert len(tiled) == 4 * len(whole)
    assert whole.in_channels[2:] == (
        "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "t2m_known", "wind_known",
    )  # fmt: skip
    for number in (0, 3, 21):
        part, all_of_it = tiled[number], whole[number // 4]
        cells = tuple(slice(at, at + n) for at, n in zip(part["tile"], (4, 2), strict=True))
        for name in ("context", "target", "target_mask", "persistence"):
            np.testing.assert_array_equal(part[name], all_of_it[name][(slice(None), *cells)])
    waves = calendar_features(field.time.values[18:24], features=("hour", "weekday"))
    np.testing.assert_array_equal(whole[0]["context"][:, 2, 3, 2:6], waves)
    np.testing.assert_array_equal(
        whole[0]["context"][..., 6:], np.isfinite(field.values[18:24]).astype(np.float32)
    )


def test_only_training_targets_are_clipped():
    field = small_field()
    field[30] = 1e4
    cleaning = CleaningConfig(steps=("winsorize", "standard"))
    plain = windows(field, cleaning=cleaning)[6]["target"]
    clipped = windows(field, cleaning=cleaning, training=True)[6]["target"]
    assert plain[0].min() > 100
    assert clipped[0].max() < 4
    np.testing.assert_allclose(clipped[1:], np.clip(plain[1:], clipped.min(), clipped.max()))


def test_series_and_panels_are_fields_and_batches_have_one_shape():
    for shape in [(40,), (40, 6)]:
        source = windows(small_field(shape), stride=3)
        batches = list(sequential_batches(source, batch_size=4))
        assert batches[-1]["context"].shape == (4, 6, *shape[1:], 2)
        assert source[-1]["index"] == 37
        assert source.starts.tolist() == [24, 27, 30, 33, 36, 37]
    with pytest.raises(IndexError, match="example 6 of 6"):
        source[6]


@pytest.fixture
def stored(tmp_path):
    """A chunked store on disk, opened lazily, and how its array came to be."""
    pytest.importorskip("zarr")
    field = small_field((60, 8, 6))
    chunks = (10, 4, 3, 2)
    encoding = {"field": {"chunks": chunks}}
    field.to_dataset(name="field").drop_vars("channel").to_zarr(
        tmp_path / "f.zarr", zarr_format=2, encoding=encoding
    )
    lazy = xr.open_zarr(tmp_path / "f.zarr", chunks=None).field
    return field, lazy.assign_coords(channel=field.channel)


def test_a_stored_field_is_read_chunk_by_chunk_and_only_once(stored):
    field, lazy = stored
    cleaner = Cleaner.fit(lazy, range(30), CleaningConfig())
    options: dict[str, Any] = {"context": 6, "horizon": 3}
    eager = FieldWindows(field, range(30, 60), cleaner, **options)
    source = FieldWindows(lazy, range(30, 60), cleaner, **options)
    for number in range(len(source)):
        for name, value in source[number].items():
            np.testing.assert_array_equal(value, eager[number][name])
    used = field.values[24:60].nbytes
    assert used <= source.reader.bytes_read <= 1.5 * used
    one = FieldWindows(lazy, range(30, 60), cleaner, tile=(4, 3), **options)
    one[0]
    assert one.reader.bytes_read == 2 * field.values[:10, :4, :3].nbytes


def test_the_order_of_chunks_reads_tiles_once_with_a_small_cache(stored):
    field, lazy = stored
    cleaner = Cleaner.fit(field, range(30), CleaningConfig())
    options: dict[str, Any] = {"context": 6, "horizon": 3, "tile": (2, 3), "tile_stride": (2, 3)}
    cache = 3 * field.values[:10, :4, :3].nbytes
    source = FieldWindows(lazy, range(20, 60), cleaner, **options, cache_bytes=cache)
    order = source.chunk_order()
    assert sorted(order.tolist()) == list(range(len(source)))
    seen = [source[int(number)] for number in order]
    used = field.values[14:60].nbytes
    assert used <= source.reader.bytes_read <= 1.5 * used
    eager = FieldWindows(field, range(20, 60), cleaner, **options)
    np.testing.assert_array_equal(seen[50]["context"], eager[int(order[50])]["context"])
    assert (eager.chunk_order() == np.arange(len(eager))).all()
    naive = FieldWindows(lazy, range(20, 60), cleaner, **options, cache_bytes=cache)
    for number in range(len(naive)):
        naive[number]
    assert naive.reader.bytes_read > 2 * source.reader.bytes_read


@pytest.mark.parametrize("steps", [(), ("standard",)])
def test_an_example_may_be_written_to_and_leaves_the_field_alone(steps):
    field = small_field()
    before = field.values.copy()
    cleaner = Cleaner.fit(field, range(24), CleaningConfig(steps=steps))
    example = FieldWindows(field, range(24, 40), cleaner, context=6, horizon=3)[2]
    for value in example.values():
        value[...] = 0
    np.testing.assert_array_equal(field, before)


def test_what_was_read_cannot_be_written_to(stored):
    _, lazy = stored
    with pytest.raises(ValueError, match="read-only"):
        SlabReader(lazy).read(slice(0, 2), slice(0, 2), slice(0, 2))[:] = 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, r"context must .*, got 0"),
        ({"stride": 1.5}, r"stride must .*, got 1\.5"),
        ({"context": 25}, r"must lie in 25\.\.42 .* got range\(24, 40\)"),
        ({"targets": range(24, 44)}, r"must lie in 6\.\.42"),
        ({"horizon": 17}, "one window of 17 target rows, got 16"),
        ({"tile": (4,)}, r"tile must have one number per space axis of the field, 2, got \(4,\)"),
        ({"tile": (4, 6)}, r"tile must .*, got 6 of 5 cells along longitude"),
        ({"tile": (4, 0)}, r"tile must .*, got 0"),
        ({"tile_stride": (4, 2)}, "tile must be given with a tile_stride, got none"),
        ({"target_channels": ("rain",)}, "must be 't2m' or 'wind', got 'rain'"),
        ({"calendar": ("moon",)}, r"calendar feature must .*, got 'moon'"),
    ],
)
def test_windows_that_do_not_fit_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        windows(small_field(), **options)


def test_another_field_than_the_cleaning_was_fitted_to_is_refused():
    cleaner = Cleaner.fit(small_field(), range(24), CleaningConfig())
    other = small_field(channels=("wind", "t2m"))
    with pytest.raises(InputError, match="t2m, wind, got wind, t2m"):
        FieldWindows(other, range(24, 40), cleaner, context=6, horizon=3)


def test_the_real_field_is_read_lazily_and_its_windows_tile_the_test_span(data_dir):
    pytest.importorskip("h5netcdf")
    path = data_dir / "weather/era5_t2m_uk_2019-03.nc"
    with xr.open_dataset(path) as data:
        name = next(iter(data.data_vars))
        field = data[name].expand_dims(channel=[name], axis=-1)
        time = next(dim for dim in field.dims if "time" in str(dim))
        field = field.rename({time: "time"}) if time != "time" else field
        splits = chronological_splits(
            744, context=24, horizon=24, validation_share=0.2, test_share=0.2
        )
        config = CleaningConfig(missing="interpolate")
        cleaner = Cleaner.fit(field, range(splits["train"].stop), config)
        source = FieldWindows(
            field, splits["test"], cleaner, context=24, horizon=24, stride=24,
            tile=(16, 16), calendar=("hour",),
        )  # fmt: skip
        example = source[0]
        assert example["context"].shape == (24, 16, 16, 3)
        assert example["target_mask"].all()
        row = int(example["index"])
        truth = field.values[row : row + 24, :16, :16]
        np.testing.assert_allclose(cleaner.inverse(example["target"]), truth, rtol=1e-5)
        assert len(source) == len(source.starts) * 3 * 4
