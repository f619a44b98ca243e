"""Stores of zarr whose metadata are looked at before zarr is: they name the code that decodes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stpatch_jax.data.fetching import METADATA, check_metadata, http_options
from stpatch_jax.data.libraries import require_library
from stpatch_jax.errors import InputError, listed

_METADATA = (".zarray", ".zmetadata", "zarr.json")
# They make Python objects of what stands in the chunks.
_REFUSED = ("pickle", "msgpack", "msgpack2")


def open_store(path: str | Path, *, read_only: bool = True) -> Any:
    """The zarr store in a folder or at a URL, as zarr and xarray take it.

    Whatever asks it for the metadata of an array whose codecs make Python objects gets an
    `InputError`, before any codec is made.
    """
    storage = require_library("zarr.storage", purpose="reading zarr", install="stpatch_jax[zarr]")
    where = str(path)
    if "://" in where and not where.startswith("file://"):
        told = {"storage_options": http_options(where), "read_only": read_only}
        return _checked(storage.FsspecStore, where).from_url(where, **told)
    return _checked(storage.LocalStore, where)(where.removeprefix("file://"), read_only=read_only)


def _checked(kind: Any, where: str) -> Any:
    class Checked(kind):
        """A store that looks at what it hands out."""

        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            """What lies under a key, None where there is nothing."""
            loop = asyncio.get_running_loop()
            if loop.get_exception_handler() is None:
                loop.set_exception_handler(_once)
            name = key.rpartition("/")[2]
            file = Path(where.removeprefix("file://"), key)
            if name in METADATA and file.is_file():  # The bytes of a server are counted.
                check_metadata(file.stat().st_size, f"{name} of {where}")
            held = await super().get(key, *args, **kwargs)
            if held is not None and name in _METADATA:
                _check_codecs(held.to_bytes(), where)
            return held

    return Checked


def _once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tells what zarr's loop has to tell, but for errors beside the one that is raised."""
    if "never retrieved" not in context["message"]:
        loop.default_exception_handler(context)


def _check_codecs(text: bytes, where: str) -> None:
    try:
        found = set(_codecs(json.loads(text)))
    except (ValueError, RecursionError):  # Which zarr tells.
        return
    if refused := [name for name in found if name.removeprefix("numcodecs.") in _REFUSED]:
        raise InputError(
            f"the codecs of {where} must make numbers or text, got {listed(refused)}, which makes "
            "Python objects; write its arrays anew as numbers or text"
        )


def _codecs(metadata: Any) -> Iterator[str]:
    """The names of codecs anywhere in metadata, those inside of others too."""
    if isinstance(metadata, list):
        for one in metadata:
            yield from _codecs(one)
    elif isinstance(metadata, dict):
        yield from (str(metadata[key]).lower() for key in ("id", "name") if key in metadata)
        for key, value in metadata.items():
            # Attributes may say anything.
            if key != "attributes" and not key.endswith(".zattrs"):
                yield from _codecs(value)
