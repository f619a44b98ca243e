"""What the operators refuse, and the one sentence that each refusal says."""

# Bad input is of the wrong type on purpose.
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax import (
    InputError,
    WindowSpec,
    extract_patches,
    gather_patches,
    patchify,
    unpatchify,
    valid_share,
)

FIELD = np.zeros((2, 4, 5, 1), np.float32)
WHOLE = np.zeros((5, 1), np.int32)
COUNT = "must be an integer of at least 1, got {}; count in whole cells"
PAIR = (
    "padding along time must be one of VALID, SAME, CAUSAL, COVER, FLUSH or a pair (lo, hi) "
    "of cells, got {}; choose one for each axis"
)
TRACED = (
    "{} must be known before tracing, got a traced array; pass it as a plain Python value (a "
    "static argument)"
)


def fill_refused(dtype, value):
    return (
        f"fill_value must be a value of the input's dtype {dtype}, got {value}; convert the input "
        "or choose another fill value"
    )


def traced(make_spec, value=2):
    """Builds a spec from a traced value, as a mistaken jit without static arguments does."""
    return lambda: jax.jit(lambda v: extract_patches(FIELD, make_spec(v)))(jnp.asarray(value))


def filled(dtype, value):
    return lambda: extract_patches(np.zeros((4, 1), dtype), WindowSpec((2,), fill_value=value))


