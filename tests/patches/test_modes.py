"""The operators in JAX's less used modes: transposes, short types, far starts, meshes, exports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from numpy.lib.stride_tricks import sliding_window_view

from stpatch_jax import (
    InputError,
    WindowSpec,
    extract_patches,
    fold_patches,
    gather_patches,
    patchify,
    scatter_patches,
    unpatchify,
)

OVERLAPPING = WindowSpec((4,), stride=2)
SHORT = ("bfloat16", "float16", "float8_e4m3fn")


@pytest.mark.parametrize("dtype", [*SHORT, "float32"])
def test_the_linear_transpose_of_extraction_is_the_fold_also_batched(dtype):
    x, p = jnp.ones((3, 10, 2), dtype), np.ones((3, 4, 4, 2))
    expected = fold_patches(p[0], OVERLAPPING, (10,), reduce="sum")

    def cut(x):
        return extract_patches(x, OVERLAPPING)

    (alone,) = jax.linear_transpose(cut, x[0])(jnp.asarray(p[0], dtype))
    (many,) = jax.linear_transpose(jax.vmap(cut), x)(jnp.asarray(p, dtype))
    np.testing.assert_array_equal(alone.astype(jnp.float32), expected)
    np.testing.assert_array_equal(many.astype(jnp.float32), np.stack([expected] * 3))


@pytest.mark.parametrize("dtype", SHORT)
def test_short_floats_have_second_derivatives_under_vmap(dtype):
    def energy(x):
        return (gather_patches(x, np.array([[0], [3]]), (4,)).astype(jnp.float32) ** 2).sum()

    curvature = jax.vmap(jax.hessian(energy))(jnp.ones((2, 8, 1), dtype))
    diagonal = curvature[0, :, 0, :, 0].astype(np.float32)
    np.testing.assert_array_equal(diagonal, np.diag([2, 2, 2, 4, 2, 2, 2, 0]))


@pytest.mark.parametrize("lowering", ["conv", "blocks", "gather"])
@pytest.mark.parametrize("dtype", ["int4", "uint4", "int2", "float4_e2m1fn", "bool"])
def test_numbers_shorter_than_a_byte_are_copied_by_every_lowering(dtype, lowering):
    x = jnp.asarray(np.arange(20).reshape(10, 2) % 2).astype(dtype)
    patches = extract_patches(x, OVERLAPPING, lowering=lowering)
    expected = sliding_window_view(np.arange(20).reshape(10, 2) % 2, 4, 0)[::2]
    assert patches.dtype == x.dtype
    np.testing.assert_array_equal(
        np.asarray(patches.astype(jnp.float32)), expected.transpose(0, 2, 1)
    )


def test_all_int4_values_come_through_bytes():
    x = jnp.arange(-8, 8).astype(jnp.int4)[:, None]
    np.testing.assert_array_equal(extract_patches(x, (16,), lowering="conv")[0], x)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32", "int32", "int8"])
def test_starts_of_any_size_read_what_the_padding_mode_holds(mode, dtype):
    field, info = np.arange(7.0, dtype=np.float32), np.iinfo(dtype)
    starts = np.array([[3], [6], [info.max], [info.min], [info.max // 2 + 1]], dtype)
    spec = WindowSpec((3,), dilation=2, padding_mode=mode, fill_value=-1)
    found = gather_patches(field[:, None], starts, spec)[..., 0]
    cells = [[int(start) + 2 * i for i in range(3)] for (start,) in starts]
    turns = {"wrap": lambda c: c % 7, "reflect": lambda c: 6 - abs(6 - c % 12)}
    inside = turns.get(mode, lambda c: min(max(c, 0), 6))
    expected = [
        [-1 if mode == "constant" and not 0 <= c <= 6 else field[inside(c)] for c in row]
        for row in cells
    ]
    np.testing.assert_array_equal(found, expected)
    if np.dtype(dtype).itemsize < 8:  # on the device
        traced = jax.jit(lambda starts: gather_patches(field[:, None], starts, spec)[..., 0])
        np.testing.assert_array_equal(traced(starts), expected)


@pytest.mark.parametrize("widths", [(0, 7), (7, 0), (3, 4), (10, 1), (3, 3), (40, 50)])
def test_a_ring_is_wound_round_as_often_as_asked(widths):
    spec = WindowSpec((2,), stride=1, padding=[widths], padding_mode="wrap")
    x = np.arange(3.0, dtype=np.float32)
    expected = sliding_window_view(np.pad(x, widths, mode="wrap"), 2)
    np.testing.assert_array_equal(extract_patches(x[:, None], spec)[..., 0], expected)
    slope = jax.grad(lambda x: extract_patches(x, spec).sum())(jnp.asarray(x)[:, None])
    counts = np.zeros(3)
    np.add.at(counts, sliding_window_view(np.pad(np.arange(3), widths, mode="wrap"), 2), 1)
    np.testing.assert_array_equal(slope[:, 0], counts)


def test_many_turns_of_a_ring_are_few_operations():
    def operations(cells):
        spec = WindowSpec((2,), stride=1, padding=[(cells, cells)], padding_mode="wrap")
        program = jax.jit(lambda x: extract_patches(x, spec)).lower(np.zeros((3, 1), np.float32))
        return len(program.as_text().splitlines())

    assert operations(3000) <= operations(30)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_channels_and_examples_stay_split_on_explicit_axes(mode):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    spec = WindowSpec((3,), stride=1, padding="SAME", padding_mode=mode)
    x = np.random.default_rng(0).normal(size=(8, 6, 8)).astype(np.float32)
    expected = extract_patches(x, spec)
    for place in (jax.P("d"), jax.P(None, None, "d")):
        split = jax.device_put(x, jax.NamedSharding(mesh, place))
        patches = extract_patches(split, spec)
        field = fold_patches(patches, spec, (6,), blend="hann")
        np.testing.assert_array_equal(patches, expected)
        np.testing.assert_allclose(field, x, rtol=1e-5, atol=1e-6)
        assert jax.typeof(field).sharding.spec == jax.typeof(split).sharding.spec
    with pytest.raises(InputError, match=r'known shape with its channels on one device.*"auto"'):
        extract_patches(split, spec, lowering="conv")


@pytest.mark.parametrize("shape", ["b, 10, 2", "2, 10, c"])
def test_exports_for_any_number_of_examples_or_channels(shape):
    symbolic = jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), jnp.float32)
    x = np.random.default_rng(0).normal(size=(2, 10, 2)).astype(np.float32)
    spec = WindowSpec((3,), stride=1, padding="SAME", padding_mode="edge")

    def there_and_back(x):
        patches = extract_patches(x, spec)
        tokens = unpatchify(patchify(x, (2,)), (2,), (10,))
        placed = scatter_patches(patches, np.arange(-1, 9)[:, None], spec, (10,), blend="crop")
        return patches, fold_patches(patches, spec, (10,)), tokens, placed

    exported = jax.export.export(jax.jit(there_and_back))(symbolic)
    for found, expected in zip(exported.call(x), there_and_back(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
