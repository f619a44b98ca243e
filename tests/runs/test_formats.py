"""Run directories that earlier versions wrote: they load, predict and go on, whoever reads them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_runs import FORMATS, KINDS, predicted

from stpatch_jax.errors import InputError
from stpatch_jax.runs.directory import FORMAT
from stpatch_jax.runs.run import train
from stpatch_jax.runs.trained import digests_of

RUNS = sorted(path.name for path in FORMATS.glob("format-*"))


def test_every_kind_stands_there_in_the_format_of_today():
    assert {f"format-{FORMAT}-{name}" for name in KINDS} <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_version_loads_predicts_and_resumes(tmp_path, name):
    config, make = KINDS[name.rpartition("-")[2]]
    run, values = Path(shutil.copytree(FORMATS / name, tmp_path / "run")), make()
    expected = json.loads((run / "predicted.json").read_text())
    before = json.loads((run / "report.json").read_text())
    # It was made before data were compared by what was read of them.
    with pytest.warns(UserWarning, match="by a version that kept no digest of its data"):
        np.testing.assert_allclose(predicted(run, values), expected, rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="kept no digest"):
        # Its plots are missing there, and are made again.
        text = train(config, data=values, workdir=run, progress=False)
    assert text == (run / "report.md").read_text()
    assert {path.stem for path in (run / "plots").iterdir()} == set(before["plots"])
    longer = replace(config, train=replace(config.train, steps=3))
    with pytest.warns(UserWarning, match="kept no digest"):
        assert train(longer, data=values, workdir=run, progress=False)
    assert json.loads((run / "report.json").read_text())["step"] == 3
    predicted(run, values)
    for data, told in changed(values):
        with pytest.raises(InputError, match=told):
            train(longer, data=data, workdir=run, progress=False)


def changed(values: Any) -> list[tuple[Any, str]]:
    """The data with one thing changed, and how that is told."""
    if isinstance(values, tuple):
        fields, labels = values
        other = fields + np.float32(1)
        return [((other, labels), r"got another train, validation, test split; give")]
    other = values.copy(deep=True)
    other[-1, 0, 0] += 1
    return [
        (other, "got another test split; give the data as they were, or train anew with another"),
        (values.assign_attrs(units="degC"), "got t2m in degC in place of K; give"),
        (values[:, ::-1], "got the axis latitude of 3 to 0 in place of 4 cells; give"),
        (values.rename("t"), "got the channels t in place of t2m; give"),
    ]


def test_digests_are_the_same_for_every_version_and_machine():
    digests = {
        "field": ("bfd00facfde45420", "d06173005907ecfa", "0ae749eabb0715ed"),
        "classes": ("9524cd617a6f85e9", "3cc6b488b2b738dd", "30a84399ce9daef3"),
    }
    for name, expected in digests.items():
        config, make = KINDS[name]
        assert tuple(digests_of(config.data.of(make())).values()) == expected
