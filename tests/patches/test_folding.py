"""The laws of folding: adjoint, inverse, weights that sum to one; and its dtypes."""

# Bad input is of the wrong type on purpose.
# pyright: reportArgumentType=false

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.signal.windows
from strategies import assert_same_bytes, cases, examples, random_bytes

from stpatch_jax import (
    InputError,
    WindowSpec,
    blend_weights,
    cover_count,
    extract_patches,
    fold_patches,
)
from stpatch_jax.patches.blends import BLEND_NAMES, fold_axis
from stpatch_jax.testing import assert_adjoint, reference_fold_patches

pytestmark = pytest.mark.usefixtures("strict_dtypes")
FLOATS = ("float32", "bfloat16", "float16", "complex64")
CROP = BLEND_NAMES[-1]
BLENDS = (*BLEND_NAMES, ("gaussian", 0.4), "own")


def blend_of(blend, case):
    """Own weights, some of them zero, fit a case's window; all else is a blend as it is."""
    if blend != "own":
        return blend
    weights = np.random.default_rng(case.seed).random(case.spec.window_shape(case.shape)) - 0.3
    return np.maximum(weights, weights.max() == weights)


def is_weighed(case, blend):
    """Where a weight reaches: cells that are read, but for zeros in weights or a footprint."""
    weights = blend_weights(case.spec, case.shape, blend=blend)
    return reference_fold_patches(weights[..., None], case.spec, case.shape)[..., 0] > 0


@hypothesis.given(case=cases(dtypes=("float32", "complex64")))
@examples(12, 1_000)
def test_summed_fold_is_the_adjoint_of_extraction(case):
    case = case.replace(fill_value=0)
    assert_adjoint(
        lambda x: extract_patches(x, case.spec),
        lambda p: fold_patches(p, case.spec, case.shape, reduce="sum"),
        case.numbers(),
        case.numbers(case.patches_shape, offset=1),
        rtol=0,
    )


@hypothesis.given(case=cases(dtypes=("float32", "int8", "uint16", "int32"), ranks=(1, 2, 3)))
@examples(12, 1_000)
def test_summed_fold_equals_adding_sample_by_sample(case):
    patches = case.numbers(case.patches_shape)
    expected = reference_fold_patches(patches, case.spec, case.shape)
    folded = fold_patches(patches, case.spec, case.shape, reduce="sum")
    np.testing.assert_array_equal(np.asarray(folded), expected.astype(folded.dtype))


@hypothesis.given(case=cases(dtypes=(*FLOATS, "int16", "bool")), blend=st.sampled_from(BLENDS))
@examples(12, 1_000)
def test_mean_of_what_was_extracted_is_the_field_where_covered(case, blend):
    x = case.numbers() if case.dtype != "bool" else case.noise()
    # NaN shows that neither padding nor a sample outside the footprint reaches the field.
    if case.dtype in FLOATS:
        case = case.replace(fill_value=float("nan"))
    blend = blend_of(blend, case)
    folded = fold_patches(extract_patches(x, case.spec), case.spec, case.shape, blend=blend)
    covered = is_weighed(case, blend)[..., None]
    expected = np.where(covered, x.astype(np.complex64), 0)
    assert folded.dtype == (case.dtype if case.dtype in FLOATS else np.float32)
    tolerance = float(jnp.finfo(folded.dtype).eps)  # one rounding of what float32 added up
    if tolerance < 1e-6:
        axes = case.spec.axes(case.shape)
        windows = sum(fold_axis(axis, np.ones(axis.window)).max() for axis in axes)
        tolerance *= (windows + 3 * len(axes) + 2) / 2
    exact = blend is CROP
    np.testing.assert_allclose(
        np.asarray(folded).astype(np.complex64), expected, rtol=0 if exact else tolerance, atol=0
    )


