"""Digests: equal for equal data however they are stored, different for any other value."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_fields import small_field
from test_data_protocol import KINDS, text_data

from stpatch_jax.data import FieldConfig, LabelledClipsConfig
from stpatch_jax.data import digests as module
from stpatch_jax.data.digests import digest_of, file_bytes
from stpatch_jax.data.fields import contents
from stpatch_jax.data.fields.contents import field_content

SPLITS = ("train", "validation", "test")
FIELD = FieldConfig(context=6, horizon=3, train_share=0.5)
ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", "<f8", "<i2", "|b1", "<M8[s]", "<U3"]),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
)


@given(ARRAYS, st.integers(1, 5))
def test_how_an_array_is_stored_does_not_count(array: np.ndarray, parts: int) -> None:
    name = digest_of({"a": array})
    others = [np.array(array, order="F"), array.astype(array.dtype.newbyteorder(">"))]
    if array.dtype.kind == "M":
        others.append(array.astype("M8[ms]"))
    if array.dtype.kind == "U":
        others += [array.astype("<U9"), array.astype(object)]
    for other in others:
        assert digest_of({"a": other}) == name
    assert digest_of({"b": array}) != name
    assert digest_of({"a": array[None]}) != name
    if array.ndim and array.dtype.kind != "U":
        whole = digest_of(iter([array]))
        assert digest_of(iter(np.array_split(array, parts))) == whole


@given(hnp.arrays("<f4", (3, 4), elements=st.floats(-9, 9, width=32)), st.integers(0, 11))
def test_every_value_counts(array: np.ndarray, at: int) -> None:
    other = array.copy()
    other.flat[at] += 1
    assert digest_of([array]) != digest_of([other])
    assert digest_of(iter([array])) != digest_of(iter([other]))


def changed(path: str, split: str) -> None:
    """Changes one value of a file of `test_data_protocol`, in the rows of one split."""
    file = Path(path)
    if file.suffix == ".nc":
        values = xr.load_dataset(file)
        name = next(iter(values.data_vars))
        values[name][{"train": 3, "validation": 40, "test": 59}[split]] += 1
        values.to_netcdf(file)
    elif file.suffix == ".csv":
        table = pd.read_csv(file, dtype=str)
        row = {"train": 9, "validation": len(table) * 3 // 4, "test": len(table) - 1}[split]
        table.iloc[row, -1] = "77.5"
        table.to_csv(file, index=False)
    elif file.suffix == ".npz":
        arrays = dict(np.load(file))
        arrays[f"{split[:3] if split == 'validation' else split}_images"][0, 0, 0, 0] += 1
        np.savez(file, **arrays)
    elif file.suffix == ".txt":
        lines = file.read_text().splitlines()
        lines[{"train": 0, "validation": 5, "test": 7}[split]] = "to be or not to bee"
        file.write_text("\n".join(lines) + "\n")
    else:
        other = file.with_name("X_TEST.tsv") if split == "test" else file
        other.write_text(other.read_text().replace("\t5\t", "\t5.5\t"))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", [*KINDS, text_data])
def test_a_changed_value_changes_the_digest_of_its_split_alone(
    kind: Any, split: str, tmp_path: Path
) -> None:
    def digests(config: Any) -> dict[str, str]:
        data = config.load()
        return {name: data.digest(name) for name in SPLITS}

    config = kind(tmp_path)
    before = digests(config)
    assert digests(kind(tmp_path)) == before
    changed(config.path, split)
    after = digests(config)
    differing = {name for name in SPLITS if after[name] != before[name]}
    if config.path.endswith("TRAIN.tsv"):  # Its training file is validated on as well.
        assert differing <= ({"train", "validation"} if split != "test" else {"test"})
        assert differing
    else:
        assert differing == {split}


def test_units_places_names_and_times_count() -> None:
    values = small_field((60, 3))
    name = digest_of(field_content(values, slice(0, 60)))
    dim = values.dims[1]
    others = [
        values.assign_coords(time=values.time.values + np.timedelta64(1, "h")),
        values.assign_coords({dim: np.arange(3) + 0.5}),
        values.assign_coords({dim: (dim, np.arange(3), {"units": "m"})}),
        values.assign_coords(channel=[f"{one}x" for one in values.channel.values]),
        values.assign_coords(units=("channel", ["K"] * values.sizes["channel"])),
        values.rename({dim: "other"}),
        values.astype(np.float64 if values.dtype == np.float32 else np.float32),
    ]
    names = [digest_of(field_content(other, slice(0, 60))) for other in others]
    assert len({name, *names}) == len(others) + 1
    copy = values.copy(deep=True).assign_attrs(history="copied", source="elsewhere")
    assert digest_of(field_content(copy, slice(0, 60))) == name


def test_a_copy_in_another_format_has_the_digest_of_the_first(tmp_path: Path) -> None:
    values = small_field((60, 3)).drop_attrs().to_dataset("channel")
    values.to_netcdf(tmp_path / "a.nc")
    for steps in (60, 7):
        chunks = {name: {"chunks": (steps, 3)} for name in values.data_vars}
        values.to_zarr(tmp_path / f"{steps}.zarr", encoding=chunks, zarr_format=2)
    fields = [FIELD.open(str(tmp_path / file)) for file in ("a.nc", "60.zarr", "7.zarr")]
    names = {digest_of(field_content(field, slice(5, 50))) for field in fields}
    assert len(names) == 1


def test_of_a_large_field_a_sample_counts_whose_places_are_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = xr.DataArray(
        np.arange(400 * 12.0).reshape(400, 12, 1),
        dims=("time", "cell", "channel"),
        coords={"time": np.arange(400), "channel": ["load"]},
    )
    chunks = {"load": {"chunks": (10, 4, 1)}}
    values.to_dataset(name="load").to_zarr(tmp_path / "a.zarr", encoding=chunks, zarr_format=2)
    field = xr.open_zarr(tmp_path / "a.zarr", chunks=None)["load"]
    monkeypatch.setattr(contents, "MOST_BYTES", 1000)
    monkeypatch.setattr(contents, "_LEAST", 20)
    monkeypatch.setattr(contents, "_SAMPLED", 0)
    monkeypatch.setattr(contents, "_BLOCK", 500)
    read: list[tuple[slice, ...]] = []
    reading = contents.SlabReader.read
    monkeypatch.setattr(
        contents.SlabReader, "read", lambda self, *box: [read.append(box), reading(self, *box)][1]
    )
    for one in (values, field):
        read.clear()
        name = digest_of(field_content(one, slice(100, 400)))
        assert len({str(box) for box in read}) == len(read) == 20
        assert all(100 <= box[0].start < box[0].stop <= 400 for box in read)
        # All of time, and of space where it is in chunks.
        assert len({box[0].start // 60 for box in read}) == 6
        assert {box[1].start for box in read} == ({0} if one is values else {0, 4, 8})
        seen, other = read[7], values.copy(deep=True)
        other[tuple(at.start for at in seen)] += 1
        assert digest_of(field_content(one, slice(100, 400))) == name
    assert digest_of(field_content(values.copy(data=field.values), slice(100, 400))) != name
    other.encoding["preferred_chunks"] = {"time": 10, "cell": 4, "channel": 1}
    assert digest_of(field_content(other, slice(100, 400))) != name


def test_files_are_told_by_their_bytes_and_large_ones_by_size_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(np.random.default_rng(0).bytes(10_007))
    monkeypatch.setattr(module, "_BLOCK", 1000)
    for most, every in ((20_000, True), (5_000, False)):
        monkeypatch.setattr(module, "MOST_BYTES", most)
        name = digest_of(file_bytes([file]))
        assert digest_of(file_bytes([Path(shutil.copy(file, tmp_path / "b.bin"))])) == name
        changed = []
        for at in range(0, 10_007, 500):
            other = bytearray(file.read_bytes())
            other[at] ^= 1
            (tmp_path / "b.bin").write_bytes(other)
            changed.append(digest_of(file_bytes([tmp_path / "b.bin"])) != name)
        assert changed[0]
        assert all(changed) == every
        (tmp_path / "b.bin").write_bytes(file.read_bytes() + b"0")
        assert digest_of(file_bytes([tmp_path / "b.bin"])) != name
    assert digest_of(file_bytes([])) != name


def test_a_changed_clip_changes_the_digest_of_its_split(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for at in range(12):
        folder = tmp_path / "clips" / "ab"[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{at}.npy", random.integers(0, 255, (4, 8, 8, 1)).astype(np.uint8))
    config = LabelledClipsConfig(str(tmp_path / "clips"), frames=2, size=4)
    data = config.load()
    before = {name: data.digest(name) for name in SPLITS}
    clip = data.files[data.rows["test"][0]]
    # A frame that no example shows.
    np.save(clip, np.load(clip)[::-1])
    after = {name: config.load().digest(name) for name in SPLITS}
    assert {name for name in SPLITS if after[name] != before[name]} == {"test"}
