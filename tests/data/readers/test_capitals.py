"""Names are found whatever their capitals, in every kind of file, and two alike are refused."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data import FieldConfig, LabelledConfig, open_field
from stpatch_jax.data.readers.masks import read_masked_images
from stpatch_jax.errors import InputError

TIMES = pd.date_range("2000-01-01", periods=6, freq="D")
VALUES = np.arange(6.0)


def table(path, header):
    rows = (
        f"{time:%Y-%m-%d},{value},{value * 2},7" for time, value in zip(TIMES, VALUES, strict=True)
    )
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def gridded(path, *names):
    dims = ("Time", "y")
    values = {name: (dims, np.stack([VALUES, VALUES], 1)) for name in names}
    xr.Dataset(values, {"Time": TIMES, "y": [0, 1]}).to_netcdf(path)
    return path


def arrays(path, *names):
    values: dict[str, Any] = {name: np.stack([VALUES, VALUES], 1) for name in names}
    np.savez(path, time=TIMES, **values)
    return path


@pytest.mark.parametrize("kind", ["csv", "nc", "npz"])
def test_a_field_is_read_by_names_of_any_case(tmp_path, kind):
    told: dict[str, Any] = {}
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        table(path, "Day,Load,Temp,Plant")
        told = {"time": "DAY", "series": "plant"}
    elif kind == "nc":
        gridded(path, "Load", "Temp")
        told = {"time": "TIME"}
    else:
        arrays(path, "Load", "Temp")
    right: dict[str, Any] = {
        name: {"DAY": "Day", "TIME": "Time", "plant": "Plant"}[of] for name, of in told.items()
    }
    expected = open_field(path, variables=["Load"], **right)
    field = open_field(path, variables=["LOAD"], **told)
    xr.testing.assert_equal(field, expected)
    notes = field.attrs.get("notes", "")
    assert "Load for LOAD" in str(notes)


@pytest.mark.parametrize("kind", ["csv", "nc", "npz"])
def test_two_names_that_differ_in_capitals_alone_must_be_written_out(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    make = {
        "csv": lambda: table(path, "Day,Load,LOAD,x"),
        "nc": lambda: gridded(path, "Load", "LOAD"),
    }
    make.get(kind, lambda: arrays(path, "Load", "LOAD"))()
    with pytest.raises(InputError, match="got load for Load, LOAD; give one of these"):
        open_field(path, variables=["load"])
    assert open_field(path, variables=["LOAD"]).size in (6, 12)


def test_roles_and_selections_are_named_by_any_case(tmp_path):
    path = tmp_path / "a.nc"
    values = np.random.default_rng(0).normal(size=(40, 2, 3))
    times = pd.date_range("2000-01-01", periods=40, freq="D")
    both = dict.fromkeys(("T2M", "Tp"), (("time", "Level", "x"), values))
    xr.Dataset(both, {"time": times, "Level": [850, 500], "x": [0, 1, 2]}).to_netcdf(path)
    names = {"targets": ("t2m",), "known": ("TP",), "select": {"level": 500}}
    data = FieldConfig(path=str(path), context=3, horizon=2, **names).load()
    assert data.roles.targets == ("T2M",)
    assert data.roles.known == ("Tp",)
    np.testing.assert_array_equal(data.field.values[..., 0], values[:, 1])


def test_labelled_arrays_columns_and_masks_are_named_by_any_case(tmp_path):
    items, labels = np.zeros((8, 4, 4), np.float32), np.arange(8) % 2
    np.savez(tmp_path / "a.npz", Images=items, Labels=labels, other=labels)
    path = str(tmp_path / "a.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = LabelledConfig(path=path, inputs=("IMAGES",), labels=("labels",)).load()
    assert len(data.classes) == 2
    np.savez(tmp_path / "m.npz", Pictures=items, Masks=items.astype(int), other=items)
    read_masked_images(tmp_path / "m.npz", images=("pictures",), masks=("MASKS",))