@hypothesis.given(case=cases(dtypes=("float32",), ranks=(1, 2, 3)), blend=st.sampled_from(BLENDS))
@examples(12, 1_000)
def test_blend_weights_sum_to_one_where_covered(case, blend):
    blend = blend_of(blend, case)
    weights = blend_weights(case.spec, case.shape, blend=blend)
    assert weights.dtype == np.float32
    assert weights.shape == case.patches_shape[len(case.batch) : -1]
    assert (weights >= 0).all()
    total = reference_fold_patches(weights[..., None], case.spec, case.shape)[..., 0]
    read = cover_count(case.spec, case.shape) > 0
    if isinstance(blend, str | tuple) and (blend != "crop" or case.spec.footprint is None):
        assert (total[read] > 0).all()
    np.testing.assert_allclose(total, total > 0, rtol=1e-5, atol=0)
    assert not total[~read].any()
    patches = case.numbers(case.patches_shape)
    np.testing.assert_allclose(
        fold_patches(patches, case.spec, case.shape, blend=blend),
        reference_fold_patches(patches * weights[..., None], case.spec, case.shape),
        rtol=1e-4,
        atol=1e-4,
    )


@hypothesis.given(case=cases(dtypes=FLOATS))
@examples(12, 1_000)
def test_gradient_of_the_sum_is_the_cover_count(case):
    x = jnp.asarray(case.numbers())
    gradient = jax.jit(jax.grad(lambda x: extract_patches(x, case.spec).sum().real))(x)
    count = cover_count(case.spec, case.shape)
    assert count.shape == case.shape
    assert gradient.dtype == x.dtype
    hypothesis.assume(count.max() <= 256)  # larger counts are not all bfloat16 numbers
    expected = np.broadcast_to(count[..., None], case.field_shape).astype(np.complex64)
    np.testing.assert_array_equal(np.asarray(gradient).astype(np.complex64), expected)


@hypothesis.given(
    case=cases(dtypes=("float32", "int32"), ranks=(1, 2, 3)),
    reduce=st.sampled_from(("sum", "mean")),
)
@examples(12, 1_000)
def test_fold_commutes_with_vmap_and_jit(case, reduce):
    patches = case.numbers((3, *case.patches_shape))

    def fold(patches):
        return fold_patches(patches, case.spec, case.shape, reduce=reduce, blend="uniform")

    assert_same_bytes(jax.jit(jax.vmap(fold))(patches), fold(patches))


@pytest.mark.parametrize(("block", "taps"), [(16, 5), (7, 8), (4, 13), (1, 3)])
def test_equals_scipys_overlap_add_convolution(block, taps):
    generator = np.random.default_rng(0)
    x, kernel = generator.standard_normal(10 * block), generator.standard_normal(taps)
    pieces = np.stack([np.convolve(piece, kernel) for piece in x.reshape(10, block)])
    spec = WindowSpec((block + taps - 1,), stride=block)
    folded = fold_patches(
        pieces.astype(np.float32)[..., None], spec, (x.size + taps - 1,), reduce="sum"
    )
    expected = scipy.signal.oaconvolve(x, kernel)
    np.testing.assert_allclose(folded[:, 0], expected, rtol=1e-4, atol=1e-5)


DTYPES_OUT = [
    ("int8", "sum", "uniform", "int32"),
    ("uint8", "sum", "uniform", "int32"),
    ("bool", "sum", "uniform", "int32"),
    ("uint32", "sum", "uniform", "int32"),
    ("bool", "mean", "uniform", "float32"),
    ("int16", "sum", "hann", "float32"),
    ("bfloat16", "sum", "uniform", "bfloat16"),
    ("bfloat16", "mean", "gaussian", "bfloat16"),
    ("float16", "mean", "linear", "float16"),
    ("float8_e4m3fn", "sum", "uniform", "float8_e4m3fn"),
    ("float8_e4m3fn", "mean", "hann", "float8_e4m3fn"),
    ("complex64", "mean", "hann", "complex64"),
]


@pytest.mark.parametrize(("dtype", "reduce", "blend", "expected"), DTYPES_OUT)
def test_dtypes_and_values_of_folds(dtype, reduce, blend, expected):
    spec = WindowSpec((4,), stride=2)
    patches = jnp.ones((3, 4, 1), dtype)
    folded = fold_patches(patches, spec, (8,), reduce=reduce, blend=blend)
    assert folded.dtype == expected
    values = np.asarray(folded).astype(np.complex64)[:, 0]
    if reduce == "mean":
        np.testing.assert_allclose(values, 1, rtol=1e-2)
    elif blend == "uniform":
        assert values.tolist() == [1, 1, 2, 2, 2, 2, 1, 1]
    else:
        hann = np.sin(np.pi * (np.arange(4) + 0.5) / 4) ** 2
        np.testing.assert_allclose(values, [*hann[:2], 1, 1, 1, 1, *hann[2:]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "complex128"])
