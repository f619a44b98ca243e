"""What is fitted to a whole training span is read in blocks, and is what one block gives."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from small_fields import small_field

from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig, FieldData
from stpatch_jax.data.fields.rolling import rolling_weight
from stpatch_jax.data.fields.slabs import SlabReader, cell_blocks
from stpatch_jax.data.readers.lazy import LazyArray

BUDGET = 6000
CONFIG = FieldConfig(
    context=4,
    horizon=3,
    climatology="hour",
    cleaning=CleaningConfig(per="cell", steps=("standard",)),
    alert=AlertConfig("above", 0.8, quantile=True),
)


class Stored(LazyArray):
    """A field on disk that keeps the sizes of what was read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.read_bytes = (
            values,
            values.shape,
            values.dtype,
            [],
        )

    def read(self, key):
        part = self.values[np.ix_(*(np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)))]
        self.read_bytes.append(part.nbytes)
        return part


def on_disk(field, chunks):
    stored = Stored(field.values)
    lazy = stored.field(field.dims, dict(field.coords))
    lazy.encoding["preferred_chunks"] = chunks
    return lazy, stored


@pytest.mark.parametrize("shape", [(200,), (200, 40), (200, 10, 9)])
@pytest.mark.parametrize("chunks", [{}, {"time": 16, "latitude": 3, "cell": 4}])
def test_a_field_on_disk_gives_the_same_as_in_memory_and_is_read_in_blocks(shape, chunks):
    field = small_field(shape, missing=0.01)
    lazy, stored = on_disk(field, chunks)
    whole = FieldData.of(field, CONFIG)
    parts = dataclasses.replace(whole, field=lazy, block_bytes=BUDGET)
    np.testing.assert_array_equal(parts.alert_thresholds(), whole.alert_thresholds())
    times = field.time.values[30:60]
    np.testing.assert_array_equal(parts.event_frequency(times), whole.event_frequency(times))
    assert parts.means is not None
    assert whole.means is not None
    np.testing.assert_allclose(parts.means.mean, whole.means.mean, rtol=1e-12, atol=1e-12)
    assert parts.model_weight() == pytest.approx(whole.model_weight(), rel=1e-12)
    train = whole.splits["train"].stop * field.nbytes // len(field)
    if len(shape) > 1:
        assert train > 4 * BUDGET
        # One series is read whole, and one chunk.
        assert max(stored.read_bytes) <= 2 * BUDGET
    assert np.isfinite(whole.alert_thresholds()).all()


def test_the_frequency_of_events_is_their_share_at_each_hour():
    data = FieldData.of(small_field((200, 3)), CONFIG)
    train = slice(0, data.splits["train"].stop)
    events = data.values(train) > data.alert_thresholds()
    hours = data.field.time.dt.hour.values
    found = data.event_frequency(data.times[:24])
    for at in range(24):
        expected = events[hours[train] == hours[at]].mean(axis=0)
        np.testing.assert_allclose(found[at], expected, atol=1e-12)


@pytest.mark.parametrize("budget", [1, 900, 10**9])
def test_blocks_of_cells_cover_space_once(budget):
    field = xr.DataArray(np.zeros((5, 4, 6, 2), np.float32), dims=("time", "y", "x", "channel"))
    covered = np.zeros((4, 6), int)
    for cells in cell_blocks(SlabReader(field), range(5), block_bytes=budget):
        covered[cells] += 1
    np.testing.assert_array_equal(covered, 1)


def test_a_rolling_weight_of_blocks_is_that_of_all_series():
    values = np.random.default_rng(0).normal(size=(300, 7))
    values += 0.9 * values.cumsum(axis=0)
    whole = rolling_weight(values, context=4, horizon=3)
    parts = rolling_weight(lambda: np.split(values, [2, 3], axis=1), context=4, horizon=3)
    assert 0 < whole < 1
    assert parts == pytest.approx(whole, rel=1e-12)
