"""The laws of patch extraction, over random specs, fields and dtypes."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import (
    CHUNKS,
    DTYPES,
    MODES,
    X64_DTYPES,
    assert_same_bytes,
    cases,
    examples,
    random_bytes,
    shape_of,
)

from stpatch_jax import (
    WindowSpec,
    extract_patches,
    gather_patches,
    patchify,
    unpatchify,
    valid_share,
)
from stpatch_jax.testing import reference_extract_patches

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("chunk", CHUNKS)
@hypothesis.given(
    case=cases(), lowering=st.sampled_from(("auto", "blocks", "gather", "conv", "reshape"))
)
@examples(100, 20_000 // len(CHUNKS))
def test_equals_numpy_bit_for_bit(chunk, case, lowering):
    if lowering == "reshape":
        case = case.replace(stride=None, dilation=1)
    x = case.noise()
    patches = extract_patches(x, case.spec, lowering=lowering)
    assert_same_bytes(patches, reference_extract_patches(x, case.spec))


@hypothesis.given(case=cases(dtypes=X64_DTYPES), lowering=st.sampled_from(("gather", "conv")))
@examples(12, 1_000)
def test_equals_numpy_bit_for_bit_in_64_bits(case, lowering):
    with jax.enable_x64(True):
        x = case.noise()
        patches = extract_patches(x, case.spec, lowering=lowering)
        assert_same_bytes(patches, reference_extract_patches(x, case.spec))


@hypothesis.given(
    case=cases(
        dtypes=("float32", "bfloat16", "int32"),
        modes=("constant",),
        paddings=("VALID",),
        footprints=False,
    ),
    padding=st.sampled_from(("VALID", "SAME", (2, 1))),
)
@examples(12, 1_000)
def test_equals_the_lax_operator(case, padding):
    rank = len(case.shape)
    widths = padding if isinstance(padding, str) else [padding] * rank
    case = case.replace(padding=widths, fill_value=0)
    x = case.numbers()
    axes, spatial = case.spec.axes(case.shape), "THWD"[:rank]
    patches = jax.lax.conv_general_dilated_patches(
        jnp.asarray(x.reshape(-1, *case.shape, case.channels)),
        filter_shape=[axis.window for axis in axes],
        window_strides=[axis.stride for axis in axes],
        padding=widths,
        rhs_dilation=case.spec.dilation,
        dimension_numbers=(f"N{spatial}C", f"OI{spatial}", f"N{spatial}C"),
    )
    # Its features are channel-major: (channel, *window).
    window = case.spec.window_shape(case.shape)
    patches = np.asarray(patches).reshape(*patches.shape[:-1], case.channels, *window)
    expected = np.moveaxis(patches, 1 + rank, -1).reshape(case.patches_shape)
    np.testing.assert_array_equal(np.asarray(extract_patches(x, case.spec)), expected)


@hypothesis.given(case=cases())
@examples(40, 1_000)
def test_grid_arithmetic_predicts_every_shape(case):
    reference = reference_extract_patches(np.zeros(case.field_shape, case.dtype), case.spec)
    assert case.patches_shape == reference.shape
    assert shape_of(lambda x: extract_patches(x, case.spec), case) == reference.shape


@hypothesis.given(case=cases(), axis=st.integers(0, 2), jit=st.booleans())
@examples(12, 1_000)
def test_commutes_with_vmap_and_jit(case, axis, jit):
    axis = min(axis, len(case.batch))
    shape = (*case.batch[:axis], 3, *case.batch[axis:], *case.shape, case.channels)
    x = random_bytes(shape, case.dtype, case.seed)
    mapped = jax.vmap(lambda x: extract_patches(x, case.spec), in_axes=axis, out_axes=axis)
    mapped = jax.jit(mapped) if jit else mapped
    assert_same_bytes(mapped(x), extract_patches(x, case.spec))


@hypothesis.given(case=cases(modes=("constant", "edge")), time=st.integers(0, 60))
@examples(12, 1_000)
def test_causal_windows_see_no_later_cell(case, time):
    case = case.replace(padding=("CAUSAL", *case.spec.padding[1:]))
    time %= case.shape[0]
    first = len(case.batch)
    before = case.noise()
    later = random_bytes(case.field_shape, case.dtype, case.seed + 1)
    past = np.arange(case.shape[0]) <= time
    after = np.where(past.reshape(-1, *(1,) * len(case.shape)), before, later)
    ends = np.asarray(case.spec.axes(case.shape)[0].starts) + (
        case.spec.axes(case.shape)[0].effective - 1
    )
    seen = np.flatnonzero(ends <= time)
    assert seen.size == time // case.spec.axes(case.shape)[0].stride + 1
    assert_same_bytes(
        np.asarray(extract_patches(before, case.spec)).take(seen, first),
        np.asarray(extract_patches(after, case.spec)).take(seen, first),
    )


@hypothesis.given(case=cases(paddings=("VALID",)), axis=st.integers(0, 3))
@examples(12, 1_000)
def test_shift_by_one_stride_shifts_the_patch_grid(case, axis):
    axis %= len(case.shape)
    along = case.spec.axes(case.shape)[axis]
    hypothesis.assume(along.count > 1)
    # None would mean another window on the shorter field.
    window = case.spec.window_shape(case.shape)
    spec = case.spec.replace(window=window)
    x = case.noise()
    shifted = x.take(range(along.stride, along.size), len(case.batch) + axis)
    patches = np.asarray(extract_patches(x, spec))
    assert_same_bytes(
        extract_patches(shifted, spec),
        patches.take(range(1, along.count), len(case.batch) + axis),
    )


@hypothesis.given(case=cases(footprints=False))
@examples(12, 1_000)
def test_window_and_stride_of_one_are_the_identity(case):
    x, ones = case.noise(), (1,) * len(case.shape)
    patches = extract_patches(x, ones)
    assert_same_bytes(np.asarray(patches).reshape(case.field_shape), x)


@hypothesis.given(case=cases(), jit=st.booleans())
@examples(12, 1_000)
def test_gathering_at_the_grid_starts_is_extraction(case, jit):
    x = case.noise()
    axes = case.spec.axes(case.shape)
    starts = np.array(list(itertools.product(*(axis.starts for axis in axes))), np.int32)
    gather = jax.jit(gather_patches, static_argnames="spec") if jit else gather_patches
    patches = np.asarray(gather(x, starts, case.spec)).reshape(case.patches_shape)
    assert_same_bytes(patches, extract_patches(x, case.spec))


@hypothesis.given(
    case=cases(dtypes=("float32", "int8"), footprints=False, ranks=(1, 2)),
    starts=st.lists(st.integers(-30, 30), min_size=4, max_size=12),
    integer=st.sampled_from(("int8", "int16", "int32")),
)
@examples(12, 1_000)
def test_gathering_anywhere_is_slicing_a_field_padded_far(case, starts, integer):
    x, rank = case.noise(), len(case.shape)
    starts = np.array(starts[: len(starts) // rank * rank], integer).reshape(-1, rank)
    window = case.spec.window_shape(case.shape)
    wide = x
    for axis, mode in enumerate(case.spec.padding_mode):
        widths = [(0, 0)] * x.ndim
        widths[len(case.batch) + axis] = (30, 30 + case.spec.axes(case.shape)[axis].effective)
        fill = {"constant_values": case.spec.fill_value} if mode == "constant" else {}
        wide = np.pad(wide, widths, mode, **fill)
    expected = [
        wide[
            (
                ...,
                *(
                    slice(start + 30, start + 30 + (extent - 1) * gap + 1, gap)
                    for start, extent, gap in zip(where, window, case.spec.dilation, strict=True)
                ),
                slice(None),
            )
        ]
        for where in starts.astype(int)
    ]
    patches = gather_patches(x, starts, case.spec)
    assert_same_bytes(patches, np.stack(expected, len(case.batch)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("integer", ["uint8", "uint32"])
def test_gathering_at_unsigned_starts(mode, integer):
    x = np.arange(200.0, dtype=np.float32)[:, None]
    spec = WindowSpec((3,), padding_mode=mode, fill_value=-1)
    starts = np.array([[0], [120], [199]])
    signed = gather_patches(x, starts.astype(np.int32), spec)
    assert_same_bytes(gather_patches(x, starts.astype(integer), spec), signed)
    assert signed[1, :, 0].tolist() == [120, 121, 122]


def test_gathering_has_derivatives_and_batches_over_starts():
    x = jnp.arange(6.0)[:, None]
    starts = jnp.array([[[0], [1]], [[3], [-1]]])
    total = jax.vmap(lambda s: gather_patches(x, s, (2,)).sum())(starts)
    assert total.tolist() == [0 + 1 + 1 + 2, 3 + 4 + 0]
    gradient = jax.grad(lambda x: (gather_patches(x, starts[0], (2,)) ** 2).sum())(x)
    np.testing.assert_array_equal(gradient, 2 * x * jnp.array([1, 2, 1, 0, 0, 0.0])[:, None])
    half = jnp.ones((600, 1), jnp.bfloat16)
    same = jnp.zeros((513, 1), jnp.int32)
    gradient = jax.grad(lambda x: gather_patches(x, same, (1,)).astype("float32").sum())(half)
    assert gradient[0, 0] == jnp.asarray(513, jnp.bfloat16)


@hypothesis.given(
    blocks=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4),
    whole=st.booleans(),
    batch=st.sampled_from(((), (2,), (2, 3))),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
@examples(12, 1_000)
def test_unpatchify_inverts_patchify(blocks, whole, batch, dtype, seed):
    shape = tuple(count * extent for count, extent in blocks)
    window = tuple(extent for _, extent in blocks)
    window = (None, *window[1:]) if whole else window
    x = random_bytes((*batch, *shape, 2), dtype, seed)
    tokens = patchify(x, window)
    patches = reference_extract_patches(x, window)
    features = 2 * int(np.prod(WindowSpec(window).window_shape(shape)))
    assert_same_bytes(tokens, patches.reshape(*batch, -1, features))
    assert_same_bytes(unpatchify(tokens, window, shape), x)


@hypothesis.given(case=cases(dtypes=("bool",)))
@examples(12, 1_000)
def test_valid_share_is_the_mean_over_the_footprint(case):
    valid = case.noise()
    patches = reference_extract_patches(valid, case.spec.replace(fill_value=False))
    mask = case.spec.resolve(case.shape).mask
    samples = patches.size // np.prod(case.patches_shape[: -len(case.shape) - 1]) / case.channels
    samples = samples if mask is None else mask.sum()
    window = tuple(range(-1 - len(case.shape), -1))
    fraction = np.asarray(valid_share(valid, case.spec))
    assert fraction.dtype == np.float32
    np.testing.assert_allclose(fraction, patches.sum(window) / samples, rtol=1e-6)


def test_one_trace_per_shape(monkeypatch):
    traces = []
    choose = extract_patches.__globals__["choose"]
    monkeypatch.setitem(
        extract_patches.__globals__,
        "choose",
        lambda *args, flat: traces.append(args) or choose(*args, flat=flat),
    )
    for spec in (WindowSpec((3, 2), fill_value=0.25), WindowSpec([3, 2], fill_value=0.25)):
        for _ in range(2):
            extract_patches(jnp.zeros((7, 9, 1)), spec)
            extract_patches(np.ones((7, 9, 1), np.float32), spec)
    assert len(traces) == 1
    extract_patches(jnp.zeros((8, 9, 1)), WindowSpec((3, 2), fill_value=0.25))
    assert len(traces) == 2


@pytest.mark.parametrize("shape", [(0, 6, 2), (6, 0), (3, 0, 6, 2)])
@pytest.mark.parametrize("lowering", ["auto", "blocks", "gather", "conv"])
def test_empty_batches_and_no_channels(shape, lowering):
    x = np.zeros(shape, np.float32)
    spec = WindowSpec((3,), stride=2, padding="SAME")
    assert_same_bytes(
        extract_patches(x, spec, lowering=lowering), reference_extract_patches(x, spec)
    )
