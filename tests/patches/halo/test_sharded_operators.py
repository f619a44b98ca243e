"""The laws of the sharded operators: equal to the unsharded, adjoint, and without a gather."""

# Bad input is of the wrong type on purpose.
# pyright: reportArgumentType=false

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import DTYPES, MODES, assert_same_bytes, examples, random_bytes

from stpatch_jax import (
    InputError,
    WindowSpec,
    extract_patches,
    fold_patches,
    sharded_extract_patches,
    sharded_fold_patches,
)
from stpatch_jax.testing import assert_adjoint, reference_extract_patches, reference_fold_patches

pytestmark = pytest.mark.usefixtures("strict_dtypes")
AUTO, EXPLICIT = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
MESH = jax.make_mesh((2, 4), ("data", "space"), axis_types=(AUTO,) * 2)
SHAPE = (6, 16)  # time, space
OVER_SPACE = jax.P("data", None, "space")
CASES = {
    "same": (
        WindowSpec((3, 5), stride=(1, 2), padding="SAME", padding_mode=("edge", "reflect")),
        OVER_SPACE,
        "bfloat16",
    ),
    # A window of 10 cells on shards of 4: its halo comes from three shards.
    "causal": (
        WindowSpec(
            (3, 4), stride=(2, 1), dilation=(1, 3), padding=("FLUSH", "CAUSAL"), fill_value=7
        ),
        OVER_SPACE,
        "complex64",
    ),
    # 12 windows on 16 cells: every shard reads from another place.
    "valid": (WindowSpec((2, 5), stride=1), OVER_SPACE, "float16"),
    # Time and space split at once.
    "cover": (
        WindowSpec((3, 6), stride=(1, 4), padding=("SAME", "COVER"), padding_mode=("wrap", "edge")),
        jax.P(None, "data", "space"),
        "int8",
    ),
    # Padding as wide as the field allows, on eight shards of 2 cells.
    "ring": (
        WindowSpec((2, 9), stride=(2, 1), padding=((0, 0), (12, 12)), padding_mode="wrap"),
        jax.P(None, None, ("space", "data")),
        "bool",
    ),
    "ball": (
        WindowSpec((3, 4), stride=1, padding="SAME", padding_mode="reflect", footprint="ball"),
        jax.P(None, "data", "space"),
        "float32",
    ),
}


def cases(*quick):
    """All cases, of which only some belong to the quick run."""
    return [
        pytest.param(name, marks=[] if name in quick else pytest.mark.slow, id=name)
        for name in CASES
    ]


def operators(spec, shape, partition):
    """The pair of sharded operators."""
    split = {"partition": partition, "mesh": MESH}
    return (
        lambda x: sharded_extract_patches(x, spec, **split),
        lambda p, **options: sharded_fold_patches(p, spec, shape, **split, **options),
    )


def whole_operators(spec, shape):
    """The pair of operators of one device."""
    return (
        lambda x: extract_patches(x, spec),
        lambda p, **options: fold_patches(p, spec, shape, **options),
    )


def placed(x, partition):
    return jax.device_put(x, jax.NamedSharding(MESH, partition))


def programs(spec, shape, partition):
    """What the law compares as one program of the sharded operators, and the blended mean."""
    extract, fold = operators(spec, shape, partition)

    def run(x, other, patches, counts):
        return {
            "patches": extract(x),
            "other": extract(other),
            "mean": fold(patches, blend="hann"),
            "counts": fold(counts, reduce="sum"),
        }

    whole = whole_operators(spec, shape)[1]
    return jax.jit(run), jax.jit(lambda patches: whole(patches, blend="hann"))


@functools.cache
def programs_of(name):
    spec, partition, _ = CASES[name]
    return programs(spec, SHAPE, partition)


def check_law(spec, shape, partition, dtype, seed, programs):
    """Sharded equals unsharded, and is an adjoint pair, on one draw of values."""
    run, mean = programs
    generator = np.random.default_rng(seed)
    x = generator.integers(-8, 9, (2, *shape, 2)).astype(np.float32)
    other = random_bytes(x.shape, dtype, seed)
    expected = reference_extract_patches(x, spec)
    patches = generator.standard_normal(expected.shape, np.float32)
    counts = generator.integers(-100, 100, expected.shape).astype(np.int16)
    out = run(placed(x, partition), placed(other, partition), patches, counts)
    assert_same_bytes(out["patches"], expected)
    assert_same_bytes(out["other"], reference_extract_patches(other, spec))
    folded = reference_fold_patches(counts, spec, shape)
    assert_same_bytes(out["counts"], folded.astype(np.int32))
    if spec.fill_value == 0:
        assert_adjoint(lambda _: out["patches"], lambda _: out["counts"], x, counts, rtol=0)
    # Relative to what was added as well, since sums of both signs cancel.
    np.testing.assert_allclose(out["mean"], mean(patches), rtol=1e-6, atol=1e-6)
    for name in ("patches", "mean"):
        sharding = jax.NamedSharding(MESH, partition)
        assert out[name].sharding.is_equivalent_to(sharding, out[name].ndim)


