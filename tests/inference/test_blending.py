"""Weights that windows are blended with: exact where windows agree, and never zero unsaid."""

# Bad input is of the wrong type on purpose.
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from stpatch_jax import InputError, WindowSpec, extract_patches, fold_patches
from stpatch_jax.inference import sliding_window_apply

OWN = np.array([0.1, 0.3, 0.7, 0.1])
RIMLESS = np.array([0.0, 1, 1, 0])


def identity(windows):
    return windows


@pytest.mark.parametrize("blend", ["hann", ("gaussian", 0.3), "crop", "uniform", "own"])
@pytest.mark.parametrize(
    ("padding", "mode"), [("COVER", "constant"), ((7, 9), "wrap"), ("SAME", "edge")]
)
def test_constants_and_fields_come_back_bit_for_bit(blend, padding, mode):
    blend = np.outer(OWN, [1, 2, 0.3]) if blend == "own" else blend
    spec = WindowSpec((4, 3), stride=(1, 2), padding=[padding, "FLUSH"], padding_mode=mode)
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 2)).astype(np.float32)
    x[1] = 3.7
    for batch_size in (2, 5):
        y = sliding_window_apply(identity, x, spec, blend=blend, batch_size=batch_size)
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("footprint", [None, "ball"])
def test_crop_takes_what_the_fold_takes(footprint):
    spec = WindowSpec(
        (4, 3),
        stride=(1, 2),
        padding=((7, 9), "COVER"),
        padding_mode=("wrap", "constant"),
        footprint=footprint,
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 2)), np.float32)

    def fn(windows):
        factors = jnp.arange(4.0)[:, None, None]
        return windows * jnp.expand_dims(factors, range(windows.ndim - 3))

    def tiled(x):
        return sliding_window_apply(fn, x, spec, blend="crop", fill=0)

    def folded(x):
        return fold_patches(fn(extract_patches(x, spec)), spec, (7, 6), blend="crop")

    (one, one_back), (other, other_back) = jax.vjp(tiled, x), jax.vjp(folded, x)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one_back(one)[0], other_back(one)[0])


def test_infinite_and_missing_cells_stay_where_they_are():
    x = np.array([[np.inf], [-np.inf], [np.nan], [1], [2], [3]], np.float32)
    y = sliding_window_apply(identity, x, WindowSpec((4,), stride=1))
    np.testing.assert_array_equal(y, x)


def test_derivatives_are_those_of_the_weighted_mean():
    spec = WindowSpec((4,), stride=2, padding=[(2, 2)], padding_mode="wrap")
    x = np.random.default_rng(0).normal(size=(8, 1)).astype(np.float32)

    def tiled(x):
        return sliding_window_apply(lambda w: w * w[:, :1], x, spec, blend=OWN, batch_size=2)

    check_grads(tiled, (jnp.asarray(x),), order=1, rtol=2e-2, atol=2e-2)


def test_cells_without_a_weight_are_refused_or_filled():
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    spec = WindowSpec((4,), stride=2)
    with pytest.raises(InputError, match=r"must get a weight above zero, got none for 2 of.*fill"):
        sliding_window_apply(identity, x, spec, blend=RIMLESS)
    filled = np.asarray(sliding_window_apply(identity, x, spec, blend=RIMLESS, fill=np.nan))
    assert np.isnan(filled[[0, -1]]).all()
    np.testing.assert_array_equal(filled[1:-1], x[1:-1])
    inner = np.zeros(10, bool)
    inner[3:5] = True  # what is asked for has weights
    some = sliding_window_apply(identity, x, spec, blend=RIMLESS, region=inner)
    np.testing.assert_array_equal(some, np.where(inner[:, None], x, 0))


def test_a_footprint_that_leaves_corners_out_is_refused_or_filled():
    x, spec = np.ones((8, 8, 1), np.float32), WindowSpec((4, 4), footprint="ball")
    with pytest.raises(InputError, match="got none for 16 of the result, the first at"):
        sliding_window_apply(identity, x, spec)
    assert int(np.isnan(sliding_window_apply(identity, x, spec, fill=np.nan)).sum()) == 16


BAD = {
    "weights that are infinite": ({"blend": np.full(4, np.inf)}, "finite with none below zero"),
    "a size in words": ({"batch_size": "large"}, 'batch_size must be "auto" or'),
    "a budget in words": ({"memory_budget": "1GB"}, "memory_budget must be a whole number"),
    "an infinite scale": ({"scale": np.inf}, "scale must be a positive number"),
    "a horizon in words": ({"horizon": "2"}, "horizon must be a whole number"),
    "a mesh that is none": ({"mesh": 3}, "mesh must be a jax.sharding.Mesh, got 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_one_sentence(name):
    options, message = BAD[name]
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    with pytest.raises(InputError, match=message):
        sliding_window_apply(identity, x, WindowSpec((4,), stride=2), **options)


def test_bad_fields_and_functions_are_one_sentence():
    spec = WindowSpec((4,), stride=2)
    for x, message in (
        (None, "must be an array of numbers, got NoneType"),
        (np.zeros((10, 0), np.float32), r"at least one example and channel, got shape \(10, 0\)"),
    ):
        with pytest.raises(InputError, match=message):
            sliding_window_apply(identity, x, spec)
    with pytest.raises(InputError, match="fn must be a function of windows, got 3"):
        sliding_window_apply(3, np.zeros((10, 1), np.float32), spec)
    with pytest.raises(InputError, match=r"an entry for the output 2, got 1"):
        sliding_window_apply(
            lambda w: {1: w, 2: w}, np.zeros((10, 1), np.float32), spec, scale={1: 1}
        )
    with pytest.raises(InputError, match="region must be boolean"):
        sliding_window_apply(identity, np.zeros((10, 1), np.float32), spec, region=[1, 2])
