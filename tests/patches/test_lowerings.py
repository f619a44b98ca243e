"""Every lowering on every dtype, and what the compiled programs hold and do not hold."""

# Some arguments are of the wrong type on purpose.
# pyright: reportArgumentType=false

import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import (
    DTYPES,
    X64_DTYPES,
    assert_same_bytes,
    cases,
    examples,
    random_bytes,
)

from stpatch_jax import (
    InputError,
    WindowSpec,
    extract_patches,
    fold_patches,
    patchify,
    unpatchify,
)
from stpatch_jax.testing import reference_extract_patches

pytestmark = pytest.mark.usefixtures("strict_dtypes")
LOWERINGS = ("auto", "conv", "reshape", "blocks", "gather")
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
SPECS = {
    "tiled": WindowSpec((2, 3)),
    "overlapping": WindowSpec((3, 4), stride=(1, 3), dilation=(1, 2), padding=("SAME", "FLUSH")),
    "padded": WindowSpec(
        (2, 3),
        stride=(2, 1),
        padding=("CAUSAL", (2, 2)),
        padding_mode=("reflect", "wrap"),
        footprint="ball",
    ),
}
MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
OVER_BATCH = jax.sharding.NamedSharding(MESH, jax.P("data"))


@pytest.mark.parametrize("dtype", DTYPES + X64_DTYPES)
@pytest.mark.parametrize("lowering", LOWERINGS[1:])
def test_copies_every_dtype_bit_for_bit(dtype, lowering):
    with jax.enable_x64(dtype in X64_DTYPES):
        spec = WindowSpec((2, 3), stride=None if lowering == "reshape" else (1, 2), padding="SAME")
        x = random_bytes((2, 6, 9, 5), dtype, seed=7)
        patches = extract_patches(x, spec, lowering=lowering)
        assert_same_bytes(patches, reference_extract_patches(x, spec))


def compiled(function, *arguments):
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text
    return text


def operations(text):
    """Names of the operations in compiled text."""
    return re.findall(r"= \S+ ([a-z][a-z0-9-]*)\(", text)


@pytest.mark.parametrize("lowering", LOWERINGS[:2] + LOWERINGS[3:])
@pytest.mark.parametrize("name", SPECS)
def test_gradient_holds_no_scatter_and_no_convolution(name, lowering):
    def gradient(x, weights):
        return jax.grad(
            lambda x: jnp.vdot(extract_patches(x, SPECS[name], lowering=lowering), weights)
        )(x)

    x = jnp.ones((2, 6, 9, 1))
    weights = extract_patches(x, SPECS[name])
    found = set(operations(compiled(gradient, x, weights)))
    assert "parameter" in found
    assert not {"scatter", "convolution", "gather", "dynamic-update-slice", "custom-call"} & found
    primitives = str(jax.make_jaxpr(gradient)(x, weights))
    assert "scatter" not in primitives
    assert ("conv_general_dilated" in primitives) == (lowering == "conv")


def _batch_programs():
    for lowering in LOWERINGS:
        names = ("tiled",) if lowering == "reshape" else SPECS
        for name in names:
            spec = SPECS[name]
            yield (
                pytest.param(
                    lambda x, s=spec, lo=lowering: extract_patches(x, s, lowering=lo),
                    id=f"{name}-{lowering}",
                    marks=[pytest.mark.slow] * (name == "overlapping"),
                )
            )
    for name, spec in SPECS.items():
        yield pytest.param(
            lambda x, s=spec: jax.grad(lambda x: (extract_patches(x, s) ** 3).sum())(x),
            id=f"{name}-gradient",
            marks=[pytest.mark.slow] * (name == "tiled"),
        )
        yield pytest.param(
            lambda x, s=spec: fold_patches(
                jnp.tanh(extract_patches(x, s)), s, x.shape[1:-1], blend="hann"
            ),
            id=f"{name}-fold",
            marks=[pytest.mark.slow] * (name == "tiled"),
        )


@pytest.mark.parametrize("function", list(_batch_programs()))
def test_batch_sharded_programs_hold_no_collective(function):
    x = jax.device_put(random_bytes((16, 6, 9, 1), "uint8", 0).astype(np.float32), OVER_BATCH)
    program = jax.jit(function).lower(x).compile()
    text = program.as_text() or ""
    assert "num_partitions=8" in text
    assert not [name for name in COLLECTIVES if name in text]
    out = program(x)
    assert out.sharding.spec[0] == "data"
    np.testing.assert_allclose(out, function(np.asarray(x)), rtol=1e-6, atol=0)


