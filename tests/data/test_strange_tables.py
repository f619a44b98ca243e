"""Tables and texts as they are found: each is read right or refused with a true sentence."""

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from strange import opened, refused

from stpatch_jax.data import FieldConfig
from stpatch_jax.data.readers import read_events, read_lines

DAYS = pd.date_range("2021-01-01", periods=6)
ISO = DAYS.strftime("%Y-%m-%d")


def saved(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def wide(times: Any = ISO, **columns):
    columns = columns or {"a": range(len(times)), "b": range(1, len(times) + 1)}
    return pd.DataFrame({"date": times, **columns}).to_csv(index=False)


def is_wide(field, times=DAYS):
    np.testing.assert_array_equal(field.time.values, times)
    assert field.series.values.tolist() == ["a", "b"]
    expected = np.arange(len(times))[:, None] + [0.0, 1.0]
    np.testing.assert_array_equal(field.values[..., 0], expected)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_any_encoding_with_a_mark_is_read(tmp_path, encoding):
    text = wide(a=range(6), **{"b": range(1, 7)})
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    is_wide(opened(saved(tmp_path / "a.csv", mark + text, encoding)))


def test_an_encoding_without_a_mark_is_asked_for(tmp_path):
    text = wide(**{"Zürich": range(6), "Genève": range(6)})
    path = saved(tmp_path / "a.csv", text, "latin-1")
    refused(lambda: opened(path), "line 1", "encoding=")
    field = opened(path, encoding="latin-1")
    assert field.series.values.tolist() == ["Zürich", "Genève"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", " \n"])
def test_lines_may_end_as_they_like(tmp_path, end):
    is_wide(opened(saved(tmp_path / "a.csv", wide().replace("\n", end))))


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".txt"])
def test_tabs_separate_or_are_named(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", wide().replace(",", "\t"))
    is_wide(opened(path))


def test_semicolons_and_decimal_commas_are_read_or_named(tmp_path):
    text = wide(a=np.arange(6) + 0.5, b=np.arange(6) + 1.5).replace(",", ";").replace(".", ",")
    path = saved(tmp_path / "a.csv", text)
    try:
        field = opened(path)
    except ValueError:
        refused(lambda: opened(path), ";")
        return
    np.testing.assert_array_equal(field.values[0, :, 0], [0.5, 1.5])


def test_semicolons_with_points_are_read_or_named(tmp_path):
    path = saved(tmp_path / "a.csv", wide().replace(",", ";"))
    try:
        is_wide(opened(path))
    except ValueError:
        refused(lambda: opened(path), ";")


def test_dates_that_are_two_days_are_refused(tmp_path):
    for dates in (DAYS.strftime("%d/%m/%Y"), DAYS.strftime("%m/%d/%y")):
        path = saved(tmp_path / "a.csv", wide(dates))
        refused(lambda path=path: opened(path), "date", "line 2", "year first")
    # Where one of them tells the day from the month, or with the points of German, all are read.
    days = pd.date_range("2021-01-10", periods=6)
    for form in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y"):
        field = opened(saved(tmp_path / "b.csv", wide(days.strftime(form))))
        is_wide(field, days)
        assert field.attrs["notes"]


@pytest.mark.parametrize(
    ("texts", "times"),
    [
        (["2021-01", "2021-02", "2021-03"], ["2021-01-01", "2021-02-01", "2021-03-01"]),
        (["2021-01-01T00:00:00Z", "2021-01-01T01:00:00Z"], ["2021-01-01", "2021-01-01T01"]),
        (["2021-01-01 00:00+01:00", "2021-01-01 01:00+01:00"], ["2020-12-31T23", "2021-01-01"]),
        (["2021-01-01 23:00", "2021-01-01 24:00"], ["2021-01-01T23", "2021-01-02"]),
        (["20210101", "20210102"], ["2021-01-01", "2021-01-02"]),
        (["2021/1/1 0:00", "2021/1/1 1:00"], ["2021-01-01", "2021-01-01T01"]),
        (["2021-01-01 00:00:00.250", "2021-01-01 00:00:00.500"], None),
        (["1850-01-01", "1851-01-01", "1852-01-01"], ["1850-01-01", "1851-01-01", "1852-01-01"]),
        (["2021Q1", "2021Q2", "2021Q3"], ["2021-01-01", "2021-04-01", "2021-07-01"]),
        (["1990", "1991", "1992"], ["1990-01-01", "1991-01-01", "1992-01-01"]),
        (["Jan 2021", "Feb 2021"], ["2021-01-01", "2021-02-01"]),
        (["1609459200", "1609545600"], ["2021-01-01", "2021-01-02"]),
        (["1609459200000", "1609545600000"], ["2021-01-01", "2021-01-02"]),
        (["0", "1", "2"], None),
    ],
)
def test_times_are_what_they_say_or_refused(tmp_path, texts, times):
    path = saved(tmp_path / "a.csv", wide(texts))
    try:
        field = opened(path)
    except ValueError:
        refused(lambda: opened(path), "date", "|".join(map(re.escape, texts)))
        return
    if times is not None and field.time.dtype.kind == "M":
        np.testing.assert_array_equal(field.time.values, np.asarray(times, "M8[ns]"))
    if field.time.dtype.kind != "M":
        assert field.time.values.tolist() == list(map(float, texts))


def test_offsets_among_times_without_are_refused(tmp_path):
    path = saved(tmp_path / "a.csv", wide(["2021-01-01T00:00Z", "2021-01-01T01:00", "2021-01-02"]))
    refused(lambda: opened(path), "line 3", "offset|zone")


def test_hours_of_daylight_saving_with_offsets_have_no_gap(tmp_path):
    zone = pd.date_range("2021-03-27", "2021-03-30", freq="h", tz="Europe/Berlin")
    path = saved(tmp_path / "a.csv", wide(zone.astype(str)))
    field = opened(path)
    np.testing.assert_array_equal(np.diff(field.time.values), np.timedelta64(1, "h"))
    # Without, the hour that comes twice cannot be told apart, which the sentence says.
    zone = pd.date_range("2021-10-30", "2021-11-01", freq="h", tz="Europe/Berlin")
    path = saved(tmp_path / "b.csv", wide(zone.tz_localize(None).astype(str)))
    refused(lambda: opened(path), "2021-10-31 02:00")


def test_a_station_without_data_is_left_out_and_told(tmp_path):
    days = pd.date_range("2021-01-01", periods=80).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"station": np.repeat(["x", "y"], 80), "date": [*days, *days]})
    frame["rain"] = [*np.arange(80.0), *[np.nan] * 80]
    path = saved(tmp_path / "a.csv", frame.to_csv(index=False))
    with pytest.warns(UserWarning, match="without any value left out: y"):
        data = FieldConfig(str(path), context=6, horizon=2).load()
    assert "left out: y" in str(data.report["notes"])
    path = saved(tmp_path / "b.csv", wide(days, a=np.arange(80.0), b=[np.nan] * 80))
    with pytest.warns(UserWarning, match="b"):
        FieldConfig(str(path), context=6, horizon=2).load()


