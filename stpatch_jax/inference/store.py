"""A zarr store that several processes fill region by region, and that survives them."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.readers import require_library
from stpatch_jax.data.readers.stores import open_store
from stpatch_jax.errors import InputError, warn
from stpatch_jax.files import (
    clear_unfinished,
    from_json,
    replaced,
    to_disk,
    to_json,
    unfinished,
    usable,
)

LAYOUT = "prediction"
"""The attribute of a store that says which prediction it holds."""


class RegionStore:
    """A store in the making, in the folder `.stpatch-part.NAME` beside its path.

    A file of the folder `regions` for each finished region is made after the region is on disk, by
    rename, so that what it says is true whenever a process is killed. Anything at the path but
    a prediction of the same `layout`, which is JSON, is refused.
    """

    def __init__(self, path: Path, layout: Mapping[str, Any]):
        self.path, self.part = path, unfinished(path)
        self._layout = from_json(to_json(layout))
        self._group: Any = None

    def is_complete(self) -> bool:
        """Whether the store is there."""
        if not self.path.exists():
            return False
        self._require_same(self.path)
        self._clear()
        return True

    def begin(self, create: Callable[[], Mapping[str, bytes]]) -> None:
        """Makes the folder, or finds another process's; `create` gives the files before regions."""
        with self._writable():
            if not self.part.exists():
                folder = Path(tempfile.mkdtemp(prefix=f"{self.part.name}~", dir=self.part.parent))
                try:
                    for name, content in create().items():
                        (file := folder / "store" / name).parent.mkdir(parents=True, exist_ok=True)
                        with replaced(file) as part:
                            part.write_bytes(content)
                    (folder / "regions").mkdir()
                    folder.chmod(0o755)
                    # Another process may have been first; its folder is as good.
                    with contextlib.suppress(OSError):
                        folder.rename(self.part)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
            self._require_same(self.part / "store")
        zarr = require_library("zarr", purpose="a predicted field", install="stpatch_jax[zarr]")
        self._group = zarr.open_group(open_store(self.part / "store", read_only=False), mode="r+")

    def is_done(self, region: int) -> bool:
        """Whether a region is finished."""
        return (self.part / "regions" / str(region)).exists()

    def write(
        self, region: int, variables: Iterable[tuple[str, Sequence[slice], np.ndarray]]
    ) -> None:
        """Writes a region, of each variable its name, where and what, and remembers it."""
        with self._writable():
            for name, where, values in variables:
                array = self._group[name]
                array[tuple(where)] = values
                pieces = array.shards or array.chunks
                spans = zip(where, pieces, strict=True)
                grid = [range(s.start // size, -(-s.stop // size)) for s, size in spans]
                for piece in itertools.product(*grid):
                    file = self.part / "store" / name / array.metadata.encode_chunk_key(piece)
                    if file.exists():  # One of missing values only has none.
                        to_disk(file)
            mark = self.part / "regions" / f".{region}"
            mark.touch()
            mark.rename(mark.with_name(str(region)))

    def finish(self, regions: int) -> bool:
        """Makes the store appear if all regions are there; whether they are."""
        # Where another process was faster, there is nothing left to rename.
        with self._writable(), contextlib.suppress(FileNotFoundError):
            if all(self.is_done(region) for region in range(regions)):
                # What zarr was writing when a process was killed.
                for file in (self.part / "store").rglob("*.partial"):
                    file.unlink(missing_ok=True)
                to_disk(self.part / "store")
                (self.part / "store").rename(self.path)
                to_disk(self.path.parent)
                shutil.rmtree(self.part, ignore_errors=True)
                self._clear()
        return self.path.exists()

    def _clear(self) -> None:
        # The store is there: whatever is still in the making is of killed processes.
        if told := clear_unfinished(self.path.parent, name=self.path.name):
            warn(told, stacklevel=4)

    def _require_same(self, store: Path) -> None:
        try:
            held = (
                {"zarr.json": "attributes"} if (store / "zarr.json").exists() else {".zattrs": ""}
            )
            ((file, inside),) = held.items()
            attributes = from_json((store / file).read_text(encoding="utf-8"))
            there = from_json((attributes[inside] if inside else attributes)[LAYOUT])
        except (OSError, ValueError, KeyError, TypeError):
            there = {}
        there = there if isinstance(there, dict) else {}
        # Reading may come between the renames of another process.
        if there == self._layout or not store.exists():
            return
        either = {**self._layout, **there}
        other = [name for name in either if there.get(name) != self._layout.get(name)]
        raise InputError(
            f"the target must be new or hold the same prediction, got {store} with another "
            f"{', '.join(other)}; remove it or give another name"
        )

    def _writable(self) -> contextlib.AbstractContextManager[None]:
        return usable(
            path=self.path, must_be="writable", advice="give a path in an existing folder"
        )
