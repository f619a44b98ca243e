"""What every data set of the library answers: state, digest, axes of its inputs, other files."""

import numpy as np
import pytest
import xarray as xr
from small_fields import small_field
from small_panel import write_table

from stpatch_jax.data import (
    CharactersConfig,
    Cleaner,
    CleaningConfig,
    Data,
    FieldConfig,
    LabelledSeriesConfig,
    LabelledVolumesConfig,
    PanelConfig,
)
from stpatch_jax.data.protocols import EVERYTHING, digest_of
from stpatch_jax.errors import InputError

FIELD = FieldConfig(context=6, horizon=3, train_share=0.5)


def field_data(folder):
    values = small_field((60, 3)).drop_attrs()
    values.to_dataset("channel").to_netcdf(folder / "f.nc")
    return FieldConfig(str(folder / "f.nc"), context=6, horizon=3, train_share=0.5)


def panel_data(folder):
    return PanelConfig(str(write_table(folder / "p.csv")), context=8, horizon=2)


def series_data(folder):
    lines = [f"{at % 2}\t{at}\t{at + 1}\t0.5" for at in range(6)]
    for name in ("X_TRAIN.tsv", "X_TEST.tsv"):
        (folder / name).write_text("\n".join(lines) + "\n")
    return LabelledSeriesConfig(str(folder / "X_TRAIN.tsv"))


def volume_data(folder):
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = np.random.default_rng(0).random((4, 2, 2, 2))
        arrays[f"{name}_labels"] = np.arange(4)[:, None] % 2
    np.savez(folder / "v.npz", **arrays)
    return LabelledVolumesConfig(str(folder / "v.npz"))


def text_data(folder):
    (folder / "t.txt").write_text("to be or not to be\n" * 8)
    return CharactersConfig(
        str(folder / "t.txt"),
        window=8,
        context=4,
        validation_share=0.2,
        test_share=0.2,
    )


KINDS = [field_data, panel_data, series_data, volume_data]


def leaves(tree, name=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, tree


@pytest.mark.parametrize("kind", [*KINDS, text_data])
def test_a_state_is_a_tree_of_arrays_and_plain_values(kind, tmp_path):
    data: Data = kind(tmp_path).load()
    for name, leaf in leaves(data.state()):
        if isinstance(leaf, np.ndarray):
            assert leaf.dtype == np.float64, name
        else:
            plain = leaf if isinstance(leaf, list) else [leaf]
            assert all(type(value) in (int, float, str, bool) for value in plain), name


@pytest.mark.parametrize("kind", [*KINDS, text_data])
def test_axes_fit_the_inputs(kind, tmp_path):
    data: Data = kind(tmp_path).load()
    source = data.source("test")
    example, axes = source[len(source) - 1], data.input_axes("test", len(source) - 1)
    name = next(key for key in ("context", "field", "tokens") if key in example)
    values = example[name][:-1, None] if name == "tokens" else example[name]
    if axes.dims is not None:
        assert len(axes.dims) == values.ndim - 2
    sizes = dict(zip(("time", *(axes.dims or ())), values.shape, strict=False))
    assert {dim: len(coord) for dim, coord in axes.coords.items()}.items() <= sizes.items()
    assert axes.channels is None or len(axes.channels) == values.shape[-1]
    assert axes.words is None or len(axes.words) == len(values)
    if "index" in example and "time" in axes.coords:
        row = int(example["index"])
        np.testing.assert_array_equal(axes.coords["time"], data.times[row - len(values) : row])  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_run_is_restored_as_it_was(kind, tmp_path):
    config = kind(tmp_path)
    data = config.load()
    other = config.restore(config.path.replace("TRAIN", "TEST"), data.state())
    assert digest_of(other.state()) == digest_of(data.state())
    with pytest.raises(InputError, match="split must be 'all', got 'test'"):
        other.source("test")
    test, everything = data.source("test"), other.source(EVERYTHING)
    for at in range(len(test)):
        # Windows are named by their row, items by their place in the file.
        number = int(test[at]["index"]) - int(everything[0]["index"]) if "index" in test[at] else at
        again = everything[number]
        for name in again.keys() & {"context", "field", "target_mask", "persistence"}:
            np.testing.assert_allclose(again[name], test[at][name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", [field_data, panel_data])
def test_the_last_window_of_a_restored_file_is_of_what_follows_it(kind, tmp_path):
    config = kind(tmp_path)
    data = config.load()
    source = config.restore(config.path, data.state()).source(EVERYTHING)
    last = source[len(source) - 1]
    assert int(last["index"]) == len(data.times)
    assert last["target"].shape == source[0]["target"].shape
    assert not last["target_mask"].any()
    assert source[0]["target_mask"].any()


def test_a_field_is_restored_over_more_cells_only_where_nothing_knows_its_place(tmp_path):
    config = field_data(tmp_path)
    values = small_field((60, 3)).drop_attrs()
    larger = xr.concat([values, values], values.dims[1])
    larger = larger.assign_coords({values.dims[1]: np.arange(2 * len(values[0]))})
    larger.to_dataset("channel").to_netcdf(tmp_path / "large.nc")
    with pytest.raises(InputError, match=r"must have the cells of the run, .* cell by cell, got"):
        config.restore(str(tmp_path / "large.nc"), config.load().state())
    free = FieldConfig(config.path, context=6, horizon=3, cleaning=CleaningConfig(per="channel"))
    with pytest.warns(UserWarning, match="The axis .* is not compared, as its"):
        data = free.restore(str(tmp_path / "large.nc"), free.load().state())
    assert data.field.shape == larger.shape


def test_a_field_in_memory_is_that_of_its_file(tmp_path):
    config = field_data(tmp_path)
    values = small_field((60, 3)).drop_attrs()
    for given in (values, values.to_dataset("channel"), values.values):
        data = config.of(given)
        example, expected = data.source("test")[2], config.load().source("test")[2]
        np.testing.assert_array_equal(example["context"], expected["context"])
    with pytest.raises(InputError, match="must be a DataArray or Dataset with a dim time"):
        config.of(values.rename(time="when"))
    with pytest.raises(InputError, match="prices in memory must be a DataFrame, got DataArray"):
        PanelConfig().of(values)


@pytest.mark.parametrize("kind", [series_data, volume_data])
def test_labelled_fields_in_memory_are_split_by_class(kind, tmp_path):
    config = kind(tmp_path)
    shape = config.load().source("train")[0]["field"].shape
    fields = np.random.default_rng(0).random((20, *(shape if kind is series_data else shape[1:])))
    data = config.of((fields, np.array(["a", "b"])[np.arange(20) % 2]))
    assert data.classes == ("a", "b")
    assert [len(data.source(split)) for split in ("train", "validation", "test")] == [12, 4, 4]
    assert data.class_counts == (6, 6)
    row = data.splits["test"].groups[0]
    values = data.splits["test"].fields[0].reshape(fields.shape[1:])
    np.testing.assert_array_equal(values, fields[row])
    with pytest.raises(InputError, match=r"one for each item, got shape \(3,\)"):
        config.of((fields, np.zeros(3, int)))


def test_a_cleaner_without_climatology_is_restored(tmp_path):
    data = field_data(tmp_path).load()
    again = Cleaner.from_dict(data.state())
    values = data.field.values
    for name in ("channels", "config"):
        assert getattr(again, name) == getattr(data.cleaner, name)
    expected = data.cleaner.scaled(values, channels=range(values.shape[-1]), clip=True)
    np.testing.assert_array_equal(
        again.scaled(values, channels=range(values.shape[-1]), clip=True), expected
    )