@hypothesis.given(case=cases(), lowering=st.sampled_from(("auto", "blocks", "gather", "conv")))
@examples(12, 1_000)
def test_sharded_over_the_batch_equals_unsharded(case, lowering):
    x = random_bytes((8, *case.batch, *case.shape, case.channels), case.dtype, case.seed)
    patches = extract_patches(jax.device_put(x, OVER_BATCH), case.spec, lowering=lowering)
    assert len({shard.device for shard in patches.addressable_shards}) == 8
    assert {shard.data.shape[0] for shard in patches.addressable_shards} == {1}
    assert_same_bytes(patches, reference_extract_patches(x, case.spec))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tiled", "Auto"),
        pytest.param("overlapping", "Auto", marks=pytest.mark.slow),
        pytest.param("padded", "Explicit", marks=pytest.mark.slow),
    ],
)
def test_runs_inside_shard_map_and_on_explicit_axes(name, kind):
    spec = SPECS[name]

    def there_and_back(x):
        squares = extract_patches(x, spec) ** 2
        return fold_patches(squares, spec, x.shape[-3:-1], blend="hann")

    def slope(x):
        return jax.grad(lambda x: (there_and_back(x) ** 2).sum())(x)

    x = random_bytes((8, 6, 9, 2), "uint8", 0).astype(np.float32) / 256
    types = (getattr(jax.sharding.AxisType, kind),)
    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=types)):
        sharded = jax.device_put(x, jax.P("data"))
        for function in (there_and_back, slope):
            inside = jax.shard_map(function, in_specs=jax.P("data"), out_specs=jax.P("data"))
            for run in (inside, function):
                out = jax.jit(run)(sharded)
                assert out.sharding.spec[0] == "data"
                np.testing.assert_allclose(out, function(x), rtol=1e-5, atol=1e-6)


def test_tokens_on_explicit_axes_stay_sharded():
    x = random_bytes((8, 6, 9, 2), "uint8", 0)
    types = (jax.sharding.AxisType.Explicit,)
    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=types)):
        tokens = patchify(jax.device_put(x, jax.P("data")), (2, 3))
        field = unpatchify(tokens, (2, 3), (6, 9))
        for out in (tokens, field):
            assert jax.typeof(out).sharding.spec[0] == "data"
    assert_same_bytes(tokens, patchify(x, (2, 3)))
    assert_same_bytes(field, x)


@pytest.mark.parametrize("name", ["overlapping", "padded"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_exported_program_runs_on_every_platform(name, dtype):
    spec = SPECS[name]
    x = random_bytes((2, 6, 9, 2), "uint8", 0).astype(dtype)

    def everything(x):
        patches = extract_patches(x, spec)
        slope = jax.grad(lambda x: (extract_patches(x, spec) ** 2).sum())(x)
        one = jax.linear_transpose(lambda x: extract_patches(x, spec), x)(patches)[0]
        many = jax.vmap(lambda x: extract_patches(x, spec))(x)
        return patches, many, slope, one, fold_patches(patches, spec, x.shape[1:-1])

    program = jax.jit(everything)
    exported = jax.export.export(program, platforms=("cpu", "cuda", "tpu"))(x)
    patches, many, slope, one, _ = results = program(x)
    assert_same_bytes(patches, reference_extract_patches(x, spec))
    assert_same_bytes(many, patches)
    # Twice the field times how often a cell is read.
    np.testing.assert_allclose(slope.astype("float32"), 2 * one.astype("float32"), rtol=1e-2)
    jax.tree.map(assert_same_bytes, exported.call(x), results)


def test_the_platform_compiled_for_chooses():
    program = jax.jit(lambda x: extract_patches(x, SPECS["overlapping"])).trace(np.zeros((6, 9, 1)))
    for platform, gathers in {"cpu": True, "cuda": True, "rocm": True, "tpu": False}.items():
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.gather" in text, "stablehlo.concatenate" in text) == (
            gathers,
            not gathers,
        )


@pytest.mark.parametrize("lowering", ["auto", "blocks", "gather"])
def test_deep_overlap_compiles_in_few_operations(lowering):
    spec = WindowSpec((512,), stride=1)
    x = np.random.default_rng(0).standard_normal((600, 1), np.float32)

    def forward(x):
        return extract_patches(x, spec, lowering=lowering)

    def gradient(x):
        return jax.grad(lambda x: (forward(x) ** 2).sum())(x)

    programs = [jax.jit(function).lower(x).compile() for function in (forward, gradient)]
    for program in programs:
        assert 5 < len(operations(program.as_text() or "")) < 300
    assert_same_bytes(programs[0](x), reference_extract_patches(x, spec))
    cover = np.minimum(np.minimum(np.arange(600) + 1, 600 - np.arange(600)), 89)
    np.testing.assert_allclose(programs[1](x), 2 * x * cover[:, None], rtol=1e-5)


@pytest.mark.parametrize("stride", [3, 7, 24])
@pytest.mark.parametrize("dilation", [1, 2, 6])
def test_half_windows_meet_at_every_stride_and_dilation(stride, dilation):
    spec = WindowSpec((97,), stride=stride, dilation=dilation, padding="COVER")
    x = np.arange(1300, dtype=np.int32).reshape(650, 2)
    expected = reference_extract_patches(x, spec)
    assert_same_bytes(extract_patches(x, spec, lowering="blocks"), expected)


def test_unknown_lowering_lists_the_known():
    with pytest.raises(InputError) as error:
        extract_patches(np.zeros((4, 1)), (2,), lowering="fast")
    assert str(error.value) == (
        "lowering must be 'auto', 'conv', 'reshape', 'blocks' or 'gather', got 'fast'; choose one "
        "of them"
    )


def test_reshape_refuses_windows_that_overlap():
    with pytest.raises(InputError) as error:
        extract_patches(np.zeros((4, 1)), WindowSpec((2,), stride=1), lowering="reshape")
    assert str(error.value) == (
        'lowering="reshape" must have stride = window and dilation 1 along every axis, got '
        '[(2, 1, 1)] as (window, stride, dilation); use lowering="auto"'
    )
