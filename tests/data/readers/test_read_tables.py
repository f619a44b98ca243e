"""Wide and long tables of CSV and Parquet files as panels."""

import bz2
import zipfile

import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data.fields.writers import forecast_dataset, forecast_table
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.prices.tables import read_price_table
from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.conventions import channel_units, notes_of
from stpatch_jax.errors import InputError

LONG = "when,station,rain,wind\n2020-01-01,B,1,2\n2020-01-01,A,3,4\n2020-01-02,A,,6\n"
WIDE = "time,A,B\n2020-01-02T00:00:00+01:00,3,4\n2020-01-01T00:00:00+01:00,1,2\n"


def save(folder, text, name="table.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_a_long_table_is_a_panel(tmp_path):
    field = open_field(save(tmp_path, LONG), time="when")
    assert field.dims == ("time", "series", "channel")
    assert field.series.values.tolist() == ["A", "B"]
    assert field.channel.values.tolist() == ["rain", "wind"]
    expected = [[[3, 4], [1, 2]], [[np.nan, 6], [np.nan, np.nan]]]
    np.testing.assert_array_equal(field, expected)


def test_columns_are_chosen_by_name(tmp_path):
    path = save(tmp_path, LONG.replace("station", "note"))
    field = open_field(path, series="note", variables=["wind"])
    np.testing.assert_array_equal(field, [[[4], [2]], [[6], [np.nan]]])
    # A column that is not asked for need not hold numbers.
    path = save(tmp_path, "day,A,text\n2020-01-01,1,word\n")
    assert open_field(path, variables=["A"]).shape == (1, 1, 1)


def test_a_wide_table_is_a_panel_or_channels_in_utc(tmp_path):
    path = save(tmp_path, WIDE)
    field = open_field(path)
    assert field.dims == ("time", "series", "channel")
    np.testing.assert_array_equal(field[..., 0], [[1, 2], [3, 4]])
    assert str(field.time.values[0]).startswith("2019-12-31T23:00")
    channels = open_field(path, columns="channels")
    assert channels.dims == ("time", "channel")
    assert channels.channel.values.tolist() == ["A", "B"]
    np.testing.assert_array_equal(channels, field[..., 0])
    # What forecasts of them are laid out as.
    forecasts = forecast_dataset(np.ones((1, 1, 2)), channels, index=np.array([2]))
    assert list(forecast_table(forecasts, field=channels).columns[3:]) == ["A", "B"]


@pytest.mark.parametrize("text", [LONG, WIDE])
def test_parquet_is_read_as_csv(tmp_path, text):
    pytest.importorskip("pyarrow")
    path = save(tmp_path, text)
    frame = pd.read_csv(path)
    frame[frame.columns[0]] = pd.to_datetime(frame[frame.columns[0]], utc=True)
    frame.to_parquet(tmp_path / "table.parquet")
    frame.set_index(frame.columns[0]).to_parquet(tmp_path / "indexed.parquet")
    expected = open_field(path, time=frame.columns[0])
    for name in ("table", "indexed"):
        field = open_field(tmp_path / f"{name}.parquet", time=frame.columns[0])
        assert field.drop_attrs().equals(expected.drop_attrs())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (LONG + "2020-01-03,A,x,1\n", {"time": "when"}, "got 'x' in line 5"),
        (LONG + "\n03.01.2020,A,1,1\n", {"time": "when"}, r"got '03\.01\.2020' in line 6"),
        (LONG + "2020-01-03,A,1,1,1\n", {"time": "when"}, "line 5 has 5"),
        (LONG + "2020-01-03,,1,1\n", {"time": "when"}, "a series in every row, got none in line 5"),
        (LONG + "2020-01-02,A,5,1\n", {"time": "when"}, "got lines 4 and 5 that differ"),
        (LONG, {"time": "hour"}, "got hour"),
        (LONG, {"variables": ["snow"]}, "got snow"),
        (LONG, {"variables": ["station"]}, "'station' .* numeric, got 'B' in line 2; choose other"),
        (
            LONG,
            {"variables": ["when"], "time": "when"},
            "a column of values beside time and series",
        ),
        (LONG.replace("wind", "rain"), {}, "a name of its own, got 'rain' twice"),
        (WIDE.replace("A", "B"), {}, "a name of its own, got 'B' twice"),
        (WIDE, {"columns": "rows"}, "columns must be 'series' or 'channels'"),
        ("time,A,B\n2020-01-01,1,\n", {"columns": "channels"}, "got none for channel B"),
        ("time,A\n", {}, "the table table.csv must have rows"),
        ("time,A\n2020-01-01,\n", {}, "the table table.csv must have rows with values"),
    ],
)
def test_a_bad_table_is_told_with_its_line(tmp_path, text, options, message):
    path = save(tmp_path, text)
    with pytest.raises(InputError, match=message):
        open_field(path, **options)


