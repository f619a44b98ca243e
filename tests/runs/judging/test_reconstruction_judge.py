"""The picture of a reconstruction: where the data say, in their units."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.protocols import InputAxes
from stpatch_jax.runs.judging.reconstruction import ReconstructionJudge


def drawn(field: np.ndarray, hidden: np.ndarray, axes: InputAxes) -> Any:
    """The axes of the picture of a field [time, *space, channel] that is made of zeros."""
    shown = {"field": field[None], "hidden": hidden[None], "made": 0 * field[None]}
    judge: Any = SimpleNamespace(data=SimpleNamespace(input_axes=lambda split, number: axes))
    judged: Any = SimpleNamespace(split="test", shown={"first": shown})
    return ReconstructionJudge.figures(judge, judged, {})["reconstruction"].axes


def test_a_map_has_its_degrees_and_the_middle_time():
    field = np.arange(36.0).reshape(3, 3, 4, 1)
    hidden = np.zeros((3, 3, 4), bool)
    hidden[1, 0, 0] = True
    degrees = {"lon": xr.DataArray([0.0, 1, 2, 3], dims="lon", attrs={"units": "degrees_east"})}
    first, shown, made, *_ = drawn(field, hidden, InputAxes(("lat", "lon"), degrees))
    assert (first.get_xlabel(), first.get_ylabel()) == ("lon (°E)", "lat (cells)")
    expected = field[1, ..., 0]
    for ax in (first, shown, made):
        values = np.asarray(ax.collections[0].get_array().filled(np.nan)).reshape(3, 4)
        first_cell = {shown: np.nan, made: 0.0}.get(ax, 12.0)
        np.testing.assert_array_equal(values, np.where(hidden[1], first_cell, expected))


def test_a_series_is_a_line_over_its_times():
    times = np.datetime64("2024-01-01", "h") + np.arange(4)
    axes = InputAxes((), {"time": times}, unit="MW")
    (ax,) = drawn(np.arange(4.0)[:, None], np.array([False, True, True, False]), axes)
    truth, made = (np.asarray(line.get_ydata(), float) for line in ax.get_lines())
    np.testing.assert_array_equal(truth, [0, 1, 2, 3])
    np.testing.assert_array_equal(made, [np.nan, 0, 0, np.nan])
    assert ax.get_ylabel() == "MW"
