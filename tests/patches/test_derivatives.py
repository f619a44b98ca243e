"""Derivatives of extraction of every order and mode, against plain indexing."""

import functools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import assert_same_bytes, cases, examples

from stpatch_jax import WindowSpec, extract_patches, fold_patches
from stpatch_jax.testing import assert_adjoint, reference_extract_patches

pytestmark = pytest.mark.usefixtures("strict_dtypes")
SPECS = {
    "tiled": WindowSpec((2, 3)),
    "wrap": WindowSpec((2, 3), stride=1, padding="SAME", padding_mode="wrap"),
    "dilated": WindowSpec((2, 2), stride=(1, 2), dilation=2, padding=("CAUSAL", "FLUSH")),
    "reflect ball": WindowSpec(
        (3, 3), stride=2, padding=[(1, 2), (2, 1)], padding_mode="reflect", footprint="ball"
    ),
    "filled": WindowSpec((3, 2), stride=2, padding="COVER", fill_value=0.7, footprint="cylinder"),
}
LOWERINGS = ("auto", "conv", "blocks", "gather")
X = np.random.default_rng(0).standard_normal((4, 6, 1)).astype(np.float32)


def by_indexing(x, spec):
    """Extraction as a gather from the flat field, with the indices that NumPy's views give."""
    numbers = np.arange(x.size, dtype=np.int32).reshape(x.shape)
    cells = reference_extract_patches(numbers, spec.replace(fill_value=-1))
    fill = jnp.asarray(spec.fill_value, x.dtype)
    return jnp.where(cells >= 0, x.reshape(-1)[np.maximum(cells, 0)], fill)


def loss(patches):
    """Nonlinear across the samples of a window and across windows."""
    window = jnp.sin(patches).sum((-1, -2, -3))
    return (window**2).sum() + jnp.prod(jnp.cos(patches[0, 0]))


@functools.cache
def expected_hessian(name):
    return jax.jit(jax.hessian(lambda x: loss(by_indexing(x, SPECS[name]))))(X)


