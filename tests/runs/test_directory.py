"""A run directory belongs to one configuration, and refuses everything else untouched."""

import json

import pytest

import stpatch_jax
from stpatch_jax.errors import InputError
from stpatch_jax.runs.directory import RunDirectory

CONFIG = {"recipe": "stocks", "data": {"horizon": 6}, "train": {"steps": 10, "seed": 0}}


def changed(**train):
    return {**CONFIG, "train": {**CONFIG["train"], **train}}


def test_only_steps_may_grow(tmp_path):
    directory = RunDirectory(tmp_path / "new" / "run")
    directory.claim(CONFIG)
    directory.claim(changed(steps=20))
    assert directory.config() == changed(steps=20)
    with pytest.raises(InputError, match=r"train.steps = 20, got 10; .*only train.steps"):
        directory.claim(CONFIG)
    with pytest.raises(InputError, match=r"train.seed = 0, got 1"):
        directory.claim(changed(steps=20, seed=1))
    assert directory.config() == changed(steps=20)


def test_the_mesh_may_change(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.claim(changed(mesh={"fsdp": 1}))
    directory.claim(changed(mesh={"fsdp": 4}))
    assert directory.config()["train"]["mesh"]["fsdp"] == 4


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    note = tmp_path / "thesis.txt"
    note.write_text("words")
    with pytest.raises(InputError, match="must be empty or hold a run"):
        RunDirectory(tmp_path).claim(CONFIG)
    with pytest.raises(InputError, match="must be empty or hold a run"):
        RunDirectory(note).claim(CONFIG)
    with pytest.raises(InputError, match="must be writable"):
        RunDirectory(note / "run").claim(CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert note.read_text() == "words"


def test_a_kill_at_the_first_write_closes_no_directory(tmp_path):
    (tmp_path / ".stpatch-part.config.json").write_text('{"half')
    directory = RunDirectory(tmp_path)
    with pytest.warns(UserWarning, match=r"removed what a killed command left: .*config.json$"):
        directory.claim(CONFIG)
    assert directory.config() == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "got none; use stpatch_jax before 0.1.0"),
        ({"format": 2, "version": "3.1.0"}, "got 2; use stpatch_jax 3.1.0, which made it"),
    ],
)
def test_another_format_is_refused_with_the_version_that_reads_it(tmp_path, form, told):
    directory = RunDirectory(tmp_path)
    directory.claim(CONFIG)
    written = json.loads(directory.config_file.read_text())
    assert (written.pop("format"), written.pop("version")) == (1, stpatch_jax.__version__)
    assert written == CONFIG
    directory.config_file.write_text(json.dumps({**form, **CONFIG}))
    for ask in (directory.config, lambda: directory.claim(CONFIG)):
        with pytest.raises(InputError, match=f"must have the format 1, {told}"):
            ask()


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(InputError, match=r"readable config.json, got none"):
        RunDirectory(tmp_path).config()
    (tmp_path / "config.json").write_text('{"half')
    with pytest.raises(InputError, match="got a damaged one"):
        RunDirectory(tmp_path).config()
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="must hold one JSON object"):
        RunDirectory(tmp_path).config()


def test_files_are_replaced_in_one_rename(tmp_path):
    directory = RunDirectory(tmp_path)
    assert directory.report() is None
    directory.write_json(directory.report_file, {"step": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        directory.write_json(directory.report_file, {"step": float("nan")})
    assert directory.report() == {"step": 1}
    assert json.loads(directory.report_file.read_text()) == {"step": 1}
