"""Tiled prediction on meshes of every kind of axis, and in 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.sharding import AxisType

from stpatch_jax import WindowSpec
from stpatch_jax.inference import (
    memory_plan,
    predict_field,
    sliding_window_apply,
    sliding_window_rollout,
)

SPEC = WindowSpec((4,), stride=2)
X = np.random.default_rng(0).normal(size=(8, 10, 2)).astype(np.float32)


def tiled(x, **options):
    return sliding_window_apply(jnp.sin, x, SPEC, **options)


@pytest.fixture(scope="module")
def expected():
    return np.asarray(tiled(X))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_and_a_split_field_of_any_axes(kind, expected):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
    split = jax.device_put(X, jax.NamedSharding(mesh, jax.P("d")))
    np.testing.assert_array_equal(tiled(X, mesh=mesh), expected)
    np.testing.assert_array_equal(tiled(split, mesh=mesh), expected)
    inside = jax.shard_map(tiled, mesh=mesh, in_specs=jax.P("d"), out_specs=jax.P("d"))
    np.testing.assert_array_equal(inside(split), expected)
    with jax.set_mesh(mesh):
        np.testing.assert_array_equal(tiled(X), expected)  # over the devices of the mesh
        found = jax.jit(tiled)(split)
        slope = jax.grad(lambda x: tiled(x).sum())(split)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(slope, np.cos(X), rtol=1e-4, atol=1e-5)
    if kind == AxisType.Explicit:
        assert jax.typeof(found).sharding.spec[0] == "d"


def test_the_mesh_around_is_the_default():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    field = jax.ShapeDtypeStruct((64, 1), jnp.float32)
    with jax.set_mesh(mesh):
        assert memory_plan(jnp.sin, field, SPEC).batch_size % 8 == 0
        text = jax.jit(tiled).lower(X).compile().as_text() or ""
    assert "all-gather" in text or "all-reduce" in text  # outputs come from all devices


def test_sixty_four_bits_stay(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 8, 1))
    spec = WindowSpec((4, 4), stride=2)
    with jax.enable_x64():
        y = sliding_window_apply(lambda w: w / 3, x, spec)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, x / 3, rtol=1e-15)
        plan = memory_plan(jnp.sin, x, spec)
        assert plan.results == x.nbytes
        context = WindowSpec((None, 4), stride=(None, 2))
        ahead = sliding_window_rollout(lambda w: w[:, -1:] / 3, x, context, step=1, horizon=2)
        assert ahead.dtype == jnp.float64
        np.testing.assert_allclose(ahead[1], x[-1] / 9, rtol=1e-15)
        times = np.datetime64("2024-01-01", "ns") + np.arange(10) * np.timedelta64(1, "h")
        field = xr.DataArray(
            x,
            dims=("time", "x", "channel"),
            coords={"time": times, "x": np.arange(8), "channel": ["t"]},
        )
        predict_field(lambda w: w / 3, field, tmp_path / "y.zarr", spec, progress=False)
        with xr.open_zarr(tmp_path / "y.zarr") as stored:
            assert stored.t.dtype == np.float64
            np.testing.assert_allclose(stored.t, x[..., 0] / 3, rtol=1e-15)
