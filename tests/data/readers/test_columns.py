"""What the columns of strangers' tables are: time, series, values, and what is none of these."""

import itertools

import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.errors import InputError

ROWS = 48
HOURS = pd.date_range("2021-01-01", periods=ROWS, freq="h")
DAYS = pd.date_range("2021-01-01", periods=ROWS).strftime("%Y-%m-%d")
VALUES = np.random.default_rng(0).random(4 * ROWS).round(3)
X = VALUES[:ROWS]
TWICE, ZONE = [*DAYS, *DAYS], np.repeat([7, 8], ROWS)


def opened(folder, table, **options):
    path = folder / "table.csv"
    if isinstance(table, pd.DataFrame):
        table.to_csv(path, index=False)
    else:
        path.write_text(table)
    return open_field(path, **options)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "level_0", "id", "No", "row_id"])
@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_are_no_values(tmp_path, name, first):
    frame = pd.DataFrame({name: range(first, first + ROWS), "date": DAYS, "x": X, "y": -X})
    field = opened(tmp_path, frame)
    assert field.series.values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(field[..., 0], np.stack([X, -X], -1))
    assert any("row numbers" in note for note in notes_of(field))
    frame = pd.DataFrame({name: range(first, first + 2 * ROWS), "ds": TWICE, "store": ZONE})
    field = opened(tmp_path, frame.assign(y=VALUES[: 2 * ROWS]))
    assert field.channel.values.tolist() == ["y"]
    assert field.series.values.tolist() == ["7", "8"]


def test_only_what_counts_rows_is_left_out_unless_it_is_asked_for(tmp_path):
    # An index of prices, a number of molecules; and row numbers of a table that was filtered.
    frame = pd.DataFrame({"date": DAYS, "index": 100 + X, "no": range(7, 7 + ROWS)})
    assert opened(tmp_path, frame).series.values.tolist() == ["index", "no"]
    frame = pd.DataFrame({"Unnamed: 0": np.arange(ROWS) ** 2, "date": DAYS, "x": X})
    assert opened(tmp_path, frame).series.values.tolist() == ["x"]
    found = opened(tmp_path, frame, variables=["Unnamed: 0"])
    assert found.series.values.tolist() == ["Unnamed: 0"]
    with pytest.raises(InputError, match="a name of its own, got none for column 1"):
        opened(tmp_path, frame.rename(columns={"Unnamed: 0": ""}).assign(**{"": X}))


@pytest.mark.parametrize("name", ["period_start", "Datum", "Zeitstempel", "t", "\u65e5\u671f", ""])
def test_the_time_is_found_by_its_content(tmp_path, name):
    field = opened(tmp_path, pd.DataFrame({"meter": "m1", name: HOURS, "kwh": X}))
    np.testing.assert_array_equal(field.time.values, HOURS.to_numpy("datetime64[ns]"))
    assert field.series.values.tolist() == ["kwh"]
    assert notes_of(field) == ("The column meter holds no numbers and was left out.",)