@pytest.mark.parametrize(
    ("name", "lowering"),
    [*((name, "auto") for name in SPECS), *(("reflect ball", other) for other in LOWERINGS[1:])],
)
def test_hessian_equals_that_of_plain_indexing(name, lowering):
    spec = SPECS[name]
    hessian = jax.jit(jax.hessian(lambda x: loss(extract_patches(x, spec, lowering=lowering))))(X)
    expected = expected_hessian(name)
    np.testing.assert_allclose(hessian, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("name", ["reflect ball"])
def test_gradients_of_gradients_and_mixed_modes(name):
    spec = SPECS[name]

    def slope(extract, x):
        return (jax.grad(lambda x: loss(extract(x)))(x) ** 3).sum()

    def ours(x):
        return extract_patches(x, spec)

    def theirs(x):
        return by_indexing(x, spec)

    actual, expected = (
        jax.jit(jax.jacfwd(jax.grad(functools.partial(slope, extract))))(X)
        for extract in (ours, theirs)
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@hypothesis.given(case=cases(dtypes=("float32", "bfloat16", "complex64")))
@examples(12, 1_000)
def test_jvp_is_extraction_of_the_tangent(case):
    x, tangent = case.numbers(), case.numbers(offset=1)
    patches, slope = jax.jit(
        lambda x, t: jax.jvp(lambda x: extract_patches(x, case.spec), (x,), (t,))
    )(x, tangent)
    assert_same_bytes(patches, reference_extract_patches(x, case.spec))
    expected = reference_extract_patches(tangent, case.spec.replace(fill_value=0))
    np.testing.assert_array_equal(np.asarray(slope), expected)


@hypothesis.given(
    case=cases(dtypes=("float32",)), lowering=st.sampled_from(("auto", "blocks", "gather", "conv"))
)
@examples(12, 1_000)
def test_vjp_is_the_summed_fold(case, lowering):
    x, weights = case.numbers(), case.numbers(case.patches_shape, offset=1)
    gradient = jax.jit(
        lambda x, w: jax.vjp(lambda x: extract_patches(x, case.spec, lowering=lowering), x)[1](w)[0]
    )(x, weights)
    folded = fold_patches(weights, case.spec, case.shape, reduce="sum")
    np.testing.assert_array_equal(gradient, folded)


@pytest.mark.parametrize("name", SPECS)
def test_vmap_of_the_gradient(name):
    spec = SPECS[name]
    xs = np.stack([X, 2 * X, X + 1])
    gradient = jax.grad(lambda x: loss(extract_patches(x, spec)))
    expected = jax.grad(lambda x: loss(by_indexing(x, spec)))
    mapped, each = jax.jit(jax.vmap(gradient))(xs), jax.jit(jax.vmap(expected))(xs)
    np.testing.assert_allclose(mapped, each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_short_floats_are_added_up_in_float32(dtype):
    x = jnp.ones((1111, 1), dtype)
    spec = WindowSpec((512,), stride=1)
    _, transpose = jax.vjp(lambda x: extract_patches(x, spec), x)
    ragged = np.float32(1) / np.arange(10, 610, dtype=np.float32)
    weights = jnp.broadcast_to(ragged[:, None, None], (600, 512, 1)).astype(dtype)
    total = np.asarray(weights).astype(np.float32)[44:556, 0, 0].sum()
    for function in (
        lambda w: transpose(w)[0],
        lambda w: fold_patches(w, spec, (1111,), reduce="sum"),
    ):
        folded = function(weights)
        assert folded.dtype == dtype
        np.testing.assert_allclose(
            folded[555, 0].astype("float32"), total, rtol=float(jnp.finfo(dtype).eps)
        )
        # The values alone would not tell: XLA may keep more bits than it is asked to.
        program = str(jax.make_jaxpr(function)(weights))
        assert set(re.findall(r":(\w+)\[[^]]*\] = add(?:_any)?\b", program)) == {"f32"}


def test_gradient_of_float8():
    x = jnp.ones((6, 1), "float8_e4m3fn")
    gradient = jax.grad(
        lambda x: extract_patches(x, WindowSpec((3,), stride=1)).astype("float32").sum()
    )(x)
    assert gradient.dtype == "float8_e4m3fn"
    assert gradient.astype("float32")[:, 0].tolist() == [1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize(
    ("dtype", "lowering"),
    [*(("int32", lowering) for lowering in LOWERINGS), ("uint8", "auto"), ("bool", "auto")],
)
def test_whole_numbers_inside_a_differentiated_function(dtype, lowering):
    labels = (np.arange(6)[:, None] % 2).astype(dtype)

    def weighted(scale, labels):
        return (scale * extract_patches(labels, (2,), lowering=lowering).astype("float32")).sum()

    assert jax.grad(weighted)(2.0, labels) == 3
    assert jax.jit(jax.grad(weighted))(2.0, labels) == 3
    assert jax.vmap(jax.grad(weighted), (0, None))(jnp.ones(2), labels).tolist() == [3, 3]
    tangents = (1.0, np.zeros(labels.shape, jax.dtypes.float0))
    assert jax.jvp(weighted, (2.0, labels), tangents) == (6, 3)


def test_complex_gradients_are_the_real_ones_of_both_parts():
    spec = WindowSpec((2,), stride=1, padding="SAME", padding_mode="wrap")
    x = jnp.asarray([[1 + 2j], [3 - 1j], [0.5j]], "complex64")
    holomorphic = jax.grad(lambda x: (extract_patches(x, spec) ** 2).sum(), holomorphic=True)(x)
    np.testing.assert_allclose(holomorphic, 4 * x, rtol=1e-6)
    assert_adjoint(
        lambda x: extract_patches(x, spec),
        lambda p: fold_patches(p, spec, (3,), reduce="sum"),
        x,
        extract_patches(x, spec) * jnp.complex64(1j),
    )


@pytest.mark.parametrize(
    ("name", "reduce"),
    [
        pytest.param("wrap", "sum", marks=pytest.mark.slow),
        ("reflect ball", "mean"),
        pytest.param("filled", "sum", marks=pytest.mark.slow),
    ],
)
def test_fold_is_differentiable_both_ways(name, reduce):
    spec = SPECS[name]
    patches = extract_patches(X, spec)

    def fold(patches):
        return fold_patches(patches, spec, X.shape[:-1], reduce=reduce)

    tangent = jnp.cos(7 * patches)
    _, slope = jax.jit(lambda p, t: jax.jvp(fold, (p,), (t,)))(patches, tangent)
    np.testing.assert_allclose(slope, fold(tangent), rtol=1e-6, atol=1e-6)
    _, transpose = jax.vjp(fold, patches)
    assert_adjoint(fold, lambda y: transpose(y)[0], tangent, jnp.sin(3 * X))
    energy = jax.jit(jax.hessian(lambda p: 0.5 * (fold(p) ** 2).sum()))(patches)
    size = patches.size
    np.testing.assert_allclose(
        energy.reshape(size, size) @ tangent.reshape(size),
        transpose(fold(tangent))[0].reshape(size),
        rtol=1e-4,
        atol=1e-5,
    )
