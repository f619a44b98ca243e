"""What comes over a network: in time, and no more of it than may be taken."""

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.sizes import METADATA_BYTES, check_bytes, most_bytes
from stpatch_jax.errors import require

CONNECT_SECONDS = 10.0
"""How long a server may take to accept a connection."""

SILENT_SECONDS = 30.0
"""How long a server may say nothing, or less than `SLOWEST` bytes a second."""

SLOWEST = 2**10

METADATA = ("zarr.json", ".zmetadata", ".zarray", ".zattrs", ".zgroup")
"""Files of zarr that are descriptions."""


def check_pace(received: int, since: float, what: str) -> None:
    """Refuses what comes too slowly, since a moment of `time.monotonic`.

    Raises:
        InputError: It has come for longer than `SILENT_SECONDS`, at less than `SLOWEST`.
    """
    seconds = time.monotonic() - since
    require(
        seconds < SILENT_SECONDS or received >= SLOWEST * seconds,
        f"{what} must come at {SLOWEST:,} bytes a second or faster, got {received:,} bytes in "
        f"{seconds:.0f} s; try again later, or from another place",
    )


def check_metadata(size: int, what: str) -> None:
    """Refuses a description in JSON that is larger than any honest one."""
    check_bytes(size, what, most=min(METADATA_BYTES, most_bytes()))


def http_options(url: str) -> Mapping[str, Any]:
    """The options by which fsspec reads from a server within these limits, and `most_bytes`."""
    protocol = url.rpartition("::")[2].partition("://")[0]
    if protocol not in ("http", "https"):
        return {}
    aiohttp = require_library("aiohttp", purpose="reading from a URL", install="stpatch_jax[zarr]")
    limits = {"sock_connect": CONNECT_SECONDS, "sock_read": SILENT_SECONDS}
    client = {
        "timeout": aiohttp.ClientTimeout(total=None, **limits),
        "response_class": _response(most_bytes()),
    }
    # Of chained protocols each has options of its own.
    return {protocol: {"client_kwargs": client}} if "::" in url else {"client_kwargs": client}


@functools.lru_cache(maxsize=8)
def _response(most: int) -> Any:
    """The responses of a server, of which no more is read than may be."""
    aiohttp: Any = require_library(
        "aiohttp", purpose="reading from a URL", install="stpatch_jax[zarr]"
    )

    class Bounded(aiohttp.ClientResponse):
        """A response that is counted while it comes."""

        async def start(self, connection: Any) -> Any:
            """Reads the headers, which must all have come in time."""
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    return await super().start(connection)
            except TimeoutError as error:
                raise TimeoutError(f"no whole answer in {SILENT_SECONDS:g} s") from error

        async def read(self) -> bytes:
            """The body."""
            if self._body is None:
                name = str(self.url).rpartition("/")[2]
                allowed = min(most, METADATA_BYTES) if name in METADATA else most
                since, parts, size = time.monotonic(), [], 0
                try:
                    async for part in self.content.iter_any():
                        parts.append(part)
                        size += len(part)
                        check_bytes(size, f"{self.url}, as far as it came,", most=allowed)
                        check_pace(size, since, str(self.url))
                except BaseException:
                    self.close()
                    raise
                self._body = b"".join(parts)
            return self._body

    # fsspec keeps a client for each, which it knows by its name.
    Bounded.__qualname__ = f"Bounded{most}"
    return Bounded