@pytest.mark.parametrize("mark", ["?", "NA", "..", "*", "-", "#N/A", "M", "null", "n/a", "NaN"])
def test_marks_of_missing_cells(tmp_path, mark):
    path = saved(tmp_path / "a.csv", wide(a=[1, mark, 3, 4, 5, 6], b=range(6)))
    field = opened(path)
    np.testing.assert_array_equal(field.values[:3, 0, 0], [1, np.nan, 3])


def test_sentinels_are_missing_where_they_are_declared(tmp_path):
    path = saved(tmp_path / "a.csv", wide(a=[1, -200, 3, 4, 5, 6], b=[-999.0, *range(5)]))
    field = opened(path, missing_values=(-200, -999))
    np.testing.assert_array_equal(field.values[:2, :, 0], [[1, np.nan], [np.nan, 0]])


@pytest.mark.parametrize("cell", ['"1,234"', "12%", "$5", "1 234", "0x1F", "inf", "5 (e)", "1e999"])
def test_cells_that_are_no_plain_numbers_are_refused_by_their_line(tmp_path, cell):
    path = saved(
        tmp_path / "a.csv", f"date,a,b\n2021-01-01,1,2\n2021-01-02,{cell},3\n2021-01-03,4,5\n"
    )
    refused(lambda: opened(path), "'a'", "line 3")


def test_a_column_of_words_is_no_broken_number(tmp_path):
    frame = pd.DataFrame({"date": ISO, "a": range(6), "quality": list("AABABA")})
    path = saved(tmp_path / "a.csv", frame.to_csv(index=False))
    try:
        field = opened(path)
    except ValueError:
        said = refused(lambda: opened(path), "quality")
        assert "correct that cell" not in said
        return
    assert field.series.values.tolist() == ["a"]
    assert any("quality" in note for note in field.attrs["notes"])