SPECS = {
    "zero": (lambda: WindowSpec((0, 2)), "window along time " + COUNT.format(0)),
    "negative": (lambda: WindowSpec((2, -3)), "window along axis 1 (space) " + COUNT.format(-3)),
    "fraction": (lambda: WindowSpec((2.0, 2)), "window along time " + COUNT.format(2.0)),
    "bool": (lambda: WindowSpec((True, 2)), "window along time " + COUNT.format(True)),
    "text": (lambda: WindowSpec("ab"), "window along time " + COUNT.format("'a'")),
    "scalar": (lambda: WindowSpec(2.5), "window along time " + COUNT.format(2.5)),
    "none at all": (
        lambda: extract_patches(FIELD, ()),
        "window must have 1 to 4 entries (time and 0 to 3 space axes), got (); give one extent "
        "per axis",
    ),
    "five axes": (
        lambda: WindowSpec((1, 2, 3, 4, 5)),
        "window must have 1 to 4 entries (time and 0 to 3 space axes), got (1, 2, 3, 4, 5); give "
        "one extent per axis",
    ),
    "zero stride": (lambda: WindowSpec((2, 2), stride=0), "stride " + COUNT.format(0)),
    "stride of one axis": (
        lambda: WindowSpec((2, 2), stride=(1, 1.5)),
        "stride along axis 1 (space) " + COUNT.format(1.5),
    ),
    "stride of too many axes": (
        lambda: WindowSpec((2, 2), stride=(1, 1, 1)),
        "stride must have one entry per window axis (2), got 3: (1, 1, 1); give one for each axis",
    ),
    "dilation": (lambda: WindowSpec((2,), dilation=False), "dilation " + COUNT.format(False)),
    "no dilation": (lambda: WindowSpec((2,), dilation=None), "dilation " + COUNT.format(None)),
    "dilated whole axis": (
        lambda: WindowSpec((None, 2), dilation=2),
        "dilation must be 1 where the window is the whole axis, got 2 along time; give that axis "
        "a window",
    ),
    "padding name": (
        lambda: WindowSpec((2,), padding="FULL"),
        "padding must be one of VALID, SAME, CAUSAL, COVER, FLUSH or a pair (lo, hi) of cells, "
        "got 'FULL'; choose one for each axis",
    ),
    "lower case": (
        lambda: WindowSpec((2,), padding=("same",)),
        PAIR.format("'same'"),
    ),
    "bare pair": (
        lambda: WindowSpec((2, 2), padding=(1, 2)),
        PAIR.format("1"),
    ),
    "triple": (
        lambda: WindowSpec((2,), padding=[(1, 2, 3)]),
        PAIR.format("(1, 2, 3)"),
    ),
    "negative padding": (
        lambda: WindowSpec((2,), padding=[(1, -1)]),
        "padding along time must be an integer of at least 0, got -1; count in whole cells",
    ),
    "mode": (
        lambda: WindowSpec((2, 2), padding_mode=("edge", "mirror")),
        "padding_mode along axis 1 (space) must be 'constant', 'edge', 'reflect' or 'wrap', got "
        "'mirror'; choose one of them",
    ),
    "footprint name": (
        lambda: WindowSpec((2, 2), footprint="disk"),
        "footprint by name must be 'ball' or 'cylinder', got 'disk'; choose one of them",
    ),
    "footprint shape": (
        lambda: WindowSpec((2, 2), footprint=np.ones((2, 3), bool)),
        "footprint must have the window's shape (2, 2), got (2, 3); give one boolean per "
        "sample of the window",
    ),
    "footprint rank": (
        lambda: WindowSpec((2, 2), footprint=[True, False]),
        "footprint must have the window's shape (2, 2), got (2,); give one boolean per "
        "sample of the window",
    ),
    "footprint of a whole axis": (
        lambda: extract_patches(FIELD, WindowSpec((2, None), footprint=np.ones((2, 3), bool))),
        "footprint must have the window's shape (2, 5), got (2, 3); give one boolean per "
        "sample of the window",
    ),
    "ragged footprint": (
        lambda: WindowSpec((2, 2), footprint=[[True], [True, False]]),
        "footprint must be a boolean array of the window's shape, got [[True], [True, False]]; "
        "give one boolean per sample of the window",
    ),
    "weights as footprint": (
        lambda: WindowSpec((2,), footprint=[0.5, 1]),
        "footprint must be a boolean array of the window's shape, got [0.5, 1]; give one boolean "
        "per sample of the window",
    ),
    "empty footprint": (
        lambda: WindowSpec((2,), footprint=[False, False]),
        "footprint must hold at least one sample, got none; set one to True",
    ),
    "fill text": (
        lambda: WindowSpec((2,), fill_value="0"),
        "fill_value must be one number, got '0'; give a bool, int, float or complex",
    ),
    "fill per channel": (
        lambda: WindowSpec((2,), fill_value=(0, 1)),
        "fill_value must be one number, got (0, 1); give a bool, int, float or complex",
    ),
}
FIELDS = {
    "rank": (
        lambda: extract_patches(np.zeros((4, 5)), (2, 2)),
        "the input must have the axes (*batch, time, *space, channel) with 2 for the window "
        "(2, 2), got shape (4, 5); add the missing axes (x[..., None] adds a channel)",
    ),
    "long": (
        lambda: extract_patches(np.zeros((2, 64, 64, 3)), (4, 16, 16)),
        "window must be no longer than the input (2, 64, 64) along time, got (4, 16, 16); use a "
        "shorter window or padding=('SAME', 'VALID', 'VALID')",
    ),
    "long in a jit": (
        lambda: jax.jit(lambda x: extract_patches(x, (2, 9)))(FIELD),
        "window must be no longer than the input (4, 5) along axis 1 (space), got (2, 9); use a "
        "shorter window or padding=('VALID', 'SAME')",
    ),
    "long when dilated": (
        lambda: extract_patches(FIELD, WindowSpec((2, 3), dilation=(1, 3))),
        "window must be no longer than the input (4, 5) along axis 1 (space), got (2, 3) with "
        "dilation (1, 3); use a shorter window or padding=('VALID', 'SAME')",
    ),
    "empty": (
        lambda: extract_patches(np.zeros((0, 5, 1)), (1, 1)),
        "the shape along time " + COUNT.format(0),
    ),
    "reflect": (
        lambda: extract_patches(
            FIELD, WindowSpec((2, 2), padding=[(0, 0), (5, 0)], padding_mode="reflect")
        ),
        "padding must be at most 4 cells wide with padding_mode reflect on an axis of 5 cells, got "
        "(5, 0) along axis 1 (space); pad less or use edge or wrap",
    ),
    "not a multiple": (
        lambda: patchify(FIELD, (2, 2)),
        "every axis must be a multiple of its window, got (time, *space) (4, 5) for window "
        "(2, 2); crop or pad the field, or use extract_patches",
    ),
    "overlapping tokens": (
        lambda: patchify(FIELD, WindowSpec((2, 5), stride=(1, 5))),
        "patchify must have non-overlapping windows (stride = window, dilation 1, no padding, no "
        "footprint), got WindowSpec(window=(2, 5), stride=(1, 5), dilation=(1, 1), padding="
        "('VALID', 'VALID'), padding_mode=('constant', 'constant'), fill_value=0, footprint=None); "
        "use extract_patches and fold_patches",
    ),
    "tokens": (
        lambda: unpatchify(np.zeros((3, 10)), (2, 5), (4, 5)),
        "tokens must have the axes (*batch, 2, a multiple of 10) for window (2, 5) and shape "
        "(4, 5), got (3, 10); give the window and shape that patchify had",
    ),
    "fractional starts": (
        lambda: gather_patches(FIELD, np.zeros((3, 2)), (2, 2)),
        "starts must be integers of shape (n, 2) for the window (2, 2), got float64 (3, 2); give "
        "one (time, *space) start per window",
    ),
    "starts of another rank": (
        lambda: gather_patches(FIELD, np.zeros((3, 1), int), (2, 2)),
        "starts must be integers of shape (n, 2) for the window (2, 2), got int64 (3, 1); give "
        "one (time, *space) start per window",
    ),
    "valid": (
        lambda: valid_share(FIELD, (2, 2)),
        "valid must be boolean, got float32; pass jnp.isfinite(x) for a field with NaN",
    ),
    "half as int": (filled("int32", 0.5), fill_refused("int32", "0.5")),
    "NaN as int": (filled("int32", float("nan")), fill_refused("int32", "nan")),
    "too large": (filled("uint8", 256), fill_refused("uint8", "256")),
    "larger than any": (filled("int32", 2**80), fill_refused("int32", str(2**80))),
    "negative unsigned": (filled("uint16", -1), fill_refused("uint16", "-1")),
    "two as bool": (filled("bool", 2), fill_refused("bool", "2")),
    "complex in a float": (filled("float32", 1j), fill_refused("float32", "1j")),
    "overflow": (filled("float16", 1e6), fill_refused("float16", "1000000.0")),
    "infinity in float8": (
        filled("float8_e4m3fn", float("inf")),
        fill_refused("float8_e4m3fn", "inf"),
    ),
}
TRACERS = {
    "window": (traced(lambda v: (v, 2)), TRACED.format("window along time")),
    "whole window": (traced(lambda v: v), TRACED.format("window along time")),
    "window as an array": (traced(lambda v: v, [2, 2]), TRACED.format("window along time")),
    "stride": (traced(lambda v: WindowSpec((2, 2), stride=v)), TRACED.format("stride")),
    "dilation": (
        traced(lambda v: WindowSpec((2, 2), dilation=(1, v))),
        TRACED.format("dilation along axis 1 (space)"),
    ),
    "padding": (
        traced(lambda v: WindowSpec((2, 2), padding=("SAME", (v, 0)))),
        TRACED.format("padding along axis 1 (space)"),
    ),
    "padding as an array": (
        traced(lambda v: WindowSpec((2, 2), padding=("SAME", v)), [1, 1]),
        TRACED.format("padding along axis 1 (space)"),
    ),
    "fill": (traced(lambda v: WindowSpec((2, 2), fill_value=v)), TRACED.format("fill_value")),
    "footprint": (
        traced(lambda v: WindowSpec((2, 2), footprint=v), [[True, True], [True, False]]),
        TRACED.format("footprint"),
    ),
    "footprint entry": (
        traced(lambda v: WindowSpec((2,), footprint=[v, 1])),
        TRACED.format("footprint"),
    ),
}
CALLS = {
    f"{group}: {name}": call
    for group, calls in {"spec": SPECS, "field": FIELDS, "traced": TRACERS}.items()
    for name, call in calls.items()
}


@pytest.mark.parametrize("name", CALLS)
def test_says_one_sentence(name):
    call, sentence = CALLS[name]
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", 0.1),
        ("float32", 2**70),
        ("float16", float("-inf")),
        ("float8_e4m3fn", float("nan")),
        ("int8", 3.0),
        ("int8", -128),
        ("bool", 1),
        ("float32", 2 + 0j),
        ("complex64", 0.1 - 0.2j),
        ("complex64", complex(1, -0.0)),
        ("complex64", complex("nan+infj")),
    ],
)
def test_takes_every_fill_value_that_the_dtype_can_stand_for(dtype, value):
    spec = WindowSpec((2,), padding=[(1, 0)], fill_value=value)
    patches = np.asarray(extract_patches(np.ones((3, 1), dtype), spec))
    real = value.real if np.dtype(dtype).kind != "c" else value
    assert patches[0, 0].tobytes() == np.asarray(real).astype(dtype).tobytes()
