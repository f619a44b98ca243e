"""Twenty steps on real scans: of diagnosis, of hidden patches, and of one on the other."""

import dataclasses
import json
import math

import pytest

from stpatch_jax.recipes import recipe
from stpatch_jax.runs import train
from stpatch_jax.tasks import ReconstructConfig

HIDDEN = ReconstructConfig((1, 4, 4, 4), mask_ratio=0.5)


def cut(name, **changes):
    config = recipe(name)
    settings = dataclasses.replace(
        config.train, steps=20, batch_size=16, checkpoint_every=20, evaluate_every=20
    )
    return dataclasses.replace(config, train=settings, **changes)


@pytest.mark.slow
def test_twenty_steps_report_every_field(data_dir, tmp_path):
    runs = {
        "patches": cut("scan", task=HIDDEN),
        "scan": cut("scan", start_from=str(tmp_path / "patches")),
    }
    for name, config in runs.items():
        text = train(config, workdir=tmp_path / name, progress=False).report
        assert text.startswith("# scan\n")
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert report["step"] == 20
        assert set(report["data"]["splits"]) == {"train", "validation", "test"}
        assert sum(report["data"]["splits"]["train"].values()) == 1188
        assert all(map(math.isfinite, report["validation"].values()))
        if name == "scan":
            assert 0.5 < report["test"]["model"]["auc"] <= 1
            assert report["test"]["majority"]["accuracy"] == pytest.approx(0.768, abs=5e-4)
        else:
            figures = report["test"]["scaled"]
            assert figures["model"]["rmse"] < figures["visible_mean"]["rmse"]
