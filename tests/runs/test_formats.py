"""Run directories that earlier versions wrote: they load, predict and go on, whoever reads them."""

import json
import shutil
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_runs import FORMATS, KINDS, predicted
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.errors import InputError
from stpatch_jax.runs.config import RunConfig, config_of
from stpatch_jax.runs.directory import FORMAT, RunDirectory
from stpatch_jax.runs.run import train
from stpatch_jax.runs.trained import digests_of, load_run
from stpatch_jax.runs.values import difference, from_values, to_values

RUNS = sorted(path.name for path in FORMATS.glob("format-*"))


def test_every_kind_stands_there_in_the_format_of_today():
    assert {f"format-{FORMAT}-{name}" for name in KINDS} <= set(RUNS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] * (not x.endswith("classes"))) for x in RUNS],
)
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
        text = train(config, data=values, workdir=run, progress=False).report
    assert text == (run / "report.md").read_text()
    assert {path.stem for path in (run / "plots").iterdir()} == set(before["plots"])
    longer = replace(config, train=replace(config.train, steps=3))
    with pytest.warns(UserWarning, match="kept no digest"):
        assert train(longer, data=values, workdir=run, progress=False).step == 3
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


def _places(values, at=()):
    """Where something stands in a tree of JSON values."""
    named = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in named:
        yield (*at, name)
        if isinstance(value, dict | list):
            yield from _places(value, (*at, name))


STORED = {name: json.loads((FORMATS / name / "config.json").read_text()) for name in RUNS}
JSON = st.recursive(
    st.sampled_from([None, True, False, "", "500", "nan", "inf", -1, 0, 2**63, 10**400, 1e300, 0.5])
    | st.text(max_size=4),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=4), of, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.data())
def test_a_config_changed_by_hand_is_refused_by_its_entry_or_is_what_it_says(data):
    name = data.draw(st.sampled_from(RUNS))
    values = json.loads(json.dumps(STORED[name]))
    place = data.draw(st.sampled_from(list(_places(values))))
    *path, last = place
    branch = values
    for step in path:
        branch = branch[step]
    kind = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if kind == "add" and isinstance(branch, dict):
        branch[data.draw(st.text(max_size=5))] = data.draw(JSON)
    elif kind == "remove":
        del branch[last]
    else:
        branch[last] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder)
        run.config_file.write_text(json.dumps(values))
        config, told = None, ""
        try:
            config = config_of(run)
        except InputError as error:
            told = str(error)
        if config is None:
            assert folder in told
            return
        told = to_values(config)
        assert from_values(RunConfig, told) == config
        # Numbers may be told as another type of theirs.
        assert difference(told, run.config()) is None


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("train.steps", "500"),
        ("train.steps", True),
        ("train.steps", None),
        ("train.optimizer.learning_rate", 10**400),
        ("model.features", []),
        ("model.features", "4"),
        ("data.select", []),
    ],
)
def test_an_entry_of_another_type_is_named_with_its_file(tmp_path, entry, value):
    values = json.loads(json.dumps(STORED["format-1-field"]))
    *path, last = entry.split(".")
    branch = values
    for step in path:
        branch = branch[step]
    branch[last] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    named = rf"config\.json: (config\.{entry}|\w+\.features) must "
    with pytest.raises(InputError, match=named) as error:
        config_of(RunDirectory(tmp_path))
    assert str(tmp_path / "config.json") in str(error.value)


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("extras", [], "must be whole, got another record"),
        ("structure", None, "must be whole, got another record"),
        ("fingerprint", "1", "must be whole, got another record"),
        ("extras.shapes", {"context": "x"}, "shapes in checkpoint 2 of .*context must be"),
        ("extras.state", 3, "state in checkpoint 2 of .* must be"),
        ("extras.facts", [1], "facts in checkpoint 2 of .* must be"),
    ],
)
def test_a_record_of_other_types_is_refused(tmp_path, entry, value, told):
    run = Path(shutil.copytree(FORMATS / "format-1-field", tmp_path / "run"))
    file = run / "checkpoints/2/_CHECKPOINT_METADATA"
    saved = json.loads(file.read_text())
    record = saved["custom_metadata"]["record"]
    *path, last = entry.split(".")
    (record[path[0]] if path else record)[last] = value
    checksum = zlib.crc32(json.dumps(record, sort_keys=True).encode())
    saved["custom_metadata"]["checksum"] = checksum
    file.write_text(json.dumps(saved))
    with pytest.raises(InputError, match=told):
        load_run(run)