@pytest.mark.parametrize("name", cases("valid", "cover"))
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@examples(5, 200)
def test_sharded_equals_unsharded(name, seed):
    spec, partition, dtype = CASES[name]
    check_law(spec, SHAPE, partition, dtype, seed, programs_of(name))


@pytest.mark.parametrize("name", cases("ball"))
def test_other_blends_are_those_of_the_whole_field(name):
    spec, partition, _ = CASES[name]
    window = spec.window_shape(SHAPE)
    shape = (2, *spec.grid_shape(SHAPE), *window, 1)
    patches = np.random.default_rng(0).standard_normal(shape, np.float32)
    own = np.arange(float(np.prod(window))).reshape(window)
    (_, sharded), (_, whole) = operators(spec, SHAPE, partition), whole_operators(spec, SHAPE)
    for blend in ("crop", own):
        expected = whole(patches, blend=blend)
        np.testing.assert_allclose(sharded(patches, blend=blend), expected, rtol=1e-5, atol=1e-5)


def loss(extract, fold):
    """A nonlinear function of a field through both operators."""

    def of_field(x):
        patches = extract(x)
        return (jnp.sin(patches) ** 2).sum() + (fold(patches**2, blend="hann") ** 2).sum()

    return of_field


def compiled(function, *arguments):
    program = jax.jit(function).lower(*arguments).compile()
    return program, str(program.as_text())


GATHERING = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter")


@pytest.mark.parametrize("name", cases("same"))
def test_neighbours_exchange_cells_and_nobody_gathers(name):
    spec, partition, _ = CASES[name]
    x = np.random.default_rng(0).standard_normal((2, *SHAPE, 2), np.float32)
    sharded = loss(*operators(spec, SHAPE, partition))
    program, text = compiled(jax.grad(sharded), placed(x, partition))
    assert "collective-permute" in text
    assert not [name for name in GATHERING if name in text]
    expected = jax.jit(jax.grad(loss(*whole_operators(spec, SHAPE))))(x)
    gradient = program(placed(x, partition))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    extract, _ = operators(spec, SHAPE, partition)
    _, text = compiled(extract, placed(x, partition))
    assert "collective-permute" in text
    assert not [name for name in GATHERING if name in text]


def test_left_to_the_compiler_extraction_gathers():
    spec, partition, _ = CASES["same"]
    x = placed(np.zeros((2, *SHAPE, 2), np.float32), partition)
    _, text = compiled(lambda x: extract_patches(x, spec), x)
    assert "all-gather" in text


