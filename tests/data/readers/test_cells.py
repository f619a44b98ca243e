"""Reading a CSV file cell by cell: what is a number, what a date, and which line is wrong."""

import gzip
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.data.readers.delimited import read_cells
from stpatch_jax.errors import InputError


def first_column(head: Cells) -> list[int]:
    return [0]


def cells_of(folder: Path, text: str) -> Cells:
    file = folder / "table.csv"
    file.write_text(text)
    return read_cells(file, first_column)


def dates_of(texts: list[str]) -> pd.Series:
    frame = pd.DataFrame({0: texts})
    return Cells("table.csv", ["date"], frame, 2).dates(0, frame.index)


def test_comments_blank_lines_and_a_byte_order_mark_do_not_shift_lines(tmp_path):
    file = tmp_path / "table.csv"
    file.write_bytes("\ufeff# from somewhere\n# else\nday, A \n\nx,1\ny,2\n".encode())
    cells = read_cells(file, first_column)
    assert cells.header == ["day", "A"]
    np.testing.assert_array_equal(cells.numbers(1), [np.nan, 1.0, 2.0])
    assert [cells.line(row) for row in cells.frame.index] == [4, 5, 6]


def test_gzip_reads_the_same(tmp_path):
    text = "day,A,B\nx,1,2.5\ny,,-3e2\n"
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(text.encode(), mtime=0))
    for at in (1, 2):
        np.testing.assert_array_equal(
            read_cells(packed, first_column).numbers(at), cells_of(tmp_path, text).numbers(at)
        )


@pytest.mark.parametrize("word", ["", "NA", "N/A", "NaN", "nan", "null", "None", "-", "  "])
def test_empty_cells_and_words_for_missing_are_nan(tmp_path, word):
    numbers = cells_of(tmp_path, f"day,A\nx,1\ny,{word}\n").numbers(1)
    np.testing.assert_array_equal(numbers, [1.0, np.nan])


def test_a_line_that_ends_early_has_missing_cells(tmp_path):
    assert np.isnan(cells_of(tmp_path, "day,A,B\nx,1,2\ny,3\n").numbers(2)[1])


@pytest.mark.parametrize("word", ["abc", "inf", "-inf", "True", '"1,000"', "1_000", "$5", "1 2"])
def test_the_first_cell_that_is_no_number_is_named_with_its_line(tmp_path, word):
    cells = cells_of(tmp_path, f"day,A\nw,1\n\nx,{word}\ny,worse\n")
    with pytest.raises(InputError) as error:
        cells.numbers(1)
    assert f"column 'A' of table.csv must be numeric, got {word.strip(chr(34))!r} in line 4" in (
        str(error.value)
    )


@given(st.dates(date(1700, 1, 1), date(2200, 1, 1)))
def test_dates_with_the_year_first_are_read(day):
    texts = [
        f"{day:%Y-%m-%d}",
        f"{day:%Y%m%d}",
        f"{day.year}/{day.month}/{day.day}",
        f"{day.year}.{day.month}.{day.day} 0:00",
        f"{day:%Y-%m-%d}T00:00:00",
        f"{day:%Y%m%d}T000000.0",
        f"{day - timedelta(1):%Y-%m-%d} 24:00",
    ]
    offsets = [
        f"{day:%Y-%m-%d} 00:00:00Z",
        f"{day:%Y-%m-%d} 00:00:00 UTC",
        f"{day:%Y%m%d}T000000Z",
        f" {day:%Y-%m-%d} 02:00:00+02:00",
        f"{day - timedelta(1):%Y-%m-%d} 24:00+00:00",
    ]
    turned = [f"{day:%d.%m.%Y}", f"{day:%d.%m.%Y} 00:00:00"]
    for alike in (texts, offsets, turned):
        dates = dates_of(alike).to_numpy()
        assert dates.dtype == np.dtype("datetime64[ns]")
        np.testing.assert_array_equal(dates, np.datetime64(day))


def test_times_of_day_are_kept():
    dates = dates_of(["2016-07-01 9:30"]).to_numpy()
    np.testing.assert_array_equal(dates, [np.datetime64("2016-07-01T09:30", "ns")])


@pytest.mark.parametrize(
    "text",
    ["", "04/09/2012", "9-4-2012", "2012-13-04", "2012-02-30", "201209", "1500-01-01",
     "9999-01-01", "Sep 4, 12", "2012-09/04", "2012-09-04 25:00", "42"],
)  # fmt: skip
def test_other_dates_are_refused_with_their_line(text):
    with pytest.raises(InputError, match=f"must hold dates .* got '{text}' in line 3"):
        dates_of(["2012-09-04", text, "worse"])


def test_a_missing_name_is_refused_with_its_line():
    frame = pd.DataFrame({0: ["AAPL", " ", ""]})
    with pytest.raises(InputError, match="must name a company in every row, got none in line 3"):
        Cells("table.csv", ["ticker"], frame, 2).names(0, frame.index, noun="company")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header with at least two columns separated by commas, .*, got '' in line 1"),
        ("# note\nday A\n1 2\n", "separated by commas, .*, got 'day A' in line 2"),
        ("day,A\n", "table.csv must have rows, got none below its header"),
        ("day,A\nx,1\ny,1,2\n", "the 2 cells of its header, got line 3 has 3"),
        ("day,A\ny,1,2\n", "the 2 cells of its header, got line 2 has 3"),
        ('day,A\nx,"1\n', "the 2 cells of its header, got .*EOF inside string"),
    ],
)
def test_malformed_tables_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        cells_of(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cut.csv.gz",
            gzip.compress(b"day,A\n" + b"x,1\n" * 500, mtime=0)[:30],
            "a readable table, got Compressed file ended",
        ),
        ("latin.csv", b"day,A\nx,\xff\n", "text encoded as utf-8, got line 2"),
        (
            "late.csv",
            b"day,A\n" + b"x,1\n" * 90_000 + b"x,\xff\n",
            "text encoded as utf-8, got line 90002",
        ),
        ("wide.csv", "day,A\nx,1\n".encode("utf-16-le"), "text, got a zero byte in line 1"),
        ("zero.csv", b"day,A\nx,1\ny,1\x002\n", "text, got a zero byte in line 3"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} must be {message}") as error:
        read_cells(tmp_path / name, first_column)
    assert "\n" not in str(error.value)


def test_missing_files_folders_and_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"there must be a table at .*none\.csv"):
        read_cells(tmp_path / "none.csv", first_column)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"there must be a table at .*folder\.csv"):
        read_cells(tmp_path / "folder.csv", first_column)
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04...")
    with pytest.raises(InputError, match=r"must be text, got a ZIP archive.*; unpack"):
        read_cells(tmp_path / "a.csv", first_column)
