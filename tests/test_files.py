"""Files that appear whole or not at all."""

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.files import replaced


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