@pytest.mark.parametrize(
    "columns",
    [
        {"date": HOURS.strftime("%Y-%m-%d"), "hour": HOURS.hour},
        {"dteday": HOURS.strftime("%Y/%m/%d"), "HR": HOURS.hour, "minute": HOURS.minute},
        {"Date": HOURS.strftime("%d.%m.%Y"), "Time": HOURS.strftime("%H.%M.%S")},
        {"Datum": HOURS.strftime("%Y%m%d"), "Uhrzeit": HOURS.strftime("%H:%M")},
        {"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour},
    ],
)
def test_a_time_in_several_columns_is_joined(tmp_path, columns):
    field = opened(tmp_path, pd.DataFrame({**columns, "load": X}))
    np.testing.assert_array_equal(field.time.values, HOURS.to_numpy("datetime64[ns]"))
    assert field.series.values.tolist() == ["load"]
    assert f"The time was made of the columns {', '.join(columns)}." in notes_of(field)


def test_hours_from_1_to_24_end_at_midnight(tmp_path):
    frame = pd.DataFrame({"date": HOURS.strftime("%Y-%m-%d"), "hour": HOURS.hour + 1, "x": X})
    times = (HOURS + pd.Timedelta("1h")).to_numpy("datetime64[ns]")
    np.testing.assert_array_equal(opened(tmp_path, frame).time.values, times)


def test_years_and_months_are_times(tmp_path):
    field = opened(tmp_path, "Year,people\n1990,1\n1991,2\n")
    assert field.time.values.astype("M8[Y]").astype(str).tolist() == ["1990", "1991"]
    for text in ("Month,x\n1949-01,1\n1949-02,2\n", "year,month,x\n1949,1,1\n1949,2,2\n"):
        times = opened(tmp_path, text).time.values
        assert times.astype("M8[D]").astype(str).tolist() == ["1949-01-01", "1949-02-01"]


def test_what_repeats_the_time_and_places_are_left_out(tmp_path):
    calendar = {"weekday": HOURS.day_of_week, "mnth": HOURS.month, "hour": HOURS.hour, "doy": 1}
    calendar["doy"] = HOURS.day_of_year
    field = opened(tmp_path, pd.DataFrame({"date": HOURS, **calendar, "x": X, "month": X}))
    assert field.series.values.tolist() == ["x", "month"]
    assert "weekday, mnth, hour, doy hold a part of the time" in notes_of(field)[0]
    long = pd.DataFrame({"DATE": TWICE, "STATION": np.repeat(["A", "B"], ROWS)})
    long = long.assign(LATITUDE=ZONE, LONGITUDE=-ZONE, NAME="a name", TMAX=VALUES[: 2 * ROWS])
    assert opened(tmp_path, long).channel.values.tolist() == ["TMAX"]
    # What moves is no place.
    moving = pd.DataFrame({"date": DAYS, "lat": X, "x": X})
    assert opened(tmp_path, moving).series.values.tolist() == ["lat", "x"]


def test_series_are_named_by_several_columns(tmp_path):
    shop, item = np.repeat([1, 1, 2, 2], ROWS), np.repeat([1, 2, 1, 2], ROWS)
    frame = pd.DataFrame({"date": [*TWICE, *TWICE], "store": shop, "item": item, "sales": VALUES})
    field = opened(tmp_path, frame)
    assert field.series.values.tolist() == ["1/1", "1/2", "2/1", "2/2"]
    np.testing.assert_array_equal(field[:, 2, 0], VALUES[2 * ROWS : 3 * ROWS])
    assert "Series are named by store, item." in notes_of(field)
    frame = frame.rename(columns={"store": "country", "item": "product"})
    frame = frame.assign(country=frame.country.map({1: "A", 2: "B"}))
    with pytest.raises(InputError, match=r"series=, one of country, or several .* commas"):
        opened(tmp_path, frame)
    for told in ("country,product", ["country", "product"]):
        named = opened(tmp_path, frame, series=told)
        np.testing.assert_array_equal(named.values, field.values)
        assert named.series.values[1] == "A/2"


def test_series_of_other_names_are_found_or_asked_for(tmp_path):
    frame = pd.DataFrame({"when": TWICE, "zone": ZONE, "load": VALUES[: 2 * ROWS]})
    with pytest.raises(InputError, match=r"line 2 and line 50 of one time.* series=, one of zone"):
        opened(tmp_path, frame)
    assert opened(tmp_path, frame, series="zone").series.values.tolist() == ["7", "8"]
    field = opened(tmp_path, frame.assign(zone=frame.zone.map({7: "a", 8: "b"})))
    assert field.series.values.tolist() == ["a", "b"]
    assert notes_of(field) == ("Series are named by zone.",)


def test_a_remark_is_no_series(tmp_path):
    frame = pd.DataFrame({"date": DAYS, "x": X, "note": [f"note {at % 9}" for at in range(ROWS)]})
    assert opened(tmp_path, frame).sizes["series"] == 1
    frame.loc[5, "date"] = DAYS[4]
    with pytest.raises(InputError, match="got lines 6 and 7 that differ; remove the wrong one"):
        opened(tmp_path, frame)
    # Of what tells the rows apart only that is offered.
    frame = pd.DataFrame({"iso": np.repeat(["A", "B"], ROWS), "continent": "E", "date": TWICE})
    frame = frame.assign(location=np.repeat(["a", "b"], ROWS), cases=VALUES[: 2 * ROWS])
    with pytest.raises(InputError, match="one of iso, location, or several"):
        opened(tmp_path, frame)
    # Rows that are all written twice are one series.
    twice = pd.DataFrame({"date": [*DAYS, *DAYS], "note": "fine", "x": [*X, *X]})
    np.testing.assert_array_equal(opened(tmp_path, twice)[:, 0, 0], X)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2007040100", "2007040112"),
        ("200704010000", "200704011200"),
        ("20070401000000", "20070401120000"),
        ("2007-04-01 12:00 AM", "2007-04-01 12:00 PM"),
        ("04/13/2007 12:00:00 AM", "04/13/2007 12:00:00 PM"),
        ('"Apr 1, 2007"', "1-April-2007 12:00"),
        ("1 Apr 2007 00:00", "April 1 2007 12:00 PM"),
        ("2007-04-01 00:00 UTC", "2007-04-01 12:00 UTC"),
        ("2007-04-01T00", "2007-04-01T12"),
    ],
)
def test_other_ways_to_write_a_time(tmp_path, first, second):
    times = opened(tmp_path, f"when,x\n{first},1\n{second},2\n").time.values
    day = "2007-04-13" if "13/" in first else "2007-04-01"
    expected = np.array([f"{day}T00", f"{day}T12"], "M8[ns]")
    np.testing.assert_array_equal(times, expected)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "from,to,x\n2021-01-01,2021-01-02,1\n",
            {},
            "is the time, got dates in from, to; .* time=",
        ),
        ("a,b\n1.5,2\n2.5,3\n", {}, "must hold dates .* none among a, b; name the time with time="),
        ("ds,y\n0,1\n1,2\n", {}, "'ds' .* got '0' in line 2; write dates with the year first, or"),
        ("ds,y\n2021-02-28,1\n2021-02-29,2\n", {}, "line 3; correct that cell, as .* 2021-02-29"),
        ("ds,y\n29/02/2021,1\n31/03/2021,2\n", {}, "there is no day 2021-02-29"),
        ("ds,y\n2021-02-28T25:10,1\n", {}, "there is no time of day 25:10"),
        ("ds,y\n2021-02-28,1\n3/4/2021,2\n", {}, "write dates with the year first"),
        ("time,y\n1609459200000,1\n", {}, r'pandas.to_datetime\(column, unit="ms"\)'),
        ("time,y\n1609459200,1\n", {}, r'pandas.to_datetime\(column, unit="s"\)'),
        ("time,y\n1704067200,1\n", {}, r'pandas.to_datetime\(column, unit="s"\)'),
        ("time,y\n2300-01-01,1\n", {}, "of the years 1678 to 2261, or count the rows"),
        ("date,start,end,x\n2021-01-01,1:00,2:00,1\n2021-01-01,2:00,3:00,2\n", {}, "start, end"),
        ("date,x\n01/02/2021,1\n01/03/2021,2\n", {}, "day can be told .* '01/02/2021' in line 2"),
        ("time,x\n2021-01-01 00:00Z,1\n2021-01-01 01:00,2\n", {}, "UTC offset .* in line 3"),
        ("date,x,note\n2021-01-01,1,hot\n", {"variables": ["note"]}, "'hot' .* choose other col"),
        ("date,x\n2021-01-01,$5\n2021-01-02,$6\n", {}, "'[$]5' in line 2; write numbers without"),
        ("date,x\n2021-01-01,5%\n", {}, "'5%' in line 2; write numbers without percent"),
        ('date,x\n2021-01-01,1\n2021-01-02,"1,000"\n', {}, "'1,000' in line 3; write numbers"),
        ("date,x\n,degC\n,2 m\n2021-01-01,1\n", {}, "line 3; take .* out if it is a second"),
        ("date,x\n2021-01-01,inf\n", {}, "got 'inf' in line 2; correct that cell"),
        ("date,x\n2021-10-31 02:00,1\n2021-10-31 02:00,2\n", {}, "UTC if clocks were set back"),
        ("date,x\n" + "2021-01-01,1\n2021-01-01,2\n2021-01-01,3\n", {}, "times of day behind the"),
        ("2021-01-01,1\n2021-01-02,2\n", {}, "header that names its columns, got '2021-01-01,1'"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message) as error:
        opened(tmp_path, text, **options)
    assert len(str(error.value)) < 320


