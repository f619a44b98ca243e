"""Data of other space axes than the windows of the model: the axes are named, and a way is told."""

import ast
import dataclasses
import re
from typing import Any, cast

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.cli.words import in_flags
from stpatch_jax.errors import InputError
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.patches.windows import OPEN
from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs.config import check_windows
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


def widened(value):
    """A backbone whose windows span 9 cells of every axis, two apart."""
    if value == OPEN:
        return value
    if isinstance(value, WindowSpec):
        return WindowSpec((5,) * value.rank, dilation=2)
    parts = {name: of for name, of in vars(value).items() if hasattr(of, "__dataclass_fields__")}
    windows = (WindowSpec, BackboneConfig)
    changed = {name: widened(of) for name, of in parts.items() if isinstance(of, windows)}
    return dataclasses.replace(value, **changed)


def test_windows_longer_than_the_data_are_told_by_their_settings_in_every_recipe():
    told, data = {}, cast(Any, None)
    for name in RECIPES:
        config = dataclasses.replace(recipe(name), model=widened(recipe(name).model))
        settings = vars(config.model)
        inner = settings.get("backbone", config.model)
        rank = len(settings["offsets"][0]) + 1 if "offsets" in settings else None
        rank = inner.spec.rank if hasattr(inner, "spec") else rank
        if rank is None:
            check_windows(config, data, (1, 1, 1))  # Its windows cover what there is.
        if not rank:  # These are chosen by the data.
            continue
        for shape in ((2, *[9] * (rank - 1)), *[(9, 3, *[9] * (rank - 2))] * (rank > 1)):
            if shape[0] > 2 and "lags" in settings:
                continue
            with pytest.raises(InputError) as error:
                check_windows(config, data, shape)
            told[name] = in_flags(str(error.value))
            words = (
                r"(?<![\w.-])(window|stride|dilation|padding|padding_mode|lags)\b|[a-z]=|model\.\w"
            )
            assert not re.search(words, told[name].replace("--model.", "--")), told[name]
    assert told["traffic"].startswith("--model.lags must be at most the 2 time steps of an input")
    assert "--model.backbone.spec.padding SAME" in told["language"]
    assert told["stocks"] == (
        "--model.spec.window must be no longer than the input (9, 3) along axis 1 (space), got "
        "(5, 5) with --model.spec.dilation (2, 2); use a shorter --model.spec.window or "
        "--model.spec.padding VALID SAME"
    )
    # Others leave them to the data, the windows of two cover what there is.
    left = [name for name in RECIPES if vars(recipe(name).model).get("spec") == OPEN]
    assert len(told) == len(RECIPES) - 2 - len(left)


def test_the_advice_for_a_map_smaller_than_the_window_can_be_followed():
    config: Any = recipe("weather")
    data = field("lat", "lon")

    def padded(padding):
        spec = config.model.spec.replace(padding=padding)
        return dataclasses.replace(config, model=dataclasses.replace(config.model, spec=spec))

    with pytest.raises(InputError, match=r"model.spec.window must be no longer") as error:
        Run(padded("VALID"), data=data)
    (advised,) = re.findall(r"model\.spec\.padding=(\(.*?\))", str(error.value))
    Run(padded(ast.literal_eval(advised)), data=data)