def test_a_truncated_parquet_file_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    pd.DataFrame({"time": ["2020-01-01"], "A": [1.0]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="must be a readable Parquet table"):
        open_field(path)


def test_the_stock_table_equals_the_price_reader(data_dir):
    path = data_dir / "finance" / "stocks_ohlcv_2012_2017.csv.gz"
    field, prices = open_field(path), read_price_table(path).field
    assert field.sizes == {"time": 1258, "series": 87, "channel": 6}
    np.testing.assert_array_equal(field.values, prices.values)
    np.testing.assert_array_equal(field.time.values, prices.time.values)
    assert field.channel.values.tolist()[4] == "Adj Close"


@pytest.mark.parametrize(
    ("name", "shape", "last"),
    [("ETTh1.csv", (17420, 7), "2018-06-26T19"), ("exchange_rate.csv", (7588, 8), "2010-10-10T00")],
)
def test_multivariate_series_equal_pandas(data_dir, name, shape, last):
    path = data_dir / "finance" / name
    field = open_field(path, columns="channels")
    frame = pd.read_csv(path, index_col=0)
    assert field.shape == shape
    assert field.channel.values.tolist() == list(frame.columns)
    assert str(field.time.values[-1]).startswith(last)
    np.testing.assert_allclose(field, frame.to_numpy(), rtol=1e-15)


@pytest.mark.parametrize("long", [False, True])
def test_a_date_without_values_is_a_missing_row_and_no_gap(tmp_path, long):
    days = pd.date_range("2024-01-01", periods=12, freq="D")
    table = pd.DataFrame({"date": days, "a": np.arange(12.0), "b": 1.0})
    table.loc[[0, 4, 5, 11], ["a", "b"]] = np.nan
    if long:
        table = table.melt("date", var_name="series", value_name="load")
    (tmp_path / "t.csv").write_text(
        table.to_csv(index=False) + "Source: the grid operator\n2 meters were out\n"
    )
    field = open_field(tmp_path / "t.csv")
    # Nothing is known before the first value or after the last.
    np.testing.assert_array_equal(field.time.values, days[1:11])
    assert np.isnan(field.values[3:5]).all()
    assert field.sel(series="a").values.ravel()[[0, 2, 5, 9]].tolist() == [1.0, 3.0, 6.0, 10.0]
    assert any("have no values" in note for note in field.attrs["notes"])


def test_numbers_of_eight_digits_are_no_dates(tmp_path):
    table = pd.DataFrame(
        {"date": pd.date_range("2024-01-01", periods=4), "sold": [91973000, 20992137, 7, 20120904]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    field = open_field(tmp_path / "t.csv")
    assert field.values.ravel().tolist() == [91973000.0, 20992137.0, 7.0, 20120904.0]


UNITS = {
    "empty date": ("date,a,b\n,degC,hPa\n2021-01-01,1,2\n2021-01-02,3,4\n", "degC hPa"),
    "named date": ("date,a,b\nyyyy-mm-dd,K,K\n2021-01-01,1,2\n2021-01-02,3,4\n", "K K"),
    "brackets": ("date;a;b\n-;[mm];(m s-1)\n2021-01-01;1,5;2\n2021-01-02;3;4,5\n", "mm m s-1"),
    "some": ("date,a,b\nUTC,degC,\n2021-01-01,1,2\n2021-01-02,3,\n", "degC "),
    "one row": ("date,a,b\n,degC,hPa\n2021-01-01,1,2\n", "degC hPa"),
    "tabs": ("# made by a logger\ndate\ta\tb\n\tV\tA\n2021-01-01\t1\t2e3\n", "V A"),
    "missing": ("date,a,b\n,degC,hPa\n2021-01-01,NA,2\n2021-01-02,3,\n", "degC hPa"),
}


@pytest.mark.parametrize("kind", UNITS)
def test_a_line_of_units_is_read_as_units(kind, tmp_path):
    text, told = UNITS[kind]
    (tmp_path / "x.csv").write_text(text)
    lines = text.splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if line.startswith("date")) + 1
    (tmp_path / "y.csv").write_text("".join([*lines[:at], *lines[at + 1 :]]))
    found, plain = (open_field(tmp_path / name, columns="channels") for name in ("x.csv", "y.csv"))
    np.testing.assert_array_equal(found, plain)
    a, _, b = told.partition(" ")
    assert found.units.values.tolist() == [a, b]
    assert "units" not in plain.coords
    note = found.attrs["notes"][-1]
    assert note.startswith(f"The line below the header was read as units: a in {a}")
    assert FieldIdentity.of(found).units == (a, b)
    series = open_field(tmp_path / "x.csv")
    np.testing.assert_array_equal(series.values[..., 0], plain)
    assert channel_units(series) == ({"value": a} if a == b else {})


def test_a_long_table_has_units_of_its_channels(tmp_path):
    text = "date,station,t,p\n,,degC,hPa\n2021-01-01,x,1,2\n2021-01-01,y,3,4\n2021-01-02,x,5,6\n"
    (tmp_path / "x.csv").write_text(text)
    field = open_field(tmp_path / "x.csv")
    assert channel_units(field) == {"t": "degC", "p": "hPa"}
    assert field.series.values.tolist() == ["x", "y"]
    (tmp_path / "x.csv").write_text(text + "2021-01-02,y,5,wrong\n")
    with pytest.raises(InputError, match="'wrong' in line 6"):
        open_field(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "text",
    [
        "date,a\n2021-01-01,x\n2021-01-02,1\n",
        "date,a,b\n,K,5\n2021-01-01,1,2\n2021-01-02,3,4\n",
        "date,a,b\n,K,m\n,2 m,10 m\n2021-01-01,1,2\n",
        "date,a\n,$5\n2021-01-01,1\n2021-01-02,3\n",
        "20210101,a\n20210102,x\n20210103,1\n",
    ],
)
def test_what_is_no_line_of_units_is_told(text, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=r"x\.csv must"):
        open_field(tmp_path / "x.csv")


def test_workbooks_and_archives_are_told_what_to_do(tmp_path):
    parts = {"book.xlsx": ["docProps/app.xml", "xl/workbook.xml"], "a.zip": ["a.csv"]}
    parts |= {"odd.csv": ["[Content_Types].xml", "xl/styles.xml"], "b.csv": ["b.csv"]}
    for name, inside in parts.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for part in inside:
                archive.writestr(part, "date,a\n2021-01-01,1\n")
        book = len(inside) > 1
        told = "a workbook; save its sheet by pandas.read_excel" if book else "an? (ZIP )?archive"
        with pytest.raises(InputError, match=f"{name} must be .*, got {told}"):
            open_field(tmp_path / name)
    (tmp_path / "x.bz2").write_bytes(bz2.compress(b"date,a"))
    with pytest.raises(InputError, match=r"archive.*; unpack it"):
        open_field(tmp_path / "x.bz2")


@pytest.mark.parametrize(
    ("end", "zone"),
    [("Z", "+00:00"), (" UTC", "+00:00"), ("+0530", "+05:30"), ("-03", "-03:00"), ("", None)],
)
def test_a_table_tells_the_offset_of_its_last_time(tmp_path, end, zone):
    rows = [f"2024-03-0{day}T06:30{'+01:00' if end and day == 1 else end},{day}" for day in (1, 2)]
    (tmp_path / "a.csv").write_text("\n".join(["time,load", *rows]))
    assert open_field(tmp_path / "a.csv").attrs.get("time_zone") == zone


@pytest.mark.parametrize(("order", "second"), [("day", "2020-01-02"), ("month", "2020-02-01")])
def test_dates_that_do_not_tell_their_day_are_read_as_is_said(tmp_path, order, second):
    path = tmp_path / "a.csv"
    path.write_text("when;x\n01/01/2020;1,5\n02/01/2020;2,5\n03/01/2020;3,5\n")
    field = open_field(path, date_order=order)
    assert str(field.time.values[1])[:10] == second
    assert field.values.ravel().tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(InputError, match="say which comes first with date_order="):
        open_field(path)
    path.write_text("when,x\n01/30/2020,1\n02/28/2020,2\n")
    if order == "day":
        with pytest.raises(InputError, match="must hold dates"):
            open_field(path, date_order=order)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("calls.csv", "calls\n60\n\nNA\n62.5\n-1e3\n"),
        ("calls.txt", "# of a year\ncalls\n60\n\nNA\n62.5\n-1e3\n"),
        ("quoted.csv", '"calls"\n"60"\n""\nNA\n62.5\n-1e3\n'),
    ],
)
def test_the_rows_of_one_column_are_counted(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    field = open_field(tmp_path / name)
    assert field.time.values.tolist() == [0, 3, 4]
    assert field.values.ravel().tolist() == [60, 62.5, -1e3]
    assert any("Rows are counted" in note for note in notes_of(field))


def test_one_column_of_words_is_no_table(tmp_path):
    (tmp_path / "words.csv").write_text("calls\n60\nsixty\n61\n")
    with pytest.raises(InputError, match="at least two columns separated by commas"):
        open_field(tmp_path / "words.csv")
