"""Cleaning of fields: fitted to training rows, block by block, through JSON, and undone."""

import numpy as np
import pytest
import xarray as xr
from small_fields import small_field

from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks
from stpatch_jax.data.protocols import digest_of
from stpatch_jax.data.transforms.cleaning import forward_fill
from stpatch_jax.errors import InputError

TRAIN = range(24)


def fitted(field, **settings):
    return Cleaner.fit(field, TRAIN, CleaningConfig(**settings))


def inputs(cleaner, field, rows=slice(20, 30)):
    return cleaner.inputs(field.values[rows], times=field.time.values[rows])


@pytest.mark.parametrize("per", ["channel", "cell"])
def test_the_scale_is_that_of_the_training_rows_alone(per):
    field = small_field(missing=0.2)
    axes = 0 if per == "cell" else (0, 1, 2)
    train = field.values[:24].astype(np.float64)
    known = np.isfinite(field.values)
    scaled, told = inputs(fitted(field, per=per), field, slice(None))
    expected = (field.values - np.nanmean(train, axis=axes)) / np.nanstd(train, axis=axes)
    np.testing.assert_array_equal(told, known)
    np.testing.assert_allclose(scaled[known], expected[known], atol=2e-5)
    changed = field.copy(data=np.where(np.arange(40)[:, None, None, None] < 24, field, 1e4))
    assert digest_of(fitted(changed, per=per).to_dict()) == digest_of(
        fitted(field, per=per).to_dict()
    )


@pytest.mark.parametrize("block", [1, 4000, 10**9])
def test_the_fit_does_not_depend_on_the_blocks_it_reads(block):
    field = small_field(missing=0.2)
    config = CleaningConfig(
        missing="climatology", steps=("winsorize", "robust", "standard"), winsorize=0.05
    )
    one, other = Cleaner.fit(field, TRAIN, config, block_bytes=block), fitted(field, **vars(config))
    assert one.climatology is not None
    assert other.climatology is not None
    np.testing.assert_allclose(one.climatology.mean, other.climatology.mean, atol=1e-9)
    np.testing.assert_allclose(inputs(one, field)[0], inputs(other, field)[0], atol=1e-5)


@pytest.mark.parametrize("missing", ["forward_fill", "interpolate", "climatology", "leave"])
def test_each_rule_fills_gaps_and_touches_nothing_else(missing):
    field = small_field(missing=0.3)
    full, known = inputs(fitted(field, missing=missing), field)
    left, _ = inputs(fitted(field, missing="leave"), field)
    assert np.isfinite(full).all()
    np.testing.assert_allclose(full[known], left[known], atol=1e-6)
    assert (left[~known] == 0).all()
    scaled = np.where(known, left, np.nan)
    if missing == "forward_fill":
        np.testing.assert_array_equal(full, np.nan_to_num(forward_fill(scaled)))
    if missing == "climatology":
        hours = field.time.dt.hour.values
        train = field.values[:24].astype(np.float64)
        means = np.stack([train[hours[:24] == hour].mean(axis=0) for hour in hours[20:30]])
        overall = np.nanmean(train, axis=0)
        means = np.where(np.isnan(means), overall, means)
        cleaner = fitted(field, missing=missing)
        np.testing.assert_allclose(cleaner.inverse(full)[~known], means[~known], rtol=1e-5)


def test_a_state_restored_cleans_alike_and_predictions_go_back():
    field = small_field(missing=0.2, dtype=np.float64)
    cleaner = fitted(field, missing="climatology", steps=("log1p", "min_max"), per="cell")
    again = Cleaner.from_dict(cleaner.to_dict())
    np.testing.assert_array_equal(inputs(again, field)[0], inputs(cleaner, field)[0])
    cells = (slice(1, 4), slice(0, 2))
    tile = field.values[30:, 1:4, 0:2]
    scaled = again.scaled(tile, channels=(1,), clip=False, cells=cells)
    back = again.inverse(scaled, channels=("wind",), cells=cells)
    np.testing.assert_allclose(back, tile[..., 1:], rtol=1e-9)


def test_outliers_are_filtered_and_clipped_in_inputs_only():
    field = small_field()
    field[27, 2, 2, 0] = 1e4
    at = (7, 2, 2, 0)
    plain, _ = inputs(fitted(field), field)
    filtered, _ = inputs(fitted(field, hampel_window=5), field)
    clipped, _ = inputs(fitted(field, steps=("winsorize", "standard")), field)
    assert plain[at] > 100
    assert abs(filtered[at]) < 3
    assert abs(clipped[at]) < 4
    cleaner = fitted(field, steps=("winsorize", "standard"))
    free = cleaner.scaled(field.values[20:30], channels=(0, 1), clip=False)
    assert free[at] > 100


