"""What a report says of customers: errors against scikit-learn, calibration against pandas."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from stpatch_jax.recipes.customers.judging import (
    CustomerForecasts,
    CustomersJudge,
    calibration_figure,
    customer_lines,
    customer_report,
)


def made(count, *, seed=0):
    random = np.random.default_rng(seed)
    before = np.stack([random.poisson(2, count), random.gamma(4, 10, count)], axis=-1)
    real = np.stack([random.poisson(1.5, count), random.gamma(3, 10, count)], axis=-1)
    forecasts = {
        name: random.gamma(2, 1, (count, 2)) * [1, 20] for name in ("model", "persistence")
    }
    names = np.array([f"c{at}" for at in range(count)])
    return CustomerForecasts(forecasts, real.astype(float), before.astype(float), names)


def test_errors_and_calibration_of_a_report():
    split = made(200)
    report = customer_report(split)
    for name, values in split.by_rule.items():
        for at, target in enumerate(("purchases", "spending")):
            found = report["scaled"][name][target]
            real, forecast = split.real[:, at], values[:, at]
            assert found["rmse"] == pytest.approx(root_mean_squared_error(real, forecast))
            assert found["mae"] == pytest.approx(mean_absolute_error(real, forecast))
            assert found["total"] == pytest.approx(forecast.sum())
    judge: Any = SimpleNamespace(forecasts=lambda judged: judged)
    lost = cast(Any, CustomersJudge.losses(judge, cast(Any, split)))
    for name, of in lost.of.items():
        assert of.mean() == pytest.approx(report["scaled"][name]["purchases"]["rmse"] ** 2)
    frame = pd.DataFrame({"before": split.before[:, 0].clip(max=7), "real": split.real[:, 0]})
    frame["model"] = split.by_rule["model"][:, 0]
    means: Any = frame.groupby("before").mean()
    rows = report["calibration"]
    assert [row["before"] for row in rows] == means.index.tolist()
    assert sum(row["customers"] for row in rows) == 200
    for name in ("real", "model"):
        np.testing.assert_allclose([row[name] for row in rows], means[name])


def test_the_lists_name_who_returns_stops_and_spends():
    split = made(200)
    lists = customer_report(split)["lists"]
    model = split.by_rule["model"]
    best = {"return": model[:, 0], "spend": model[:, 1]}
    for name, values in best.items():
        assert [one["customer"] for one in lists[name]] == [
            f"c{at}" for at in np.argsort(-values)[:10]
        ]
    assert len(lists["stop"]) == 10
    assert all(one["before"]["purchases"] >= 3 for one in lists["stop"])
    kept = [
        (m + 1) / (b + 1) for m, b in zip(model[:, 0], split.before[:, 0], strict=True) if b > 2
    ]
    first = lists["stop"][0]
    ratio = (first["forecast"]["purchases"] + 1) / (first["before"]["purchases"] + 1)
    assert ratio == pytest.approx(min(kept))


def test_the_report_in_words_and_its_plot():
    split = made(12, seed=1)
    test = customer_report(split)
    span = {"first_target": "2020-01-01", "last_target": "2020-02-01"}
    data = {"purchases": 30, "amounts_missing": 2, "amounts_clipped": 1, "amount_limit": 9.5}
    lines = customer_lines({"test": test, "data": {**data, "splits": {"test": span}}})
    text = "\n".join(lines)
    assert "2 had no amount and 1 one above 9.50" in text
    assert "| real | - | - |" in text
    assert "Will spend most:" in text
    lines = calibration_figure(test["calibration"]).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["real", "model", "persistence"]
