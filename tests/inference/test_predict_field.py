"""Fields from file to zarr by regions: the same values as in memory, resumable, shared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from small_fields import small_field

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.inference import fields, predict_field, sliding_window_apply
from stpatch_jax.inference.fields import Derived

SPEC = WindowSpec(
    (4, 4, 4),
    stride=(2, 2, 2),
    padding=("COVER", "FLUSH", (1, 2)),
    padding_mode=("reflect", "edge", "wrap"),
)
SHAPE = (21, 9, 11)


def function(windows):
    """Depends on all of a window."""
    return jnp.tanh(windows) + windows.mean((1, 2, 3), keepdims=True)


def opened(path):
    return xr.open_zarr(path, chunks=None)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_regions_give_what_the_whole_field_gives(zarr_format, tmp_path):
    field = small_field(SHAPE)
    source = tmp_path / "field.zarr"
    field.to_dataset("channel").to_zarr(source, zarr_format=zarr_format, consolidated=False)
    target = tmp_path / "out.zarr"
    done = predict_field(
        function, source, target, SPEC, region=(5, 4, 3), attrs={"model": "m"}, progress=False
    )
    assert done
    found = opened(target)
    whole = sliding_window_apply(function, field.values, SPEC)
    np.testing.assert_allclose(np.stack([found.t2m, found.wind], -1), whole, rtol=1e-5, atol=1e-5)
    assert found.t2m.encoding["chunks"] == (6, 4, 11)  # whole strides; a ring is not cut
    assert found.t2m.dims == ("time", "latitude", "longitude")
    for name in ("time", "latitude", "longitude"):
        np.testing.assert_array_equal(found[name], field[name])
    assert found.attrs["model"] == "m"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field.zarr", "out.zarr"]
    # The same call finds it done, another one refuses it.
    assert predict_field(
        function, source, target, SPEC, region=(5, 4, 3), attrs={"model": "m"}, progress=False
    )
    with pytest.raises(InputError, match=r"with another chunks, attrs; remove"):
        predict_field(function, source, target, SPEC, progress=False)
    # So it does of another file of the same times.
    same = {"region": (5, 4, 3), "attrs": {"model": "m"}, "progress": False}
    for other in (field + 1, field.assign_attrs(units="degC")):
        with pytest.raises(InputError, match="with another source; remove"):
            predict_field(function, other, target, SPEC, **same)


def test_no_channel_is_lost_by_its_name(tmp_path):
    field = small_field(SHAPE, ("wind km/h", "..", "a\\b", "ok"))
    predict_field(function, field, tmp_path / "out.zarr", SPEC, progress=False)
    found = opened(tmp_path / "out.zarr")
    whole = sliding_window_apply(function, field.values, SPEC)
    for at, name in enumerate(("wind km_h", "_.", "a_b", "ok")):
        np.testing.assert_allclose(found[name], whole[..., at], rtol=1e-5, atol=1e-5)
    assert found["wind km_h"].attrs["channel"] == "wind km/h"


def test_forecasts_have_valid_times_and_units(tmp_path):
    field = small_field((12, 8, 8))
    spec = WindowSpec((3, 4, 4), stride=(2, 4, 4), padding="FLUSH")
    rows = [2, 4, 6, 8, 10, 11]  # where windows end

    def ahead(windows):
        return jnp.stack([windows[:, -1] + lead for lead in (1.0, 2.0)], axis=1)[..., :1]

    predict_field(
        ahead,
        field,
        tmp_path / "f.zarr",
        spec,
        horizon=2,
        channels=["t2m"],
        region=(2, 4, None),
        progress=False,
    )
    found = opened(tmp_path / "f.zarr")
    assert found.t2m.dims == ("init_time", "lead_time", "latitude", "longitude")
    assert found.t2m.attrs["units"] == "K"
    np.testing.assert_array_equal(found.init_time, field.time[rows])
    np.testing.assert_array_equal(
        found.valid_time, field.time.values[rows, None] + np.arange(1, 3) * np.timedelta64(1, "h")
    )
    last = field.values[rows][..., 0]
    np.testing.assert_allclose(found.t2m, np.stack([last + 1, last + 2], 1), rtol=1e-6)


def test_quantiles_are_a_dim_and_what_follows_from_them_has_none(tmp_path):
    field = small_field((12, 8, 8), ("t2m", "quantile"))
    spec, levels = WindowSpec((3, 4, 4), stride=(2, 4, 4)), (0.1, 0.5, 0.9)
    known = np.random.default_rng(0).random((8, 8, 2)) < 0.8

    def ahead(windows):
        """Two leads, of each channel three quantiles, which run fastest."""
        last = windows[:, -1:]
        spread = jnp.stack([last - 1, last, last + 2], axis=-1)
        return jnp.concatenate([spread, spread + 5], axis=1).reshape(*spread.shape[:1], 2, 4, 4, 6)

    def derived(values, cells):
        return values[2] - values[0] + np.arange(8.0)[cells[0]][:, None, None]

    told = {"t2m_width": {"units": "K"}, "other_width": {}}
    given: Any = {"horizon": 2, "region": (2, 4, None), "known": known, "progress": False}
    given |= {"derived": Derived(told, derived), "restore": lambda x: x + 1}
    predict_field(ahead, field, tmp_path / "f.zarr", spec, quantiles=levels, **given)
    found = opened(tmp_path / "f.zarr")
    dims = ("init_time", "lead_time", "latitude", "longitude")
    assert found.t2m.dims == ("quantile", *dims)
    assert found.t2m_width.dims == dims
    assert found["quantile"].values.tolist() == [*levels]
    assert found.t2m.encoding["chunks"] == (3, 2, 2, 4, 8)
    assert found.t2m.attrs["units"] == found.t2m_width.attrs["units"] == "K"
    last = field.values[2::2] + 1
    for name, at in (("t2m", 0), ("quantile_value", 1)):
        expected = np.where(known, last, np.nan)[..., at]
        for level, add in zip(levels, (-1, 0, 2), strict=True):
            one = found[name].sel(quantile=level)
            np.testing.assert_allclose(one[:, 0], expected + add, rtol=1e-6)
            np.testing.assert_allclose(one[:, 1], expected + add + 5, rtol=1e-6)
    rows = np.where(known, 3 + np.arange(8.0)[:, None, None], np.nan)
    np.testing.assert_allclose(found.other_width[0, 1], rows[..., 1], rtol=1e-5)
    other = {"quantiles": (0.2, 0.5, 0.9), **given}
    with pytest.raises(InputError, match="with another quantiles; remove"):
        predict_field(ahead, field, tmp_path / "f.zarr", spec, **other)
    with pytest.raises(InputError, match=r"the 6 predicted channels must have .* of 2 quantiles"):
        predict_field(ahead, field, tmp_path / "x.zarr", spec, quantiles=(0.1, 0.9), **given)


@pytest.mark.parametrize("horizon", [None, 3])
def test_where_nothing_is_known_the_result_is_missing(horizon, tmp_path):
    field = small_field((12, 8, 8))
    known = np.random.default_rng(0).random((8, 8, 2)) < 0.6
    given: Any = {"horizon": horizon, "region": (3, 4, 4), "progress": False}
    for name, of in {"all": None, "some": known}.items():
        predict_field(jnp.tanh, field, tmp_path / f"{name}.zarr", (3, 4, 4), known=of, **given)
    whole, found = (
        opened(tmp_path / name).to_dataarray("channel").transpose(..., "channel").values
        for name in ("all.zarr", "some.zarr")
    )
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(found, np.where(known, whole, np.nan))
    with pytest.raises(InputError, match=r"target, \(8, 8, 2\), got \(8, 8, 1\)"):
        predict_field(jnp.tanh, field, tmp_path / "x.zarr", (3, 4, 4), known=known[..., :1])


def test_what_the_host_prepares_and_restores_knows_one_window_only(tmp_path):
    field = small_field((11, 6, 8))
    spec = WindowSpec((3, 4, 4), stride=(2, 2, 4))

    def prepare(values, times):
        """Each window less its mean, with that mean and its first hour as further rows."""
        starts = range(0, len(values) - 2, 2)
        windows = np.stack([values[start : start + 3] for start in starts])
        mean = windows.mean(1, keepdims=True)
        hours = times.astype("datetime64[h]").astype(float)[[*starts]]
        hours = np.broadcast_to(hours.reshape(-1, 1, 1, 1, 1), mean.shape)
        return np.concatenate([windows - mean, mean, hours], 1, dtype=np.float32)

    def ahead(windows):
        return windows[:, 2:3] + windows[:, 3:4] + windows[:, 4:5]

    predict_field(
        ahead,
        field,
        tmp_path / "f.zarr",
        spec,
        horizon=1,
        prepare=prepare,
        restore=lambda values: values - 1,
        region=(2, 2, 4),
        progress=False,
    )
    found = opened(tmp_path / "f.zarr")
    hours = field.time.values[:9:2].astype("datetime64[h]").astype(float)
    expected = field.values[2::2] + hours.reshape(-1, 1, 1, 1) - 1
    values = np.stack([found.t2m[:, 0], found.wind[:, 0]], -1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_another_resolution_has_its_own_coordinates(tmp_path):
    field = small_field((4, 8, 8), channels=("t2m",))

    def finer(windows):
        return jnp.repeat(windows, 2, axis=3)

    predict_field(
        finer,
        field,
        tmp_path / "f.zarr",
        (2, 4, 4),
        scale=(1, 1, 2),
        region=(2, 4, 4),
        progress=False,
    )
    found = opened(tmp_path / "f.zarr")
    np.testing.assert_allclose(found.t2m, field.values[..., 0].repeat(2, 2), rtol=1e-6)
    np.testing.assert_allclose(found.longitude, (np.arange(16) + 0.5) * 0.125 - 0.125)
    np.testing.assert_array_equal(found.latitude, field.latitude)


def test_constant_padding_and_causal_time(tmp_path):
    field = small_field((9, 5), channels=("a",))
    spec = WindowSpec((3, 3), stride=(1, 2), padding=("CAUSAL", "SAME"), fill_value=7)
    predict_field(function_1d, field, tmp_path / "f.zarr", spec, region=(4, 2), progress=False)
    whole = sliding_window_apply(function_1d, field.values, spec)
    np.testing.assert_allclose(opened(tmp_path / "f.zarr").a, whole[..., 0], rtol=1e-5)


def function_1d(windows):
    return windows + windows.sum((1, 2), keepdims=True)


def test_processes_share_the_regions(tmp_path, monkeypatch):
    field, calls = small_field(SHAPE), []
    read = fields._slab

    def counted(field, regions, number):
        calls.append(number)
        return read(field, regions, number)

    monkeypatch.setattr(fields, "_slab", counted)

    def part(index, name):
        return predict_field(
            function,
            field,
            tmp_path / name,
            SPEC,
            region=(5, 4, 3),
            process_index=index,
            process_count=2,
            progress=False,
        )

    assert part(0, "out.zarr") is False
    assert calls == [0, 2, 4, 6, 8, 10]
    assert not (tmp_path / "out.zarr").exists()
    assert part(1, "out.zarr") is True
    predict_field(function, field, tmp_path / "one.zarr", SPEC, region=(5, 4, 3), progress=False)
    xr.testing.assert_identical(opened(tmp_path / "out.zarr"), opened(tmp_path / "one.zarr"))
    with pytest.raises(InputError, match=r"process_index must be in \[0, 2\), got 2"):
        part(2, "two.zarr")


def test_dims_and_channels_may_be_called_as_a_field_calls_its_own(tmp_path):
    values = np.random.default_rng(0).random((6, 2, 4)).astype(np.float32)
    data = xr.Dataset(
        {"fields": (("time", "channel", "lead_time"), values)}, {"channel": ["init_time", "b"]}
    )
    spec = WindowSpec((2, 4), stride=(1, 4))
    target = tmp_path / "out.zarr"
    assert predict_field(lambda x: x, data["fields"], target, spec, horizon=2, progress=False)
    with opened(target) as written:
        assert {*written.data_vars} == {"init_time_value", "b"}
        assert written["b"].dims == ("init_time", "lead_time", "lead_time_axis")
        np.testing.assert_allclose(written["b"][0], values[:2, 1], rtol=1e-6)


def test_a_bar_counts_regions(tmp_path, capsys):
    field = small_field((4, 4), channels=("a",))
    predict_field(function_1d, field, tmp_path / "f.zarr", (2, 4), region=(2, 4))
    assert "2/2" in capsys.readouterr().err


def test_bad_input_is_one_sentence(tmp_path):
    field = small_field((8, 8, 8))
    target = tmp_path / "f.zarr"
    for options, message in (
        ({"channels": ["a"]}, "the 2 predicted channels must have a name each, got a"),
        ({"region": (2, 2)}, "one extent for each of the 3 axes"),
        ({"spec": (3, 4, 4)}, "every cell must lie in a window"),
        ({"fn": lambda w: {"a": w}}, "must return one array for predict_field"),
        ({"prepare": lambda v, _: v[None]}, "horizon must be given beside prepare"),
        (
            {"prepare": lambda v, _: v, "horizon": 1},
            r"prepare must return \[windows, rows, \*space, features\] .* over space \(4, 4\), got",
        ),
        ({"target": tmp_path / "no" / "f.zarr"}, "must be writable, got No such file"),
    ):
        usual = {"fn": function, "source": field, "target": target, "spec": (4, 4, 4)}
        given: dict[str, Any] = usual | options
        with pytest.raises(InputError, match=message):
            predict_field(**given, progress=False)
    target.mkdir()
    with pytest.raises(InputError, match="with another "):
        predict_field(function, field, target, (4, 4, 4), progress=False)


def test_an_interrupted_prediction_goes_on(tmp_path, monkeypatch):
    field, read, calls = small_field((9, 5), channels=("a",)), fields._slab, []

    def stops(*given):
        calls.append(given[-1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(*given)

    def run(name):
        spec = WindowSpec((3, 3), stride=(1, 2), padding=("CAUSAL", "SAME"))
        return predict_field(
            function_1d, field, tmp_path / name, spec, region=(2, 2), progress=False
        )

    monkeypatch.setattr(fields, "_slab", stops)
    with pytest.raises(KeyboardInterrupt):
        run("f.zarr")
    assert not (tmp_path / "f.zarr").exists()
    # As zarr leaves it where it is killed amid a chunk.
    (tmp_path / ".stpatch-part.f.zarr/store/a/0.0f8e.partial").write_bytes(b"half")
    assert run("f.zarr")
    assert calls == [0, 1, 2, *range(2, 15)]
    run("g.zarr")
    files = [{file.name for file in (tmp_path / of).rglob("*")} for of in ("f.zarr", "g.zarr")]
    assert files[0] == files[1]
    xr.testing.assert_identical(opened(tmp_path / "f.zarr"), opened(tmp_path / "g.zarr"))


PROGRAM = """
import sys, time
import jax
sys.path[:0] = {paths}
from test_predict_field import SPEC, function
from stpatch_jax.inference import predict_field, fields
slow = fields._slab
def waiting(*given):
    time.sleep(0.03)
    return slow(*given)
