"""The kernels for TPUs: run step by step on a CPU, and which programs hold them."""

# Public forms take the kernels on TPUs only: here their private ones are called.
# pyright: reportPrivateUsage=false

import functools
import importlib.util

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import assert_same_bytes, examples, random_bytes

from stpatch_jax import WindowSpec, chips, cover_count, extract_patches, fold_patches
from stpatch_jax.patches import lowerings, tpu_windows
from stpatch_jax.patches.extraction import windows_of
from stpatch_jax.testing import reference_extract_patches

on_chips = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="the extra chips is not installed"
)
SHAPE, SPEC = (4, 4, 32, 32, 3), WindowSpec((2, 8, 8), stride=(1, 4, 4))


@pytest.fixture(scope="class")
def on_host():
    cut, fold = tpu_windows.windows_on_tpu, tpu_windows.fold_on_tpu

    def folded(y, axes, cells, dtype, _):
        return fold(y, axes, cells, dtype, True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpu_windows, "windows_on_tpu", lambda x, axes, _: cut(x, axes, True))
        patch.setattr(tpu_windows, "fold_on_tpu", folded)
        yield


@st.composite
def fields(draw):
    """The shape of a field and windows in it, of one to three axes, or one of single cells more."""
    cells = [draw(st.integers(1, 7)) for _ in range(draw(st.integers(1, 3)))]
    window = [draw(st.integers(1, size)) for size in cells]
    stride = [draw(st.integers(1, 3)) for _ in cells]
    if draw(st.booleans()):
        cells, window, stride = [2, *cells], [1, *window], [1, *stride]
    batch = draw(st.sampled_from([(), (2,), (2, 1)]))
    return (*batch, *cells, draw(st.integers(1, 3))), WindowSpec(window, stride=stride)


def fits(shape, spec, dtype, *, flat=False):
    axes, kept = windows_of(shape, spec).axes, []
    x = jax.ShapeDtypeStruct(shape, dtype)
    jax.eval_shape(lambda x: kept.append(lowerings._fits_tpu(x, axes, flat=flat)), x)
    return kept == [True]


def cut_and_folded(x, spec):
    """By both kernels, the second of what the first gives."""
    axes = windows_of(x.shape, spec).axes
    patches = lowerings._on_tpu(x, axes, x.dtype)
    cells = x.shape[-1 - spec.rank :]
    return patches, lowerings._fold_on_tpu(patches, axes, cells, x.dtype)


@pytest.mark.usefixtures("on_host")
@hypothesis.given(fields(), st.sampled_from(["float32", "uint16", "int32"]), st.integers(0, 9))
@examples(15, 500)
def test_the_kernel_copies_bit_for_bit(case, dtype, seed):
    shape, spec = case
    x, axes = random_bytes(shape, dtype, seed), windows_of(shape, spec).axes
    actual = jax.jit(lambda x: lowerings._on_tpu(x, axes, x.dtype))(x)
    assert_same_bytes(actual, reference_extract_patches(x, spec))


@pytest.mark.usefixtures("on_host")
@hypothesis.given(fields(), st.sampled_from(["float32", "bfloat16", "int32"]), st.integers(0, 9))
@examples(15, 500)
def test_the_kernel_of_the_transpose_adds_windows_up(case, dtype, seed):
    shape, spec = case
    x = np.random.default_rng(seed).integers(0, 9, shape).astype(jnp.dtype(dtype))
    patches, total = jax.jit(cut_and_folded, static_argnums=1)(x, spec)
    np.testing.assert_array_equal(patches, reference_extract_patches(x, spec))
    expected = fold_patches(patches, spec, shape[-1 - spec.rank : -1], reduce="sum")
    assert total.dtype == x.dtype
    np.testing.assert_array_equal(total, expected)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((1, 2, 131, 5, 2), WindowSpec((1, 3, 2), stride=(1, 2, 1))),
        ((1, 1, 4, 70, 3), WindowSpec((1, 2, 4), stride=(1, 2, 3))),
        ((300, 2), WindowSpec((5,), stride=(3,))),
        ((1, 3, 140, 1), WindowSpec((1, 2, 9), stride=(1, 1, 8))),
    ],
)
def test_the_kernels_take_rows_of_more_than_128_numbers(shape, spec):
    x = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    patches, total = cut_and_folded(x, spec)
    np.testing.assert_array_equal(patches, reference_extract_patches(x, spec))
    field = shape[-1 - spec.rank : -1]
    np.testing.assert_array_equal(total, fold_patches(patches, spec, field, reduce="sum"))


