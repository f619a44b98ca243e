"""Wide and long tables of CSV and Parquet files as panels."""

import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data.prices.tables import read_price_table
from stpatch_jax.data.readers import open_field
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