fields._slab = waiting
predict_field(function, sys.argv[1], sys.argv[2], SPEC, region=(2, 2, None), progress=False)
"""


@pytest.mark.slow
def test_killed_and_resumed_it_ends_bit_equal(tmp_path):
    small_field(SHAPE).to_dataset("channel").to_zarr(tmp_path / "in.zarr", zarr_format=2)
    here = Path(__file__)
    program = PROGRAM.format(paths=[str(here.parent), str(here.parents[1])])
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(here.parents[2]),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
    }

    def start(name):
        with (tmp_path / f"{name}.said").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-c", program, tmp_path / "in.zarr", tmp_path / name],
                env=env,
                stdout=said,
                stderr=said,
            )

    regions = tmp_path / ".stpatch-part.killed.zarr" / "regions"

    def finished():
        return [path.name for path in regions.iterdir() if not path.name.startswith(".")]

    for enough in (3, 20):
        process = start("killed.zarr")
        while not (regions.exists() and len(finished()) >= enough) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, (tmp_path / "killed.zarr.said").read_text()
    before = {name: (regions / name).stat().st_mtime_ns for name in finished()}
    assert 20 <= len(before) < 55
    last = start("killed.zarr")
    assert last.wait(120) == 0, (tmp_path / "killed.zarr.said").read_text()
    source = tmp_path / "in.zarr"
    predict_field(
        function, source, tmp_path / "straight.zarr", SPEC, region=(2, 2, None), progress=False
    )
    killed, straight = opened(tmp_path / "killed.zarr"), opened(tmp_path / "straight.zarr")
    xr.testing.assert_identical(killed, straight)
    assert not regions.parent.exists()
    assert json.loads(killed.attrs["prediction"])["shape"] == list(SHAPE)
