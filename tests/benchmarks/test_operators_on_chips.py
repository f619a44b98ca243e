"""What the compilers of chips make of patch operators: copies, few kernels, little traffic."""

import importlib.util
import re

import pytest

from benchmarks.cases import CASES, SMALL_CASES, Case
from benchmarks.compiled import programs, read
from stpatch_jax import chips

absent = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("libtpu", "jax_cuda13_plugin"))),
    reason="the extra chips is not installed",
)
ON_CHIPS = (pytest.mark.chips, pytest.mark.slow, absent)


def on_chip(*values):
    return pytest.param(*values, marks=ON_CHIPS)


def operations(text):
    return set(re.findall(r"= \S+ ([a-z][a-z0-9-]*)\(", text))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("chip", ["cpu", on_chip("h100"), on_chip("v5e")])
def test_copies_hold_no_arithmetic(chip, dtype):
    function, given = programs(SMALL_CASES["image"], dtype)["patches"]
    found = operations(chips.compile(function, *given, on=chip).as_text())
    assert "parameter" in found
    assert not {"convert", "dot", "convolution", "multiply"} & found


@pytest.mark.parametrize("name", ["patches", "tokens"])
def test_a_program_is_read_beside_its_ideal(name):
    case = SMALL_CASES["series"]
    found = read(programs(case, "float32")[name], "cpu")
    # The field as it is, and the patches of its 7 windows.
    assert found["ideal"] == 4 * (64 + 7 * 8 * 2)
    assert found["times_ideal"] >= 1
    assert found["kernels"] >= 1


@pytest.mark.parametrize(
    ("title", "dtype"),
    [
        on_chip("half", "float32"),
        on_chip("volume", "bfloat16"),
        on_chip("space2", "uint8"),
        on_chip("series", "float32"),
    ],
)
def test_on_an_h100_all_are_one_kernel_without_temporaries(title, dtype):
    for name in ("patches", "tokens", "fold") + ("gradient",) * (dtype != "uint8"):
        found = read(programs(CASES[title], dtype)[name], "h100")
        assert (found["kernels"], found["temporaries"]) == (1, 0), name
        assert found["times_ideal"] < 1.2, name


@pytest.mark.parametrize(
    ("chip", "case"),
    [
        on_chip("v5e", CASES["series"]),
        on_chip("v5e", Case((4, 4, 32, 32, 3), (2, 16, 16), (2, 16, 16))),
        on_chip("h100", Case((16, 16, 112, 112, 3), (2, 16, 16), (2, 16, 16))),
    ],
)
def test_an_embedding_moves_no_more_than_the_strided_convolution(chip, case):
    both = programs(case, "bfloat16")
    ours, theirs = (read(both[name], chip) for name in ("embedding", "convolution"))
    assert ours["times_ideal"] <= 1.01 * theirs["times_ideal"]


@pytest.mark.parametrize(
    ("title", "dtype", "flat", "apart"),
    [
        on_chip("tubelet", "float32", 2.5, 3.5),
        on_chip("grad", "bfloat16", 3.5, 5.2),
        on_chip("space2", "float32", 4, 4),
        on_chip("series", "float32", 2.5, 2.5),
        on_chip("volume", "float32", 3, 3.8),
        on_chip("wide", "bfloat16", 3.5, 3.5),
    ],
)
def test_on_a_tpu_tokens_move_less_than_four_times_the_ideal(title, dtype, flat, apart):
    """By blocks it was 4 to 50 times; other patches, whose last axes are padded, up to 14."""
    both = programs(CASES[title], dtype)
    for names, most in ((("tokens", "of tokens"), flat), (("patches", "gradient", "fold"), apart)):
        for name in names:
            assert read(both[name], "v5e")["times_ideal"] < most, name
