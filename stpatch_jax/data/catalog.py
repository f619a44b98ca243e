"""Named data sets that other people published: where they come from, and where they are here."""

import csv
import functools
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stpatch_jax.data.fetching import SILENT_SECONDS, check_pace
from stpatch_jax.data.libraries import require_library
from stpatch_jax.errors import InputError, check_choice, require, warn


@dataclass(frozen=True)
class CatalogEntry:
    """One published file.

    Attributes:
        file: Path below the folder `STPATCH_DATA`.
        sha256: Checksum of the file, hexadecimal.
        size: Bytes of the file.
        licence: Licence, or "none stated".
        source: Who published it, to cite.
        url: Where to fetch it; None where the file was made out of the published one.
        encoding: How the characters of a text are stored.
    """

    file: str
    sha256: str
    size: int
    licence: str
    source: str
    url: str | None = None
    encoding: str | None = None


def _entry(row: dict[str, Any]) -> CatalogEntry:
    row |= {"size": int(row["size"]), **{key: row[key] or None for key in ("url", "encoding")}}
    return CatalogEntry(**row)


with Path(__file__).with_name("catalog.csv").open(encoding="utf-8", newline="") as _table:
    CATALOG: dict[str, CatalogEntry] = {
        row.pop("name"): _entry(row) for row in csv.DictReader(_table)
    }


_MADE = ("acl18", "bikenyc", "ecg200_train", "ecg200_test", "era5_uk", "stocks")


def made_note(name: str) -> str:
    """What is to be told of a data set that is made here; nothing of one that is there."""
    if name not in _MADE or (_here(name) or Path()).is_file():
        return ""
    return (
        "made from a seed, as the published one may not be fetched, and figures on it say nothing "
        f"of that; for the published one set STPATCH_DATA to a folder with {CATALOG[name].file}"
    )


def _here(name: str) -> Path | None:
    folder = os.environ.get("STPATCH_DATA")
    return Path(folder, CATALOG[name].file) if folder else None


def locate(name: str) -> Path:
    """The file of a data set of `CATALOG`: in the folder `STPATCH_DATA`, else in the user's cache.

    A file that is in neither place is fetched into the cache (`pooch.os_cache("stpatch_jax")`).
    Wherever it lies, its checksum is compared. In place of one that may not be fetched another is
    made from a seed, see `stpatch_jax.data.made`.

    Warns:
        UserWarning: The file was made.

    Raises:
        InputError: If there is no such data set, it cannot be fetched, or its bytes are others.
    """
    check_choice("a data set of the catalog", name, tuple(CATALOG))
    entry = CATALOG[name]
    if (path := _here(name)) and path.is_file():
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        require(
            checksum == entry.sha256,
            f"{path} must be the published file of {name}, got the checksum {checksum[:12]}... in "
            f"place of {entry.sha256[:12]}...; restore it, or read it by its path",
        )
        return path
    if told := made_note(name):
        warn(f"the data set {name} is {told}", stacklevel=3)
        from stpatch_jax.data.made import made  # loads what only makers need

        return made(name, entry.file)
    if entry.url is None:
        raise InputError(
            f"the data set {name} must lie in the folder STPATCH_DATA as {entry.file}, as it was "
            f"made from the published one ({entry.source}), got none there; set STPATCH_DATA to "
            "the folder that has it"
        )
    # pooch fetches to a temporary name and compares checksums.
    pooch = require_library("pooch", purpose=f"fetching {name}", install="stpatch_jax[catalog]")
    path = Path(pooch.os_cache("stpatch_jax"), entry.file)
    place = {"fname": path.name, "path": path.parent}
    pooch.get_logger().setLevel("WARNING")
    download = functools.partial(_download, size=entry.size)
    try:
        return Path(pooch.retrieve(entry.url, entry.sha256, **place, downloader=download))
    # Whatever the network library raises, all of it derives from OSError.
    except (OSError, ValueError) as error:
        from urllib.error import HTTPError

        if isinstance(error, HTTPError):
            error.close()  # It is the answer of the server.
        raise InputError(
            f"the data set {name} must be fetched whole from {entry.url}, got "
            f"{' '.join(str(error).split())[:300]}; try again, or put the file into the folder "
            f"STPATCH_DATA as {entry.file}"
        ) from error


def _download(url: str, output_file: Any, pooch: Any, *, size: int) -> None:
    """Streams a file of a known size from a server; unlike pooch's own, it ends where it does.

    Redirects are followed to servers alone.
    """
    # What only fetching needs takes longer to load than all flags to read.
    import ssl
    import urllib.request

    import certifi  # comes with pooch

    secure = ssl.create_default_context(cafile=certifi.where())
    since, received = time.monotonic(), 0
    with (
        urllib.request.urlopen(url, timeout=SILENT_SECONDS, context=secure) as response,
        Path(output_file).open("wb") as file,
    ):
        while part := response.read1(2**16):
            received += len(part)
            require(received <= size, f"{url} must hold {size:,} bytes, got more; try again later")
            check_pace(received, since, url)
            file.write(part)
