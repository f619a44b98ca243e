"""Data of other space axes than the windows of the model: the axes are named, and a way is told."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.errors import InputError
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.run import Run


def field(*dims):
    shape = (240, *range(2, 2 + len(dims)))
    return xr.DataArray(
        np.random.default_rng(0).random(shape, np.float32),
        dims=("time", *dims),
        coords={"time": np.datetime64("2021-01-01T00") + np.arange(240)},
        attrs={"units": "K"},
    )


@pytest.mark.parametrize(
    ("name", "dims", "message"),
    [
        (
            "weather",
            ("level", "lat", "lon"),
            r"2 axes of space, as many as model\.spec, got 3: level \(2\), lat \(3\), lon \(4\); "
            r"choose one position of an axis with select=, or give model\.spec\.window, .*, "
            r"model\.spec\.padding_mode 4 entries each, time first",
        ),
        (
            "weather",
            ("station",),
            r"got 1: station \(2\); give model.spec.* 2 entries each",
        ),
        ("weather", (), r"got 0: none; give model.spec.window, .* 1 entries each"),
    ],
)
def test_axes_that_do_not_fit_are_named(name, dims, message):
    with pytest.raises(InputError, match=message):
        Run(recipe(name), data=field(*dims))


def test_the_advice_for_windows_can_be_followed():
    config = recipe("weather")
    spec = WindowSpec(
        (7, 5), stride=(7, 1), dilation=(4, 6), padding=("VALID", "SAME"), padding_mode="edge"
    )
    model = dataclasses.replace(config.model, spec=spec)
    Run(dataclasses.replace(config, model=model), data=field("station"))


def test_offsets_have_the_axes_of_the_data():
    with pytest.raises(InputError, match=r"model.offsets.0, got 1: cell \(2\); give it 1 numbers"):
        Run(recipe("traffic"), data=field("cell"))
