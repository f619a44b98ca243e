"""Open files and threads of this process, which no loop may let grow."""

from pathlib import Path

import pytest

LARGEST = 12
"""What pools of threads still vary by once they are full."""

COUNTED = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counted by /proc")


def counted() -> tuple[int, int]:
    files, threads = (len(list(Path("/proc/self", name).iterdir())) for name in ("fd", "task"))
    return files, threads


def grown(before: tuple[int, int]) -> int:
    return max(now - then for now, then in zip(counted(), before, strict=True))
