"""Settings of a configuration by name, as flags and keyword arguments give them."""

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stpatch_jax.errors import InputError, listed, require
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.nn.costs import backbone_by_name
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs.config import RunConfig, resolved
from stpatch_jax.runs.values import TYPE, from_values, to_values


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Returns a configuration in which settings have other values.

    A setting is named in full, `train.steps`, or by the end of its name, `steps`, where no other is
    called so as near to the top. Its value may be a configuration, such as `model`, which may be
    named instead, see `backbone_by_name`. A window of other axes than before has the strides and
    paddings of a new one.

    Raises:
        InputError: A name is that of no setting or of several, or a value does not fit it.
    """
    config = resolved(config)
    if isinstance(model := settings.get("model"), str):
        model = backbone_by_name(model)
    if isinstance(model, BackboneConfig):
        config = config.of_model(model)
        settings = {name: value for name, value in settings.items() if name != "model"}
    tree = to_values(config)
    for name, value in sorted(settings.items(), key=_rank):
        *path, last = _found(name, list(_names(tree))).split(".")
        branch = tree
        for step in path:
            branch = branch[step]
        value = value.item() if isinstance(value, np.generic) else value
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        several = last == "window" and isinstance(value, tuple | list) and "stride" in branch
        if several and len(value) != len(branch[last]):
            branch.update(to_values(WindowSpec(tuple(value))))
        branch[last] = to_values(value, kind=object)
    try:
        return from_values(RunConfig, tree)
    except InputError as error:
        raise InputError(str(error).removeprefix("config.")) from error


def _rank(setting: tuple[str, Any]) -> tuple[bool, bool]:
    """What has settings of its own comes first, then windows, on whose axes the others depend."""
    name, value = setting
    return not dataclasses.is_dataclass(value), name.split(".")[-1] != "window"


def _found(name: str, known: list[str]) -> str:
    """The full name of a setting."""
    same = [full for full in known if f".{full}".endswith(f".{name}")]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [full for full in known if difflib.get_close_matches(name, [full.split(".")[-1]])]
    require(
        bool(same),
        f"a setting must be named as in the configuration, got {name!r}; write one of it, such as "
        f"{listed(dict.fromkeys(near or known[:3]))}",
    )
    top = min(full.count(".") for full in same)
    same = [full for full in same if full.count(".") == top]
    require(
        len(same) == 1,
        f"a setting must be named in full where several are called alike, got {name!r}; write one "
        f"of {listed(same)}",
    )
    return same[0]


def _names(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if name != TYPE:
            yield before + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{before}{name}.")
