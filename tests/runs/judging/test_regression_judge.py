"""Numbers of items, from a table to predictions: scores and neighbours of scikit-learn."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from stpatch_jax.data import LabelledConfig, MeasuredConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import RunConfig, load_run
from stpatch_jax.runs.judging import neighbors
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import train
from stpatch_jax.tasks import RegressConfig
from stpatch_jax.training import TrainConfig

RANDOM = np.random.default_rng(3)
FIELDS = RANDOM.normal(size=(80, 20))
TARGETS = np.stack([FIELDS[:, 0] * 5 + 40, 1000 * FIELDS.sum(axis=1)], axis=1)


def arrays(data, split, name):
    return np.stack([example[name] for example in data.source(split)])


@pytest.mark.slow
def test_a_run_tells_numbers_in_their_own_units(tmp_path):
    frame = pd.DataFrame(FIELDS, columns=[f"x{at}" for at in range(20)])
    frame = frame.assign(age=TARGETS[:, 0], mass=TARGETS[:, 1])
    frame.to_csv(tmp_path / "x.csv", index=False)
    config = RunConfig(
        data=MeasuredConfig(path=str(tmp_path / "x.csv"), labels=("age", "mass")),
        model=FlatPatchesConfig(WindowSpec((None,))),
        task=RegressConfig(hidden=(), loss="mse"),
        train=TrainConfig.cosine(60, 3e-2, checkpoint_every=60),
    )
    train(config, workdir=tmp_path / "run", progress=False)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (tmp_path / "run/plots/agreement.png").is_file()
    assert report["validation"]["scaled_mae"] > 0
    test, run = report["test"]["targets"], load_run(tmp_path / "run")
    data: Any = config.data.load()
    truth = data.splits["test"].labels
    answers = {
        "model": data.in_units(run.answers({"field": arrays(data, "test", "field")})),
        "mean": np.tile(data.splits["train"].labels.mean(axis=0), (len(truth), 1)),
        "median": np.tile(np.median(data.splits["train"].labels, axis=0), (len(truth), 1)),
    }
    knn = KNeighborsRegressor(1).fit(
        arrays(data, "train", "field").reshape(-1, 20), data.splits["train"].labels
    )
    answers["nearest_neighbor"] = knn.predict(arrays(data, "test", "field").reshape(-1, 20))
    for at, name in enumerate(("age", "mass")):
        assert set(test[name]) == set(answers)
        for rule, values in answers.items():
            both = truth[:, at], values[:, at]
            assert test[name][rule]["mae"] == pytest.approx(mean_absolute_error(*both), rel=1e-4)
            rmse = root_mean_squared_error(*both)
            assert test[name][rule]["rmse"] == pytest.approx(rmse, rel=1e-4)
            r2 = r2_score(*both)
            assert test[name][rule]["r2"] == pytest.approx(r2, rel=1e-3, abs=1e-4)
        assert test[name]["model"]["mae"] < test[name]["mean"]["mae"]
    scales = np.diff(data.in_units(np.array([[0.0, 0.0], [1.0, 1.0]])), axis=0)
    missed = {name: np.abs((of - truth) / scales).mean() for name, of in answers.items()}
    verdict = report["verdict"]
    gain = 1 - missed["model"] / missed[verdict["rule"]]
    assert verdict["gain"] == pytest.approx(gain, rel=1e-4)
    # What is predicted is the same again, and needs no targets.
    frame[["x1", *(f"x{at}" for at in range(20) if at != 1)]].to_csv(tmp_path / "new.csv")
    predict(tmp_path / "run", str(tmp_path / "new.csv"), tmp_path / "out.csv", progress=False)
    made = pd.read_csv(tmp_path / "out.csv")
    assert list(made) == ["line", "age", "mass"]
    np.testing.assert_allclose(
        made.loc[data.splits["test"].groups, ["age", "mass"]], answers["model"], rtol=1e-4
    )


def test_nearest_neighbors_are_scikit_learns_within_what_they_may_cost(monkeypatch):
    classes = (TARGETS[:, 0] > 40).astype(int)
    data = LabelledConfig().of((FIELDS, classes))
    fields, labels = arrays(data, "train", "field"), arrays(data, "train", "label")
    for kept in (len(labels), 7):
        monkeypatch.setattr(neighbors, "_MOST_KEPT", kept)
        found = neighbors.nearest_neighbors(data, "test", "label")
        assert found is not None
        assert found.told == {"kept": kept, "of": len(labels)}
        rows = np.linspace(0, len(labels) - 1, kept).round().astype(int)
        knn = KNeighborsClassifier(1).fit(fields[rows].reshape(kept, -1), labels[rows])
        expected = knn.predict(arrays(data, "test", "field").reshape(-1, 20))
        assert accuracy_score(expected, found.answers) == 1
