"""Halo exchange against `numpy.pad` of the whole field."""

# Bad input is of the wrong type on purpose.
# pyright: reportArgumentType=false

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from strategies import MODES, assert_same_bytes, examples, random_bytes

from stpatch_jax import InputError, halo_exchange

pytestmark = pytest.mark.usefixtures("strict_dtypes")
MESH = jax.make_mesh((2, 4), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
# Not in the order of the mesh, which is what `ppermute` goes by.
BOTH = ("columns", "rows")
# On shards of 3 cells: one that reaches into three of them in front, and one to one side only.
HALOS = ((7, 1), (0, 3))
DTYPES = ("float32", "bfloat16", "int8", "bool", "complex64")


CASES = [(halo, mode) for halo in HALOS for mode in MODES]
KINDS = [DTYPES[place % len(DTYPES)] for place in range(len(CASES))]


@jax.jit
def exchanged(fields):
    """One field for every halo and mode, split over all eight devices."""

    def widened(fields):
        return [
            halo_exchange(x, axis=-2, axis_name=BOTH, before=lo, after=hi, padding_mode=mode)
            for x, ((lo, hi), mode) in zip(fields, CASES, strict=True)
        ]

    split = jax.P(None, BOTH)
    return jax.shard_map(widened, mesh=MESH, in_specs=split, out_specs=split)(fields)


def expected(x, halo, mode):
    """The shards of the padded field, one behind the other."""
    (lo, hi), cells = halo, x.shape[1] // 8
    field = np.pad(x, ((0, 0), (lo, hi), (0, 0)), mode)
    shards = [field[:, at : at + lo + cells + hi] for at in range(0, x.shape[1], cells)]
    return np.concatenate(shards, 1)


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@examples(10, 1_000)
def test_equals_the_padded_field_bit_for_bit(seed):
    fields = [random_bytes((2, 24, 2), dtype, seed + place) for place, dtype in enumerate(KINDS)]
    for field, out, (halo, mode) in zip(fields, exchanged(fields), CASES, strict=True):
        assert_same_bytes(out, expected(field, halo, mode))


def test_the_transpose_takes_every_share_home():
    generator = np.random.default_rng(0)
    fields = [generator.integers(-8, 9, (2, 24, 2)).astype(np.float32) for _ in CASES]
    outs = [expected(x, *case) for x, case in zip(fields, CASES, strict=True)]
    shares = [generator.integers(-8, 9, out.shape).astype(np.float32) for out in outs]
    # Whole numbers, so that the sums are exact.
    gradients = jax.jit(lambda x, y: jax.vjp(exchanged, x)[1](y)[0])(fields, shares)
    for x, out, share, gradient in zip(fields, outs, shares, gradients, strict=True):
        assert np.vdot(out, share) == np.vdot(x, gradient)


def inside(**options):
    options = {"axis": 0, "axis_name": "columns", "before": 1, "after": 1} | options

    def run(x):
        return jax.shard_map(
            lambda x: halo_exchange(x, **options),
            mesh=MESH,
            in_specs=jax.P("columns"),
            out_specs=jax.P("columns"),
        )(x)

    return jax.eval_shape(run, jax.ShapeDtypeStruct((8,), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"before": 9},
            "the halo must be at most 8 cells wide ('constant' padding) for a field of "
            "4 x 2 cells along array axis 0, got (9, 1); take a shorter halo",
        ),
        (
            {"after": 8, "padding_mode": "reflect"},
            "the halo must be at most 7 cells wide ('reflect' padding) for a field of "
            "4 x 2 cells along array axis 0, got (1, 8); take a shorter halo",
        ),
        (
            {"axis_name": "width"},
            "halo_exchange must run inside jax.shard_map over the mesh axis 'width', got none of "
            "that name; wrap it in shard_map or correct axis_name",
        ),
        (
            {"axis": 1},
            "axis must be one of the 1 axes of the shard, got 1 for shape (2,); name the axis that "
            "is split",
        ),
        (
            {"before": -1},
            "the halo must be an integer of at least 0, got -1; count in whole cells",
        ),
        (
            {"padding_mode": "zeros"},
            "padding_mode must be 'constant', 'edge', 'reflect' or 'wrap', got 'zeros'; choose "
            "one of them",
        ),
    ],
)
def test_bad_halos_are_refused(options, message):
    with pytest.raises(InputError) as error:
        inside(**options)
    assert str(error.value) == message


def test_the_widest_halos_fit():
    assert inside(before=8, after=8).shape == (72,)
    assert inside(before=7, after=7, padding_mode="reflect").shape == (64,)