@pytest.mark.parametrize("mark", ["", "?", "NA", "..", "*", "-", "#N/A", "M", "<NA>", "-999"])
def test_marks_of_missing_values(tmp_path, mark):
    text = f"date,x\n2021-01-01,1\n2021-01-02,{mark}\n2021-01-03,3\n"
    field = opened(tmp_path, text, missing_values=(-999,))
    np.testing.assert_array_equal(field[:, 0, 0], [1, np.nan, 3])


def test_numbers_that_may_mean_missing_are_warned_of(tmp_path):
    frame = pd.DataFrame({"date": DAYS, "CO": np.where(np.arange(ROWS) % 5 == 0, -200, X)})
    with pytest.warns(UserWarning, match=r"-200 stands 10 times in CO.* data.missing_values"):
        field = opened(tmp_path, frame)
    assert "-200 stands 10 times" in notes_of(field)[0]
    declared = opened(tmp_path, frame, missing_values=(-200,))
    assert np.isnan(declared).sum() == 9  # The first row, which holds nothing, is left out.
    assert "10 values were declared to be missing." in notes_of(declared)


TEXTS = (
    "date,a,b\n2021-01-01,1.5,2\n2021-01-02,2.5,3\n",
    "date;a;b\n2021-01-01;1,5;2\n2021-01-02;2,5;3\n",
    "date\ta\tb\n2021-01-01\t1.5\t2\n2021-01-02\t2.5\t3\n",
    "date|a|b\n2021-01-01|1.5|2\n2021-01-02|2.5|3\n",
    "date a b\n2021-01-01 1.5 2\n2021-01-02 2.5 3\n",
    "date,a,b\r\n2021-01-01,1.5,2\r\n2021-01-02,2.5,3\r\n",
    "date,a,b\r2021-01-01,1.5,2\r2021-01-02,2.5,3\r",
    "date,a,b\n2021-01-01,1.5,2,\n2021-01-02,2.5,3,\n",
    "date,a,b,\n2021-01-01,1.5,2,\n2021-01-02,2.5,3,\n",
    "\n# remark\n\ndate,a,b\n2021-01-01,1.5,2\n\n2021-01-02,2.5,3\n\n",
    '"date","a","b"\n"2021-01-01","1.5","2"\n"2021-01-02","2.5","3"\n',
)
ENCODINGS = itertools.product(("a.TXT", "a.csv.GZ"), ("utf-8", "utf-8-sig", "utf-16", "utf-32"))


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        *((text, "a.TXT", "utf-8") for text in TEXTS),
        *((TEXTS[1], name, encoding) for name, encoding in ENCODINGS),
    ],
)
def test_separators_line_ends_and_encodings_change_nothing(tmp_path, text, name, encoding):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    field = open_field(path)
    assert field.series.values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(field[..., 0], [[1.5, 2], [2.5, 3]])


