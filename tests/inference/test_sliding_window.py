"""A function of windows on a whole field: no seams, exact where it can be, differentiable."""

import functools
from fractions import Fraction
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from strategies import examples

from stpatch_jax import WindowSpec, blend_weights, extract_patches, fold_patches
from stpatch_jax.errors import InputError
from stpatch_jax.inference import sliding_window_apply
from stpatch_jax.nn import Conv3DConfig

BLENDS = ("uniform", "linear", "hann", "gaussian")


def identity(windows):
    return windows


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@st.composite
def covering(draw):
    """A spec whose windows cover a small field, and the field's shape."""
    rank = draw(st.integers(1, 3))
    shape, window, stride, padding, mode = [], [], [], [], []
    for _ in range(rank):
        size = draw(st.integers(2, {1: 23, 2: 9, 3: 6}[rank]))
        extent = draw(st.integers(1, size))
        kind = draw(st.sampled_from(("COVER", "SAME", "CAUSAL", "FLUSH")))
        shape.append(size)
        window.append(extent)
        stride.append(draw(st.integers(1, extent)) if kind != "CAUSAL" else 1)
        padding.append(kind)
        mode.append(draw(st.sampled_from(("constant", "edge", "wrap"))))
    return WindowSpec(window, stride=stride, padding=padding, padding_mode=mode), tuple(shape)


@examples(6, 200)
@hypothesis.given(covering(), st.sampled_from(BLENDS), st.integers(1, 4))
def test_a_field_comes_back_from_the_identity(case, blend, batch_size):
    spec, shape = case
    x = noise(2, *shape, 2)
    constant = np.full_like(x[:1], 3.7)
    both = np.concatenate([x, constant])
    y = sliding_window_apply(identity, both, spec, blend=blend, batch_size=batch_size)
    np.testing.assert_array_equal(y, both)


def dropped_padding(spec):
    """What lies in padding is not put back, but on a ring."""
    modes = [mode if mode == "wrap" else "constant" for mode in spec.padding_mode]
    return spec.replace(padding_mode=modes)


@pytest.mark.parametrize(
    ("blend", "footprint", "padding"),
    [("hann", None, "FLUSH"), ("gaussian", "ball", "COVER"), ("uniform", "ball", "FLUSH")],
)
def test_it_is_extraction_function_and_fold(blend, footprint, padding):
    spec = WindowSpec(
        (3, 4, 5),
        stride=(1, 2, 2),
        padding=("CAUSAL", "SAME", padding),
        padding_mode=("edge", "wrap", "reflect"),
        footprint=footprint,
    )
    x = noise(2, 4, 6, 8, 1)

    def square(windows):
        return jnp.concatenate([windows**2, windows + 1], axis=-1)

    @jax.jit
    def reference(x):
        patches = square(extract_patches(x, spec))
        return fold_patches(patches, dropped_padding(spec), (4, 6, 8), blend=blend)

    y = sliding_window_apply(square, x, spec, blend=blend, batch_size=3, fill=0)
    np.testing.assert_allclose(y, reference(x), rtol=1e-5, atol=1e-5)


def second_difference(x):
    """Reaches one cell to every side along the two axes of space; no rounding depends on fusion."""
    down = jnp.roll(x, 1, 2) - jnp.roll(x, -1, 2)
    right = jnp.roll(x, 1, 3) - jnp.roll(x, -1, 3)
    return jnp.maximum(down, right)


def test_the_interior_of_tiles_is_the_whole_result_to_the_last_bit():
    x = noise(1, 2, 16, 24, 3)
    whole = jax.jit(second_difference)(x)
    tiled = sliding_window_apply(second_difference, x, (2, 8, 8), blend="uniform")
    inside = np.zeros((16, 24), bool)
    for row in range(0, 16, 8):
        for column in range(0, 24, 8):
            inside[row + 1 : row + 7, column + 1 : column + 7] = True
    np.testing.assert_array_equal(np.asarray(tiled)[:, :, inside], np.asarray(whole)[:, :, inside])


def test_weights_of_the_core_only_make_the_whole_result_exact():
    x = noise(1, 2, 16, 24, 3)
    spec = WindowSpec(
        (2, 6, 6), stride=(2, 4, 4), padding=("VALID", (1, 1), (1, 1)), padding_mode="wrap"
    )
    core = np.zeros((2, 6, 6))
    core[:, 1:5, 1:5] = 1
    tiled = sliding_window_apply(second_difference, x, spec, blend=core)
    np.testing.assert_array_equal(tiled, jax.jit(second_difference)(x))


def test_blended_tiles_of_a_local_function_agree_with_the_whole_field():
    x = noise(2, 16, 24, 3)
    spec = WindowSpec(
        (2, 8, 8), stride=(2, 4, 4), padding=("VALID", "SAME", "SAME"), padding_mode="wrap"
    )
    y = sliding_window_apply(jnp.tanh, x, spec)
    np.testing.assert_allclose(y, np.tanh(x), atol=2e-6)


