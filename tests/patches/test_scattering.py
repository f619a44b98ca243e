"""Windows put back at free places: the adjoint of gathering, and the fold on the grid."""

from typing import Any

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


@examples(8, 300)
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


def test_a_blended_mean_transposes_to_weighted_gathering():
    spec, starts = WindowSpec((3,), padding_mode="reflect"), np.array([[5], [-2], [1], [5]])
    like = jnp.zeros((4, 3, 1))

    def scatter(windows, reduce: Any = "mean"):
        return scatter_patches(windows, starts, spec, (6,), reduce=reduce, blend="hann")

    y = jnp.asarray(np.random.default_rng(0).normal(size=(6, 1)), np.float32)
    total = np.asarray(scatter(np.ones_like(like), "sum"))
    weights = np.sin(np.pi * (np.arange(3) + 0.5) / 3) ** 2
    share = np.where(total > 0, y / np.where(total > 0, total, 1), 0)
    expected = gather_patches(share, starts, spec) * weights[None, :, None].astype(np.float32)
    np.testing.assert_allclose(jax.linear_transpose(scatter, like)(y)[0], expected, rtol=1e-5)


def test_crop_at_free_places_takes_the_nearest_window_and_of_equals_the_first():
    spec = WindowSpec((3, 4), dilation=(2, 1), padding_mode=("edge", "wrap"))
    shape, rng = (7, 6), np.random.default_rng(0)
    starts = rng.integers(-7, 9, (9, 2))
    starts[4], starts[5] = starts[3], 10**9
    labels = rng.integers(-(2**31), 2**31 - 1, (9, 3, 4, 1), np.int32)
    found = scatter_patches(labels, starts, spec, shape, reduce="sum", blend="crop")
    nearest = {}
    for n, i, j in np.ndindex(9, 3, 4):
        cell = (int(np.clip(starts[n, 0] + 2 * i, 0, 6)), int((starts[n, 1] + j) % 6))
        distance = ((2 * i - 2) / 3) ** 2 + ((2 * j - 3) / 4) ** 2
        # Edge padding repeats a cell; of samples as near the later one counts.
        near = (round(distance, 9), -i, -j, n)
        nearest[cell] = min(nearest.get(cell, ((9,),)), (near, int(labels[n, i, j, 0])))
    expected = [[nearest.get((t, s), (0, 0))[1] for s in range(6)] for t in range(7)]
    assert found[..., 0].tolist() == expected
    mean = scatter_patches(labels / 7, starts, spec, shape, blend="crop")
    np.testing.assert_array_equal(mean[..., 0] != 0, np.array(expected) != 0)


def test_sums_are_exact_and_of_the_same_bits_at_every_call():
    starts = np.zeros((300, 1), np.int8)
    assert scatter_patches(jnp.ones((300, 1, 1), jnp.bfloat16), starts, (1,), (2,), reduce="sum")[
        :, 0
    ].tolist() == [300, 0]
    whole = np.full((3, 1, 1), 2**24 + 1, np.int32)
    assert int(scatter_patches(whole, starts[:3], (1,), (2,), reduce="sum")[0, 0]) == 3 * 2**24 + 3
    thirds = np.random.default_rng(0).normal(size=(2, 300, 2, 1)).astype(np.float32)
    once, again = (scatter_patches(thirds, starts, (2,), (4,), blend="hann") for _ in range(2))
    alone = jax.jit(lambda p: scatter_patches(p, starts, (2,), (4,), blend="hann"))(thirds[1])
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(alone, once[1])
    for blend in ("hann", "crop"):
        none = scatter_patches(np.zeros((0, 2, 1)), np.zeros((0, 1), int), (2,), (4,), blend=blend)
        np.testing.assert_array_equal(none, np.zeros((4, 1)))


def test_windows_that_do_not_fit_their_starts_are_refused():
    with pytest.raises(InputError, match=r"batch, 2, 3, channel\) for 2 starts, got \(3, 3, 1\)"):
        scatter_patches(np.zeros((3, 3, 1)), np.array([[0], [1]]), (3,), (6,))
    with pytest.raises(InputError, match="starts must be integers"):
        scatter_patches(np.zeros((1, 3, 1)), np.array([[0.5]]), (3,), (6,))
