"""Events as counts and sums for each customer and period."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

HEADER = "customer_id,date,amount\n"
ROWS = "B,2020-01-01,1.5\nA,2020-01-09,2\nB,2020-01-01,1.5\nB,2020-01-15,4\n"


def read(folder, text, name="events.csv", **options):
    (folder / name).write_text(text)
    return open_field(folder / name, format="events", **{"period": "7D", **options})


def test_events_are_counted_and_summed(tmp_path):
    field = read(tmp_path, HEADER + ROWS)
    assert field.dims == ("time", "customer", "channel")
    assert field.customer.values.tolist() == ["A", "B"]
    assert field.channel.values.tolist() == ["count", "amount"]
    np.testing.assert_array_equal(field.sel(channel="count"), [[0, 2], [1, 0], [0, 1]])
    np.testing.assert_array_equal(field.sel(channel="amount"), [[0, 3], [2, 0], [0, 4]])
    assert [str(day)[:10] for day in field.first_event.values] == ["2020-01-09", "2020-01-01"]
    assert [str(day)[:10] for day in field.time.values] == [
        "2020-01-01",
        "2020-01-08",
        "2020-01-15",
    ]


def test_periods_of_the_calendar_and_a_start(tmp_path):
    weeks = read(tmp_path, HEADER + ROWS, period="W")
    assert str(weeks.time.values[0]).startswith("2019-12-30")
    months = read(tmp_path, HEADER + ROWS, period="M", start="2019-11-05")
    assert [str(day)[:10] for day in months.time.values] == [
        "2019-11-01",
        "2019-12-01",
        "2020-01-01",
    ]
    np.testing.assert_array_equal(months[:, :, 0], [[0, 0], [0, 0], [1, 3]])
    early = read(tmp_path, HEADER + ROWS, start="2019-12-31")
    assert early.sizes["time"] == 3
    assert float(early.sum()) == 13


def test_white_space_and_files_without_header(tmp_path):
    text = ROWS.replace(",", "  ").replace("\n", "\r\n")
    names = ("who", "date", "dollars")
    field = read(tmp_path, text, "events.txt", header=names, series="who")
    expected = read(tmp_path, HEADER + ROWS)
    np.testing.assert_array_equal(field, expected)
    field = read(tmp_path, "  customer date amount\n" + text, "events.txt")
    np.testing.assert_array_equal(field, expected)


@settings(max_examples=20)
@given(
    days=arrays(np.int64, 20, elements=st.integers(0, 40)),
    who=arrays(np.int64, 20, elements=st.integers(0, 3)),
)
def test_no_event_is_lost_or_counted_twice(tmp_path_factory, days, who):
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D")
    frame = pd.DataFrame(
        {"customer": who, "date": dates.strftime("%Y-%m-%d"), "amount": days + 0.5}
    )
    field = read(tmp_path_factory.mktemp("events"), frame.to_csv(index=False), period="5D")
    np.testing.assert_array_equal(field.sum("time")[:, 0], frame.groupby("customer").size())
    np.testing.assert_allclose(field.sum("time")[:, 1], frame.groupby("customer").amount.sum())
    weeks = (days - days.min()) // 5
    np.testing.assert_array_equal(field.sum("customer")[:, 0], np.bincount(weeks))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (HEADER + ROWS + "C,2020-01-01,\n", {}, "every event .* an amount, got none in line 6"),
        (HEADER + ROWS + "\n\nC,2020-01-01,x\n", {}, "got 'x' in line 8"),
        (HEADER + ROWS + "C,1/2/2020,1\n", {}, "got '1/2/2020' in line 6"),
        (HEADER + ",2020-01-01,1\nNaN,2020-01-01,1\n", {}, "must have events of customers, got no"),
        (HEADER + ROWS + "C,2020-01-01,1,1\n", {}, "line 6 has 4"),
        (
            HEADER.replace("amount", "sum") + ROWS,
            {},
            "a column of the amount, got none",
        ),
        (
            HEADER + ROWS,
            {"time": "when"},
            "a column of the date, got when",
        ),
        (HEADER + ROWS, {"period": "often"}, "period must be a length like"),
        (HEADER + ROWS, {"period": "0D"}, "period must be longer than nothing"),
        (
            HEADER + ROWS,
            {"start": "2020-01-02"},
            "at start or later, got 2 before",
        ),
        (HEADER + ROWS, {"start": "2020-02-02", "period": "M"}, "got 4 before"),
        (HEADER + ROWS, {"start": "soon"}, "start must be a date like 1997-01-01, got 'soon'"),
        (HEADER + "\n", {}, "must have events"),
    ],
)
def test_a_bad_event_is_told_with_its_line(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text, **options)


def test_refunds_are_no_events_and_stand_apart(tmp_path):
    field = read(tmp_path, HEADER + ROWS + "B,2020-01-02,-1.5\nC,2020-01-02,-9\n")
    assert field.channel.values.tolist() == ["count", "amount", "refund"]
    np.testing.assert_array_equal(field.sel(channel="count"), [[0, 2, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(field.sel(channel="amount"), [[0, 3, 0], [2, 0, 0], [0, 4, 0]])
    np.testing.assert_array_equal(field.sel(channel="refund")[0], [0, 1.5, 9])
    assert np.isnat(field.first_event.values).tolist() == [False, False, True]
    assert field.attrs["notes"] == (
        "1 rows are the same as another one; each of them counts.",
        "2 amounts are below 0: these are refunds, and no events.",
    )


def test_rows_of_nobody_are_left_out_and_counted(tmp_path):
    anonymous = "".join(f"{nobody},2020-03-01,7\n" for nobody in ("", "nan", "NULL", '""'))
    field = read(tmp_path, HEADER + ROWS + anonymous + "\n,,\n")
    assert field.attrs["notes"] == (
        "4 rows without a customer were left out.",
        "1 rows are the same as another one; each of them counts.",
    )
    np.testing.assert_array_equal(field, read(tmp_path, HEADER + ROWS, "without.csv"))


MONEY = {
    **{"amount": "", "amount_eur": "EUR", "Amount (EUR)": "EUR", "price [\u00a3]": "GBP"},
    **{"Dollar value": "USD", "spendUSD": "USD", "sales_cents": "cent", "CHF amount": "CHF"},
}


@pytest.mark.parametrize("name", MONEY)
def test_the_money_of_the_amount_is_known_by_its_name(name, tmp_path):
    field = read(tmp_path, f"customer,date,{name}\n{ROWS}")
    assert field.units.values.tolist() == ["", MONEY[name]]
    assert float(field.sel(channel="amount").sum()) == 9


def test_money_of_several_kinds_is_not_added(tmp_path):
    rows = ROWS.replace("\n", ",EUR\n")
    field = read(tmp_path, f"customer,date,amount,Currency\n{rows}")
    assert field.units.values.tolist() == ["", "EUR"]
    for name, more in (("amount", "C,2020-01-02,3,USD\n"), ("amount_gbp", "")):
        with pytest.raises(InputError, match=r"of one currency, got EUR, (GBP|USD); convert"):
            read(tmp_path, f"customer,date,{name},Currency\n{rows}{more}")


def test_a_number_may_stand_for_a_missing_amount(tmp_path):
    text = HEADER + ROWS + "C,2020-01-01,-999\n"
    field = read(tmp_path, text, missing_values=(-999,), allow_missing_amounts=True)
    assert field.channel.values.tolist() == ["count", "amount"]
    assert np.isnan(field.sel(customer="C", channel="amount").values[0])


def test_a_wrong_year_is_told_with_its_line(tmp_path):
    days = pd.date_range("2021-01-04", periods=60, freq="5D").strftime("%Y-%m-%d")
    lines = [f"c{at % 7},{day},1" for at, day in enumerate(days)]
    for at, wrong in ((0, "2199-01-01"), (30, "1970-01-01"), (60, "2031-03-01")):
        text = HEADER + "\n".join([*lines[:at], f"c1,{wrong},1", *lines[at:]])
        told = rf"lie together, got .* to .*, of which {wrong} in line {at + 2} is far"
        with pytest.raises(InputError, match=told):
            read(tmp_path, text)
    # A pause of the shop is none, and neither is a table of few rows.
    paused = [*days[:30], *(str(int(day[:4]) + 2) + day[4:] for day in days[30:])]
    assert read(tmp_path, HEADER + "\n".join(f"c,{day},1" for day in paused)).sizes["time"] > 100
    assert read(tmp_path, HEADER + "a,2021-01-04,1\nb,2023-01-04,1\n").sizes["time"] > 100


def test_the_published_counts_come_out(data_dir):
    folder = data_dir / "customer"
    names = ("id", "customer", "date", "number", "dollars")
    path = folder / "CDNOW_sample.txt"
    sample = open_field(path, format="events", period="7D", header=names)
    assert sample.shape == (78, 2357, 2)
    assert float(sample.sel(channel="count").sum()) == 6919
    master = open_field(folder / "CDNOW_master.txt", format="events", period="7D")
    assert master.shape == (78, 23570, 2)
    assert float(master.sel(channel="count").sum()) == 69_659
    assert master.first_event.values.max() < np.datetime64("1997-04-01")