def test_causal_windows_see_no_later_time():
    spec = WindowSpec((4, None), stride=(1, None), padding=("CAUSAL", "VALID"))
    weights = np.zeros((4, 3))
    weights[-1] = 1
    past = functools.partial(
        sliding_window_apply, lambda w: jnp.cumsum(w, 1), spec=spec, blend=weights
    )
    x = noise(9, 3, 1)
    changed = x.copy()
    changed[6:] = 100
    np.testing.assert_array_equal(past(x=x)[:6], past(x=changed)[:6])


def test_outputs_may_be_a_tree_of_other_channels_and_resolutions():
    spec = WindowSpec((2, 4, 4), stride=(2, 2, 2), padding="COVER")
    x = noise(4, 8, 6, 2)

    def outputs(windows):
        coarse = windows.reshape(-1, 2, 2, 2, 2, 2, 2).mean((3, 5))
        fine = jnp.repeat(jnp.repeat(windows, 2, 2), 2, 3)
        return {"coarse": coarse, "fine": fine[..., :1], "sum": windows.sum(-1, keepdims=True)}

    scale = {"coarse": (1, 0.5, Fraction(1, 2)), "fine": (1, 2, 2), "sum": 1}
    found = sliding_window_apply(outputs, x, spec, scale=scale)
    coarse = x.reshape(4, 4, 2, 3, 2, 2).mean((2, 4))
    np.testing.assert_allclose(found["coarse"], coarse, atol=1e-6)
    np.testing.assert_allclose(found["fine"], x.repeat(2, 1).repeat(2, 2)[..., :1], atol=1e-6)
    np.testing.assert_allclose(found["sum"], x.sum(-1, keepdims=True), atol=1e-6)


def test_forecasts_of_several_times_stay_apart():
    spec = WindowSpec((3, 4), stride=(2, 2), padding=("VALID", "COVER"), padding_mode="wrap")
    x = noise(2, 9, 7, 2)

    def ahead(windows):
        return jnp.stack([windows[:, -1] + lead for lead in (1.0, 2.0)], axis=1)

    y = sliding_window_apply(ahead, x, spec, horizon=2)
    last = x[:, 2::2]
    np.testing.assert_allclose(y, np.stack([last + 1, last + 2], axis=2), atol=2e-6)


def test_a_region_leaves_other_windows_out():
    calls = []
    spec = WindowSpec((2, 4, 4), stride=(2, 2, 2))
    x = noise(4, 8, 8, 1)
    region = np.zeros((4, 8, 8), bool)
    region[1, 0, :3] = True

    def counted(windows):
        jax.debug.callback(lambda mean: calls.append(mean), windows.mean())
        return windows

    y = sliding_window_apply(counted, x, spec, region=region, batch_size=1)
    jax.effects_barrier()
    assert len(calls) == 2  # of 18
    np.testing.assert_allclose(y, np.where(region[..., None], x, 0), atol=1e-6)


def test_the_gradient_is_that_of_the_whole_field():
    spec = WindowSpec((2, 4, 4), stride=(1, 2, 2), padding=("CAUSAL", "SAME", "COVER"))
    x, weight = noise(1, 3, 6, 5, 2), np.float32(0.7)

    def tiled(weight, x):
        fn = jax.tree_util.Partial(lambda weight, w: jnp.sin(weight * w), weight)
        return (sliding_window_apply(fn, x, spec, batch_size=4) ** 2).sum()

    def closed(weight, x):
        y = sliding_window_apply(lambda w: jnp.sin(weight * w), x, spec, batch_size=4)
        return (y**2).sum()

    def whole(weight, x):
        return (jnp.sin(weight * x) ** 2).sum()

    expected = jax.jit(jax.grad(whole, argnums=(0, 1)))(weight, x)
    for function in (tiled, closed):
        found = jax.jit(jax.grad(function, argnums=(0, 1)))(weight, x)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)


def test_windows_are_split_among_devices():
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    spec = WindowSpec((4, 4), stride=(2, 2), padding="COVER")
    x = noise(9, 11, 2)
    shapes = []

    def fn(windows):
        jax.debug.inspect_array_sharding(
            windows, callback=lambda s: shapes.append(s.shard_shape(windows.shape))
        )
        return jnp.tanh(windows)

    y = sliding_window_apply(fn, x, spec, mesh=mesh, batch_size=16)
    np.testing.assert_allclose(y, np.tanh(x), atol=2e-6)
    assert shapes[-1][0] == 2
    with pytest.raises(InputError, match="multiple of the number of devices"):
        sliding_window_apply(fn, x, spec, mesh=mesh, batch_size=4)


