"""Libraries that only some readers need."""

import importlib
from typing import Any

from stpatch_jax.errors import InputError


def require_library(name: str, *, purpose: str, install: str) -> Any:
    """Imports a library that is not installed with the package itself.

    Its absence is told as what cannot be done without it and what `pip install` needs to be given.

    Raises:
        InputError: If it is not installed.

    >>> require_library("json", purpose="reading settings", install="json").loads("1")
    1
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"the library {name.partition('.')[0]} must be installed for {purpose}, got "
            f"{one_line(error)}; run pip install '{install}'"
        ) from error


def one_line(error: BaseException) -> str:
    """The message of another library's error, short and on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
