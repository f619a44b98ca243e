"""Configurations as JSON: frozen dataclasses to plain values and back."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from jax.sharding import PartitionSpec

from stpatch_jax.errors import InputError

Config = TypeVar("Config")


TYPE = "type"
"""The entry that names the class of a configuration where its field takes more than one."""


def to_values(config: Any, *, kind: Any = None) -> Any:
    """Turns a configuration into JSON values: dataclasses to dicts, tuples to lists.

    A `PartitionSpec` becomes the list of its entries, a number that JSON lacks its text. Where a
    field is declared with a base class, as `RunConfig.model` is, an entry `type` names the class
    that it holds.

    Args:
        config: The configuration.
        kind: The type it is declared with; its own by default.

    Examples:
        >>> from stpatch_jax import WindowSpec
        >>> to_values(WindowSpec((4, 1), fill_value=float("nan")))["fill_value"]
        'nan'
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        types = get_type_hints(type(config))
        named = kind is not None and type(config) not in (kind, *get_args(kind))
        return ({TYPE: type(config).__name__} if named else {}) | {
            f.name: to_values(getattr(config, f.name), kind=types[f.name])
            for f in dataclasses.fields(config)
        }
    if isinstance(config, complex) or (isinstance(config, float) and not math.isfinite(config)):
        return str(config)
    listed = isinstance(config, tuple | PartitionSpec)
    return [to_values(entry) for entry in config] if listed else config


def from_values(kind: type[Config], values: Any, *, where: str = "config") -> Config:
    """Builds the configuration of a type that `to_values` described.

    Raises:
        InputError: The values have other entries than the type, or name a class that is not known
            here.
    """
    chosen, values = _chosen(kind, values, where)
    if chosen is not None:
        types = get_type_hints(chosen)
        names = {field.name for field in dataclasses.fields(chosen)}
        if not isinstance(values, Mapping) or names != values.keys():
            found = sorted(values) if isinstance(values, Mapping) else values
            raise InputError(
                f"{where} must have the entries {sorted(names)}, got {found}; it was written by "
                "another version, so train the run anew"
            )
        entries = {
            name: from_values(types[name], values[name], where=f"{where}.{name}")
            for name in sorted(names)
        }
        return chosen(**entries)
    if isinstance(values, str) and {float, complex} & {kind, *get_args(kind)}:
        with contextlib.suppress(ValueError):  # another text
            values = complex(values) if "j" in values else float(values)
    if not isinstance(values, list):
        return values  # type: ignore[return-value]
    if PartitionSpec in (kind, *get_args(kind)):
        entries = [tuple(entry) if isinstance(entry, list) else entry for entry in values]
        return PartitionSpec(*entries)  # type: ignore[return-value]
    return tuple(values)  # type: ignore[return-value]


def _chosen(kind: Any, values: Any, where: str) -> tuple[Any, Any]:
    """The dataclass that values describe, None where they are plain, and the values without it."""
    families = [entry for entry in (kind, *get_args(kind)) if isinstance(entry, type)]
    if isinstance(values, Mapping) and TYPE in values:
        classes = {found.__name__: found for family in families for found in _subclasses(family)}
        name = values[TYPE]
        if name not in classes:
            raise InputError(
                f"{where} must be one of {', '.join(sorted(classes))}, got {name!r}; import the "
                "module that defines it, or train the run anew"
            )
        return classes[name], {key: value for key, value in values.items() if key != TYPE}
    dataclass = next((entry for entry in families if dataclasses.is_dataclass(entry)), None)
    optional = values is None and type(None) in get_args(kind)
    return None if optional else dataclass, values


def _subclasses(kind: type) -> Iterator[type]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)


def difference(before: Any, now: Any, *, where: str = "") -> tuple[str, Any, Any] | None:
    """The first entry, by its dotted name, in which two trees of JSON values differ.

    Examples:
        >>> difference({"a": {"b": 1}}, {"a": {"b": 2}})
        ('a.b', 1, 2)
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys()):
            inner = f"{where}.{name}" if where else name
            found = difference(before.get(name), now.get(name), where=inner)
            if found:
                return found
        return None
    return None if before == now else (where, before, now)