@pytest.mark.parametrize("dtype", ["bfloat16", "int32", "float16"])
def test_dtypes(dtype):
    x = np.arange(24).reshape(12, 2).astype(dtype)
    y = sliding_window_apply(identity, x, WindowSpec((4,), stride=2))
    assert y.dtype == ("float32" if dtype == "int32" else dtype)
    np.testing.assert_allclose(np.asarray(y, np.float32), np.asarray(x, np.float32), atol=1e-5)


def test_the_same_bits_every_time():
    x = noise(40, 2)
    spec = WindowSpec((8,), stride=3, padding="COVER")
    found = [sliding_window_apply(jnp.sin, x, spec, batch_size=b) for b in (2, 2, 5)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_weights_are_those_of_the_library():
    spec = WindowSpec((5,), stride=2, padding="COVER")

    # Every window returns its number, so that the result shows the weights.
    def numbered(windows):
        return jnp.broadcast_to(windows[:, :1], windows.shape)

    field = np.arange(9, dtype=np.float32)[:, None]
    y = sliding_window_apply(numbered, field, spec, blend="gaussian")
    weights = blend_weights(spec, (9,), blend="gaussian")
    patches = weights * np.asarray([0, 2, 4])[:, None]
    expected = fold_patches(patches[..., None], spec, (9,), reduce="sum")
    np.testing.assert_allclose(y, expected, rtol=1e-6)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a window too long": ({"spec": (16, 4)}, "longer than the input .* along time"),
    "cells in no window": (
        {"spec": (3, 4)},
        "every cell must lie in a window, got none for cell 6 of .* along time; use padding",
    ),
    "dilation": ({"spec": WindowSpec((2, 2), dilation=2)}, "dilation 1, got"),
    "another resolution": (
        {"fn": lambda w: w[:, :, ::2]},
        r"must have 4 cells along axis 1 \(space\) by the declared scale, got 2",
    ),
    "another horizon": (
        {"fn": lambda w: w[:, :3], "horizon": 2},
        "must have 2 cells along time by the declared horizon, got 3",
    ),
    "no field per window": ({"fn": jnp.mean}, "one field for each window"),
    "no output": ({"fn": lambda w: None}, "at least one array, got none"),
    "half an output cell": (
        {"fn": identity, "scale": 0.5, "spec": WindowSpec((4, 4), stride=1)},
        "got 1/2 times the stride of 1 cells along time",
    ),
    "a scale of nothing": ({"scale": 0}, "scale must be a positive number"),
    "scales of other axes": ({"scale": (1, 1, 1)}, "each of the 2 window axes"),
    "a scale for no output": ({"scale": {"a": 1}}, "an entry for the output without a name, got a"),
    "no lead time": ({"horizon": 0}, "horizon must be a whole number >= 1, got 0"),
    "a region of another shape": ({"region": np.ones((3, 3), bool)}, "region must be boolean"),
    "an empty region": ({"region": np.zeros((8, 8), bool)}, "a cell that is True"),
    "weights of another shape": ({"blend": np.ones(3)}, r"array of shape \(4, 4\)"),
    "an unknown blend": ({"blend": "cosine"}, "blend must be 'uniform'"),
    "no batch": ({"batch_size": 0}, "positive multiple"),
    "no example": ({"x": np.zeros((0, 8, 8, 1), np.float32)}, "at least one example"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    given, message = BAD[case]
    usual = {"fn": identity, "x": np.zeros((8, 8, 1), np.float32), "spec": (4, 4)}
    with pytest.raises(InputError, match=message) as error:
        sliding_window_apply(**usual | given)
    assert "\n" not in str(error.value)


def test_an_overlap_of_100_percent_is_refused():
    with pytest.raises(InputError, match="stride must be an integer of at least 1, got 0"):
        sliding_window_apply(identity, np.zeros((8, 1)), WindowSpec((4,), stride=0))


def test_a_model_of_other_channels_is_refused_by_name():
    # Shapes are enough: it is refused before anything is computed.
    model = nnx.eval_shape(lambda: Conv3DConfig.tiny(1).build(3, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match="must have 3 channels, got 1"):
        sliding_window_apply(model, np.zeros((8, 8, 1), np.float32), (4, 4))


def test_a_model_is_compiled_once_for_all_its_weights():
    traced = []

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(2, 3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            traced.append(x.shape)
            return self.layer(self.dropout(x))

    x, found = noise(9, 2), []
    for seed in (0, 1):
        model = nnx.view(Model(nnx.Rngs(seed)), deterministic=True)
        y = sliding_window_apply(model, x, WindowSpec((4,), stride=1))
        np.testing.assert_allclose(y, model(x), atol=1e-5)
        found.append(y)
    assert not np.allclose(*found)
    # A second program would trace it as often again.
    assert len([shape for shape in traced if len(shape) == 3]) <= 4
