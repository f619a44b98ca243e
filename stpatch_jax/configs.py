"""Configurations as JSON: frozen dataclasses to plain values and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from jax.sharding import PartitionSpec

from stpatch_jax.errors import InputError
from stpatch_jax.windows import WindowSpec

Config = TypeVar("Config")


def to_values(config: Any) -> Any:
    """Turns a configuration into JSON values: dataclasses and specs to dicts, tuples to lists.

    A `PartitionSpec` becomes the list of its entries.

    Examples:
        >>> to_values(WindowSpec((4, 1)))["window"]
        [4, 1]
    """
    if isinstance(config, WindowSpec):
        return config.to_dict()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_values(getattr(config, f.name)) for f in dataclasses.fields(config)}
    listed = isinstance(config, tuple | PartitionSpec)
    return [to_values(entry) for entry in config] if listed else config


def from_values(kind: type[Config], values: Any, *, where: str = "config") -> Config:
    """Builds the configuration of a type that `to_values` described.

    Raises:
        InputError: The values have other entries than the type.
    """
    if kind is WindowSpec:
        return WindowSpec.from_dict(values)  # type: ignore[return-value]
    if dataclasses.is_dataclass(kind):
        types = get_type_hints(kind)
        names = {field.name for field in dataclasses.fields(kind)}
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
        return kind(**entries)
    if not isinstance(values, list):
        return values
    if PartitionSpec in (kind, *get_args(kind)):
        entries = [tuple(entry) if isinstance(entry, list) else entry for entry in values]
        return PartitionSpec(*entries)  # type: ignore[return-value]
    return tuple(values)  # type: ignore[return-value]


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
