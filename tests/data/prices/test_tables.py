"""Price tables: long and wide layouts, what is dropped and counted, what is refused."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data.prices.tables import LONG_CHANNELS, PriceTable, read_price_table
from stpatch_jax.errors import InputError

HEADER = "Date,ticker,Open,High,Low,Close,Adj Close,Volume\n"


def read(folder: Path, text: str) -> PriceTable:
    file = folder / "prices.csv"
    file.write_text(text)
    return read_price_table(file)


def test_the_default_table_equals_pandas_on_the_same_file():
    table = read_price_table(None)
    file = next(Path(mpl.get_data_path(), "sample_data").glob("[Ss]tocks.csv"))
    frame = pd.read_csv(file, comment="#", index_col=0, parse_dates=True).dropna(how="all")
    assert table.field.dims == ("time", "company", "channel")
    assert table.field.dtype == np.float64
    assert list(table.field.channel.values) == ["price"]
    assert list(table.field.company.values) == list(frame.columns)
    np.testing.assert_array_equal(table.field.time.values, frame.index.to_numpy("datetime64[ns]"))
    np.testing.assert_allclose(table.field.values[..., 0], frame.to_numpy(), rtol=1e-15)
    assert table.report["rows_read"] - table.report["empty_rows_dropped"] == len(frame)
    assert table.report["empty_rows_dropped"] > 100
    assert table.report["source"] == "matplotlib sample data"


def test_a_real_long_table_equals_a_pandas_pivot(data_dir):
    file = data_dir / "finance" / "stocks_ohlcv_2012_2017.csv.gz"
    table = read_price_table(file)
    frame = pd.read_csv(file, parse_dates=["Date"])
    names = ["Open", "High", "Low", "Close", "Adj Close", "Volume"]
    for channel, name in zip(LONG_CHANNELS, names, strict=True):
        pivot = frame.pivot_table(index="Date", columns="ticker", values=name)
        got = table.field.sel(channel=channel)
        np.testing.assert_allclose(got.values, pivot.to_numpy(), rtol=1e-15)
        assert list(got.company.values) == list(pivot.columns)
    assert table.field.shape == (1258, 87, 6)
    assert table.report["rows"] == 108_295
    # ABBV was listed in 2013, after the table begins.
    abbv = table.field.sel(company="ABBV", channel="close").values
    assert np.isnan(abbv[:81]).all()
    assert np.isfinite(abbv[-1])


def test_the_order_of_rows_and_columns_does_not_matter(tmp_path):
    rows = [f"2020-01-{day:02},{name},{day},2,3,4,5,6" for day in (1, 2, 3) for name in "CAB"]
    table = read(tmp_path, HEADER + "\n".join(rows) + "\n")
    frame = pd.read_csv(tmp_path / "prices.csv")
    shuffled = frame.sample(frac=1, random_state=0)[frame.columns[::-1]]
    again = read(tmp_path, shuffled.to_csv(index=False))
    assert again.field.identical(table.field)
    assert list(table.field.company.values) == ["A", "B", "C"]
    assert (np.diff(table.field.time.values.astype(np.int64)) > 0).all()


def test_the_order_of_rows_in_a_wide_table_does_not_matter(tmp_path):
    rows = [f"2020-01-{day:02},{day},{10 * day}\n" for day in (1, 2, 3, 4, 5)]
    mixed = [rows[at] for at in (2, 0, 3, 4, 1)]
    table = read(tmp_path, "day,A,B\n" + "".join(mixed))
    np.testing.assert_array_equal(table.field.values[:, 0, 0], [1, 2, 3, 4, 5])
    assert table.field.identical(read(tmp_path, "day,A,B\n" + "".join(rows)).field)


def test_header_names_ignore_case_and_spacing_and_other_columns_are_ignored(tmp_path):
    row = "2012-09-04,AAPL,1,2,3,4,5,6\n"
    table = read(tmp_path, HEADER + row)
    other = read(
        tmp_path,
        "DATE,Symbol,open , HIGH,Low,close,adjusted_close,VOLUME,note\n" + row[:-1] + ",text\n",
    )
    assert other.field.equals(table.field)
    assert other.report["ignored_columns"] == ["note"]
    np.testing.assert_array_equal(table.field.values, [[[1, 2, 3, 4, 5, 6]]])


def test_empty_and_repeated_rows_are_dropped_and_counted(tmp_path):
    row = "2012-09-04,AAPL,1,2,3,4,5,6\n"
    same = "2012/9/4,AAPL,1.0,2.00,3,4,5,6e0\n"
    empty = "\n,,,,,,,\n2012-09-05,AAPL,,,,,,\n"
    table = read(tmp_path, HEADER + row + empty + same + row)
    assert table.field.shape == (1, 1, 6)
    counts = ("rows_read", "empty_rows_dropped", "duplicate_rows_dropped", "rows")
    assert [table.report[name] for name in counts] == [6, 3, 2, 1]


def test_missing_cells_and_missing_rows_are_nan(tmp_path):
    table = read(
        tmp_path,
        HEADER + "2012-09-04,A,1,,3,4,5,6\n2012-09-05,A,1,2,3,4,5,6\n2012-09-05,B,1,2,3,4,5,6\n",
    )
    missing = np.isnan(table.field.values)
    assert missing[0, 0].tolist() == [False, True, False, False, False, False]
    assert missing[0, 1].all()
    assert not missing[1].any()


def test_words_that_mean_missing_elsewhere_are_companies_in_the_ticker_column(tmp_path):
    text = "".join(f"2012-09-04,{name},1,2,3,4,5,6\n" for name in ("NA", "nan", "TRUE", "null"))
    table = read(tmp_path, HEADER + text)
    assert list(table.field.company.values) == ["NA", "TRUE", "nan", "null"]


def test_a_wide_table_may_name_companies_like_columns(tmp_path):
    table = read(tmp_path, "day,date,OPEN,LOW\n2012-09-05,1,2,3\n2012-09-04,4,,6\n")
    assert list(table.field.company.values) == ["date", "OPEN", "LOW"]
    np.testing.assert_array_equal(table.field.values[..., 0], [[4, np.nan, 6], [1, 2, 3]])


def test_a_report_goes_to_json(tmp_path):
    for table in (read_price_table(None), read(tmp_path, "d,A\n2012-09-04,1\n")):
        assert json.loads(json.dumps(table.report, allow_nan=False)) == table.report


ROW = "2012-09-04,AAPL,1,2,3,4,5,6\n"


def test_close_stands_for_an_adjusted_close_that_is_missing(tmp_path):
    (tmp_path / "full.csv").write_text(HEADER + ROW)
    (tmp_path / "a.csv").write_text(HEADER.replace("Adj Close,", "") + ROW.replace(",5,6", ",6"))
    with pytest.warns(UserWarning, match="no adjusted close; close stands for it"):
        table = read_price_table(tmp_path / "a.csv")
    field = read_price_table(tmp_path / "full.csv").field
    assert table.field.channel.values.tolist() == field.channel.values.tolist()
    assert table.field.values.tolist() == [[[1, 2, 3, 4, 4, 6]]]
    assert "close stands for it" in table.report["notes"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + ROW + ROW + "2012-09-04,AAPL,1,2,3,4,5,7\n",
            "one row for AAPL on 2012-09-04, got lines 2 and 4 that differ",
        ),
        (
            "d,A,B\n2012-09-04,1,2\n2012/9/4,1,3\n",
            "row for 2012-09-04, got lines 2 and 3 that differ",
        ),
        (
            "Date,Open,High,Low,Close\n2012-09-04,1,2,3,4\n",
            "got none for ticker, adjusted_close, volume",
        ),
        ("ticker,Open\nAAPL,1\n", "got none for date, high, low, close, adjusted_close, volume"),
        (HEADER.replace("High", "close") + ROW, "got none for high"),
        (HEADER[:-1] + ",adjusted close\n" + ROW[:-1] + ",7\n", "Adj Close and adjusted close"),
        (
            HEADER + ROW + "2012-09-05,AAPL,1,x,3,4,5,6\n",
            "'High' .* must be numeric, got 'x' in line 3",
        ),
        (
            "d,A,B\n2012-09-04,1,1\n2012-09-05,1,Apple\n",
            "column 'B' of .* must be numeric, got 'Apple' in line 3",
        ),
        ("d,A,A\n2012-09-04,1,2\n", "got 'A' twice"),
        ("d,A,\n2012-09-04,1,1.5\n", "got none for column 3"),
        (HEADER + "04/09/2012,AAPL,1,2,3,4,5,6\n", "'Date' .* must hold dates .*04/09/2012"),
        (HEADER + "2012-09-05,,1,2,3,4,5,6\n", "got none in line 2"),
        (HEADER + "2012-09-05,AAPL,,,,,,\n", "got empty ones alone"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_matplotlib_without_sample_data_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(mpl, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"name a table by data\.path"):
        read_price_table(None)