@pytest.mark.usefixtures("on_host")
def test_many_fields_at_once_are_copied():
    x = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6, 1)
    spec = WindowSpec((2, 3, 2), stride=(1, 2, 1))
    patches, total = jax.vmap(lambda x: cut_and_folded(x, spec), 1, 1)(x)
    assert_same_bytes(patches, reference_extract_patches(x, spec))
    np.testing.assert_array_equal(total, fold_patches(patches, spec, x.shape[2:-1], reduce="sum"))


@pytest.mark.parametrize("flat", [False, True])
def test_what_holds_the_kernels_has_derivatives_of_any_order(flat):
    x, v = np.random.default_rng(0).standard_normal((2, 2, 3, 8, 8, 2), np.float32)
    spec = WindowSpec((2, 4, 4), stride=(1, 2, 2))
    reads = cover_count(spec, x.shape[1:-1])[..., None]

    def energy(x):
        return (extract_patches(x, spec, flat=flat) ** 2).sum() / 2

    gradient = jax.jit(jax.vmap(jax.grad(energy)))
    np.testing.assert_allclose(gradient(x), reads * x, rtol=1e-5)
    along = jax.jvp(gradient, (x,), (v,))[1]
    np.testing.assert_allclose(along, reads * v, rtol=1e-5)
    cut = functools.partial(extract_patches, spec=spec, flat=flat)
    back = jax.linear_transpose(cut, x)
    twice = jax.linear_transpose(lambda y: back(y)[0], cut(x))
    np.testing.assert_array_equal(twice(x)[0], cut(x))


@pytest.mark.parametrize(
    ("shape", "spec", "dtype"),
    [
        (SHAPE, SPEC.replace(dilation=2), "float32"),
        (SHAPE, WindowSpec((2, 8, 8), stride=(1, 4, 5), padding="FLUSH"), "float32"),
        (SHAPE, SPEC, "uint8"),
        (SHAPE, SPEC, "float16"),
        (SHAPE, WindowSpec((2, 8, 8)), "float32"),
        ((1, 64, 3), WindowSpec(4, stride=2), "float32"),
        ((1, 4, 32, 32, 128), SPEC, "float32"),
        ((1, 4, 4, 4, 4, 1), WindowSpec((2, 2, 2, 2), stride=1), "float32"),
        ((1, 4, 4096, 4096, 3), SPEC, "float32"),
        ((0, *SHAPE[1:]), SPEC, "float32"),
        ((4, 1, 96, 96, 1), WindowSpec((1, 3, 3), stride=1), "float32"),
        ((1, 3, 3, 1), WindowSpec((1, 1), stride=1), "float32"),
    ],
)
def test_other_shapes_are_copied_by_blocks(shape, spec, dtype):
    assert not fits(shape, spec, dtype)


def test_flat_windows_side_by_side_are_copied_by_the_kernel():
    spec = WindowSpec((2, 8, 8))
    assert fits(SHAPE, spec, "float32", flat=True)
    assert fits((4096, 3), WindowSpec((24,)), "bfloat16", flat=True)


def test_exported_programs_hold_no_kernel():
    """JAX lowers none for several platforms, nor for a TPU that it is not told."""
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    for platforms in (("tpu",), ("cpu", "tpu")):
        cut = jax.jit(lambda x: extract_patches(x, SPEC))
        text = jax.export.export(cut, platforms=platforms)(x).mlir_module()
        assert "tpu_custom_call" not in text


@on_chips
@pytest.mark.slow
@pytest.mark.chips
def test_a_device_runs_the_kernel_where_its_program_is_at_hand():
    """On one, and in `shard_map`; programs that the compiler splits are copied by blocks."""
    mesh = chips.mesh("v5e:2x2", {"data": 4})
    over_batch = jax.sharding.NamedSharding(mesh, jax.P("data"))

    def gradient(x):
        return jax.grad(lambda x: (extract_patches(x, SPEC) ** 2).sum())(x)

    split = jax.shard_map(gradient, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    one = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
    for function, sharding, held in (
        (gradient, one, True),
        (split, over_batch, True),
        (gradient, over_batch, False),
    ):
        x = jax.ShapeDtypeStruct(SHAPE, jnp.float32, sharding=sharding)
        text = jax.jit(function).lower(x).compile().as_text() or ""
        # One cuts, one adds up.
        assert text.count('custom_call_target="tpu_custom_call"') == 2 * held
