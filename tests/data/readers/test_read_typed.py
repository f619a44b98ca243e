"""A table whose columns have types holds what the same table holds as text."""

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.errors import InputError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.feather")
pq = pytest.importorskip("pyarrow.parquet")

DAYS: Any = pd.date_range("2021-01-01", periods=4)
# Each kind of column of ids, times and values, out of the small integers 0..3.
IDS = {
    "int": lambda n: pa.array(n, pa.int64()),
    "uint": lambda n: pa.array(n, pa.uint16()),
    "text": lambda n: pa.array([f"s{i}" for i in n]),
    "large": lambda n: pa.array([f"s{i}" for i in n], pa.large_string()),
    "category": lambda n: pa.array([f"s{i}" for i in n]).dictionary_encode(),
    "int category": lambda n: pa.array(n).dictionary_encode(),
}
TIMES = {
    "date32": lambda n: pa.array([DAYS[i].date() for i in n], pa.date32()),
    "text": lambda n: pa.array([str(DAYS[i].date()) for i in n]),
    "eight": lambda n: pa.array([int(DAYS[i].strftime("%Y%m%d")) for i in n]),
    **{
        unit: lambda n, unit=unit: pa.array([DAYS[i].to_pydatetime() for i in n]).cast(
            pa.timestamp(unit)
        )
        for unit in ("s", "ms", "us", "ns")
    },
    "zone": lambda n: pa.array([DAYS[i].to_pydatetime() for i in n]).cast(
        pa.timestamp("us", "Europe/Berlin")
    ),
}
VALUES = {
    "float": lambda n: pa.array([None if i == 1 else i / 4 for i in n], pa.float64()),
    "half": lambda n: pa.array([np.float16(i / 4) for i in n], pa.float16()),
    "int": lambda n: pa.array([None if i == 1 else i for i in n], pa.int32()),
    "bool": lambda n: pa.array([i > 1 for i in n]),
    "decimal": lambda n: pa.array([None if i == 1 else decimal.Decimal(i) / 4 for i in n]),
    "dictionary": lambda n: pa.array([i / 4 for i in n]).dictionary_encode(),
}


@given(
    ids=st.sampled_from(sorted(IDS)),
    time=st.sampled_from(sorted(TIMES)),
    value=st.sampled_from(sorted(VALUES)),
    order=st.permutations(range(8)),
    suffix=st.sampled_from([".parquet", ".PQ", ".feather"]),
)
def test_a_table_of_types_is_read_as_its_text(tmp_path_factory, ids, time, value, order, suffix):
    folder = tmp_path_factory.mktemp("typed")
    table = pa.table(
        {
            "unique_id": IDS[ids]([i // 4 for i in order]),
            "ds": TIMES[time]([i % 4 for i in order]),
            "y": VALUES[value]([i % 4 for i in order]),
            "x": VALUES["float"]([i % 4 for i in order]),
        }
    )
    path = folder / f"table{suffix}"
    write = pa.feather.write_feather if suffix == ".feather" else pq.write_table
    write(table, path)
    table.to_pandas(integer_object_nulls=True).to_csv(folder / "table.csv", index=False)
    field, text = open_field(path), open_field(folder / "table.csv")
    assert field.drop_attrs().equals(text.drop_attrs())
    assert notes_of(field) == notes_of(text)
    assert field.sizes == {"time": 4, "series": 2, "channel": 2}


def test_what_pandas_stored_as_its_index_is_a_column(tmp_path):
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "y": [1, 0, 0, 1]}, index=DAYS)
    frame.to_parquet(path)
    np.testing.assert_array_equal(open_field(path)[..., 0], frame)
    index = pd.MultiIndex.from_product([["a", "b"], DAYS], names=["store", "day"])
    pd.DataFrame({"sales": range(8)}, index=index).to_parquet(path)
    assert open_field(path).sizes == {"time": 4, "series": 2, "channel": 1}
    # A table that was filtered keeps the numbers of its rows.
    frame = frame.reset_index(names="day").iloc[[0, 2, 3]]
    frame.to_parquet(path)
    assert open_field(path).series.values.tolist() == ["x", "y"]


def test_a_folder_of_parts_is_one_table(tmp_path):
    folder = tmp_path / "table.parquet"
    folder.mkdir()
    for part in (0, 1):
        rows = slice(2 * part, 2 * part + 2)
        frame = pd.DataFrame({"day": DAYS[rows], "x": [1.0, 2.0], "y": [3, 4]})
        frame.to_parquet(folder / f"part-{part}.parquet")
    np.testing.assert_array_equal(open_field(folder)[:, 0, 0], [1, 2, 1, 2])


def test_times_of_day_complete_dates(tmp_path):
    clock = [datetime.time(6), datetime.time(18, 30)]
    table = {"day": [datetime.date(2021, 1, 1)] * 2, "clock": clock, "x": [1.0, 2.0]}
    pq.write_table(pa.table(table), tmp_path / "table.parquet")
    times = open_field(tmp_path / "table.parquet").time.values
    assert times.astype("M8[m]").astype(str).tolist() == ["2021-01-01T06:00", "2021-01-01T18:30"]


def test_what_is_no_number_is_left_out_or_refused(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {
        "list": pa.array([[1.0]] * 4),
        "struct": pa.array([{"a": 1}] * 4),
        "bytes": pa.array([b"ab"] * 4),
        "duration": pa.array([1] * 4, pa.duration("s")),
    }
    pq.write_table(pa.table({"day": DAYS, **columns, "x": [1.0, 2, 3, 4]}), path)
    field = open_field(path)
    assert field.series.values.tolist() == ["x"]
    assert "list, struct, bytes, duration hold no numbers" in notes_of(field)[0]
    for name in columns:
        with pytest.raises(InputError, match=f"'{name}' .* in row 1; choose other columns"):
            open_field(path, variables=[name])


@pytest.mark.parametrize("times", [np.arange(4), 1609459200000 + 86400000 * np.arange(4)])
def test_numbers_are_no_times_as_in_text(tmp_path, times):
    frame = pd.DataFrame({"ds": times, "y": [1.0, 2, 3, 4]})
    frame.to_parquet(tmp_path / "table.parquet")
    frame.to_csv(tmp_path / "table.csv", index=False)
    said = []
    for name in ("table.csv", "table.parquet"):
        with pytest.raises(InputError, match="must hold dates like") as error:
            open_field(tmp_path / name)
        said.append(str(error.value).replace(name, "file").replace("line 2", "row 1"))
    assert said[0] == said[1]


def test_a_time_that_is_missing_is_told_by_its_row(tmp_path):
    frame = pd.DataFrame({"ds": [*DAYS[:3], pd.NaT], "y": [1.0, 2, 3, 4]})
    frame.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(InputError, match="got '' in row 4"):
        open_field(tmp_path / "table.parquet")
