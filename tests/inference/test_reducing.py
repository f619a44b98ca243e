"""A function of blended values, taken while they are blended: the same bits in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax import InputError, WindowSpec
from stpatch_jax.inference import memory_plan, sliding_window_apply
from stpatch_jax.inference.stitching import Sweep
from stpatch_jax.inference.tiles import make_layout


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def waves(windows):
    """Three channels."""
    return jnp.concatenate([jnp.sin(k * windows[..., :1]) for k in (1, 2, 3)], -1)


def best(values):
    return jnp.argmax(values, -1).astype(jnp.uint8)


def quantile(values):
    return jnp.quantile(values, jnp.array([0.1, 0.5]), axis=-1).transpose(1, 2, 3, 0)


def coarse_and_fine(windows):
    coarse = windows.reshape(-1, 3, 2, 2, 2, 2, 1).mean((3, 5))
    return {"coarse": waves(coarse), "fine": waves(windows)}


def both(values):
    return values["fine"], {"class": best(values["coarse"])}


def ahead(windows):
    return jnp.stack([waves(windows[:, -1] + lead) for lead in (1.0, 2.0)], axis=1)


MARKED = np.zeros((5, 9, 7), bool)
MARKED[3:, 2:4, 5] = True
SPACE = WindowSpec(
    (3, 4, 4),
    stride=(2, 3, 2),
    padding=["SAME", "COVER", (2, 3)],
    padding_mode=["edge", "reflect", "wrap"],
)
OWN = np.outer([0.1, 0.3, 0.7, 0.1], [1, 2, 0.3])
CASES = {
    "a volume of one time": (
        (2, 1, 9, 7, 1),
        WindowSpec((1, 4, 4), stride=(1, 2, 2), padding="COVER"),
        waves,
        best,
        {},
    ),
    "a ring in space": ((5, 9, 7, 1), SPACE, waves, quantile, {}),
    "a ring first": (
        (7, 1),
        WindowSpec((4,), padding=[(3, 2)], padding_mode="wrap"),
        waves,
        best,
        {},
    ),
    "a region": ((5, 9, 7, 1), SPACE, waves, best, {"region": MARKED, "fill": 0.5}),
    "gaps and no weights": (
        (16, 6, 1),
        WindowSpec((4, 3), stride=(6, 2), padding="COVER"),
        waves,
        lambda y: y,
        {"blend": OWN, "fill": np.nan},
    ),
    "several resolutions": (
        (6, 8, 8, 1),
        WindowSpec((3, 4, 4), stride=(1, 2, 2)),
        coarse_and_fine,
        both,
        {"scale": {"coarse": (1, 0.5, 0.5), "fine": 1}},
    ),
    "forecasts": (
        (8, 6, 1),
        WindowSpec((3, 4), stride=2, padding="FLUSH"),
        ahead,
        best,
        {"horizon": 2},
    ),
    "slabs of a stride": (
        (8, 160, 160, 1),
        WindowSpec((4, None, None), stride=(3, None, None), padding="FLUSH"),
        waves,
        best,
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_function_of_the_whole_result(name):
    shape, spec, fn, reduce, options = CASES[name]
    x, options = noise(*shape), {"batch_size": 3, **options}
    whole = sliding_window_apply(fn, x, spec, **options)
    found = sliding_window_apply(fn, x, spec, reduce=reduce, **options)
    expected = reduce(whole)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert [y.dtype for y in jax.tree.leaves(found)] == [y.dtype for y in jax.tree.leaves(expected)]


def test_a_stride_is_taken_in_slabs_where_it_is_large():
    shape, spec = CASES["slabs of a stride"][:2]
    assert Sweep((make_layout(spec.axes(shape[:-1]), 1, None),)).slabs == 3


def test_memory_hardly_grows_with_the_classes():
    spec = WindowSpec((1, 16, 16, 16), stride=(1, 8, 8, 8), padding="COVER")
    field = jax.ShapeDtypeStruct((1, 64, 64, 64, 1), jnp.float32)

    def total(**options):
        plan = memory_plan(
            lambda w: w * jnp.arange(100.0).reshape(1, 1, 1, 1, 1, -1),
            field,
            spec,
            batch_size=1,
            **options,
        )
        return plan.total

    assert total() > 4 * total(reduce=best)


def test_devices_share_the_windows():
    mesh = jax.make_mesh((4,), ("data",))
    spec, x = WindowSpec((4, 4), stride=(2, 2), padding="COVER"), noise(9, 11, 1)
    options = {"mesh": mesh, "batch_size": 8}
    found = sliding_window_apply(waves, x, spec, reduce=best, **options)
    np.testing.assert_array_equal(found, best(sliding_window_apply(waves, x, spec, **options)))


def test_what_it_holds_has_its_present_value_also_under_vmap_and_jit():
    spec, x = WindowSpec((4,), stride=2), noise(10, 1)

    def above(level):
        return sliding_window_apply(jnp.sin, x, spec, reduce=lambda y: y[..., 0] > level)

    levels = jnp.array([-0.5, 0.5])
    expected = np.sin(x[:, 0]) > np.asarray(levels)[:, None]
    np.testing.assert_array_equal(jnp.stack([above(level) for level in levels]), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(above))(levels), expected)


BAD = {
    "nothing to call": ("argmax", "reduce must be a function of values, got 'argmax'"),
    "cells are lost": (
        jnp.mean,
        r"keep the axes of the cells, \(2, 4\) of a slab, got shape \(\)",
    ),
    "space is lost": (lambda y: y.mean(-2), r"got shape \(2, 1\); work along the last axis"),
    "no result": (lambda y: None, "reduce must return at least one array, got none"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_functions_are_one_sentence(name):
    reduce, message = BAD[name]
    with pytest.raises(InputError, match=message):
        sliding_window_apply(jnp.sin, noise(8, 4, 1), WindowSpec((4, 4), stride=2), reduce=reduce)


def test_a_derivative_is_refused():
    def total(x):
        return sliding_window_apply(jnp.sin, x, (4,), reduce=lambda y: y).sum()

    with pytest.raises(InputError, match="reduce must not be part of a derivative"):
        jax.grad(total)(noise(8, 1))
