"""What lies far from what a run was trained on is told; what goes on as it did is not."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data import CleaningConfig, FieldConfig, LabelledConfig, PanelConfig
from stpatch_jax.data.labelled.boxed import BoxedConfig
from stpatch_jax.data.labelled.segmented import SegmentedFieldsConfig

RANDOM = np.random.default_rng(0)


def temperatures(space=(3,)):
    """Kelvin of some stations, and a flag that is known in advance."""
    hours = np.arange(300).reshape(-1, *[1] * len(space))
    warm = 283 + 8 * np.sin(hours / 24) + RANDOM.normal(size=(300, *space))
    flag = np.broadcast_to(hours % 7 == 0, warm.shape)
    dims = ("time", *("y", "x")[: len(space)], "channel")
    coords = {"time": pd.date_range("2024", periods=300, freq="h"), "channel": ["t2m", "off"]}
    return xr.DataArray(np.stack([warm, flag], axis=-1), coords, dims)


PERS: tuple[Any, ...] = ("cell", "channel")
STEPS: tuple[Any, ...] = (("standard",), ("robust",), ("min_max",), ("log", "standard"), ())
PRICES: tuple[Any, ...] = (("level", 1), ("log_return", 0))


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("space", [(3,), (4, 5)])
def test_a_field_of_another_unit_is_told(space, per):
    values = temperatures(space)
    config = FieldConfig(
        context=24, horizon=6, known=("off",), targets=("t2m",), cleaning=CleaningConfig(per=per)
    )
    state = config.of(values).state()
    celsius = values - 273.15 * (values.channel == "t2m")
    told = r"DataArray: t2m is about .*, and was about 28.* in training: give the units"
    with pytest.warns(UserWarning, match=told):
        found = config.restore_values(celsius, state)
    assert "t2m is about" in found.report["notes"][-1]
    assert "off" not in found.report["notes"][-1]
    future = values[-6:].isel(channel=[1]) * 100 + 100
    future["time"] = pd.date_range(values.time.values[-1], periods=7, freq="h")[1:]
    with pytest.warns(UserWarning, match="what comes behind the DataArray: off is about 100"):
        config.restore_ahead(values, state, future)


def test_what_goes_on_is_no_other_unit():
    trend = np.arange(600.0)[:, None] + RANDOM.normal(size=(600, 1))
    for steps in STEPS:
        config = FieldConfig(context=24, horizon=6, cleaning=CleaningConfig(steps=steps))
        state = config.of(trend[:250] + 2000).state()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not config.restore_values(trend + 2000, state).report["notes"]
            nothing = np.full_like(trend, np.nan)
            assert not config.restore_values(nothing, state).report["notes"]


def test_prices_of_another_unit_are_told_where_they_are_levels():
    days = pd.date_range("2024", periods=300)
    walk = 100 + RANDOM.normal(size=(300, 2)).cumsum(axis=0)
    table = pd.DataFrame(walk, days, ["A", "B"])
    for representation, told in PRICES:
        config = PanelConfig(context=20, horizon=5, representation=representation)
        state = config.of(table).state()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = config.restore_values(100 * table, state)
        # Returns are those of any currency.
        assert sum("in training" in str(of.message) for of in caught) == told
        assert sum("in training" in note for note in found.report["notes"]) == told


def test_items_of_another_unit_are_told():
    items, classes = RANDOM.normal(283, 8, size=(40, 30)), np.arange(40) % 2
    config = LabelledConfig(layout="series")
    state = config.of((items, classes)).state()
    with pytest.warns(UserWarning, match=r"memory: a value is about .*, and was about 28"):
        assert config.restore_values(items - 273.15, state).report["notes"]
    assert not config.restore_values(items + 20, state).report["notes"]
    images = RANDOM.normal(283, 8, size=(20, 8, 8, 1))
    masks = RANDOM.integers(0, 2, size=(20, 8, 8))
    cells = SegmentedFieldsConfig()
    state = cells.of((images, masks)).state()
    with pytest.warns(UserWarning, match="memory: a value is about"):
        assert cells.restore_values(list(images / 100), state).report["notes"]
    assert not cells.restore_values(list(images), state).report["notes"]
    boxes = BoxedConfig()
    state = {**state, "cells": [8, 8]}
    with pytest.warns(UserWarning, match="memory: a value is about"):
        assert boxes.restore_values(images / 100, state).report["notes"]
