"""Runs on other data and tasks than panels: a classification and a map, from config to report."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score

from stpatch_jax.data import FieldConfig, LabelledSeriesConfig
from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.run import RunConfig, evaluate, train
from stpatch_jax.tasks import ClassifyConfig, ForecastConfig
from stpatch_jax.training import TrainConfig

TRAIN = TrainConfig(steps=4, batch_size=8, checkpoint_every=2, evaluate_every=2)


def read(folder):
    return json.loads((folder / "report.json").read_text())


def write_series(folder):
    """Two classes of noise whose mean differs."""
    random = np.random.default_rng(0)
    for name, count in {"TRAIN": 16, "TEST": 11}.items():
        labels = np.arange(count) % 2
        values = random.normal(size=(count, 12)) + labels[:, None]
        rows = [[label, *row] for label, row in zip(labels.tolist(), values.tolist(), strict=True)]
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / f"Noise_{name}.tsv").write_text(text)
    return str(folder / "Noise_TRAIN.tsv")


def test_a_classification_reports_what_scikit_learn_says(tmp_path):
    config = RunConfig(
        recipe="noise",
        data=LabelledSeriesConfig(path=write_series(tmp_path)),
        model=PatchCNNConfig(WindowSpec((4,)), features=(4,)),
        task=ClassifyConfig(hidden=()),
        train=TRAIN,
    )
    text = train(config, workdir=tmp_path / "run", progress=False).report
    report = read(tmp_path / "run")
    assert report["task"] == "Classify"
    test, validation = report["test"], report["validation"]
    assert list(validation) == ["error", "mcc", "auc"]
    table = np.array(test["confusion"])
    label = np.repeat([0, 0, 1, 1], table.ravel())
    said = np.repeat([0, 1, 0, 1], table.ravel())
    assert len(label) == test["examples"] == 11
    assert test["model"]["accuracy"] == pytest.approx(accuracy_score(label, said))
    assert test["model"]["mcc"] == pytest.approx(matthews_corrcoef(label, said), abs=1e-6)
    assert test["majority"]["accuracy"] == pytest.approx(max(np.bincount(label)) / 11)
    assert test["majority"]["auc"] == roc_auc_score(label, np.zeros(11)) == 0.5
    verdict = report["verdict"]
    assert verdict["metric"] == "the share of wrong classes"
    beaten = 1 - test[verdict["rule"]]["accuracy"]
    assert verdict["gain"] == pytest.approx((beaten - 1 + test["model"]["accuracy"]) / beaten)
    assert f"**{verdict['text']}**" in text
    assert f"| model | {test['model']['accuracy']:.4g} |" in text
    plots = {path.name for path in (tmp_path / "run/plots").iterdir()}
    assert plots == {"confusion.png", "learning.png"}
    (tmp_path / "run/report.json").unlink()
    assert evaluate(tmp_path / "run") == text


@pytest.mark.slow
def test_a_map_is_reported_beside_every_naive_forecast(tmp_path):
    hours = pd.date_range("2024-01-01", periods=200, freq="h")
    random = np.random.default_rng(0)
    values = random.normal(280, 2, (200, 4, 6)).astype(np.float32)
    field = xr.DataArray(
        values,
        dims=("time", "latitude", "longitude"),
        coords={"time": hours, "latitude": np.arange(4.0), "longitude": np.arange(6.0)},
        attrs={"units": "K"},
        name="t2m",
    )
    field.to_netcdf(tmp_path / "map.nc")
    config = RunConfig(
        recipe="map",
        data=FieldConfig(
            path=str(tmp_path / "map.nc"), context=24, horizon=3, season=24, climatology="hour"
        ),
        model=PatchCNNConfig(WindowSpec((8, 2, 3), stride=(8, 2, 3)), features=(4,)),
        task=ForecastConfig(),
        train=TRAIN,
    )
    text = train(config, workdir=tmp_path / "run", progress=False).report
    report = read(tmp_path / "run")
    climatological = {"climatology", "anomaly_persistence"}
    rules = {"model", "persistence", "drift", "season", "running_mean", *climatological}
    assert rules <= report["test"]["scaled"].keys()
    assert report["test"]["original"]["unit"] == "K"
    assert list(report["test"]["series"]) == ["t2m"]
    # The same hour yesterday, from the file alone: the last 40 rows are the test span.
    origins = np.arange(160, 198)
    rows = origins[:, None] + np.arange(3)
    naive = np.abs(values[rows - 24] - values[rows]).mean(dtype=np.float64)
    got = report["test"]["original"]["season"]["mae"]["all"]
    assert got == pytest.approx(naive, rel=1e-5)
    assert "| season |" in text


@pytest.mark.slow
def test_a_map_in_memory_is_drawn_by_the_numbers_of_its_rows(tmp_path):
    config = RunConfig(
        recipe="map",
        data=FieldConfig(context=4, horizon=2),
        model=PatchCNNConfig(WindowSpec((2, 2, 3)), features=(4,)),
        task=ForecastConfig(),
        train=TRAIN,
    )
    field = np.random.default_rng(0).normal(size=(60, 4, 6, 1))
    train(config, data=field, workdir=tmp_path, progress=False)
    assert (tmp_path / "plots/maps.png").exists()
