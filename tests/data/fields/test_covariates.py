"""Targets, covariates that are known in advance, past only or static: what reaches a model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.data import CleaningConfig, FieldConfig, FieldData
from stpatch_jax.data.fields.covariates import ahead, horizon_of, lead_times
from stpatch_jax.errors import InputError

ROWS = 60
ROLES: dict[str, Any] = {"targets": ("T2M",), "known": ("tp",), "static": ("orography",)}


def weather(rows: int = ROWS, *, start: str = "2024-01-01", missing: float = 0.1) -> xr.Dataset:
    """Hourly weather on 2 x 3 cells: z, tp, t2m, and a field without time."""
    random = np.random.default_rng(0)
    times = pd.date_range(start, periods=rows, freq="h")
    coords = {"time": times, "latitude": [50.0, 51.0], "longitude": [5.0, 6.0, 7.0]}
    dims = ("time", "latitude", "longitude")

    def values() -> np.ndarray:
        found = random.normal(size=(rows, 2, 3)).astype(np.float32)
        found[random.random(found.shape) < missing] = np.nan
        return found

    data = xr.Dataset({name: (dims, values()) for name in ("z", "tp", "t2m")}, coords)
    for name, unit in {"z": "m2 s-2", "tp": "mm", "t2m": "K"}.items():
        data[name].attrs["units"] = unit
    data["orography"] = (dims[1:], random.normal(size=(2, 3)) * 100, {"units": "m"})
    data["flag"] = (("time",), np.arange(rows) % 2)
    return data


def problem(data: xr.Dataset, **settings: Any) -> FieldData:
    options: dict[str, Any] = {"context": 5, "horizon": 4, "ignore": ("Flag",)} | ROLES
    return FieldConfig(**options | settings).of(data)


def changed(data: FieldData, channel: str, rows: slice, values: Any) -> FieldData:
    """The same problem, fitted as it was, on a field with other values."""
    field = data.field.copy(deep=True)
    field[rows, ..., list(field.channel.values).index(channel)] = values
    return replace(data, field=field)


def inputs(data: FieldData, at: int) -> dict[str, np.ndarray]:
    example = data.source("test")[at]
    return {name: of for name, of in example.items() if not name.startswith("target")}


@settings(max_examples=15)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(("forward_fill", "interpolate", "climatology", "leave")),
    st.sampled_from(("channel", "cell")),
    st.sampled_from((0, 3)),
    st.lists(
        st.sampled_from(("mask_channel", "space_means", "anomalies", "climatology_channel")),
        unique=True,
    ),
    st.integers(0, 2**31),
)
def test_nothing_of_the_future_but_what_is_known_reaches_a_model(
    context, horizon, missing, per, hampel, flags, seed
):
    random = np.random.default_rng(seed)
    cleaning = CleaningConfig(missing=missing, per=per, hampel_window=hampel)
    data = problem(
        weather(),
        context=context,
        horizon=horizon,
        cleaning=cleaning,
        calendar=("hour",),
        climatology="hour",
        season=24,
        train_share=0.6,
        test_share=0.25,
        **dict.fromkeys(flags, True),
    )
    at = int(random.integers(len(data.source("test"))))
    row = int(data.source("test")[at]["index"])
    before = inputs(data, at)
    assert np.isfinite(before["context"]).all()
    assert before["context"].shape[-1] == len(data.in_channels)
    shape = (ROWS - row, 2, 3)
    noise = random.choice([np.nan, np.inf, -np.inf, 1e6, 0.0], size=(2, *shape))
    after = changed(data, "t2m", slice(row, None), noise[0])
    after = changed(after, "z", slice(row, None), noise[1])
    after = inputs(changed(after, "tp", slice(row + horizon, None), np.inf), at)
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
    if not hampel:  # The filter may take a change for an outlier.
        known = slice(row + int(random.integers(horizon)), row + horizon)
        seen = inputs(changed(data, "tp", known, 7.0), at)
        assert (seen["context"] != before["context"]).any()


@given(st.integers(1, 7), st.integers(1, 20))
def test_a_context_sees_every_row_of_the_horizon(context, horizon):
    leads = lead_times(context=context, horizon=horizon)
    rows = np.arange(context + horizon)[:, None]
    channels = ahead(rows, leads, context=context)
    assert set(rows[context:].ravel()) <= set(channels.ravel())
    np.testing.assert_array_equal(horizon_of(channels, leads), rows[context:])


def test_channels_tell_the_horizon_the_statics_and_where_they_were_known():
    raw = CleaningConfig(steps=(), missing="leave")
    data = problem(weather(), context=3, horizon=4, cleaning=raw, mask_channel=True)
    assert data.in_channels == (
        *("t2m", "z", "tp", "tp_ahead_4", "tp_ahead_1", "orography"),
        *("t2m_known", "z_known", "tp_known", "tp_ahead_4_known", "tp_ahead_1_known"),
    )
    example = data.source("test")[2]
    row, context = int(example["index"]), example["context"]
    tp = weather()["tp"].values
    for lead, at in ((0, 2), (4, 3), (1, 4)):
        came = tp[row - 3 + lead : row + lead]
        np.testing.assert_array_equal(context[..., at], np.nan_to_num(came))
    np.testing.assert_array_equal(context[..., 9], np.isfinite(tp[row + 1 : row + 4]))
    height = weather()["orography"].values
    expected = (height - height.mean()) / height.std()
    np.testing.assert_allclose(context[..., 5], np.stack([expected] * 3), rtol=1e-5)


def test_everything_that_is_told_is_told_of_targets():
    values = weather(missing=0.0)
    data = problem(values, season=24, climatology="hour", targets=("t2m", "z"))
    assert list(data.series) == ["z", "t2m"]  # As they stand in the file.
    assert data.series_units == {"z": "m2 s-2", "t2m": "K"}
    assert data.target_numbers == (0, 1)
    assert data.report["roles"]["known"] == ["tp"]
    assert data.roles.told().startswith("Forecast: z, t2m. Known in advance: tp. Static: oro")
    example = data.source("test")[0]
    row = int(example["index"])
    truth = np.stack([values[name].values for name in data.series], -1)
    np.testing.assert_array_equal(data.values(slice(row, row + 4)), truth[row : row + 4])
    for name, first in {"target": row, "season": row - 24}.items():
        back = data.in_units(example[name][None], np.array([row]))[0]
        np.testing.assert_allclose(back, truth[first : first + 4], rtol=1e-5, atol=1e-6)
    assert example["climatology"].shape == example["target"].shape == (4, 2, 3, 2)
    assert 0 <= data.model_weight() <= 1
    # Without roles, all channels are targets in the order of the file.
    plain = FieldConfig(context=5, horizon=4).of(values)
    assert plain.target_numbers is None
    assert "roles" not in plain.report
    assert list(plain.series) == ["z", "tp", "t2m"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known": ("t2m",)}, "data.known must hold no name of data.targets, got t2m; name it"),
        ({"ignore": ("TP",)}, "data.ignore must hold no name of data.known, got TP"),
        ({"known": ("tpp",)}, "data.known must be among z, tp, t2m, got tpp; give tp"),
        ({"targets": (), "known": ("z", "tp", "t2m")}, "must leave a channel to forecast, got all"),
        ({"static": ("oro",)}, "static= for the data set must be among .*got oro; give orography"),
        ({"static": ("z",)}, r"static= must .* alone, got z over \(time, latitude, longitude\)"),
        (
            {"static": ("mask",)},
            r"fields on the cells .*\(latitude, longitude\), got mask on other",
        ),
    ],
)
def test_names_that_cannot_be_are_refused(settings, message):
    data = weather().assign(mask=(("y", "x"), np.zeros((3, 3))))
    with pytest.raises(InputError, match=message):
        problem(data, **settings)


def test_a_file_is_read_as_what_is_in_memory(tmp_path):
    data = weather()
    data.to_zarr(path := tmp_path / "grid.zarr", zarr_format=2)
    config = FieldConfig(str(path), context=5, horizon=4, variables=("z", "t2m"), **ROLES)
    read, held = config.load(), problem(data)
    assert read.in_channels == held.in_channels
    np.testing.assert_array_equal(
        read.source("test")[1]["context"], held.source("test")[1]["context"]
    )
    (table := tmp_path / "loads.csv").write_text(
        "date,load,temp,noise\n"
        + "".join(f"2024-01-{d:02},{d},{d * d},x{d}\n" for d in range(1, 31))
    )
    config = FieldConfig(str(table), columns="channels", known=("TEMP",), ignore=("Noise",))
    loads = replace(config, context=3, horizon=2).load()
    assert loads.in_channels == ("load", "temp", "temp_ahead_2")
    with pytest.raises(InputError, match=r"must name channels, got temp .* data\.columns channels"):
        replace(config, columns="series").load()
    told = replace(config, columns=None, context=3, horizon=2)
    assert told.load().in_channels == told.of(pd.read_csv(table)).in_channels == loads.in_channels
    assert (
        "channels of one series, since some are named as targets or known in advance: TEMP"
        in str(told.load().field.attrs)
    )
    with pytest.raises(InputError, match=r"data\.known .* load, .*temp.*, got tmep"):
        replace(told, known=("tmep",)).load()
    rows = [f"2024-01-{d:02},{s},{d},{len(s)}" for d in range(1, 31) for s in ("a", "bb", "ccc")]
    (table := tmp_path / "shops.csv").write_text("\n".join(["date,store,sales,size", *rows]))
    config = FieldConfig(str(table), static=("SIZE",), context=3, horizon=2)
    example = config.load().source("train")[0]["context"]
    np.testing.assert_allclose(example[:, :, 1], [[-np.sqrt(1.5), 0, np.sqrt(1.5)]] * 3, rtol=1e-6)
    with pytest.raises(InputError, match=r"static= must .* got sales, which changes in a, bb, ccc"):
        replace(config, static=("sales",)).load()


def future_of(tmp_path, data: xr.Dataset, name: str) -> str:
    data.to_netcdf(path := tmp_path / f"{name}.nc")
    return str(path)


def test_known_covariates_of_the_future_come_from_the_rows_behind_or_a_second_file(tmp_path):
    whole = weather(ROWS + 8, missing=0.0)
    config = FieldConfig(context=3, horizon=4, **ROLES)
    data = config.of(whole.isel(time=slice(ROWS)))
    truth = config.of(whole).field

    def file(name: str, rows: slice, drop: tuple[str, ...] = ()) -> str:
        return future_of(tmp_path, whole.isel(time=rows).drop_vars(drop), name)

    cut = whole.copy(deep=True)
    cut["t2m"][ROWS:] = np.nan
    with_rows = future_of(tmp_path, cut.isel(time=slice(40, ROWS + 4)), "rows")
    short = file("short", slice(40, ROWS))
    rain = whole[["tp"]].isel(time=slice(ROWS - 2, ROWS + 6)) / 1000
    rain["tp"].attrs["units"] = "m"
    nwp = future_of(tmp_path, rain, "nwp")
    state = data.state()
    one = config.restore(with_rows, state)
    other = config.restore_ahead(short, state, nwp)
    for found in (one, other):
        assert len(found.field) == 20
        source = found.source("all")
        example = source[len(source) - 1]
        assert example["index"] == 20
        assert not example["target_mask"].any()
        expected = replace(data, field=truth, splits={"all": range(ROWS, ROWS + 4)}).source("all")
        np.testing.assert_allclose(example["context"], expected[0]["context"], rtol=1e-6)
    assert f"{nwp}: tp is converted from m to mm." in other.report["notes"]
    note = "Of the last 4 rows, without a target, covariates are read."
    assert note in one.report["notes"]
    refused = {
        file(
            "ends", slice(ROWS, ROWS + 3)
        ): "tp must be known over the 4 .* got none at 2024-01-03T15:00",
        file("steps", slice(ROWS, ROWS + 8, 2)): "must have rows 1 hour apart, .* got rows 2 hours",
        future_of(
            tmp_path, whole.assign_coords(latitude=[1.0, 2.0]).isel(time=slice(ROWS, None)), "cells"
        ): "must lie on the grid of",
    }
    for path, message in refused.items():
        with pytest.raises(InputError, match=message):
            config.restore_ahead(short, state, path)
    assert len(config.restore(short, state).source("all")) == 20 - 3 - 4 + 1
    gappy = whole.copy(deep=True)
    gappy["tp"][ROWS + 1] = np.nan
    path = future_of(tmp_path, gappy.isel(time=slice(ROWS, None)), "gappy")
    with pytest.warns(UserWarning, match="6 of 24 values of tp are missing over the horizon"):
        filled = config.restore_ahead(short, state, path)
    last = filled.source("all")[17]["context"]  # Its last channels are 4 and 1 rows ahead.
    np.testing.assert_array_equal(last[0, ..., 3], last[2, ..., 4])