def test_two_columns_of_series_are_asked_about(tmp_path):
    frame = pd.DataFrame(
        {
            "id": range(24),
            "date": np.repeat(ISO, 4),
            "store_nbr": [1, 1, 2, 2] * 6,
            "family": ["BOOKS", "CARS"] * 12,
            "sales": np.arange(24.0),
        }
    )
    path = saved(tmp_path / "train.csv", frame.to_csv(index=False))
    said = refused(lambda: opened(path), "store_nbr|family")
    assert "remove" not in said


def test_tables_of_competitions_without_times_are_told(tmp_path):
    m4 = "V1,V2,V3,V4\nY1,1.5,2.5,3.5\nY2,4.5,5.5,6.5\n"
    refused(lambda: opened(saved(tmp_path / "m4.csv", m4)), "time|date")
    m5 = "id,item_id,d_1,d_2\nHOBBIES_1_001,HOBBIES_1,0,1\nHOBBIES_1_002,HOBBIES_1,2,0\n"
    refused(lambda: opened(saved(tmp_path / "m5.csv", m5)), "time|date")
    ghcn = "ITE00100554,17880101,TMAX,-75,,,E\nITE00100554,17880102,TMAX,-23,,,E\n"
    said = refused(lambda: opened(saved(tmp_path / "ghcn.csv", ghcn)), "header")
    assert "restore" not in said
    uci = "Date;Time;Global_active_power\n16/12/2006;17:24:00;4.216\n16/12/2006;17:25:00;?\n"
    field = opened(saved(tmp_path / "uci.csv", uci))
    minutes = np.asarray(["2006-12-16T17:24", "2006-12-16T17:25"], "M8[ns]")
    np.testing.assert_array_equal(field.time.values, minutes[: field.sizes["time"]])


def test_a_date_and_a_clock_in_two_columns_are_one_time(tmp_path):
    hours = pd.date_range("2021-01-01", periods=30, freq="h")
    shapes = [
        {"Date": hours.strftime("%Y-%m-%d"), "Time": hours.strftime("%H:%M:%S")},
        {"year": hours.year, "month": hours.month, "day": hours.day, "hour": hours.hour},
        {"date": hours.strftime("%Y%m%d"), "hour": hours.hour},
        {"date": hours.strftime("%Y-%m-%d"), "hour": hours.hour + 1},
    ]
    for shape in shapes:
        frame = pd.DataFrame({**shape, "load": np.arange(30.0)})
        path = saved(tmp_path / "a.csv", frame.to_csv(index=False))
        try:
            field = opened(path)
        except ValueError:
            said = refused(lambda path=path: opened(path), "(?i)time|hour|day")
            assert "remove" not in said
            continue
        np.testing.assert_array_equal(np.diff(field.time.values), np.timedelta64(1, "h"))
        np.testing.assert_array_equal(field.values.ravel(), np.arange(30))
        assert any(
            "hour" in note.lower() or "time" in note.lower() for note in field.attrs["notes"]
        )


def test_the_shape_of_a_header_is_told(tmp_path):
    refused(lambda: opened(saved(tmp_path / "a.csv", "date,a\n")), "row")
    refused(lambda: opened(saved(tmp_path / "b.csv", "")), "header|row")
    refused(lambda: opened(saved(tmp_path / "c.csv", "date,a,a\n2021-01-01,1,2\n")), "'a' twice")
    text = "1,2,3\n4,5,6\n7,8,9\n"
    refused(lambda: opened(saved(tmp_path / "d.csv", text)), "header|time|date")
    text = "date,a,b,\n2021-01-01,1,2,\n2021-01-02,2,3,\n"
    field = opened(saved(tmp_path / "f.csv", text))
    assert field.series.values.tolist() == ["a", "b"]
    text = 'date,a,b\n2021-01-01,1,"2\n'
    refused(lambda: opened(saved(tmp_path / "g.csv", text)), "line|quot", damaged=True)


# Types.


def parquet(path, columns, **options):
    pytest.importorskip("pyarrow")
    pd.DataFrame(columns).to_parquet(path, **options)
    return path