def test_a_decimal_comma_that_may_part_thousands_is_refused(tmp_path):
    with pytest.raises(InputError, match="tell decimals from thousands, got '1,500'"):
        opened(tmp_path, "date;x\n2021-01-01;1,500\n2021-01-02;2,250\n")
    field = opened(tmp_path, "date;x\n2021-01-01;0,500\n2021-01-02;2,250\n")
    np.testing.assert_array_equal(field[:, 0, 0], [0.5, 2.25])


def test_a_separator_that_is_not_clear_is_refused(tmp_path):
    with pytest.raises(InputError, match="got lines that commas and semicolons alike cut"):
        opened(tmp_path, "date,a;b\n2021-01-01;1,5\n2021-01-02;2,5\n")
    field = opened(tmp_path, "date,wind (m;s)\n2021-01-01,1\n2021-01-02,2\n")
    assert field.series.values.tolist() == ["wind (m;s)"]


def test_a_quoted_cell_over_several_lines_counts_as_them(tmp_path):
    text = 'date,note,x\n2021-01-01,"two\nlines",1\n2021-01-02,one,word\n2021-01-03,one,3\n'
    with pytest.raises(InputError, match="'word' in line 4"):
        opened(tmp_path, text)


def test_latin_1_is_read_when_it_is_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("date,gr\u00f6\u00dfe\n2021-01-01,1\n2021-01-02,2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"got line 1 .*; give its encoding, for example enc"):
        open_field(path)
    assert open_field(path, encoding="latin-1").series.values.tolist() == ["gr\u00f6\u00dfe"]
