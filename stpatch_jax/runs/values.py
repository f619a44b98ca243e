"""Configurations as JSON, and back: frozen dataclasses, checked against their types."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np
from jax.sharding import PartitionSpec

from stpatch_jax.errors import InputError, listed, require

Config = TypeVar("Config")

TYPE = "type"
"""The entry that names the class of a configuration where its field takes more than one."""

_OWN = f"{__name__.partition('.')[0]}."
OWN_FILE = "stpatch_own_"
"""What the modules of users' recipe files begin with."""
_SCRIPT = ("__main__:", OWN_FILE)
_hints = functools.cache(get_type_hints)


def to_values(config: Any, *, kind: Any = None) -> Any:
    """Turns a configuration into JSON values: dataclasses to dicts, tuples to lists.

    A `PartitionSpec` becomes the list of its entries, a number that JSON lacks its text. Where a
    field is declared with a base class, as `RunConfig.model` is, an entry `type` names the class
    that it holds, `module:name`; of `config` itself that is where it is not of its declared `kind`.

    Examples:
        >>> from stpatch_jax import WindowSpec
        >>> to_values(WindowSpec((4, 1), fill_value=float("nan")))["fill_value"]
        'nan'
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        hints = _hints(type(config))
        named = kind is not None and type(config) not in (kind, *get_args(kind))
        return ({TYPE: _name(type(config))} if named else {}) | {
            f.name: to_values(getattr(config, f.name), kind=hints[f.name])
            for f in dataclasses.fields(config)
        }
    if isinstance(config, complex) or (isinstance(config, float) and not np.isfinite(config)):
        return str(config)
    listed = isinstance(config, tuple | list | PartitionSpec)
    return [to_values(entry) for entry in config] if listed else config


def from_values(kind: type[Config], values: Any, *, where: str = "config") -> Config:
    """Builds the configuration of a type that `to_values` described.

    The type is a dataclass, or whatever a field of one is declared with; messages call it `where`.

    Raises:
        InputError: An entry is missing, unknown or of another type, or names a class that is not
            known here.

    Examples:
        >>> from_values(tuple[int | None, ...], [4, None])
        (4, None)
        >>> from_values(float | None, "4", where="rate")
        Traceback (most recent call last):
        stpatch_jax.errors.InputError: rate must be float | None, got '4'; correct it
    """
    return _read(kind, values, where)


def _read(kind: Any, values: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(kind, values, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, values, where)
    fits = kind in (Any, object) or (origin is Literal and values in get_args(kind))
    if kind is PartitionSpec and isinstance(values, list):
        axes = (tuple(entry) if isinstance(entry, list) else entry for entry in values)
        return PartitionSpec(*axes)
    if kind == tuple[str, ...] and isinstance(values, str):
        return (values,)  # One name is a list of one.
    if tuple in (kind, origin) and isinstance(values, list | tuple):
        return _tuple(get_args(kind) or (Any, ...), values, where)
    if origin is Mapping and isinstance(values, Mapping):
        of = get_args(kind)[1]
        return {name: _read(of, value, f"{where}.{name}") for name, value in values.items()}
    if isinstance(values, str) and kind is float and values in ("nan", "inf", "-inf"):
        return float(values)
    if isinstance(values, str) and kind is complex:
        with contextlib.suppress(ValueError):  # another text
            return complex(values)
    if isinstance(kind, type) and not isinstance(values, bool | np.bool_):
        # A whole number is a float, as everywhere in Python; True is no number.
        numbers = {float: (int, float), complex: (int, float, complex)}
        fits = fits or isinstance(values, numbers.get(kind, kind))
        if fits and kind is float:
            with contextlib.suppress(OverflowError):  # Of a whole number beyond all of them.
                return float(values)
            fits = False
    elif kind is bool:
        fits = True
    if not fits:
        raise InputError(f"{where} must be {_type_name(kind)}, got {values!r}; correct it")
    return values


def _one_of(kind: Any, values: Any, where: str) -> Any:
    """The first type of a union that the values fit; what a dataclass says of them is passed on."""
    configs = [x for x in get_args(kind) if dataclasses.is_dataclass(x)]
    configs = configs if isinstance(values, Mapping) else []
    for entry in get_args(kind):
        if entry not in configs:
            with contextlib.suppress(InputError):
                return _read(entry, values, where)
    if configs:
        return _read(configs[0], values, where)
    raise InputError(f"{where} must be {_type_name(kind)}, got {values!r}; correct it")


def _tuple(kinds: tuple[Any, ...], values: Any, where: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(values)
    if len(kinds) != len(values):
        raise InputError(f"{where} must have {len(kinds)} entries, got {values!r}; correct it")
    pairs = zip(kinds, values, strict=True)
    return tuple(_read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))


def _dataclass(kind: Any, values: Any, where: str) -> Any:
    if isinstance(values, Mapping) and TYPE in values:
        kind = _named(kind, values[TYPE], where)
        values = {name: value for name, value in values.items() if name != TYPE}
    if inspect.isabstract(kind):
        raise InputError(
            f"{where} must name the class it is of under {TYPE!r}, got {values!r:.60}; it was "
            "written by another version, so train the run anew"
        )
    names = {field.name for field in dataclasses.fields(kind)}
    there = values.keys() if isinstance(values, Mapping) else set()
    # Configurations that were written before a field was added have its default.
    added = {field.name for field in dataclasses.fields(kind) if field.metadata.get("added")}
    names -= added - there
    # A setting that is gone counts for nothing where it held nothing.
    there = {name for name in there if name in names or values[name] is not None}
    if names != there:
        raise InputError(
            f"{where} must have the entries of this version, got {listed(sorted(there - names))} "
            f"that it does not know and {listed(sorted(names - there))} missing; train the run anew"
        )
    hints = _hints(kind)
    read = {name: _read(hints[name], values[name], f"{where}.{name}") for name in sorted(names)}
    return kind(**read)


def _named(kind: type, name: Any, where: str) -> type:
    """The subclass of a name; of this library it is imported, a user's own must be there.

    Nothing else is imported, so that a configuration of a stranger's runs none of his code.
    """
    name = str(name)
    # A package's `__main__` runs its program where it is imported.
    if name.startswith(_OWN) and "__main__" not in name:
        with contextlib.suppress(ImportError):
            importlib.import_module(name.partition(":")[0])
    classes = {_name(known): known for known in (kind, *_subclasses(kind))}
    if name.startswith(_SCRIPT) and name not in classes:
        # What a script defined is the one class of that name where the script was imported.
        bare = name.partition(":")[2]
        same = [known for known in classes.values() if known.__qualname__ == bare]
        if len(same) == 1:
            return same[0]
    if name not in classes:
        raise InputError(
            f"{where} must be a {kind.__name__} that is known here, got {name!r}; import the "
            "module or script that defines it first, or train the run anew"
        )
    return classes[name]


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


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
            if changed := difference(before.get(name), now.get(name), where=inner):
                return changed
        return None
    # An entry of another version that is not there is as one that holds nothing.
    same = before == now or all(one is None or one is False or one == [] for one in (before, now))
    return None if same else (where, before, now)


def plain(values: Any, *, where: str, finite: bool = True) -> Any:
    """The JSON values of a tree of dicts and lists; NumPy's numbers become those of Python.

    Raises:
        InputError: Something else is among them, or with `finite` a number that JSON lacks.

    Examples:
        >>> plain({"mean": np.float32(2), "classes": ("a", "b")}, where="report")
        {'mean': 2.0, 'classes': ['a', 'b']}
    """
    if isinstance(values, Mapping):
        of = {str(name): value for name, value in values.items()}
        return {k: plain(value, where=f"{where}.{k}", finite=finite) for k, value in of.items()}
    if isinstance(values, list | tuple):
        parts = enumerate(values)
        return [plain(value, where=f"{where}[{i}]", finite=finite) for i, value in parts]
    values = values.item() if isinstance(values, np.generic) else values
    if not (values is None or isinstance(values, bool | int | float | str)):
        raise InputError(
            f"{where} must be a number, a string or a list of them, got {type(values).__name__}; "
            "convert it"
        )
    require(
        not finite or not isinstance(values, float) or math.isfinite(values),
        f"{where} must be a finite number, got {values}; leave it out, or keep it in an array",
    )
    return values


def without_arrays(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a tree of dicts into its JSON values and its arrays, of which each is a tree.

    >>> without_arrays({"mean": np.zeros(1), "unit": "K"})
    ({'unit': 'K'}, {'mean': array([0.])})
    """
    values: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            values[name], arrays[name] = without_arrays(value)
            if not arrays[name]:
                del arrays[name]
        elif isinstance(value, np.ndarray | jax.Array):
            arrays[name] = np.asarray(value)
        else:
            values[name] = value
    return values, arrays


def with_arrays(values: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `without_arrays`.

    >>> with_arrays({"unit": "K", "scale": {}}, {"scale": {"mean": 1}})
    {'unit': 'K', 'scale': {'mean': 1}}
    """
    both = dict(values)
    for name, value in arrays.items():
        nested = isinstance(value, Mapping)
        both[name] = with_arrays(both.get(name, {}), value) if nested else value
    return both
