"""Window specs as values: canonical forms, equality, JSON, and the arithmetic of windows."""

# Some arguments are of the wrong type on purpose.
# pyright: reportArgumentType=false

import copy
import dataclasses
import fractions
import itertools
import json
import math
import pickle
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import cases, examples

from stpatch_jax import WindowSpec, extract_patches
from stpatch_jax.patches.windows import source_cell
from stpatch_jax.runs.values import from_values, to_values

pytestmark = pytest.mark.usefixtures("strict_dtypes")
FILLS = (0, 0.0, -0.0, 7, True, 1.5, math.nan, math.inf, -math.inf, 2**2000, 1 + 2j)
FILLS += (complex(-0.0, math.nan), complex(math.inf, -0.0), complex(1, -math.inf))


@hypothesis.given(case=cases(), fill=st.sampled_from(FILLS))
@examples(200, 1_000)
def test_goes_to_json_and_back(case, fill):
    spec = case.spec.replace(fill_value=fill)
    again = from_values(WindowSpec, json.loads(json.dumps(to_values(spec), allow_nan=False)))
    assert again == spec
    assert hash(again) == hash(spec)
    assert repr(again) == repr(spec)
    assert type(again.fill_value) is type(spec.fill_value)


@hypothesis.given(case=cases(), fill=st.sampled_from(FILLS))
@examples(40, 1_000)
def test_copies_and_pickles_as_an_equal_value(case, fill):
    spec = case.spec.replace(fill_value=fill)
    if not isinstance(fill, complex):  # which JSON has not
        assert WindowSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    for again in (copy.copy(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert again == spec
        assert hash(again) == hash(spec)


@hypothesis.given(one=cases(), other=cases())
@examples(40, 1_000)
def test_equal_exactly_when_they_read_alike(one, other):
    assert (one.spec == other.spec) == (repr(one.spec) == repr(other.spec))
    assert one.spec != repr(one.spec)


def test_equality_tells_fill_values_apart():
    specs = [WindowSpec((2,), fill_value=fill) for fill in FILLS]
    again = [WindowSpec((2,), fill_value=fill) for fill in FILLS]
    assert specs == again
    assert len(set(specs) | set(again)) == len(FILLS)


def test_many_ways_to_write_one_spec():
    spec = WindowSpec((2, 3), stride=1, dilation=2, padding=[(1, 0), "SAME"])
    ways = [
        WindowSpec([2, 3], stride=(1, 1), dilation=[2, 2], padding=((1, 0), "SAME")),
        WindowSpec(np.array([2, 3]), stride=np.int64(1), dilation=2, padding=[[1, 0], "SAME"]),
        WindowSpec((2, 3), stride=1, dilation=2, padding=(np.array([1, 0]), "SAME")),
        WindowSpec.of(spec),
        spec.replace(),
        spec.replace(stride=5).replace(stride=1),
    ]
    assert set(ways) == {spec}
    assert WindowSpec.of(spec) is spec
    assert WindowSpec.of((2, None)) == WindowSpec((2, None))
    assert WindowSpec.of(3) == WindowSpec(3) == WindowSpec((3,))
    mask = np.eye(3, dtype=bool)
    assert WindowSpec((3, 3), footprint=mask) == WindowSpec((3, 3), footprint=mask.tolist())
    assert WindowSpec((3, 3), footprint=mask) == WindowSpec((3, 3), footprint=mask.astype(int))


@pytest.mark.parametrize(
    "scalar", [np.float32(0.5), jnp.float32(0.5), np.array(0.5), jnp.bfloat16(0.5)]
)
def test_fill_value_becomes_a_python_number(scalar):
    spec = WindowSpec((2,), fill_value=scalar)
    assert spec == WindowSpec((2,), fill_value=0.5)
    assert type(spec.fill_value) is float


def test_is_frozen():
    spec = WindowSpec((2,))
    for name in ("stride", "anything"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=name):
            setattr(spec, name, (1,))
    with pytest.raises(dataclasses.FrozenInstanceError, match="window"):
        delattr(spec, "window")


def test_is_a_static_argument_and_no_pytree():
    traces = []

    @jax.jit
    def doubled(x):
        traces.append(x)
        return 2 * extract_patches(x, WindowSpec((2,), fill_value=math.nan))

    for _ in range(2):
        doubled(jnp.zeros((4, 1)))
    assert len(traces) == 1
    assert jax.tree.leaves(WindowSpec((2,))) == [WindowSpec((2,))]


@hypothesis.given(case=cases())
@examples(200, 1_000)
def test_windows_lie_where_a_count_by_hand_puts_them(case):
    for axis, name in zip(case.spec.axes(case.shape), case.spec.padding, strict=True):
        padded = range(-axis.lo, axis.size + axis.hi)
        fitting = [
            start
            for start in padded[:: axis.stride]
            if start + (axis.window - 1) * axis.dilation <= padded[-1]
        ]
        if name == "FLUSH":
            fitting = sorted({*fitting, axis.size - axis.effective})
        assert axis.starts == tuple(fitting)
        assert axis.count == len(fitting)
        assert axis.effective == (axis.window - 1) * axis.dilation + 1
        if name == "SAME":
            assert axis.count == math.ceil(axis.size / axis.stride)
            assert axis.hi - axis.lo in (0, 1)
        if name == "CAUSAL":
            assert [start + axis.effective - 1 for start in axis.starts] == list(
                range(0, axis.size, axis.stride)
            )
        if name == "COVER":
            last = axis.starts[-1] + axis.effective - 1
            assert last >= axis.size - 1
            assert axis.count == 1 or last - axis.stride < axis.size - 1
        cells = axis.source_cells()
        assert cells.shape == (axis.count, axis.window)
        inside = (cells >= 0) & (cells < axis.size)
        assert inside.all() if axis.mode != "constant" else (cells[~inside] == -1).all()


@hypothesis.given(
    size=st.integers(1, 9),
    mode=st.sampled_from(("edge", "reflect", "wrap")),
    far=st.integers(0, 40),
)
@examples(12, 1_000)
def test_source_cells_are_where_numpy_pads_from(size, mode, far):
    expected = np.pad(np.arange(size), far, mode)
    cells = np.arange(-far, size + far)
    np.testing.assert_array_equal(source_cell(cells, size, mode), expected)
    np.testing.assert_array_equal(source_cell(jnp.asarray(cells, jnp.int32), size, mode), expected)


@pytest.mark.parametrize(
    "window", [(1,), (2,), (5, 4), (3, 3, 3), (4, 6, 5), (2, 2, 2, 2), (6, 6, 6, 6), (5, 10, 4, 2)]
)
def test_ball_and_cylinder_are_inscribed_exactly(window):
    def inside(sample, extents):
        offsets = [
            fractions.Fraction(2 * i + 1 - extent, extent)
            for i, extent in zip(sample, extents, strict=True)
        ]
        return sum(offset**2 for offset in offsets) <= 1

    samples = list(itertools.product(*(range(extent) for extent in window)))
    ball = [inside(sample, window) for sample in samples]
    cylinder = [inside(sample[1:], window[1:]) for sample in samples]
    for name, expected in (("ball", ball), ("cylinder", cylinder)):
        mask = WindowSpec(window, footprint=name).resolve(window).mask
        mask = np.ones(window, bool) if mask is None else mask
        assert mask.ravel().tolist() == expected
        for axis in range(len(window)):
            np.testing.assert_array_equal(mask, np.flip(mask, axis))


def test_footprint_of_a_whole_axis_takes_its_length():
    spec = WindowSpec((3, None), footprint="ball")
    assert np.asarray(spec.resolve((4, 5)).mask).tolist() == [
        [False, True, True, True, False],
        [True, True, True, True, True],
        [False, True, True, True, False],
    ]
    full = WindowSpec((2, None), footprint=np.ones((2, 5), bool))
    assert full.resolve((4, 5)).mask is None


def test_worked_examples_of_every_padding():
    spec = WindowSpec((4,), stride=3, padding="SAME")
    assert spec.axes((8,))[0].starts == (-1, 2, 5)
    assert spec.replace(padding="VALID").axes((8,))[0].starts == (0, 3)
    assert spec.replace(padding="CAUSAL").axes((8,))[0].starts == (-3, 0, 3)
    assert spec.replace(padding="COVER").axes((8,))[0].starts == (0, 3, 6)
    assert spec.replace(padding="FLUSH").axes((8,))[0].starts == (0, 3, 4)
    assert spec.replace(padding="FLUSH").axes((7,)) == spec.replace(padding="VALID").axes((7,))
    assert spec.replace(padding=[(2, 1)]).axes((8,))[0].starts == (-2, 1, 4)
    assert spec.replace(padding="COVER").grid_shape((2,)) == (1,)
    assert WindowSpec((None, 2)).window_shape((7, 5)) == (7, 2)
    assert WindowSpec((None, 2)).grid_shape((7, 5)) == (1, 2)


def test_flush_windows_lie_where_monai_puts_them():
    told = json.loads((Path(__file__).parent / "monai_windows.json").read_text())
    for size, window, overlap, stride, starts in told["rows"]:
        assert stride == (window if window == size else max(int(window * (1 - overlap)), 1))
        spec = WindowSpec((window,), stride=stride, padding="FLUSH")
        assert spec.axes((size,))[0].starts == tuple(starts)
