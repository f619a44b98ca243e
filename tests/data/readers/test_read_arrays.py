"""Arrays of .npz and .npy files: which axis is what, and what is refused."""

import numpy as np
import pytest

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

VALUES = np.arange(120.0).reshape(5, 4, 3, 2)


def save(folder, **arrays):
    path = folder / "arrays.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_axes_are_guessed_beside_a_time(tmp_path):
    times = np.arange("2020-01-01", "2020-01-06", dtype="datetime64[D]")
    field = open_field(save(tmp_path, data=VALUES, time=times))
    assert field.dims == ("time", "y", "x", "channel")
    np.testing.assert_array_equal(field, VALUES)
    np.testing.assert_array_equal(field.time.values, times.astype("datetime64[ns]"))
    assert field.channel.values.tolist() == ["data_0", "data_1"]


def test_axes_may_be_named_in_any_order(tmp_path):
    path = save(tmp_path, data=VALUES, when=np.arange(4) * 10)
    dims = ("y", "time", "x", "channel")
    field = open_field(path, variables="data", dims=dims, coords={"time": "when"})
    np.testing.assert_array_equal(field, VALUES.transpose(1, 0, 2, 3))
    assert field.time.values.tolist() == [0, 10, 20, 30]


def test_several_arrays_become_channels(tmp_path):
    path = save(tmp_path, a=VALUES[..., 0], b=VALUES[..., 1])
    field = open_field(path, variables=["b", "a"], dims=("time", "y", "x"))
    np.testing.assert_array_equal(field, VALUES[..., ::-1])
    assert field.channel.values.tolist() == ["b", "a"]


def test_a_npy_file_is_mapped_into_memory(tmp_path):
    np.save(tmp_path / "field.npy", VALUES)
    field = open_field(tmp_path / "field.npy", dims=("time", "y", "x", "channel"))
    assert isinstance(field.variable._data, np.memmap) or not field.values.flags.owndata
    np.testing.assert_array_equal(field, VALUES)


def test_a_number_may_mean_missing(tmp_path):
    values = VALUES.copy()
    values[0, 0, 0, 0] = -999
    path = save(tmp_path, data=values)
    field = open_field(path, dims=("time", "y", "x", "channel"), missing_values=[-999])
    assert np.argwhere(np.isnan(field.values)).tolist() == [[0, 0, 0, 0]]


def test_unsorted_times_are_sorted_and_repeated_ones_refused(tmp_path):
    path = save(tmp_path, data=VALUES, time=[2, 0, 1, 3, 4])
    np.testing.assert_array_equal(open_field(path), VALUES[[1, 2, 0, 3, 4]])
    path = save(tmp_path, data=VALUES, time=[2, 0, 1, 2, 4])
    with pytest.raises(InputError, match="every time once, got 2 more than once"):
        open_field(path)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"data": VALUES}, {}, "name them with dims="),
        ({"data": VALUES[..., 0], "time": np.arange(5)}, {}, "name them with dims="),
        ({"data": VALUES[:4], "time": np.arange(4)}, {}, "name them with dims="),
        ({"a": VALUES, "b": VALUES}, {}, r"got a \(5, 4, 3, 2\), b .*variables="),
        ({"a": VALUES}, {"variables": ["c"]}, "got c; choose from these"),
        ({"a": VALUES}, {"dims": ("time", "y")}, "each of the 4 axes of a"),
        ({"a": VALUES}, {"dims": ("y", "x", "z", "channel")}, "among them time"),
        ({"a": VALUES.astype(str)}, {}, "must be an array of numbers, got a"),
        (
            {"a": VALUES, "t": np.arange(7)},
            {"dims": ("time", "y", "x", "channel"), "coords": {"time": "t"}, "variables": "a"},
            "one entry for each of the 5 along time",
        ),
        (
            {"a": VALUES * [1, np.nan]},
            {"dims": ("time", "y", "x", "channel")},
            "got none for channel a_1",
        ),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, arrays, options, message):
    path = save(tmp_path, **arrays)
    with pytest.raises(InputError, match=message):
        open_field(path, **options)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["cut.npz", "cut.npy"])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    whole = tmp_path / name
    (np.save if name.endswith("npy") else np.savez)(whole, VALUES)
    whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(InputError, match=r"must be a readable .npz or .npy file"):
        open_field(whole, dims=("time", "y", "x", "channel"))


def test_python_objects_are_refused(tmp_path):
    path = save(tmp_path, data=np.asarray([{}], object))
    with pytest.raises(InputError, match=r"array data .* must hold numbers, got Python objects"):
        open_field(path, dims=("time",))


def test_bike_flow_is_read(data_dir):
    field = open_field(data_dir / "traffic" / "bikenyc_tail.npz")
    assert field.sizes == {"time": 1369, "y": 16, "x": 8, "channel": 2}
    assert str(field.time.values[-1]).startswith("2014-09-30T23")
    with np.load(data_dir / "traffic" / "bikenyc_tail.npz") as archive:
        np.testing.assert_array_equal(field, archive["data"])


def test_stock_features_are_read(data_dir):
    field = open_field(
        data_dir / "finance" / "acl18_movement.npz",
        variables="features",
        dims=("company", "time", "channel"),
        coords={"time": "dates", "company": "tickers"},
        missing_values=[-123321],
    )
    assert field.dims == ("time", "company", "channel")
    assert field.shape == (652, 87, 11)
    with np.load(data_dir / "finance" / "acl18_movement.npz") as archive:
        missing = archive["features"].transpose(1, 0, 2) == -123321
    np.testing.assert_array_equal(np.isnan(field.values), missing)


def test_the_channels_of_an_array_are_not_named_after_its_file(tmp_path):
    for name in ("train", "test"):
        np.save(tmp_path / f"{name}.npy", np.zeros((5, 2, 3, 1)))
        field = open_field(tmp_path / f"{name}.npy", dims=("time", "y", "x", "channel"))
        assert field.channel.values.tolist() == ["value_0"]


@pytest.mark.parametrize(
    ("kind", "missing", "there"),
    [("f4", -999.9, True), ("f8", -999.9, True), ("i2", -999, True), ("u1", 300, False)],
)
def test_missing_values_are_of_the_type_of_the_array(tmp_path, kind, missing, there):
    values = np.array([[1, 2], [3, missing if there else 4]]).astype(kind)
    np.save(tmp_path / "a.npy", values)
    field = open_field(tmp_path / "a.npy", dims=("time", "channel"), missing_values=[missing])
    assert np.isnan(field.values.astype(float)).sum() == there
