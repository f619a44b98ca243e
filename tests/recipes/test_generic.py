"""Recipes for any file: from files of a few KB of each layout to a report and predictions."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax import cli
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import Run

DIMS = ["--data.dims", "time", "z", "y", "x"]
RANDOM = np.random.default_rng(0)


def values(*shape):
    """A season of 7 rows in noise [time, *shape]."""
    wave = np.sin(2 * np.pi * np.arange(120) / 7).reshape(-1, *[1] * len(shape))
    return (wave + 0.1 * RANDOM.normal(size=(120, *shape))).astype(np.float32)


def files(folder):
    days = pd.date_range("2021-01-01", periods=120)
    wide = pd.DataFrame(values(3), index=days.rename("date"), columns=list("abc"))
    wide.loc[days[40:43], "b"] = np.nan
    gaps = wide.drop(days[60:62]).reset_index().melt("date", value_name="sales").dropna()
    gaps.to_csv(folder / "long.csv", index=False)
    np.save(folder / "volume.npy", values(3, 4, 2))
    return {"long.csv": ["--data.horizon", "4"], "volume.npy": DIMS}


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 4, 1), (2, 3, 4, 2)])
def test_what_is_not_said_is_told_by_the_data(shape):
    for name, horizon in {"forecast": 7, "reconstruct": 8}.items():
        run = Run(recipe(name), data=values(*shape))
        assert {"data.horizon", "model.spec.window", "train.batch_size"} <= {*run.chosen}
        assert vars(run.config.data)["horizon"] == horizon
        # Of the task they are facts.
        config = run.extras()["config"]
        assert "auto" not in json.dumps([config[part] for part in ("data", "model", "train")])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gap")
@pytest.mark.parametrize("name", ["long.csv", "volume.npy"])
def test_a_file_is_forecast_by_two_commands(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    told = ["--train.steps", "4", "--train.checkpoint-every", "4", "--train.evaluate-every", "4"]
    assert cli.main(["train", "forecast", "--data.path", name, *told, *files(tmp_path)[name]]) == 0
    out = capsys.readouterr().out
    assert "- data.season: 7: the value 7 rows before" in out
    assert "| season_7 |" in out
    target = "coming.csv" if name.endswith("csv") else "coming.nc"
    assert cli.main(["predict", "runs/forecast", name, target]) == 0
    if target.endswith("nc"):
        with xr.open_dataset(target) as made:
            assert any(np.isfinite(of).any() for of in made.data_vars.values())
    else:
        assert len(pd.read_csv(target)) > 0


@pytest.mark.slow
def test_hidden_patches_of_a_file_are_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    told = ["--train.steps", "2", "--model", "flat_patches", "--train.batch-size", "8"]
    assert cli.main(["train", "reconstruct", "--data.path", "volume.npy", *told, *DIMS]) == 0
    assert cli.main(["predict", "runs/reconstruct", "volume.npy", "filled.npz"]) == 0
    with np.load("filled.npz") as made:
        hidden, first = made["hidden"], np.load("volume.npy")[1:9]
        shown = made["field"][0, ..., 0][~hidden]
        np.testing.assert_allclose(shown, first[~hidden], rtol=1e-4, atol=1e-4)