@pytest.mark.parametrize("scaler", ["standard", "robust", "min_max"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_land_without_values_stays_zero_and_hurts_nothing_else(scaler, share):
    field = small_field()
    field[:, 2:4] = np.nan
    settings = {"steps": ("winsorize", scaler), "winsorize": share, "per": "cell"}
    scaled, known = inputs(fitted(field, **settings), field)
    expected, _ = inputs(fitted(small_field(), **settings), small_field())
    assert not known[:, 2:4].any()
    assert (scaled[:, 2:4] == 0).all()
    np.testing.assert_array_equal(scaled[:, 4:], expected[:, 4:])


def test_what_has_no_logarithm_counts_as_missing():
    field = small_field()
    field[25, 0, 0, 0] = -3.0
    scaled, known = inputs(fitted(field, steps=("log", "standard")), field)
    assert not known[5, 0, 0, 0]
    assert known.sum() == known.size - 1
    assert scaled[5, 0, 0, 0] == scaled[4, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing": "guess"}, r"missing must .*, got 'guess'"),
        ({"steps": ("standard", "x")}, r"steps\[1\] must .*, got 'x'"),
        ({"per": "row"}, r"per must .*, got 'row'"),
        ({"hampel_window": 2}, r"hampel_window, unless 0 turns it off, must .*, got 2"),
        ({"hampel_threshold": 0.0}, "hampel_threshold must be above 0, got 0"),
        ({"winsorize": 0.5}, r"winsorize must be in \[0, 0.5\), got 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        CleaningConfig(**settings)


def test_fields_that_do_not_serve_are_refused():
    field = small_field()
    config = CleaningConfig()
    empty = field.copy(data=np.where(np.arange(2) == 1, np.nan, field))
    with pytest.raises(InputError, match="among the 24 training rows, got none for wind"):
        Cleaner.fit(empty, TRAIN, config)
    with pytest.raises(InputError, match=r"lie in 0..39 in steps of 1, got range\(0, 41"):
        Cleaner.fit(field, range(41), config)
    with pytest.raises(InputError, match=r"dims \(time, \*space, channel\), got \(latitude"):
        Cleaner.fit(field.transpose("latitude", ...), TRAIN, config)
    with pytest.raises(InputError, match="coordinates time and channel, got none"):
        Cleaner.fit(xr.DataArray(np.zeros((3, 1)), dims=("time", "channel")), TRAIN, config)
    numbered = field.assign_coords(time=np.arange(40))
    with pytest.raises(InputError, match="got int64"):
        Cleaner.fit(numbered, TRAIN, CleaningConfig(missing="climatology"))
    with pytest.raises(InputError, match="must be 't2m' or 'wind', got 'rain'"):
        Cleaner.fit(field, TRAIN, config).inverse(np.zeros(1), channels=("rain",))


@pytest.mark.parametrize("chunks", [None, {"time": 7, "latitude": 4}, {"channel": 1}])
@pytest.mark.parametrize("cache_bytes", [0, 3000, 10**9])
def test_any_box_is_read_as_it_is(chunks, cache_bytes):
    field = small_field()
    reader = SlabReader(field, chunks=chunks, cache_bytes=cache_bytes)
    for box in [(slice(3, 17),), (slice(0, 40), slice(3, 5), slice(1, 2)), (slice(39, 40),), ()]:
        np.testing.assert_array_equal(reader.read(*box), field.values[box])


@pytest.mark.parametrize("chunks", [None, {"time": 7}])
@pytest.mark.parametrize("block_bytes", [1, 240 * 10, 10**9])
def test_blocks_of_time_follow_the_chunks(chunks, block_bytes):
    reader = SlabReader(small_field(), chunks=chunks)
    blocks = list(time_blocks(reader, range(5, 40), block_bytes=block_bytes))
    assert [row for block in blocks for row in range(block.start, block.stop)] == [*range(5, 40)]
    if chunks:
        assert all(block.stop % 7 == 0 for block in blocks[:-1])
    elif block_bytes == 2400:
        assert {block.stop - block.start for block in blocks} == {5, 10}