@pytest.mark.slow
def test_hessian_products_in_both_modes_equal_the_unsharded():
    spec, partition, _ = CASES["cover"]
    generator = np.random.default_rng(0)
    x, v = generator.standard_normal((2, 2, *SHAPE, 2), np.float32)

    def products(loss):
        forward = jax.jit(lambda x, v: jax.jvp(jax.grad(loss), (x,), (v,))[1])
        reverse = jax.jit(jax.grad(lambda x, v: jnp.vdot(jax.grad(loss)(x), v)))
        return forward(x, v), reverse(x, v)

    expected = products(loss(*whole_operators(spec, SHAPE)))
    for product in products(loss(*operators(spec, SHAPE, partition))):
        for other in expected:
            scale = np.abs(other).max()
            np.testing.assert_allclose(product / scale, other / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
def test_takes_the_mesh_of_the_context(kind):
    spec = WindowSpec((2, 3), stride=1, padding="SAME")
    x = random_bytes((2, *SHAPE, 2), "int16", 0)
    mesh = jax.make_mesh((2, 4), ("data", "space"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        split = jax.device_put(x, OVER_SPACE)
        patches = sharded_extract_patches(split, spec, partition=OVER_SPACE)
        folded = sharded_fold_patches(patches, spec, SHAPE, partition=OVER_SPACE, reduce="sum")
    expected = reference_extract_patches(x, spec)
    assert_same_bytes(patches, expected)
    np.testing.assert_array_equal(folded, reference_fold_patches(expected, spec, SHAPE))


@st.composite
def even_axes(draw, shards):
    """Options of one axis, split into some shards, whose patch grid splits evenly as well."""
    stride, per_shard = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = stride * per_shard * shards
    dilation = draw(st.integers(1, 2))
    window = draw(st.integers(1, max(size // (2 * dilation), 1)))
    lo = draw(st.integers(0, size - 1))
    reach = (window - 1) * dilation + 1
    exact = (size // stride - 1) * stride + reach - size  # padding that gives size / stride windows
    pairs = ["SAME", "CAUSAL"] + ([(min(lo, exact), exact - min(lo, exact))] if exact >= 0 else [])
    padding = draw(st.sampled_from(pairs))
    return size, window, stride, dilation, padding, draw(st.sampled_from(MODES))


@st.composite
def even_fields(draw):
    partition = draw(
        st.sampled_from((OVER_SPACE, jax.P(None, "space", "data"), jax.P(None, ("space", "data"))))
    )
    shards = [
        int(np.prod([MESH.shape[name] for name in np.atleast_1d(entry)])) if entry else 1
        for entry in (*partition, None)[1:3]
    ]
    axes = [draw(even_axes(count)) for count in shards]
    shape, window, stride, dilation, padding, mode = zip(*axes, strict=True)
    spec = WindowSpec(
        window,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=mode,
        fill_value=draw(st.integers(0, 3)),
        footprint=draw(st.sampled_from((None, "ball"))),
    )
    return spec, shape, partition


@pytest.mark.slow
@hypothesis.given(case=even_fields(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**32 - 1))
@examples(8, 500)
def test_every_even_spec_equals_unsharded(case, dtype, seed):
    spec, shape, partition = case
    if dtype == "bool":
        spec = spec.replace(fill_value=True)
    try:
        spec.axes(shape)
    except InputError:  # reflect padding wider than the axis
        hypothesis.reject()
    check_law(spec, shape, partition, dtype, seed, programs(spec, shape, partition))


FIELD = jax.ShapeDtypeStruct((2, *SHAPE, 1), np.float32)


@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (
            (2, 4),
            {"partition": jax.P(None, "space")},
            "the field must split into 4 equal shards along time (mesh axis space), got 6 cells; "
            "pad or crop it, or split another axis",
        ),
        (
            (2, 3),
            {"partition": jax.P(None, None, "space")},
            "the patch grid must split into 4 equal shards along axis 1 (space) (mesh axis space), "
            "got 5 windows of stride 3 on 16 cells; choose a stride that divides the 4 cells of a "
            'shard with padding="SAME", or split another axis',
        ),
        (
            (None, None),
            {"partition": jax.P("data", None, "space")},
            "the patch grid must split into 4 equal shards along axis 1 (space) (mesh axis space), "
            "got 1 windows of stride 16 on 16 cells; choose a stride that divides the 4 cells of a "
            'shard with padding="SAME", or split another axis',
        ),
        (
            WindowSpec((2, 4), stride=(2, 5), padding="FLUSH"),
            {"partition": jax.P(None, None, "space")},
            "windows must lie one stride apart along axis 1 (space), which is split over devices, "
            'got padding="FLUSH"; use padding="COVER", or split another axis',
        ),
        (
            WindowSpec((1, 18), stride=1, padding="CAUSAL"),
            {"partition": jax.P(None, None, "space")},
            "windows must not reach further beyond a shard than the field is long, got 17 cells in "
            "front and 0 behind on a field of 16 along axis 1 (space); pad less or split another "
            "axis",
        ),
        (
            (2, 4),
            {"partition": jax.P(None, None, None, "data")},
            "the field must split into 2 equal shards along array axis 3 (mesh axis data), got 1 "
            "cells; pad or crop it, or split another axis",
        ),
        (
            (2, 4),
            {"partition": jax.P(None, None, "width")},
            "partition must name axes of the mesh ('data', 'space'), each at most once, got "
            "(None, None, 'width'); correct it or build another mesh",
        ),
        (
            (2, 4),
            {"partition": (None, "space", "space")},
            "partition must name axes of the mesh ('data', 'space'), each at most once, got "
            "(None, 'space', 'space'); correct it or build another mesh",
        ),
        (
            (2, 4),
            {"partition": ("data", None, "space", None, None)},
            "partition must have at most one entry for each of the 4 axes of the field (*batch, "
            "time, *space, channel), got 5: ('data', None, 'space', None, None); leave entries out",
        ),
        (
            (2, 4),
            {"partition": OVER_SPACE, "mesh": None},
            "a sharded operator must know its mesh, got none; give mesh=... or call it inside "
            "jax.set_mesh(mesh)",
        ),
    ],
)
def test_what_does_not_split_is_refused(window, options, message):
    spec, options = WindowSpec.of(window), {"mesh": MESH} | options
    patches = jax.eval_shape(lambda x: extract_patches(x, spec), FIELD)
    for program, argument in (
        (lambda x: sharded_extract_patches(x, spec, **options), FIELD),
        (lambda p: sharded_fold_patches(p, spec, SHAPE, **options), patches),
    ):
        with pytest.raises(InputError) as error:
            jax.eval_shape(program, argument)
        assert str(error.value) == message


def test_patches_of_another_field_are_refused():
    with pytest.raises(InputError, match="patches must have the axes"):
        sharded_fold_patches(
            np.zeros((2, 3, 4, 2, 4, 1)), (2, 4), (8, 16), partition=OVER_SPACE, mesh=MESH
        )
