"""Whatever a foreign parser raises is one sentence; what is no fault of a file passes."""

import re

import numpy as np
import pytest

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.errors import InputError, listed, shortened


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), RuntimeError("a\nb"), RecursionError(), IndexError(3), OSError(-51, "NetCDF")],
)
def test_any_error_of_a_parser_is_one_sentence(tmp_path, error):
    (tmp_path / "a.nc").touch()
    said = r"a\.nc must be a readable netCDF file, got .+; restore"
    with pytest.raises(InputError, match=said), parsing(tmp_path / "a.nc", "netCDF file"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_what_is_no_fault_of_the_parser_passes(error):
    with pytest.raises(error), parsing("a.nc", "netCDF file"):
        raise error("as it is")


def test_what_is_not_there_or_closed_is_not_called_damaged(tmp_path):
    def told(path, error):
        with pytest.raises(InputError) as caught, parsing(path, "text file"):
            raise error
        return str(caught.value)

    lacks, closed = FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")
    assert told(tmp_path / "none", lacks).endswith("none, got none; give an existing one")
    assert told(tmp_path, closed).endswith("give yourself the right to read it")
    large = told(tmp_path, MemoryError("Unable to allocate 32 GiB"))
    assert re.search("fits into memory, got Unable to allocate 32 GiB; .* a part of it", large)
    # A store that lacks a part of itself is there.
    assert "restore the file if" in told(tmp_path, lacks)


@pytest.mark.parametrize("count", [0, 1, 8, 9, 1000])
@pytest.mark.parametrize("length", [1, 30, 3000])
def test_no_list_of_names_is_longer_than_two_lines(count, length):
    names = [f"{at}{'x' * length}" for at in range(count)]
    text = listed(names)
    assert len(text) <= 200
    assert text.startswith(shortened(names[0], most=40) if names else "none")
    if count > 8:
        assert int(text.split(" and ")[1].split(" more")[0]) == count - text.count(",") - 1


def test_a_name_need_not_be_text():
    assert listed([np.int64(1), None]) == "1, None"


def test_a_stream_of_arrow_is_not_called_damaged(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"time": ["2024-01-01", "2024-01-02"], "a": [1.0, 2.0]})
    with arrow.ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(InputError, match=r"got a stream of batches; write a file") as told:
        open_field(tmp_path / "a.arrow")
    assert "restore" not in str(told.value)
