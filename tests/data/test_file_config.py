"""What a reader is told by settings, and the notes that it leaves."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data import FieldConfig, FileConfig, PanelConfig
from stpatch_jax.data.fields.describing import describe_patches, patch_summary
from stpatch_jax.data.readers.conventions import add_note, notes_of
from stpatch_jax.errors import InputError
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.risk.data import RiskConfig
from stpatch_jax.runs.trained import with_settings
from stpatch_jax.runs.values import from_values, to_values


def test_settings_that_are_given_are_told_to_the_reader(tmp_path):
    (tmp_path / "a.csv").write_text("when,who,load\n2024-01-01,a,1\n2024-01-02,a,2\n")
    config = FileConfig(time="when", series=("who",))
    assert config.told() == {"time": "when", "series": "who", "gaps": "split"}
    assert config.open(tmp_path / "a.csv").sizes == {"time": 2, "series": 1, "channel": 1}
    problem = FieldConfig(
        str(tmp_path / "a.csv"), time="when", series=("who",), context=1, horizon=1
    )
    assert problem.told() == config.told()


def test_a_setting_that_a_reader_does_not_know_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match="series"):
        FileConfig(series=("who",), dims=("time", "x")).open(tmp_path / "a.npy")


def test_another_file_of_a_run_is_told_what_reading_names():
    config = FieldConfig("a.csv", time="when", context=3)
    changed = with_settings(config, {"time": "date", "missing_values": [-9]})
    assert changed == FieldConfig("a.csv", time="date", missing_values=(-9.0,), context=3)
    with pytest.raises(InputError, match=r"told how it is read by variables.*got context"):
        with_settings(config, {"context": 4})
    with pytest.raises(InputError, match=r"data.time must be str . None, got 3"):
        with_settings(config, {"time": 3})


def test_settings_go_to_json_and_back():
    config = FileConfig(dims=("time", "x"), select={"level": 500.0, "name": "a"})
    values = json.loads(json.dumps(to_values(config)))
    assert from_values(FileConfig, values) == config


def test_notes_are_kept_and_told():
    dims = ("time", "channel")
    field = xr.DataArray(np.zeros((4, 1)), dims=dims, coords={"channel": ["a"]})
    field = add_note(add_note(field, "One was dropped."), "Two was sorted.")
    assert notes_of(field[:2]) == ("One was dropped.", "Two was sorted.")
    summary = patch_summary(field, WindowSpec((2,)))
    text = describe_patches(json.loads(json.dumps(summary)))
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("note")] == [
        "One was dropped.",
        "Two was sorted.",
    ]
    with xr.set_options(keep_attrs=True):
        varied = field + np.random.default_rng(0).random((4, 1))
    data = FieldConfig(context=1, horizon=1, train_share=0.5, test_share=0.25).of(varied)
    assert data.report["notes"] == list(notes_of(field))


def test_an_attribute_of_a_file_that_is_called_notes_is_none():
    assert notes_of(xr.DataArray(0, attrs={"notes": "made by hand"})) == ()


def prices(path, header=True):
    """A long table of two companies whose columns are called as nobody guesses."""
    days = pd.date_range("2020-01-01", periods=600).strftime("%Y-%m-%d")
    rows = [
        f"{day};{who};{10 + at % 7 + number};-9"
        for at, day in enumerate(days)
        for number, who in enumerate(("A", "B"))
    ]
    path.write_text("\n".join([*(["wann;wer;preis;rest"] if header else []), *rows]))
    return str(path)


@pytest.mark.parametrize("kind", [PanelConfig, RiskConfig])
def test_price_tables_are_told_what_their_columns_are(tmp_path, kind):
    told = {"time": "wann", "series": ("wer",), "variables": ("preis",)}
    data = kind(prices(tmp_path / "a.csv"), **told).load()
    assert list(data.companies) == ["A", "B"]
    without = prices(tmp_path / "b.csv", header=False)
    named = {"header": ("wann", "wer", "preis", "rest"), **told}
    assert list(kind(without, **named).load().times) == list(data.times)


def test_a_table_may_have_no_header_and_marks_for_what_is_missing(tmp_path):
    (tmp_path / "a.csv").write_text("2024-01-01,1,-99\n2024-01-02,-99,2\n2024-01-03,3,4\n")
    config = FileConfig(header=("date", "a", "b"), missing_values=(-99,))
    np.testing.assert_array_equal(
        config.open(tmp_path / "a.csv").values[..., 0], [[1, np.nan], [np.nan, 2], [3, 4]]
    )


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n3,4\n5,6\n", "when,a,b\nsoon,1,2\nlate,3,4\nend,5,6\n"]
)
def test_rows_of_a_table_without_dates_are_counted_on_request(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=r'time="rows"'):
        FileConfig().open(tmp_path / "a.csv")
    field = FileConfig(time="rows").open(tmp_path / "a.csv")
    assert field.time.values.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(field.values[..., 0], [[1, 2], [3, 4], [5, 6]])
    assert "Rows are counted" in notes_of(field)[0]


def test_rows_are_counted_series_by_series(tmp_path):
    (tmp_path / "a.csv").write_text("item,load\nx,1\ny,2\nx,3\nx,4\ny,5\n")
    field = FileConfig(time="rows").open(tmp_path / "a.csv")
    np.testing.assert_array_equal(field.values[..., 0], [[1, 2], [3, 5], [4, np.nan]])


def test_a_column_that_is_called_rows_is_the_time(tmp_path):
    (tmp_path / "a.csv").write_text("rows,a\n2024-01-01,1\n2024-01-02,2\n")
    assert FileConfig(time="rows").open(tmp_path / "a.csv").time.dtype.kind == "M"
