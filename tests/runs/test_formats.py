"""Run directories that earlier versions wrote: they load, predict and go on, whoever reads them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from format_runs import FORMATS, KINDS, predicted

from stpatch_jax.runs.directory import FORMAT
from stpatch_jax.runs.run import train

RUNS = sorted(path.name for path in FORMATS.glob("format-*"))


def test_every_kind_stands_there_in_the_format_of_today():
    assert {f"format-{FORMAT}-{name}" for name in KINDS} <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_version_loads_predicts_and_resumes(tmp_path, name):
    config, make = KINDS[name.rpartition("-")[2]]
    run, values = Path(shutil.copytree(FORMATS / name, tmp_path / "run")), make()
    expected = json.loads((run / "predicted.json").read_text())
    np.testing.assert_allclose(predicted(run, values), expected, rtol=1e-4, atol=1e-5)
    before = json.loads((run / "report.json").read_text())
    # Its plots are missing there, and are made again.
    text = train(config, data=values, workdir=run, progress=False)
    assert text == (run / "report.md").read_text()
    assert {path.stem for path in (run / "plots").iterdir()} == set(before["plots"])
    longer = replace(config, train=replace(config.train, steps=3))
    assert train(longer, data=values, workdir=run, progress=False)
    assert json.loads((run / "report.json").read_text())["step"] == 3
