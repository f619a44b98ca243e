"""A table of pandas is read as the file that pandas would write of it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.data import FieldConfig, PanelConfig
from stpatch_jax.data.fields.in_memory import given_field
from stpatch_jax.data.prices.tables import read_price_table
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.data.readers.tables import read_panel
from stpatch_jax.errors import InputError

DAYS = pd.date_range("2021-01-01", periods=6, freq="D")


def values(seed=0, columns=2) -> Any:
    table = np.random.default_rng(seed).normal(size=(6, columns)).round(3)
    table[2, 0] = np.nan
    return table


WIDE: Any = pd.DataFrame(values(), DAYS, ["a", "b"])
LONG: Any = WIDE.rename_axis("day").reset_index().melt("day", var_name="item", value_name="load")
TABLES = {
    "wide by its index": WIDE,
    "wide by a named index": WIDE.rename_axis("when"),
    "wide by a column": WIDE.rename_axis("Date").reset_index(),
    "texts as times": WIDE.rename_axis("Date").reset_index().astype({"Date": str}),
    "long": LONG,
    "long by both levels": LONG.set_index(["day", "item"]),
    "another order": LONG.sample(frac=1, random_state=0),
    "categories": LONG.astype({"item": "category"}),
    "whole numbers": WIDE.fillna(0).round().astype(int),
    "one column of numbers": WIDE[["b"]].fillna(0).reset_index(drop=True),
    "two levels of columns": pd.concat({"load": WIDE}, axis=1),
    "a zone": WIDE.tz_localize("UTC"),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_is_read_as_its_file_is(table, tmp_path):
    before = table.copy()
    index = not isinstance(table.index, pd.RangeIndex)
    flat = table.copy()
    if isinstance(flat.columns, pd.MultiIndex):
        flat.columns = ["/".join(name) for name in flat.columns]
    flat.to_csv(tmp_path / "table.csv", index=index)
    expected = read_panel(tmp_path / "table.csv")
    found = read_panel(table)
    xr.testing.assert_equal(found, expected)
    assert set(notes_of(found)) <= set(notes_of(expected))
    pd.testing.assert_frame_equal(table, before)


@settings(max_examples=15)
@given(st.permutations(range(6)), st.permutations(["a", "b", "c"]), st.integers(0, 9))
def test_order_says_nothing(rows, columns, seed):
    table: Any = pd.DataFrame(values(seed, 3), DAYS, ["a", "b", "c"])
    found = read_panel(table.iloc[list(rows)][list(columns)])
    np.testing.assert_array_equal(found.sel(series=["a", "b", "c"])[..., 0], table.to_numpy())
    np.testing.assert_array_equal(found.time, DAYS)


def test_configurations_read_a_table_as_they_read_its_file(tmp_path):
    channels = FieldConfig(columns="channels", variables=("b",), missing_values=(WIDE.b.iloc[3],))
    field = given_field(WIDE, channels)
    assert field.dims == ("time", "channel")
    assert list(field.channel.values) == ["b"]
    assert np.isnan(field[3, 0])
    WIDE.to_csv(tmp_path / "prices.csv")
    xr.testing.assert_equal(
        given_field(WIDE.b, FieldConfig()), given_field(WIDE[["b"]], FieldConfig())
    )
    table = read_price_table(WIDE)
    xr.testing.assert_equal(table.field, read_price_table(tmp_path / "prices.csv").field)
    assert table.report["source"] == "DataFrame"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: read_panel(WIDE[:0]), "the table DataFrame must have rows and at least two"),
        (lambda: read_panel(LONG[["item"]]), "at least two columns, or one of numbers"),
        (lambda: FieldConfig(variables=("c",)).of(WIDE), r"among those of DataFrame .* got c;"),
        (lambda: FieldConfig(dims=("time", "x")).of(WIDE), "options for tables must be among"),
        (lambda: FieldConfig().of({"a": 1}), "a field must be a DataArray or Dataset"),
        (lambda: PanelConfig().of(values()), "prices in memory must be a DataFrame, got ndarray"),
    ],
)
def test_a_wrong_table_is_one_sentence(call, told):
    with pytest.raises(InputError, match=told):
        call()
