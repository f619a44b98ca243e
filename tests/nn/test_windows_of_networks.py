"""Windows that nobody chose, as laws over shapes, and the sizes that backbones have by name."""

import math

import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax import WindowSpec, cover_count
from stpatch_jax.errors import InputError
from stpatch_jax.nn import ConvRecurrentConfig, FlatPatchesConfig, PatchTransformerConfig
from stpatch_jax.nn.costs import backbone_by_name, windowed_backbones
from stpatch_jax.nn.windows import chosen_windows
from stpatch_jax.patches.windows import OPEN

shapes = st.one_of(
    st.tuples(st.integers(1, 2000)),
    st.tuples(st.integers(1, 400), st.integers(1, 5000)),
    st.tuples(st.integers(1, 60), *[st.integers(1, 300)] * 2),
    st.tuples(st.integers(1, 9), *[st.integers(1, 40)] * 3),
)


@given(shapes, st.booleans())
def test_chosen_windows_fit_and_cover_any_example(shape, whole_time):
    spec = chosen_windows(shape, whole_time=whole_time)
    windows, grid = spec.window_shape(shape), spec.grid_shape(shape)
    assert all(1 <= n <= size for n, size in zip(windows, shape, strict=True))
    # Side by side: every cell once.
    assert all(
        (cover_count(axis, (n,)) == 1).all() for axis, n in zip(_axes(spec), shape, strict=True)
    )
    assert grid[0] == 1 if whole_time else grid[0] <= 16
    if len(shape) == 2 and (whole_time or shape[1] <= 1024):
        assert windows[1] == 1
    elif whole_time and math.prod(grid[1:]) > 256:
        assert max(windows[1:]) <= 6
    else:
        assert math.prod(grid[1:]) <= (1024 if len(shape) == 2 else 256)
    assert whole_time or math.prod(grid) <= 1024


def _axes(spec):
    per_axis = zip(spec.window, spec.padding, strict=True)
    return [WindowSpec((n,), padding=(padding,)) for n, padding in per_axis]


def test_a_window_that_divides_an_axis_is_taken():
    assert chosen_windows((24, 64, 48), whole_time=True).window == (None, 4, 4)
    assert chosen_windows((1, 61, 32), whole_time=True).window == (None, 3, 4)
    assert chosen_windows((2, 96, 36, 36), whole_time=True).window == (None, 4, 4, 4)
    assert chosen_windows((48, 200, 400), whole_time=True).window == (None, 4, 4)
    assert chosen_windows((2, 96, 36, 36), whole_time=False).window == (1, 12, 9, 9)


def test_open_windows_are_settled_and_others_stay():
    config, chosen = PatchTransformerConfig.tiny(OPEN).settled((100, 3), 1)
    assert config.spec == WindowSpec(
        (7, 1), padding=[(5, 0), "COVER"], padding_mode=("edge", "edge")
    )
    assert chosen == {
        "model.spec.window": "windows of 7 x 1 cells, a grid of 15 x 3 in an example of 100 x 3"
    }
    assert config.settled((100, 3), 1) == (config, {})
    assert FlatPatchesConfig().settled((100, 3), 1)[0].spec.window == (None, 1)
    # What is given beside windows that are open counts where these are given.
    assert OPEN.replace(window=(4, 1)) == WindowSpec((4, 1))
    with pytest.raises(InputError, match="window must have 1 to 4 entries"):
        ConvRecurrentConfig().build(1, shape=(8,), rngs=nnx.Rngs(0))


def test_every_backbone_by_name_has_sizes():
    for name, kind in windowed_backbones().items():
        if kind.__module__.startswith("stpatch_jax.") and name != "flat_patches":
            sizes = [backbone_by_name(f"{name}:{size}") for size in ("tiny", "base", "large")]
            assert len(set(sizes)) == 3
            assert all(vars(config)["spec"] == OPEN for config in sizes)
    assert backbone_by_name("unet") == backbone_by_name("unet:base")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unett", "the model must be .*'unet'.*, got 'unett'"),
        ("unet:huge", "the size of a model must be .*'large'.*, got 'huge'"),
        ("", "the model must be"),
    ],
)
def test_a_wrong_name_lists_the_known(name, words):
    with pytest.raises(InputError, match=words):
        backbone_by_name(name)
