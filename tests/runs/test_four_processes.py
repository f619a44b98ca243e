"""The command as four real processes: one is killed, and what each of them reads."""

import json
import math
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from flax import nnx
from served import Server, Started, free_port

from stpatch_jax.data import MadeExamples, batch_iterator
from stpatch_jax.runs import load_run
from stpatch_jax.training.record import read_record
from stpatch_jax.training.watchdog import EXIT_CODE

pytestmark = pytest.mark.slow

PASSES = 3
"""How often each process reads all of training before the first step."""
HEARTBEAT_S = 15
"""How soon JAX notices a process that died where the others wait in a save."""
CONTEXT, HORIZON, CELLS = 4, 1, (6, 4)
EACH = CONTEXT + HORIZON
STEPS, BATCH, EVERY = 16, 12, 4
AHEAD = 6
"""Batches that threads may have read ahead when training ends."""
EXAMPLES = BATCH * (STEPS + AHEAD)
"""Of training: none is drawn twice."""
SPLITS = (EACH * EXAMPLES, EACH * EXAMPLES + 40, EACH * EXAMPLES + 80)
RECIPE = f'''
from stpatch_jax import WindowSpec, data, nn, tasks
from stpatch_jax.recipes import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.training import TrainConfig

@register("small")
def small():
    """A small forecast of a map, by one matrix that two and more processes share."""
    return RunConfig(
        data=data.FieldConfig(
            "level.zarr", context={CONTEXT}, horizon={HORIZON}, stride={EACH}, split_at={SPLITS}
        ),
        model=nn.FlatPatchesConfig(WindowSpec(({CONTEXT}, *{CELLS}))),
        task=tasks.ForecastConfig(),
        train=TrainConfig(steps={STEPS}, batch_size={BATCH}, checkpoint_every={EVERY}),
    )
'''


def start(
    processes: Server,
    name: str,
    *numbers: tuple[int, int],
    run: str,
    port: int,
    late: Sequence[float] = (),
    **limits: float,
) -> Started:
    """Processes of one run, each told a (count, index); `late` are seconds by place.

    Limits are those of `stpatch_jax.training.processes`, which the command leaves as they are.
    """
    flags = ["train", "recipe.py", "--workdir", run, "--coordinator", f"127.0.0.1:{port}"]
    flags += ["--train.mesh.fsdp", str(len(numbers)), "--process-count"]
    commands = [[*flags, str(count), "--process-index", str(index)] for count, index in numbers]
    told = [{"late": seconds} for seconds in late or [0.0] * len(numbers)]
    return processes.start(name, commands, told, limits=limits)


def finish(started: Started) -> Started:
    assert started.codes() == [0] * len(started.pids), started.said("err")
    assert ["report and plots" in text for text in started.said("out")] == [
        index == 0 for index in range(len(started.pids))
    ]
    return started


def first_step(started: Started) -> int:
    """The step from which the bar of process 0 counts."""
    found = re.search(rf"(\d+)/{STEPS} \[", started.said("err")[0])
    assert found
    return int(found[1])


def numbered(count: int) -> list[tuple[int, int]]:
    return [(count, index) for index in range(count)]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "recipe.py").write_text(RECIPE)
    random, rows = np.random.default_rng(0), np.arange(SPLITS[-1])
    values = np.cos(rows / 7)[:, None, None] + 0.3 * random.normal(size=(len(rows), *CELLS))
    field = xr.DataArray(
        values.astype(np.float32),
        dims=("time", "latitude", "longitude"),
        coords={"time": pd.date_range("2024-01-01", periods=len(rows), freq="h")},
        name="level",
    )
    # A chunk is what one example of training reads.
    encoding = {"level": {"chunks": (EACH, *CELLS), "compressors": None}}
    field.to_dataset().to_zarr(folder / "level.zarr", encoding=encoding, consolidated=False)
    processes = Server(folder, folder / "cache")
    yield processes
    processes.close()


def newest(run: Path) -> int:
    """The last committed step."""
    folder = run / "checkpoints"
    there = folder.iterdir() if folder.is_dir() else []
    return max((int(path.name) for path in there if path.name.isdigit()), default=0)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def report(run: Path) -> dict[str, Any]:
    values = json.loads((run / "report.json").read_text())
    values.pop("machine")
    return values


def fingerprint(run: Path) -> int:
    """Of all bits of the state in the last checkpoint."""
    return read_record(run / "checkpoints" / str(STEPS))["fingerprint"]


