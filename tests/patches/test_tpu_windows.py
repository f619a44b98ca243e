"""The kernel for TPUs: run step by step on a CPU, and which programs hold it."""

# The public form takes the kernel on TPUs only: here its private one is called.
# pyright: reportPrivateUsage=false

import importlib.util

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import assert_same_bytes, examples, random_bytes

from stpatch_jax import WindowSpec, chips, extract_patches
from stpatch_jax.patches import lowerings, tpu_windows
from stpatch_jax.patches.extraction import windows_of
from stpatch_jax.testing import reference_extract_patches

on_chips = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="the extra chips is not installed"
)
SHAPE, SPEC = (4, 4, 32, 32, 3), WindowSpec((2, 8, 8), stride=(1, 4, 4))


@pytest.fixture(scope="class")
def on_host():
    kernel = tpu_windows.windows_on_tpu
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpu_windows, "windows_on_tpu", lambda x, axes, _: kernel(x, axes, True))
        yield


@st.composite
def fields(draw):
    """The shape of a field and windows in it, of two or three axes, or one of single cells more."""
    cells = [draw(st.integers(1, 7)) for _ in range(draw(st.integers(2, 3)))]
    window = [draw(st.integers(1, size)) for size in cells]
    stride = [draw(st.integers(1, 3)) for _ in cells]
    if draw(st.booleans()):
        cells, window, stride = [2, *cells], [1, *window], [1, *stride]
    batch = draw(st.sampled_from([(), (2,), (2, 1)]))
    return (*batch, *cells, draw(st.integers(1, 3))), WindowSpec(window, stride=stride)


@pytest.mark.usefixtures("on_host")
@hypothesis.given(fields(), st.sampled_from(["float32", "uint16", "int32"]), st.integers(0, 9))
@examples(15, 500)
def test_the_kernel_copies_bit_for_bit(case, dtype, seed):
    shape, spec = case
    x = random_bytes(shape, dtype, seed)
    actual = jax.jit(lowerings._on_tpu, static_argnums=1)(x, windows_of(shape, spec).axes)
    assert_same_bytes(actual, reference_extract_patches(x, spec))


@pytest.mark.usefixtures("on_host")
def test_many_fields_at_once_are_copied():
    x = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6, 1)
    spec = WindowSpec((2, 3, 2), stride=(1, 2, 1))
    axes = windows_of(x.shape, spec).axes
    actual = jax.vmap(lambda x: lowerings._on_tpu(x, axes), 1, 1)(x)
    assert_same_bytes(actual, reference_extract_patches(x, spec))


@pytest.mark.parametrize(
    ("shape", "spec", "dtype"),
    [
        (SHAPE, SPEC.replace(dilation=2), "float32"),
        (SHAPE, WindowSpec((2, 8, 8), stride=(1, 4, 5), padding="FLUSH"), "float32"),
        (SHAPE, SPEC, "uint8"),
        ((1, 64, 3), WindowSpec(4, stride=2), "float32"),
        ((1, 4, 32, 32, 16), SPEC, "float32"),
        ((1, 4, 4, 4, 4, 1), WindowSpec((2, 2, 2, 2), stride=1), "float32"),
        ((1, 4, 4096, 4096, 3), SPEC, "float32"),
        ((0, *SHAPE[1:]), SPEC, "float32"),
        ((4, 1, 96, 96, 1), WindowSpec((1, 3, 3), stride=1), "float32"),
        ((1, 3, 3, 1), WindowSpec((1, 1), stride=1), "float32"),
    ],
)
def test_other_shapes_are_copied_by_blocks(shape, spec, dtype):
    axes = windows_of(shape, spec).axes
    kept = []
    jax.eval_shape(
        lambda x: kept.append(lowerings._fits_tpu(x, axes)), jax.ShapeDtypeStruct(shape, dtype)
    )
    assert kept == [False]


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
        assert ("tpu_custom_call" in text) == held
