"""The public helpers, against loops and wrong answers."""

import itertools

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import cases, examples

from stpatch_jax import InputError, WindowSpec
from stpatch_jax.testing import (
    assert_adjoint,
    reference_extract_patches,
    reference_fold_patches,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@hypothesis.given(case=cases(dtypes=("int32",), paddings=("VALID",), footprints=False))
@examples(12, 1_000)
def test_reference_reads_the_cells_of_the_formula(case):
    x, first = case.numbers(), len(case.batch)
    patches = reference_extract_patches(x, case.spec)
    axes = case.spec.axes(case.shape)
    grid = itertools.product(*(range(axis.count) for axis in axes))
    window = list(itertools.product(*(range(axis.window) for axis in axes)))
    for g, i in itertools.product(itertools.islice(grid, 20), window[:20]):
        cell = tuple(
            at * axis.stride + sample * axis.dilation
            for at, sample, axis in zip(g, i, axes, strict=True)
        )
        batch = (slice(None),) * first
        np.testing.assert_array_equal(patches[(*batch, *g, *i)], x[(*batch, *cell)])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("constant", [[9, 9, 0], [9, 0, 1], [0, 1, 2], [1, 2, 9]]),
        ("edge", [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 2]]),
        ("reflect", [[2, 1, 0], [1, 0, 1], [0, 1, 2], [1, 2, 1]]),
        ("wrap", [[1, 2, 0], [2, 0, 1], [0, 1, 2], [1, 2, 0]]),
    ],
)
def test_reference_pads_as_written_here(mode, expected):
    spec = WindowSpec((3,), stride=1, padding=[(2, 1)], padding_mode=mode, fill_value=9)
    assert reference_extract_patches(np.arange(3)[:, None], spec)[..., 0].tolist() == expected


def test_reference_fold_returns_cells_to_where_they_came_from():
    spec = WindowSpec((2,), stride=1, padding=[(1, 0)], padding_mode="wrap")
    patches = np.array([[1, 2], [10, 20], [100, 200]], np.uint8)[None, ..., None]
    folded = reference_fold_patches(patches, spec, (3,))
    assert folded.dtype == np.int64
    assert folded[0, :, 0].tolist() == [12, 120, 201]


def test_references_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="longer than the input"):
        reference_extract_patches(np.zeros((3, 1)), (4,))
    with pytest.raises(InputError, match="one entry per window axis"):
        reference_extract_patches(np.zeros(3), (2, 2))


def test_adjoint_holds_for_a_complex_matrix_and_its_conjugate_transpose():
    generator = np.random.default_rng(0)
    matrix, x, y = (
        generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
        for shape in ((3, 2), 2, 3)
    )
    assert_adjoint(lambda v: matrix @ v, lambda v: matrix.conj().T @ v, x, y, rtol=1e-12)
    with pytest.raises(AssertionError, match="<forward"):
        assert_adjoint(lambda v: matrix @ v, lambda v: matrix.T @ v, x, y)


def test_adjoint_tells_both_numbers():
    x = jnp.ones(3, jnp.bfloat16)
    with pytest.raises(AssertionError) as error:
        assert_adjoint(lambda v: 2 * v, lambda v: 3 * v, x, x)
    assert str(error.value) == "<forward(x), y> is 6.0 but <x, adjoint(y)> is 9.0"


def test_adjoint_sums_in_float64():
    # In float32 the large terms would swallow the small one on either side.
    x, y = np.array([1e8, 1.0, -1e8], np.float32), np.ones(3, np.float32)
    with pytest.raises(AssertionError, match=r"is 2\.0 but <x, adjoint"):
        assert_adjoint(lambda v: v * [1, 2, 1], lambda v: v, x, y, rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adjoint_fails_on_nan_and_inf(bad):
    with pytest.raises(AssertionError, match="<forward"):
        assert_adjoint(lambda v: v * bad, lambda v: v, np.ones(2), np.ones(2))


def test_adjoint_names_shapes_that_differ():
    with pytest.raises(AssertionError) as error:
        assert_adjoint(lambda v: v[:2], lambda v: v, np.ones(3), np.ones(3))
    assert str(error.value) == "forward(x) and y must have one shape, got (2,) and (3,)"
    with pytest.raises(AssertionError, match=r"x and adjoint\(y\) must have one shape"):
        assert_adjoint(lambda v: v[:2], lambda v: v, np.ones(3), np.ones(2))
