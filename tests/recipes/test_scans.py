"""Real scans: diagnosis at once, and twenty steps of a network, on those of hidden patches."""

import dataclasses
import json
import math

import pytest

from stpatch_jax.nn import Conv3DConfig
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import train
from stpatch_jax.tasks import ClassifyConfig, ReconstructConfig

HIDDEN = ReconstructConfig((1, 4, 4, 4), mask_ratio=0.5)
NETWORK = Conv3DConfig(3, features=(16, 32), window=(1, 2, 2, 2))
MEAN = ClassifyConfig(hidden=(), reduce="mean")


def cut(name, **changes):
    config = recipe(name)
    settings = dataclasses.replace(
        config.train, steps=20, batch_size=16, checkpoint_every=20, evaluate_every=20
    )
    return dataclasses.replace(config, train=settings, **changes)


@pytest.mark.slow
def test_every_field_is_reported(data_dir, tmp_path):
    runs = {
        "patches": cut("scan", model=NETWORK, task=HIDDEN),
        "network": cut("scan", model=NETWORK, task=MEAN, start_from=str(tmp_path / "patches")),
        "scan": cut("scan", task=ClassifyConfig()),
    }
    for name, config in runs.items():
        text = train(config, workdir=tmp_path / name, progress=False).report
        assert text.startswith("# scan\n")
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert report["step"] == (1 if name == "scan" else 20)
        assert set(report["data"]["splits"]) == {"train", "validation", "test"}
        assert sum(report["data"]["splits"]["train"].values()) == 1188
        assert all(map(math.isfinite, report["validation"].values()))
        if name != "patches":
            # Twenty steps of a network need not be above a coin.
            assert report["test"]["model"]["auc"] > 0.5 or name == "network"
            assert report["test"]["majority"]["accuracy"] == pytest.approx(0.768, abs=5e-4)
        else:
            figures = report["test"]["scaled"]
            assert figures["model"]["rmse"] < figures["visible_mean"]["rmse"]
