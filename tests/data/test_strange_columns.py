"""Tables as programs and people write them: read right or refused with a true sentence."""

import numpy as np
import pandas as pd
import pytest
from strange import opened, refused

from stpatch_jax.data.prices.tables import read_price_table
from stpatch_jax.data.readers import read_labelled_table, read_lines
from stpatch_jax.data.readers.labels import numbered

DAYS = pd.date_range("2021-01-01", periods=10)
ISO = DAYS.strftime("%Y-%m-%d")
UNIX = DAYS.values.astype("M8[s]").astype(int)


def saved(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def table(path, **columns):
    return saved(path, pd.DataFrame(columns).to_csv(index=False))


def notes(field):
    return " ".join(field.attrs.get("notes", ()))


# What is time, what is a value.


@pytest.mark.parametrize("tick", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("offset", [0, -5 * 3600])
def test_the_time_told_twice_is_no_value(tmp_path, tick, offset):
    path = table(
        tmp_path / "a.csv", unix=(UNIX + offset) * tick, date=ISO, open=range(10), close=range(10)
    )
    field = opened(path)
    assert field.series.values.tolist() == ["open", "close"]
    assert "unix" in notes(field)
    # What merely grows with the time is a value.
    path = table(tmp_path / "b.csv", meter=(UNIX - UNIX[0]) * tick + 7, date=ISO, open=range(10))
    assert opened(path).series.values.tolist() == ["meter", "open"]


@pytest.mark.parametrize(
    ("parts", "step"),
    [
        ({"YEAR": DAYS.year, "MO": DAYS.month, "DY": DAYS.day}, 24),
        ({"YEAR": DAYS.year, "DOY": DAYS.day_of_year}, 24),
        ({"YEAR": 2021, "DOY": np.arange(10) // 8 + 1, "HR": np.arange(10) % 8 * 3}, 3),
        ({"YEAR": 2021, "MO": 1, "DY": 1, "HR": np.arange(10)}, 1),
    ],
    ids=str,
)
def test_parts_of_a_date_as_agencies_call_them(tmp_path, parts, step):
    path = table(tmp_path / "a.csv", **parts, T2M=np.arange(10.0))
    field = opened(path)
    assert field.series.values.tolist() == ["T2M"]
    np.testing.assert_array_equal(np.diff(field.time.values), np.timedelta64(step, "h"))
    np.testing.assert_array_equal(field.values.ravel(), np.arange(10))
    assert field.time.values[0] == np.datetime64("2021-01-01")


def test_hours_of_no_day_are_refused(tmp_path):
    path = table(tmp_path / "a.csv", year=2021, hour=range(10), load=range(10))
    refused(lambda: opened(path), "2021")


def test_days_of_no_year_are_refused(tmp_path):
    path = table(tmp_path / "a.csv", year=2021, doy=range(359, 369), load=range(10))
    refused(lambda: opened(path), "day of year", "'367'", "line 10")


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@pytest.mark.parametrize("months", [MONTHS, list(map(str, range(1, 13)))], ids=["names", "numbers"])
def test_a_column_for_each_month_is_refused(tmp_path, months):
    path = table(tmp_path / "a.csv", Year=range(2000, 2010), **{at: range(10) for at in months})
    refused(lambda: opened(path), "month", "melt")
    field = opened(path, variables=months)
    assert field.sizes["series"] == 12


@pytest.mark.parametrize(
    "dates", [ISO[:3], ["1/22/20", "1/23/20", "1/24/20"], ["2018", "2019", "2020"]], ids=str
)
def test_dates_in_the_header_are_refused(tmp_path, dates):
    path = table(
        tmp_path / "a.csv", Country=["DE", "FR"], Lat=[51, 46], **{at: [1, 2] for at in dates}
    )
    said = refused(lambda: opened(path), "header", str(dates[0]), "melt")
    assert "rows" not in said


@pytest.mark.parametrize(
    "times", [np.arange(10) * 0.02, UNIX, UNIX * 1000.0], ids=["seconds", "unix", "ms"]
)
def test_a_time_is_no_value_where_rows_are_counted(tmp_path, times):
    path = table(tmp_path / "a.csv", time=times, a=range(10))
    field = opened(path, time="rows")
    assert field.series.values.tolist() == ["a"]
    assert "time" in notes(field)


# Lines and cells.


def test_what_stands_above_a_header(tmp_path):
    rows = "\n".join(f"{day};{at};{at + 1}" for at, day in enumerate(ISO))
    for above in ("sep=;\n", '"sep=;"\n', "# note\n\nsep=;\n"):
        field = opened(saved(tmp_path / "a.csv", f"{above}date;a;b\n{rows}\n"))
        assert field.series.values.tolist() == ["a", "b"]
    # numpy.savetxt and buoys put the header itself behind a comment.
    field = opened(saved(tmp_path / "b.csv", f"# date;a;b\n{rows}\n"))
    assert field.series.values.tolist() == ["a", "b"]
    assert field.sizes["time"] == 10
    said = refused(lambda: opened(saved(tmp_path / "c.csv", f"Berlin\ndate;a;b\n{rows}\n")), "#")
    assert "line 1" in said


def test_a_name_on_two_lines_is_one(tmp_path):
    rows = "\n".join(f"{day},{at},{at + 1}" for at, day in enumerate(ISO))
    field = opened(saved(tmp_path / "a.csv", f'date,"load\n(kW)","b\t c"\n{rows}\n'))
    assert field.series.values.tolist() == ["load (kW)", "b c"]


@pytest.mark.parametrize("mark", ["#DIV/0!", "#REF!", "#VALUE!", "#NUM!", "n.a.", ":", "na"])
def test_cells_that_no_workbook_could_compute_are_missing(tmp_path, mark):
    field = opened(table(tmp_path / "a.csv", date=ISO, a=[1, mark, *range(8)], b=range(10)))
    np.testing.assert_array_equal(field.values[:3, 0, 0], [1, np.nan, 0])


def test_the_minus_of_typesetters_is_a_minus(tmp_path):
    field = opened(table(tmp_path / "a.csv", date=ISO, a=[f"\u2212{at}.5" for at in range(10)]))
    np.testing.assert_array_equal(field.values.ravel(), -np.arange(10) - 0.5)


@pytest.mark.parametrize("form", ["<0.{}", "~{}", "{}-", "1.{}D+02", "{}*", "({})", "{}%", "€ {}"])
def test_numbers_in_a_dress_are_not_left_out(tmp_path, form):
    cells = [form.format(at) for at in range(10)]
    path = table(tmp_path / "a.csv", date=ISO, a=cells, b=range(10))
    refused(lambda: opened(path), "'a'", "line 2", "write numbers without")


def test_a_table_without_numbers_shows_a_cell(tmp_path):
    path = table(tmp_path / "a.csv", date=ISO, a=[f"{at} kWh" for at in range(10)])
    said = refused(lambda: opened(path), "'0 kWh'", "numbers")
    assert "variables" not in said


@pytest.mark.parametrize(
    ("last", "advice"),
    [
        ("Total,45", "sum"),
        (",45", "sum"),
        ("date,a", "header"),
        ("2021-01-11 00:00 CET,1", r"\+01:00"),
        ("2021-01-11T00:00+01:00[Europe/Berlin],1", r"\+01:00"),
        ("2021-01-11 13:00 PM,1", "no time of day 13:00 PM"),
    ],
)
def test_a_row_that_is_none_is_told(tmp_path, last, advice):
    text = pd.DataFrame({"date": ISO, "a": range(10)}).to_csv(index=False)
    refused(lambda: opened(saved(tmp_path / "a.csv", f"{text}{last}\n")), "line 12", advice)


def test_a_quote_that_takes_lines_is_refused(tmp_path):
    text = 'sentence\tlabel\n"it is good\t1\nbad movie\t0\nbad " movie\t0\n'
    path = saved(tmp_path / "a.tsv", text)
    refused(lambda: read_labelled_table(path), "quote", "line 2")
    sound = saved(tmp_path / "b.tsv", 'sentence\tlabel\n"two\nlines"\t1\nit is "good\t0\n')
    assert read_labelled_table(sound).items == ["two\nlines", 'it is "good']


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["plain\n", "école\n"])
def test_the_encoding_that_is_advised_is_the_right_one(tmp_path, encoding, text):
    path = saved(tmp_path / "a.txt", text, encoding)
    refused(lambda: read_lines(path), encoding)
    assert read_lines(path, encoding=encoding) == [text.strip()]


# Types.


@pytest.mark.filterwarnings("error")
def test_large_whole_numbers_of_a_typed_table(tmp_path):
    pytest.importorskip("pyarrow")
    large = pd.array([2**63 + 2**12 * at for at in range(10)], "UInt64")
    pd.DataFrame({"date": DAYS, "a": large}).to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(
        opened(tmp_path / "a.parquet").values.ravel(), large.astype(float)
    )


def test_names_of_several_levels_are_joined(tmp_path):
    pytest.importorskip("pyarrow")
    levels = pd.MultiIndex.from_product([["a", "b"], ["x", "y"]])
    frame = pd.DataFrame(np.arange(40.0).reshape(10, 4), DAYS, levels)
    frame.to_parquet(tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").series.values.tolist() == ["a/x", "a/y", "b/x", "b/y"]


# Prices.


def prices(**changed):
    days = pd.bdate_range("2020-01-01", periods=60)
    walk = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, (60, 2)).cumsum(0))
    frame = pd.DataFrame(walk, days, ["A", "B"])
    for name, scale in changed.items():
        frame.loc[days[30] :, name] *= scale
    return frame


def price_table(path, frame):
    return saved(path, frame.round(4).rename_axis("date").to_csv())


@pytest.mark.parametrize("scale", [0.1, 0.5, 4.0])
def test_prices_of_before_a_split_are_doubted(tmp_path, scale):
    path = price_table(tmp_path / "a.csv", prices(B=scale))
    with pytest.warns(UserWarning, match="B is worth .* on 2020-02-12 .* split") as caught:
        report = read_price_table(path).report
    assert len(caught) == 1
    assert any("adjusted" in note for note in report["notes"])


@pytest.mark.filterwarnings("error")
def test_a_crash_a_halt_and_months_are_no_split(tmp_path):
    frame = prices(B=0.7)
    frame.iloc[10:15, 0] = 0
    frame.iloc[40:45, 0] = np.nan
    assert not read_price_table(price_table(tmp_path / "a.csv", frame)).report["notes"]
    frame = prices(B=0.5).set_axis(pd.date_range("2010-01-01", periods=60, freq="MS"))
    assert not read_price_table(price_table(tmp_path / "b.csv", frame)).report["notes"]


def test_weekends_that_were_filled_in_are_doubted(tmp_path):
    path = price_table(tmp_path / "a.csv", prices().asfreq("D").ffill())
    with pytest.warns(UserWarning, match="Saturdays and Sundays repeat"):
        read_price_table(path)
    every_day = prices().set_axis(pd.date_range("2020-01-01", periods=60))
    assert not read_price_table(price_table(tmp_path / "b.csv", every_day)).report["notes"]


def test_labels_with_blanks_are_sorted_without_them():
    numbers, classes = numbered(np.array(["cat ", "cat", " dog", "ant"]), None, "labels")
    assert classes == ("ant", "cat", "dog")
    assert numbers.tolist() == [1, 1, 2, 0]
