"""What users write for a window spec, turned into its one canonical form or refused."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax import Array
from jax.core import Tracer

from stpatch_jax.errors import InputError, check_choice, check_size

PaddingName = Literal["VALID", "SAME", "CAUSAL", "COVER", "FLUSH"]
PaddingMode = Literal["constant", "edge", "reflect", "wrap"]
FootprintName = Literal["ball", "cylinder"]
PADDING_MODES: tuple[str, ...] = get_args(PaddingMode)
Padding = PaddingName | tuple[int, int]
Footprint = FootprintName | tuple


def axis_name(axis: int) -> str:
    """Names a window axis for messages: `time`, or `axis 2 (space)`."""
    return "time" if axis == 0 else f"axis {axis} (space)"


def entries(value: Any, rank: int, name: str, parse: Callable[[Any, str], Any]) -> tuple:
    """One parsed entry per axis from a scalar, which holds for all, or a sequence of `rank`."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return (parse(value, name),) * rank
    if len(value) != rank:
        raise InputError(
            f"{name} must have one entry per window axis ({rank}), got {len(value)}: {value!r}; "
            "give one for each axis"
        )
    return tuple(parse(entry, f"{name} along {axis_name(at)}") for at, entry in enumerate(value))


def integer_or_none(value: Any, name: str) -> int | None:
    """An integer of at least 1, or None."""
    return None if value is None else integer(value, name)


def integer(value: Any, name: str, *, least: int = 1) -> int:
    """An integer of at least `least`."""
    _refuse_tracer(value, name)
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_) or number < least:
        raise InputError(
            f"{name} must be an integer of at least {least}, got {value!r}; count in whole cells"
        )
    check_size(name, number, least=least)
    return number


def _refuse_tracer(value: Any, name: str) -> None:
    if isinstance(value, Tracer):
        raise InputError(
            f"{name} must be known before tracing, got a traced array; pass it as a plain Python "
            "value (a static argument)"
        )


def padding(value: Any, name: str) -> Padding:
    """A padding name, or the cells added in front and behind."""
    _refuse_tracer(value, name)
    if isinstance(value, str) and value in get_args(PaddingName):
        return value  # type: ignore[return-value]
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) != 2:
        raise InputError(
            f"{name} must be one of {', '.join(get_args(PaddingName))} or a pair (lo, hi) of "
            f"cells, got {value!r}; choose one for each axis"
        )
    lo, hi = (integer(width, name, least=0) for width in value)
    return lo, hi


def padding_mode(value: Any, name: str) -> PaddingMode:
    """The name of what padding cells hold."""
    check_choice(name, value, PADDING_MODES)
    return value


def fill_value(value: Any) -> bool | int | float | complex:
    """One Python number, from a Python, NumPy or JAX scalar."""
    _refuse_tracer(value, "fill_value")
    if isinstance(value, np.ndarray | np.generic | Array) and np.ndim(value) == 0:
        value = np.asarray(value).item()
    if not isinstance(value, bool | int | float | complex):
        raise InputError(
            f"fill_value must be one number, got {value!r}; give a bool, int, float or complex"
        )
    return value


def footprint(value: Any, window: tuple) -> Footprint | None:
    """Canonical form: a known name, or the boolean array as nested tuples (hashable)."""
    if value is None:
        return None
    for entry in jax.tree.leaves(value):
        _refuse_tracer(entry, "footprint")
    if isinstance(value, str):
        check_choice("footprint by name", value, get_args(FootprintName))
        return value  # type: ignore[return-value]
    try:
        mask = np.asarray(value)
    except ValueError:  # rows of several lengths
        mask = np.asarray(None)
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"footprint must be a boolean array of the window's shape, got {value!r}; give one "
            "boolean per sample of the window"
        )
    pairs = zip(window, mask.shape, strict=False)
    if mask.ndim != len(window) or any(extent not in (None, cells) for extent, cells in pairs):
        refuse_footprint(window, mask.shape)
    if not mask.any():
        raise InputError("footprint must hold at least one sample, got none; set one to True")
    return _nested(mask.astype(bool).tolist())


def refuse_footprint(window: tuple, shape: tuple[int, ...]) -> None:
    """Raises the error of a footprint of another shape than the window."""
    raise InputError(
        f"footprint must have the window's shape {window}, got {shape}; give one boolean per "
        "sample of the window"
    )


def _nested(value: Any) -> Any:
    return tuple(_nested(entry) for entry in value) if isinstance(value, list) else value
