"""Threads and open files of a run do not grow with its saves, and their lack is told as such."""

import contextlib
import os
import resource
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from descriptors import COUNTED, LARGEST, counted, grown

from stpatch_jax.errors import InputError
from stpatch_jax.files import replaced
from stpatch_jax.training import Checkpoints
from stpatch_jax.training.record import writing

pytestmark = COUNTED
STATE = {"w": jnp.arange(8.0)}
WARM = 30
"""Saves after which the pools of threads are full."""


def abstract() -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), STATE
    )


@pytest.mark.slow
def test_saves_leave_neither_threads_nor_descriptors(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    many = 1000 if request.config.getoption("--many") else 60
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, WARM + 1):
            checkpoints.save(step, STATE, {})
        before = counted()
        for step in range(WARM + 1, WARM + many + 1):
            checkpoints.save(step, STATE, {})
        assert grown(before) <= LARGEST
    assert grown(before) <= 0


@pytest.mark.slow
def test_runs_one_after_the_other_leave_none(tmp_path: Path) -> None:
    def once(name: str) -> None:
        with Checkpoints(tmp_path / name, keep=1) as checkpoints:
            checkpoints.save(1, STATE, {})
            checkpoints.save(2, STATE, {})
            checkpoints.wait()
            checkpoints.restore(2, abstract())

    for trial in range(8):
        once(str(trial))
    before = counted()
    for trial in range(8, 58):
        once(str(trial))
    assert grown(before) <= LARGEST


def test_too_many_open_files_are_told_as_such(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(1, STATE, {})
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        held: list[int] = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(InputError) as reading:
                checkpoints.extras(1)
            with pytest.raises(InputError) as writes, replaced(tmp_path / "a.txt") as part:
                part.write_text("a")
            with pytest.raises(InputError) as saving, writing(tmp_path):
                # As TensorStore tells it.
                raise ValueError("RESOURCE_EXHAUSTED: Too many open files: /a/manifest.ocdbt")
        finally:
            for each in held:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for told in (reading, writes, saving):
            assert "Too many open files; allow more with `ulimit -n" in str(told.value)
        assert checkpoints.restore(1, abstract())[1] == {}
