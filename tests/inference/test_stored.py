"""Predicted fields in chunks, shards and dtypes of one's own, and reduced to few channels."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr
from small_fields import small_field

from stpatch_jax import InputError, WindowSpec
from stpatch_jax.inference import flips, predict_field, sliding_window_apply

SPEC = WindowSpec((4, 4, 4), stride=(2, 2, 2), padding="COVER")
FIELD = small_field((14, 9, 8))
COARSE: Any = {"scale": (1, 1, 0.5), "channels": ["t2m"]}


def coarse(windows):
    return windows[..., ::2, :1] + windows[..., 1::2, :1]


def predicted(target, fn=jnp.tanh, *, spec=SPEC, field=FIELD, **options):
    shared: Any = {"progress": False, "process_count": 2, **options}
    # Two processes: no file may be of both.
    done = [predict_field(fn, field, target, spec, process_index=at, **shared) for at in (1, 0)]
    assert done == [False, True]
    return xr.open_zarr(target, chunks=None)


FORMS = {
    "chunks": {"chunks": (3, 5, 2)},
    "shards": {"chunks": (1, 3, 2), "shards": (3, 6, 4), "dtype": "float64"},
    "codecs": {"compressors": None, "dtype": "float16"},
}


# What zarr before 3.1 says of texts in format 3, when it reads them too.
@pytest.mark.filterwarnings("ignore:The codec `vlen-utf8`:UserWarning")
@pytest.mark.parametrize("name", FORMS)
def test_the_store_is_as_it_was_asked_for(name, tmp_path):
    form, target = FORMS[name], tmp_path / "a.zarr"
    field = FIELD.assign_coords(city=("latitude", [f"c{at}" for at in range(9)]))
    given: Any = {**COARSE, "region": (2, 3, 2), "encoding": form}
    found = predicted(target, coarse, field=field, **given)
    whole = sliding_window_apply(coarse, FIELD.values, SPEC, scale=COARSE["scale"])[..., 0]
    dtype = form.get("dtype", "float32")
    np.testing.assert_allclose(found.t2m, whole, rtol=1e-3 if dtype == "float16" else 1e-5)
    assert (found.t2m.dtype, found.t2m.attrs["units"]) == (dtype, "K")
    assert found.city.values.tolist() == field.city.values.tolist()
    np.testing.assert_array_equal(found.time, FIELD.time)
    array: Any = zarr.open_group(target, mode="r")["t2m"]
    assert array.chunks == form.get("chunks", array.chunks)
    assert array.shards == form.get("shards")
    assert ("compressors" in form) == (not array.compressors)
    # The same call finds it done, one for another form refuses it.
    assert predict_field(coarse, field, target, SPEC, **given, progress=False)
    with pytest.raises(InputError, match=r"with another .*encoding; remove it"):
        predict_field(coarse, field, target, SPEC, **{**given, "encoding": {}}, progress=False)


def classes(windows):
    return jnp.concatenate([jnp.sin(windows), jnp.cos(windows[..., :1])], -1)


def best(values):
    return jnp.argmax(values, -1).astype(jnp.uint8)


def test_a_reduced_field_has_its_small_dtype_and_no_missing_values(tmp_path):
    side: Any = {"augment": flips(1, 2)}
    found = predicted(tmp_path / "a.zarr", classes, reduce=best, channels=["class"], **side)
    whole = sliding_window_apply(classes, FIELD.values, SPEC, reduce=best, **side)
    assert found["class"].dtype == np.uint8
    np.testing.assert_array_equal(found["class"], whole)
    assert set(np.unique(whole)) == {0, 1, 2}


def test_forecasts_are_reduced_lead_by_lead(tmp_path):
    spec, form = (
        WindowSpec((3, 4, 4), stride=(2, 3, 4), padding=("VALID", "FLUSH", "VALID")),
        (2, 1, 3, 8),
    )

    def ahead(windows):
        return jnp.stack([classes(windows[:, -1] + lead) for lead in (1.0, 2.0)], axis=1)

    given: Any = {"horizon": 2, "reduce": best}
    found = predicted(
        tmp_path / "a.zarr",
        ahead,
        spec=spec,
        channels=["class"],
        encoding={"chunks": form},
        region=(1, 3, 4),
        **given,
    )
    np.testing.assert_array_equal(
        found["class"], sliding_window_apply(ahead, FIELD.values, spec, **given)
    )


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown entry": ({"encoding": {"zlib": True}}, "encoding must have the entries chunks, "),
    "chunks of other axes": ({"encoding": {"chunks": (2, 2)}}, "must be 3 extents in cells"),
    "no extent": ({"encoding": {"chunks": (2, 0, 2)}}, "must be 3 extents in cells"),
    "shards of parts": (
        {"encoding": {"chunks": (2, 2, 2), "shards": (3, 2, 2)}},
        "shards of encoding must be whole numbers of chunks",
    ),
    "whole numbers": ({"encoding": {"dtype": "int16"}}, "dtype of encoding must hold .* float32"),
    "no dtype": ({"encoding": {"dtype": "flot"}}, "got 'flot'; give a float"),
    "an unknown codec": ({"encoding": {"compressors": 3}}, "encoding must be what zarr takes"),
    "two axes": (
        {"reduce": lambda y: y[..., None]},
        "must leave one axis behind those of the cells",
    ),
    "known classes": (
        {"reduce": best, "channels": ["c"], "known": np.ones((9, 8, 1), bool)},
        "known must go with floats",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_forms_are_one_sentence_and_leave_nothing(name, tmp_path):
    options, message = BAD[name]
    with pytest.raises(InputError, match=message):
        predict_field(jnp.tanh, FIELD, tmp_path / "a.zarr", SPEC, progress=False, **options)
    assert not list(tmp_path.iterdir())
