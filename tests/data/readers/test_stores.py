"""Codecs that would make Python objects are refused before zarr makes them; zarr says no more."""

import gc
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.stores import open_store
from stpatch_jax.errors import InputError
from stpatch_jax.inference.store import RegionStore

zarr = pytest.importorskip("zarr")


class Touch:
    """Code that an object in a chunk would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def sample():
    values = np.arange(24.0).reshape(6, 4)
    return xr.Dataset(
        {name: (("time", "y"), values + at) for at, name in enumerate("abc")},
        coords={"time": pd.date_range("2020-01-01", periods=6), "y": np.arange(4.0)},
    )


@pytest.fixture(params=[2, 3])
def path(request, tmp_path):
    path = tmp_path / "field.zarr"
    sample().to_zarr(path, zarr_format=request.param, consolidated=False)
    return path


def rewrite(path, change):
    """Changes the metadata of the array b, in the folder and where they are consolidated."""
    for file in (path / "b" / ".zarray", path / "b" / "zarr.json", path / ".zmetadata"):
        if file.exists():
            values = json.loads(file.read_text())
            change(values.get("metadata", {}).get("b/.zarray", values))
            file.write_text(json.dumps(values))


def named(codec):
    def change(values):
        if values.get("zarr_format") == 2:
            values["filters"] = [{"id": codec}]
        elif "codecs" in values:
            values["codecs"][0] = {"name": codec, "configuration": {}}

    return change


@pytest.mark.parametrize("codec", ["pickle", "msgpack2", "numcodecs.pickle", "PICKLE"])
def test_a_codec_of_python_objects_is_refused(path, codec):
    rewrite(path, named(codec))
    with pytest.raises(InputError, match=r"the codecs of .*field.zarr must make numbers or text"):
        open_field(path)


def test_a_codec_inside_of_another_is_refused(path):
    inner = [{"name": "pickle"}]
    rewrite(path, lambda values: values.update(codecs=[{"configuration": {"codecs": inner}}]))
    with pytest.raises(InputError, match="the codecs of"):
        open_field(path)


def test_a_codec_whose_name_is_escaped_is_refused(path):
    rewrite(path, named("pickle"))
    for file in path.glob("b/*z*arr*"):
        file.write_text(file.read_text().replace("pickle", r"\u0070ickle"))
    with pytest.raises(InputError, match="the codecs of"):
        open_field(path)


def test_attributes_may_say_anything(path):
    group = zarr.open_group(str(path), mode="r+")
    group["b"].attrs["id"] = group["b"].attrs["codec"] = "pickle"
    assert open_field(path).shape == (6, 4, 3)


@pytest.mark.parametrize("consolidated", [False, True])
def test_no_code_of_a_chunk_is_run(tmp_path, consolidated, monkeypatch):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True)
    path, ran = tmp_path / "field.zarr", tmp_path / "ran"
    sample().to_zarr(path, zarr_format=2, consolidated=consolidated)

    def change(values):
        values.update(dtype="|O", filters=[{"id": "pickle"}], compressor=None, fill_value=None)
        values.update(chunks=[6, 4])

    rewrite(path, change)
    for chunk in (path / "b").glob("0.*"):
        chunk.write_bytes(pickle.dumps(np.array([Touch(ran)] * 24, object)))
    with pytest.raises(InputError, match="the codecs of"):
        _ = open_field(path, variables=["b"]).values
    assert not ran.exists()


def test_a_url_is_looked_at_too():
    pytest.importorskip("fsspec")
    url = "memory://stpatch-codecs/field.zarr"
    sample().to_zarr(url, zarr_format=2, consolidated=False)
    import fsspec

    files = fsspec.filesystem("memory")
    values = json.loads(files.cat("/stpatch-codecs/field.zarr/b/.zarray"))
    named("pickle")(values)
    files.pipe("/stpatch-codecs/field.zarr/b/.zarray", json.dumps(values).encode())
    with pytest.raises(InputError, match="the codecs of memory://"):
        open_field(url)


def test_what_another_command_began_is_looked_at_too(tmp_path):
    store = RegionStore(tmp_path / "out.zarr", {})

    made = tmp_path / "made"
    zarr.create_group(str(made), zarr_format=2).create_array("b", shape=(4,), dtype="f4")
    (made / ".zattrs").write_text('{"prediction": "{}"}')
    rewrite(made, named("pickle"))
    files = [file for file in made.rglob("*") if file.is_file()]
    store.begin(lambda: {str(file.relative_to(made)): file.read_bytes() for file in files})
    with pytest.raises(InputError, match="the codecs of"):
        store.write(0, [("b", (slice(0, 2),), np.ones(2))])


def test_texts_are_no_objects(tmp_path):
    texts = sample().assign_coords(y=["north", "east", "south", "west"])
    texts.to_zarr(tmp_path / "field.zarr", zarr_format=2, consolidated=False)
    assert open_field(tmp_path / "field.zarr").y.values.tolist() == [*texts.y.values]


def test_a_store_of_python_objects_without_a_codec_is_one_sentence(tmp_path):
    sample().to_zarr(tmp_path / "field.zarr", zarr_format=2, consolidated=False)
    rewrite(tmp_path / "field.zarr", lambda values: values.update(dtype="|O", fill_value=None))
    with pytest.raises(InputError, match="must be"):
        _ = open_field(tmp_path / "field.zarr", variables=["b"]).values


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:20],
        lambda text: text.replace('"shape": [', '"shape": ["x",'),
        lambda text: text.replace("float64", "floaty").replace("<f8", "<q9"),
    ],
    ids=["cut", "shape", "dtype"],
)
def test_zarr_says_nothing_beside_the_sentence(path, damage, caplog):
    for file in [*path.glob("[abc]/.zarray"), *path.glob("[abc]/zarr.json")]:
        file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match="must be a readable zarr file"):
        open_field(path)
    gc.collect()
    assert not caplog.records


def test_other_errors_of_zarrs_loop_are_told(path, caplog):
    store = open_store(path)

    async def fail():
        import asyncio

        from zarr.core.buffer import default_buffer_prototype

        await store.get(".zgroup", default_buffer_prototype())
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "something else"})

    import asyncio

    asyncio.run(fail())
    assert "something else" in caplog.text