def test_64_bit_folds_stay_64_bit(dtype):
    with jax.enable_x64(True):
        patches = np.full((2, 3, 1), 2**40 + 1, dtype)
        folded = fold_patches(patches, WindowSpec((3,), stride=1), (4,), reduce="sum")
        assert folded.dtype == dtype
        assert folded[1, 0] == 2**41 + 2


def test_is_deterministic_and_of_fixed_order():
    spec = WindowSpec((5, 3), stride=(2, 1), padding="SAME", padding_mode="wrap")
    patches = random_bytes((4, 9, 5, 3, 2), "int16", 0).astype(np.float32) / 3
    folds = [fold_patches(patches, spec, (8, 9), blend="hann") for _ in range(3)]
    assert_same_bytes(folds[1], folds[0])
    assert_same_bytes(folds[2], folds[0])
    # The order of the sum does not depend on the batch around it.
    batched = fold_patches(np.stack([patches] * 3), spec, (8, 9), blend="hann")
    assert_same_bytes(batched[1], folds[0])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_equals_torch_fold(stride, dilation):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    spec = WindowSpec((3, 2), stride=stride, dilation=dilation, padding=[(1, 1), (1, 1)])
    grid = spec.grid_shape((8, 7))
    patches = np.random.default_rng(0).standard_normal((2, *grid, 3, 2, 4)).astype(np.float32)
    columns = torch.from_numpy(patches).permute(0, 5, 3, 4, 1, 2).reshape(2, 4 * 6, -1)
    expected = torch.nn.functional.fold(
        columns, (8, 7), (3, 2), dilation=dilation, padding=1, stride=stride
    )
    folded = fold_patches(patches, spec, (8, 7), reduce="sum")
    np.testing.assert_allclose(folded, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_tapers_are_what_they_say():
    spec = WindowSpec((4,), stride=4)
    hann = np.sin(np.pi * (np.arange(4) + 0.5) / 4) ** 2
    overlapping = WindowSpec((4,), stride=2)
    weights = blend_weights(overlapping, (8,), blend="hann")
    # Hann windows at half their length apart already sum to one.
    np.testing.assert_allclose(weights[1], hann, rtol=1e-6)
    np.testing.assert_allclose(blend_weights(spec, (8,), blend="hann"), 1)
    linear = blend_weights(overlapping, (8,), blend="linear")
    np.testing.assert_allclose(linear[1], np.array([1, 2, 2, 1]) / 3, rtol=1e-6)
    gaussian = blend_weights(WindowSpec((8,), stride=1), (64,), blend="gaussian")[30]
    sampled = scipy.signal.windows.gaussian(8, std=1.0)
    np.testing.assert_allclose(gaussian / gaussian.max(), sampled / sampled.max(), rtol=0.4)
    floor = blend_weights(WindowSpec((64,), stride=32), (128,), blend="gaussian")
    assert floor.min() > 0


def test_crop_takes_a_cell_from_the_window_whose_centre_is_nearest():
    spec = WindowSpec((4, 5), stride=(2, 3), padding=("COVER", [2, 3]), padding_mode="edge")
    labels = np.random.default_rng(0).integers(0, 2**30, (*spec.grid_shape((9, 8)), 4, 5, 1))
    folded = fold_patches(labels, spec, (9, 8), reduce="sum", blend="crop")
    assert folded.dtype == np.int32
    nearest = {}
    axes = spec.axes((9, 8))
    cells = [axis.source_cells() for axis in axes]
    for at in np.ndindex(*labels.shape[:-1]):
        reads = [rows[at[p], at[2 + p]] for p, rows in enumerate(cells)]
        middles = [(2 * at[2 + p] + 1 - axis.window) ** 2 for p, axis in enumerate(axes)]
        near = (*middles, at[0], at[1])
        if min(reads) >= 0:
            nearest[tuple(reads)] = min(nearest.get(tuple(reads), (near, at)), (near, at))
    for t, s in np.ndindex(9, 8):
        assert folded[t, s, 0] == labels[nearest[t, s][1]][0]


BAD_CALLS = {
    "patches": (
        lambda: fold_patches(np.zeros((3, 4, 1)), (4,), (8,)),
        "patches must have the axes (*batch, *grid, *window, channel) = (*batch, 2, 4, channel) "
        "for a field of (time, *space) (8,), got (3, 4, 1); give the spec and shape that the "
        "patches were cut with",
    ),
    "too few axes": (
        lambda: fold_patches(np.zeros((2, 4)), (4,), (8,)),
        "patches must have the axes (*batch, *grid, *window, channel) = (*batch, 2, 4, channel) "
        "for a field of (time, *space) (8,), got (2, 4); give the spec and shape that the "
        "patches were cut with",
    ),
    "shape with channel": (
        lambda: fold_patches(np.zeros((2, 4, 1)), (4,), (8, 1)),
        "the shape must have one entry per window axis (time, *space) of the window (4,), got "
        "(8, 1); give one size for each axis of time and space, none for batch and channel",
    ),
    "bare shape": (
        lambda: cover_count((4,), 8),
        "the shape must have one entry per window axis (time, *space) of the window (4,), got 8; "
        "give one size for each axis of time and space, none for batch and channel",
    ),
    "traced shape": (
        lambda: jax.jit(lambda n: fold_patches(jnp.zeros((2, 4, 1)), (4,), (n,)))(8),
        "the shape along time must be known before tracing, got a traced array; pass it as a "
        "plain Python value (a static argument)",
    ),
    "traced shape as an array": (
        lambda: jax.jit(lambda n: fold_patches(jnp.zeros((2, 4, 1)), (4,), n))(jnp.array([8])),
        "the shape along time must be known before tracing, got a traced array; pass it as a "
        "plain Python value (a static argument)",
    ),
    "blend": (
        lambda: fold_patches(np.zeros((2, 4, 1)), (4,), (8,), blend="cosine"),
        "blend must be 'uniform', 'linear', 'hann', 'gaussian' or 'crop', got 'cosine'; choose one "
        "of them",
    ),
    "blend of weights": (
        lambda: blend_weights((4,), (8,), blend="cosine"),
        "blend must be 'uniform', 'linear', 'hann', 'gaussian' or 'crop', got 'cosine'; choose one "
        "of them",
    ),
    "width": (
        lambda: fold_patches(np.zeros((2, 4, 1)), (4,), (8,), blend=("gaussian", 0)),
        "the width of a gaussian blend must be a share of the window above 0, got 0; give "
        '("gaussian", 0.125), say',
    ),
    "traced weights": (
        lambda: jax.jit(lambda w: fold_patches(jnp.zeros((2, 4, 1)), (4,), (8,), blend=w))(
            jnp.ones(4)
        ),
        "weights must be an array of shape (4,), as the output of a window, finite with none below "
        "zero and not all zero, got DynamicJaxprTracer; give one weight per cell",
    ),
    "reduce": (
        lambda: fold_patches(np.zeros((2, 4, 1)), (4,), (8,), reduce="max"),
        "reduce must be 'sum' or 'mean', got 'max'; choose one of them",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_one_sentence(name):
    call, sentence = BAD_CALLS[name]
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == sentence


@pytest.mark.parametrize("spec", [WindowSpec((2, 4, 4), stride=(1, 2, 3)), WindowSpec((2, 4, 4))])
def test_flat_patches_are_the_same_numbers(spec):
    x = np.random.default_rng(0).standard_normal((2, 5, 13, 9, 2), np.float32)
    patches, flat = extract_patches(x, spec), extract_patches(x, spec, flat=True)
    assert_same_bytes(flat, np.asarray(patches).reshape(*patches.shape[:4], -1))
    for how in ({"reduce": "sum"}, {"blend": "hann"}):
        expected = fold_patches(patches, spec, x.shape[1:-1], **how)
        np.testing.assert_array_equal(
            fold_patches(flat, spec, x.shape[1:-1], flat=True, **how), expected
        )


@pytest.mark.parametrize("shape", [(2, 3, 9), (3, 8), (8,)])
def test_flat_patches_of_another_shape_are_refused(shape):
    with pytest.raises(InputError) as error:
        fold_patches(np.zeros(shape), WindowSpec((2, 4)), (4, 12), flat=True)
    assert str(error.value) == (
        "flat patches must have the axes (*batch, 2, 3, a multiple of 8) for windows (2, 4) of a "
        f"field of (time, *space) (4, 12), got {shape}; give the spec and shape that the patches "
        "were cut with"
    )
