"""Flags are read first, in a process that loads nothing that computes.

JAX, Flax, pandas, xarray and matplotlib take seconds to load, and reading flags needs nothing of
them but that the files of the configurations, which name them, can be imported. In a child of this
process they are stand-ins. It answers where help is asked for or flags are refused; where they are
right it says nothing, and ends with all that it imported.
"""

import abc
import contextlib
import importlib.abc
import importlib.machinery
import io
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from stpatch_jax.errors import InputError

_HEAVY = {"flax", "grain", "jax", "matplotlib", "optax", "orbax", "pandas", "scipy", "xarray"}
RIGHT = 77
"""The exit code of the child where flags are right."""


def answered(command: str, arguments: list[str], worded: Callable[[Exception], str]) -> int | None:
    """Prints help or what is wrong with flags; the exit code, None if they are right."""
    # What is loaded already costs nothing; other threads do not live on in a child, and what it
    # prints into a stream of this program is lost.
    ours = sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
    alone = threading.active_count() == 1
    if not (hasattr(os, "fork") and ours and alone) or "jax" in sys.modules:
        return None
    importlib.import_module("tyro")  # both the child and the command need it
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = RIGHT
        # Nothing that happens here reaches who called: what else goes wrong does so there again.
        with contextlib.suppress(BaseException):
            code = read(command, arguments, worded)
        os._exit(code)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    return code if code in (0, 2) else None


def read(command: str, arguments: list[str], worded: Callable[[Exception], str]) -> int:
    """Reads flags with stand-ins, which stay; returns the exit code, see `answered`."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # more cost NumPy time to start
    sys.meta_path.insert(0, _StandIns())
    commands = importlib.import_module("stpatch_jax.cli.commands")
    told = ""
    try:
        # Warnings come again with what the flags are for.
        with contextlib.redirect_stderr(io.StringIO()):
            commands.check(command, arguments)
        return RIGHT
    except SystemExit:
        return 0
    except InputError as error:
        told = worded(error)
        return 2
    finally:
        sys.stdout.flush()
        print(told, end="\n" if told else "", file=sys.stderr, flush=True)


class _Anything(abc.ABCMeta):
    """The type of stand-ins: each can be a base, a decorator, an annotation or what is called."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stand_in(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__module__ != __name__:
            return super().__call__(*args, **kwargs)
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else _stand_in("of")

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __setitem__(cls, key: Any, value: Any) -> None: ...

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


def _stand_in(name: str) -> type:
    return _Anything(name, (), {"__module__": __name__})


class _Library(types.ModuleType):
    """A module in which every name is a stand-in."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return vars(self).setdefault(name, _stand_in(name))


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the libraries that compute."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in _HEAVY:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Library(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...