@pytest.mark.parametrize(
    "kind", ["decimal", "date", "dictionary", "Int64", "half", "bool", "index"]
)
def test_typed_columns_are_as_good_as_text(tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as parquet_files

    times = pa.array(list(DAYS.date)) if kind == "date" else pa.array(DAYS)
    one, other = list(range(6)), list(range(1, 7))
    values = {
        "decimal": [
            pa.array([Decimal(f"{v}.50") for v in c], pa.decimal128(9, 2)) for c in (one, other)
        ],
        "half": [pa.array(np.asarray(c, "f2")) for c in (one, other)],
        "bool": [pa.array([v % 2 == 0 for v in c]) for c in (one, other)],
    }.get(kind, [pa.array(one), pa.array(other)])
    table = pa.table({"date": times, "a": values[0], "b": values[1]})
    path = tmp_path / "a.PARQUET"
    if kind == "index":
        table.to_pandas().set_index("date").to_parquet(path)
    elif kind == "Int64":
        table.to_pandas().astype({"a": "Int64", "b": "Float64"}).to_parquet(path)
    elif kind == "dictionary":
        names = pa.array(["x", "y"] * 3).dictionary_encode()
        parquet_files.write_table(
            pa.table({"store": names, "date": times, "sales": values[0]}), path
        )
        field = opened(path)
        assert field.series.values.tolist() == ["x", "y"]
        assert field.channel.values.tolist() == ["sales"]
        return
    else:
        parquet_files.write_table(table, path)
    field = opened(path)
    np.testing.assert_array_equal(field.time.values, DAYS)
    expected = np.stack([one, other], 1) + (0.5 if kind == "decimal" else 0.0)
    expected = (expected % 2 == 0) if kind == "bool" else expected
    np.testing.assert_array_equal(field.values[..., 0], expected.astype(float))


def test_missing_cells_of_typed_columns(tmp_path):
    columns = {"date": DAYS, "a": pd.array([1, None, 3, 4, 5, 6], "Int64"), "b": range(6)}
    field = opened(parquet(tmp_path / "a.parquet", columns))
    np.testing.assert_array_equal(field.values[:3, 0, 0], [1, np.nan, 3])
    columns = {"date": [*DAYS[:5], pd.NaT], "a": range(6), "b": range(6)}
    refused(lambda: opened(parquet(tmp_path / "b.parquet", columns)), "date", "6")


def test_time_zones_of_typed_times_are_utc(tmp_path):
    zone = pd.date_range("2021-03-27", periods=48, freq="h", tz="Europe/Berlin")
    field = opened(parquet(tmp_path / "a.parquet", {"date": zone, "a": range(48), "b": range(48)}))
    np.testing.assert_array_equal(field.time.values, zone.tz_convert(None))


def test_nested_columns_are_refused_by_name(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"date": DAYS, "a": range(6), "lags": [[1, 2]] * 6})
    try:
        field = opened(path)
    except ValueError:
        refused(lambda: opened(path), "lags")
        return
    assert any("lags" in note for note in field.attrs["notes"])


def test_a_table_is_one_whatever_it_is_stored_in(tmp_path):
    frame = pd.DataFrame(
        {
            "store": np.repeat([7, 12], 6),
            "date": [*DAYS, *DAYS],
            "sales": np.arange(12.0),
            "open": [True, False] * 6,
        }
    )
    path = saved(tmp_path / "a.csv", frame.to_csv(index=False))
    one, other = opened(path), opened(parquet(tmp_path / "a.parquet", frame))
    xr.testing.assert_equal(one, other)
    assert sorted(one.series.values.tolist()) == ["12", "7"]


# Events and texts.


def events(path, rows, header="customer,date,amount\n"):
    return saved(path, header + "".join(f"{c},{d},{a}\n" for c, d, a in rows))


def test_events_with_odd_cells_are_told_by_their_line(tmp_path):
    sound = [("a", "2021-01-01", "5"), ("b", "2021-01-09", "6.5")]
    for cell in ("$5", '"1,000"', "12%", "x"):
        path = events(tmp_path / "a.csv", [*sound, ("c", "2021-01-10", cell)])
        refused(lambda path=path: read_events(path, period="7D"), "amount", "line 4")
    path = events(tmp_path / "b.csv", [*sound, ("c", "01/13/2021", "5")])
    refused(lambda: read_events(path, period="7D"), "line 4", "year first")
    path = events(tmp_path / "c.csv", [*sound, ("", "2021-01-13", "5")])
    assert read_events(path, period="7D").attrs["notes"] == (
        "1 rows without a customer were left out.",
    )
    path = events(tmp_path / "d.csv", sound, header="who,when,much\n")
    refused(lambda: read_events(path, period="7D"), "customer", "who")


def test_lines_of_any_marked_encoding(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path = saved(tmp_path / "a.txt", "école\nnaïf\n", encoding)
        assert read_lines(path) == ["école", "naïf"]
    path = saved(tmp_path / "b.txt", "bon\nécole\n", "cp1252")
    refused(lambda: read_lines(path), "line 2", "encoding")
    assert read_lines(path, encoding="latin-1") == ["bon", "école"]
    assert read_lines(saved(tmp_path / "c.txt", "one\r\ntwo\r\n")) == ["one", "two"]
