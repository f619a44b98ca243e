import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax.cli import main
from stpatch_jax.errors import InputError
from stpatch_jax.training import make_mesh, processes, shard_global_batch, to_host
from stpatch_jax.training.distributed import check_processes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("coordinator", ["node0", "node0:", ":8476", "node0:http", "node0:65536"])
def test_a_coordinator_is_host_and_port(coordinator: str) -> None:
    with pytest.raises(InputError, match=r"must be auto or HOST:PORT .* node0:8476"):
        check_processes(coordinator, process_count=2, process_index=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("node0:1", None, None), "got None and None; give both"),
        (("node0:1", 2, None), "got 2 and None"),
        (("node0:1", 2, 2), r"from 0 to process_count - 1, got 2 of 2; number"),
        (("node0:1", 0, 0), "got 0 of 0"),
        (("[::1]:65535", 2, -1), "got -1 of 2"),
        (("auto", 2, 0), r"come with a coordinator HOST:PORT, got auto"),
        ((None, 2, 0), r"come with a coordinator HOST:PORT, got none"),
    ],
)
def test_the_numbers_go_with_the_coordinator(given: Any, message: str) -> None:
    coordinator, count, index = given
    with pytest.raises(InputError, match=message):
        check_processes(coordinator, process_count=count, process_index=index)


def test_one_process_alone_is_left_as_it_is() -> None:
    with processes(None):
        assert (jax.process_count(), jax.process_index()) == (1, 0)
    error = RuntimeError("of its own")
    with pytest.raises(RuntimeError, match="of its own"), processes(None):
        raise error


def test_the_command_line_refuses_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--workdir", str(tmp_path / "run"), "--coordinator", "node0:8476"]
    assert main(["train", "stocks", *flags, "--process-count", "2", "--process-index", "2"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("--process-index must be from 0 to process_count - 1")
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_processes_that_cannot_meet_say_so_in_one_sentence() -> None:
    program = """
from stpatch_jax.errors import InputError
from stpatch_jax.training import processes

for given in ({}, {"process_count": 2, "process_index": 1}):
    try:
        with processes("127.0.0.1:9" if given else "auto", **given, start_timeout=1):
            raise AssertionError("met")
    except InputError as error:
        print(error)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    auto, told = done.stdout.splitlines()
    assert auto.startswith("the processes must meet where JAX looks for them by itself, got '")
    assert told.startswith(
        "the processes must meet at 127.0.0.1:9 within 1 s, got no answer at process 1 of 2; "
    )


def test_a_batch_that_every_process_holds_keeps_its_rows() -> None:
    batch = {"x": np.arange(48.0).reshape(16, 3), "label": np.arange(16)}
    spread = shard_global_batch(batch, make_mesh())
    assert {name: x.dtype for name, x in spread.items()} == {"x": jnp.float32, "label": jnp.int32}
    for name, whole in batch.items():
        assert len(spread[name].sharding.device_set) == 8
        np.testing.assert_array_equal(to_host(spread[name]), whole)
    with pytest.raises(InputError, match="use 8 or 16"):
        shard_global_batch({"x": np.zeros(12)}, make_mesh())
