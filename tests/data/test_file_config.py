"""What a reader is told by settings, and the notes that it leaves."""

import json

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.data import FieldConfig, FileConfig
from stpatch_jax.data.fields.describing import describe_patches, patch_summary
from stpatch_jax.data.readers.conventions import add_note, notes_of
from stpatch_jax.errors import InputError
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs.values import from_values, to_values


def test_settings_that_are_given_are_told_to_the_reader(tmp_path):
    (tmp_path / "a.csv").write_text("when,who,load\n2024-01-01,a,1\n2024-01-02,a,2\n")
    config = FileConfig(time="when", series="who")
    assert config.told() == {"time": "when", "series": "who"}
    assert config.open(tmp_path / "a.csv").sizes == {"time": 2, "series": 1, "channel": 1}
    problem = FieldConfig(str(tmp_path / "a.csv"), time="when", series="who", context=1, horizon=1)
    assert problem.told() == config.told()


def test_a_setting_that_a_reader_does_not_know_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match="series"):
        FileConfig(series="who", dims=("time", "x")).open(tmp_path / "a.npy")


def test_settings_go_to_json_and_back():
    config = FileConfig(dims=("time", "x"), select={"level": 500.0, "name": "a"})
    values = json.loads(json.dumps(to_values(config)))
    assert from_values(FileConfig, values) == config


def test_notes_are_kept_and_told():
    dims = ("time", "channel")
    field = xr.DataArray(np.zeros((4, 1)), dims=dims, coords={"channel": ["a"]})
    field = add_note(add_note(field, "One was dropped."), "Two was sorted.")
    assert notes_of(field[:2]) == ("One was dropped.", "Two was sorted.")
    summary = patch_summary(field, WindowSpec((2,)))
    text = describe_patches(json.loads(json.dumps(summary)))
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("note")] == [
        "One was dropped.",
        "Two was sorted.",
    ]
    with xr.set_options(keep_attrs=True):
        varied = field + np.random.default_rng(0).random((4, 1))
    data = FieldConfig(context=1, horizon=1, train_share=0.5, test_share=0.25).of(varied)
    assert data.report["notes"] == list(notes_of(field))


def test_an_attribute_of_a_file_that_is_called_notes_is_none():
    assert notes_of(xr.DataArray(0, attrs={"notes": "made by hand"})) == ()
