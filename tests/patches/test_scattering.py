"""Windows put back at free places: the adjoint of gathering, and the fold on the grid."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from strategies import MODES, examples

from stpatch_jax import (
    InputError,
    WindowSpec,
    extract_patches,
    fold_patches,
    gather_patches,
    scatter_patches,
)

FAR = st.integers(-(2**40), 2**40)


@st.composite
def free_windows(draw):
    """A spec, the field's shape, and starts near and far."""
    rank = draw(st.integers(1, 2))
    shape = [draw(st.integers(2, 6)) for _ in range(rank)]
    window = [draw(st.integers(1, size)) for size in shape]
    dilation = [draw(st.integers(1, 2)) if extent < 3 else 1 for extent in window]
    hypothesis.assume(all((w - 1) * d < n for w, d, n in zip(window, dilation, shape, strict=True)))
    mode = [draw(st.sampled_from(MODES)) for _ in range(rank)]
    spec = WindowSpec(window, dilation=dilation, padding_mode=mode)
    place = st.one_of(st.integers(-9, 15), FAR)
    starts = draw(st.lists(st.tuples(*[place] * rank), min_size=3, max_size=3))
    return spec, tuple(shape), np.array(starts, np.int64)


@examples(15, 300)
@hypothesis.given(free_windows())
def test_it_is_the_adjoint_of_gathering(case):
    spec, shape, starts = case
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2, *shape, 1)).astype(np.float32)
    windows = gather_patches(x, starts, spec)
    p = rng.integers(-9, 9, windows.shape).astype(np.float32)
    back = scatter_patches(p, starts, spec, shape, reduce="sum")
    assert float((windows * p).sum()) == float((x * back).sum())


CROP = "crop"
OWN = np.array([[0, 1, 0.3], [2, 1, 0.1], [0.2, 0, 3]])


@pytest.mark.parametrize(
    ("blend", "reduce", "footprint"),
    [
        ("uniform", "mean", "ball"),
        ("hann", "sum", "ball"),
        (("gaussian", 0.3), "mean", None),
        (OWN, "mean", "ball"),
        (CROP, "sum", None),
        (CROP, "mean", "ball"),
    ],
)
def test_on_the_grid_it_is_the_fold(blend, reduce, footprint):
    spec = WindowSpec(
        (3, 3),
        stride=(1, 2),
        padding=((2, 1), "SAME"),
        padding_mode=("reflect", "wrap"),
        footprint=footprint,
    )
    axes = spec.axes((5, 6))
    starts = np.array([(t, s) for t in axes[0].starts for s in axes[1].starts])
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 2)).astype(np.float32)
    patches = extract_patches(x, spec) ** 2
    free = patches.reshape(2, len(starts), 3, 3, 2)
    options = {"reduce": reduce, "blend": blend}
    found = scatter_patches(free, starts, spec, (5, 6), **options)
    expected = fold_patches(patches, spec, (5, 6), **options)
    tolerance = 0 if blend is CROP else 1e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_the_mean_of_what_was_gathered_is_the_field_where_windows_reach():
    x = np.random.default_rng(0).normal(size=(9, 1)).astype(np.float32)
    starts = np.array([[5], [0], [1], [5]])
    back = scatter_patches(gather_patches(x, starts, (3,)), starts, (3,), (9,), blend="hann")
    reached = np.array([1, 1, 1, 1, 0, 1, 1, 1, 0], bool)
    np.testing.assert_allclose(back[:, 0], np.where(reached, x[:, 0], 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "reduce", "expected"),
    [("int8", "sum", "int32"), ("bool", "mean", "float32"), ("bfloat16", "sum", "bfloat16")],
)
def test_dtypes_are_those_of_the_fold(dtype, reduce, expected):
    windows = jnp.ones((2, 3, 1), dtype)
    field = scatter_patches(windows, np.array([[0], [1]]), (3,), (4,), reduce=reduce)
    assert field.dtype == expected
    assert field[:, 0].tolist() == ([1, 2, 2, 1] if reduce == "sum" else [1, 1, 1, 1])


def test_traced_starts_and_derivatives():
    def energy(windows, starts):
        return scatter_patches(windows, starts, (3,), (6,), blend="hann") ** 2

    windows = np.random.default_rng(0).normal(size=(2, 3, 1)).astype(np.float32)
    starts = jnp.array([[0], [2]])
    eager = energy(windows, starts)
    np.testing.assert_array_equal(jax.jit(energy)(windows, starts), eager)
    check_grads(lambda p: energy(p, starts), (jnp.asarray(windows),), order=2, atol=2e-2, rtol=2e-2)


def test_windows_that_do_not_fit_their_starts_are_refused():
    with pytest.raises(InputError, match=r"batch, 2, 3, channel\) for 2 starts, got \(3, 3, 1\)"):
        scatter_patches(np.zeros((3, 3, 1)), np.array([[0], [1]]), (3,), (6,))
    with pytest.raises(InputError, match="starts must be integers"):
        scatter_patches(np.zeros((1, 3, 1)), np.array([[0.5]]), (3,), (6,))