def written_by(run: Path) -> list[int]:
    """Bytes of the state that each process wrote."""
    folders = sorted((run / "checkpoints" / str(STEPS) / "state").glob("ocdbt.process_*"))
    return [sum(file.stat().st_size for file in folder.glob("d/*")) for folder in folders]


def check_near(one: Any, other: Any) -> None:
    """The same report, figures up to rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            check_near(left, right)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    else:
        assert one == other


def check_reads(run: Started) -> None:
    """Of training each process read the chunks of its own examples and no others.

    All read alike what is fitted to all of training, and what tells data from others; beyond that
    they read the first example, for its shapes, and their batches.
    """
    chunk, count = EACH * math.prod(CELLS) * 4, len(run.pids)
    source = MadeExamples(lambda i: {"number": np.array(i)}, EXAMPLES)
    for index, text in enumerate(run.said("read")):
        read = json.loads(text)
        amounts = np.array([read[f"level/c/{at}/0/0"] for at in range(EXAMPLES)])
        amounts[0] -= chunk
        # To the last one reach the contexts of validation.
        beyond = (amounts - PASSES * chunk)[:-1]
        numbers: Any = {"process_index": index, "process_count": count}
        batches = batch_iterator(source, batch_size=BATCH, seed=0, start_step=0, **numbers)
        drawn = np.concatenate([next(batches)["number"] for _ in range(STEPS + AHEAD)])
        # At least of the steps that were taken, and of those that threads read ahead of them.
        least, most = (
            np.isin(np.arange(EXAMPLES - 1), drawn[: steps * BATCH // count]) * chunk
            for steps in (STEPS, STEPS + AHEAD)
        )
        assert ((least <= beyond) & (beyond <= most)).all()


def test_one_of_four_is_killed_and_they_go_on_as_four_and_as_three(processes: Server) -> None:
    folder = processes.folder
    # One comes after the others.
    late = (0, 0, 0, 2)
    straight = finish(
        start(processes, "straight", *numbered(4), run="straight", port=free_port(), late=late)
    )
    assert first_step(straight) == 0
    check_reads(straight)

    patient = {"run": "killed", "port": free_port(), "heartbeat_timeout": HEARTBEAT_S}
    killed = start(processes, "killed", *numbered(4), **patient)
    end = time.monotonic() + 240
    while not newest(folder / "killed"):
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(killed.pids[2], signal.SIGKILL)
    codes = killed.codes()
    assert codes.pop(2) == -signal.SIGKILL
    assert set(codes) <= {1, EXIT_CODE, -signal.SIGABRT}, killed.said("err")
    committed = newest(folder / "killed")
    assert 0 < committed < STEPS
    for count in (4, 3):
        name = f"as{count}"
        shutil.copytree(folder / "killed", folder / name)
        more = finish(start(processes, name, *numbered(count), run=name, port=free_port()))
        assert first_step(more) == committed
        least = min(written_by(folder / name))
        assert least > sum(written_by(folder / name)) / count / 2
    assert metrics(folder / "as4") == metrics(folder / "straight")
    assert report(folder / "as4") == report(folder / "straight")
    assert fingerprint(folder / "as4") == fingerprint(folder / "straight")
    check_near(metrics(folder / "as3"), metrics(folder / "straight"))
    check_near(report(folder / "as3"), report(folder / "straight"))
    weights = [
        jax.tree.leaves(nnx.state(load_run(folder / name).model, nnx.Param))
        for name in ("as3", "straight")
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_what_is_wrong_is_one_sentence_to_each_and_code_2(processes: Server) -> None:
    def begun(name: str, *numbers: tuple[int, int], patience: float) -> Started:
        where = {"run": f"never-{name}", "port": free_port()}
        return start(processes, name, *numbers, **where, start_timeout=patience)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = {
            "free port": start(processes, "port", (2, 0), run="never-port", port=port),
            "got no answer of 3 at process 0 of 4": begun("few", *numbered(4)[:3], patience=5),
            "the same in all processes": begun("count", (4, 0), (4, 1), (3, 2), patience=60),
            "got two of 1": begun("twice", (4, 0), (4, 1), (4, 1), patience=60),
        }
        codes = {sentence: started.codes() for sentence, started in found.items()}
    # It comes when the others have given up.
    found["got no answer at process 3 of 4"] = begun("late", (4, 3), patience=1)
    codes["got no answer at process 3 of 4"] = found["got no answer at process 3 of 4"].codes()
    for sentence, started in found.items():
        assert codes[sentence] == [2] * len(started.pids)
        (said,) = set(started.said("err"))
        assert said.count("\n") == 1
        assert sentence in said
        assert "; " in said
    assert not [*processes.folder.glob("never-*")]
