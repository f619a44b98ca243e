"""How much of a file is taken into memory: what it declares is compared before any of it is."""

import dataclasses
import functools
import gzip
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from stpatch_jax.errors import check_size, require

Method = TypeVar("Method", bound=Callable[..., Any])

METADATA_BYTES = 2**26
"""The most bytes of a description in JSON, whose objects take ten times as much."""

_SHARE = 2
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_GZIP = b"\x1f\x8b"
_BLOCK = 2**20
_told: ContextVar[int | None] = ContextVar("most_bytes", default=None)


@dataclass(frozen=True)
class SizeConfig:
    """How much memory a file may ask for.

    Attributes:
        most_bytes: The most bytes of memory that a file may ask for at once by what it declares:
            its text unpacked, an array, a table, or of what is read where it is used a chunk, frame
            or window. Half of the memory that this process may use by default.
    """

    # Behind the settings of every subclass, so that the path stays the first of them.
    most_bytes: int | None = field(default=None, kw_only=True, metadata={"added": True})

    def __init_subclass__(cls, **options: Any) -> None:
        """Of settings that take several names, one alone is a tuple of it, not of its letters."""
        super().__init_subclass__(**options)
        checked = cast(Callable[[Any], None], cls.__post_init__)

        @functools.wraps(checked)
        def with_names(self: SizeConfig) -> None:
            for at in dataclasses.fields(self):
                names = getattr(self, at.name)
                if isinstance(names, str) and tuple[str, ...] in (at.type, *get_args(at.type)):
                    object.__setattr__(self, at.name, (names,))
            checked(self)

        cls.__post_init__ = with_names

    def __post_init__(self) -> None:
        with limited(self.most_bytes):  # Which checks it.
            pass


def memory_there() -> int:
    """Bytes of memory that this process may use: those of the machine, or of its control group."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        groups = _OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        groups = []
    for line in groups:
        _, kind, place = line.split(":", 2)
        if kind not in ("", "memory"):
            continue
        root = _GROUPS / kind
        name = "memory.limit_in_bytes" if kind else "memory.max"
        own = root / place.lstrip("/")
        # In a container the root itself is that of the group.
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                try:
                    limits.append(int((folder / name).read_text(encoding="utf-8")))
                except (OSError, ValueError):  # no such group here, or "max"
                    continue
    return min(limits)


def most_bytes() -> int:
    """The most bytes that may be taken at once: what `limited` told, else a half of the memory."""
    told = _told.get()
    return memory_there() // _SHARE if told is None else told


@contextmanager
def limited(most: int | None) -> Iterator[None]:
    """Sets what `most_bytes` gives inside; None leaves it.

    Raises:
        InputError: It is no number of bytes.

    >>> with limited(100):
    ...     most_bytes()
    100
    """
    if most is not None:
        check_size("data.most_bytes", most, most=2**63 - 1)
    token = _told.set(_told.get() if most is None else most)
    try:
        yield
    finally:
        _told.reset(token)


def check_bytes(wanted: int, what: str, *, most: int | None = None) -> None:
    """Refuses what asks for more bytes than `most`, by default what a file may take.

    >>> check_bytes(8, "a.npy", most=4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: a.npy must take at most 4 bytes of memory, got 8; give a ...
    """
    most = most_bytes() if most is None else most
    require(
        wanted <= most,
        f"{what} must take at most {most:,} bytes of memory, got {wanted:,}; give a smaller part "
        "of it, or allow more with most_bytes= where the memory is there",
    )


def file_content(path: str | Path) -> bytes:
    """The bytes of a file; what is packed by gzip is unpacked, and counted while it is.

    Raises:
        InputError: They are more than `most_bytes`.
        OSError: The file cannot be read.
    """
    most, held = most_bytes(), io.BytesIO()
    with Path(path).open("rb") as file:
        check_bytes(os.fstat(file.fileno()).st_size, str(path), most=most)
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if packed else file as whole:
            while block := whole.read(_BLOCK):
                held.write(block)
                # Where it ends is known only behind it.
                check_bytes(held.tell(), f"{path}, as far as it was read,", most=most)
    return held.getvalue()


def limiting(method: Method) -> Method:
    """A method of a `SizeConfig` inside of which its limit holds."""

    @functools.wraps(method)
    def within(self: SizeConfig, *args: Any, **kwargs: Any) -> Any:
        with limited(self.most_bytes):
            return method(self, *args, **kwargs)

    return cast(Method, within)
