"""Files that appear whole or not at all."""

import ast
import os
import re
from pathlib import Path

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.files import (
    clear_unfinished,
    from_json,
    is_own,
    replaced,
    to_json,
    unfinished,
)

PACKAGE = Path(__file__).parents[1] / "stpatch_jax"


def test_a_failed_block_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_text("before")

    def fail():
        with replaced(path) as part:
            assert part.name.endswith(".csv.gz")
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv.gz"]
    with replaced(path) as part:
        part.write_text("after")
    assert path.read_text() == "after"


def test_a_folder_appears_with_all_its_files(tmp_path):
    with replaced(tmp_path / "store") as part:
        part.mkdir()
        (part / "a").write_text("1")
        assert not (tmp_path / "store").exists()
    assert (tmp_path / "store/a").read_text() == "1"


def test_what_the_file_system_refuses_is_one_sentence(tmp_path):
    with (
        pytest.raises(InputError, match=r"no/a must be writable, got No such file.*; choose"),
        replaced(tmp_path / "no/a") as part,
    ):
        part.write_text("")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_a_killed_command_left_is_cleared_and_told(tmp_path, make):
    path = tmp_path / "a.csv.gz"
    make(unfinished(path))
    assert is_own(unfinished(path))
    assert unfinished(path).name.endswith(".csv.gz")
    told = pytest.warns(UserWarning, match="removed what a killed command left")
    with told, replaced(path) as part:
        part.write_text("after")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv.gz"]
    for name in ("a", "a~1", "ab", "b[c]"):
        make(unfinished(tmp_path / name))
    told = clear_unfinished(tmp_path, name="a")
    assert told.endswith("a killed command left: .stpatch-part.a, .stpatch-part.a~1")
    assert clear_unfinished(tmp_path, name="b[c]").endswith(" left: .stpatch-part.b[c]")
    assert clear_unfinished(tmp_path / "none", tmp_path).endswith(" left: .stpatch-part.ab")
    assert clear_unfinished(tmp_path) == ""
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv.gz"]


def test_names_appear_after_what_is_in_them_is_on_disk(tmp_path, monkeypatch):
    """In this order: the file, its name, the folder."""
    events = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def renamed(self, target):
        events.append(f"-> {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    with replaced(tmp_path / "a") as part:
        part.write_text("whole")
    assert events == [".stpatch-part.a", "-> a", tmp_path.name]


WRITERS = {"write_text", "write_bytes", "savefig", "to_csv", "to_netcdf", "to_parquet", "saving"}
OTHERWISE = {
    "data/catalog.py": "open",  # pooch gives it a temporary name
    "plotting/style.py": "savefig",  # hands on the name that it is given
    "runs/predicting/masks.py": "write_bytes",  # `Predictor.write` gives it a temporary name
    "training/log.py": "open",  # a log grows by lines; its cut is replaced
}


def test_every_file_is_written_by_replacing():
    """Whoever writes a file has the name that `replaced` gave, or a parameter that may be one."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if ast.unparse(call.func) == "directory.write_text":  # A RunDirectory's, which replaces
                continue
            modes = {arg.value for arg in call.args if isinstance(arg, ast.Constant)}
            if name in WRITERS or (name == "open" and modes & {"w", "wb", "a", "ab", "x", "xb"}):
                found.setdefault(str(file.relative_to(PACKAGE)), set()).add(name)
    missing = {
        file: names
        for file, names in found.items()
        if "with replaced(" not in (PACKAGE / file).read_text(encoding="utf-8")
        and "(replaced(" not in (PACKAGE / file).read_text(encoding="utf-8")
        and names != {OTHERWISE.get(file)}
    }
    assert missing == {}


def test_json_is_written_in_one_place():
    """Only there is NaN kept out of what others read; files of others may hold it."""
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "files.py":
            pattern = r"json\.dump" if "data" in path.parts else r"\bjson\.|import json"
            assert not re.search(pattern, path.read_text(encoding="utf-8")), path
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("inf")})
    for text in ("[NaN]", "[-Infinity]", "[" * 100_000):
        with pytest.raises(ValueError, match=r"no JSON|nested too deep"):
            from_json(text)
    assert from_json(to_json({"b": [1, None], "a": "é"}, sort_keys=True)) == {
        "a": "é",
        "b": [1, None],
    }
