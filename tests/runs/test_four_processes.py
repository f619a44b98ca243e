"""The command as four real processes: one is killed, and what each of them reads."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
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

from stpatch_jax.data import MadeExamples, batch_iterator
from stpatch_jax.runs import load_run
from stpatch_jax.training.record import read_record
from stpatch_jax.training.watchdog import EXIT_CODE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
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


class Processes:
    """Processes that `command_server` starts in a folder."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, pipe = folder, subprocess.PIPE
        env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
        script = Path(__file__).with_name("command_server.py")
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            cwd=folder,
            env=env,
            stdin=pipe,
            stdout=pipe,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        # None of them outlives the test.
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.communicate()

    def ask(self, *request: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        name: str,
        *numbers: tuple[int, int],
        run: str,
        port: int,
        late: Sequence[float] = (),
        **limits: float,
    ) -> "Started":
        """Processes of one run, each told a (count, index); `late` are seconds by place.

        Limits are those of `stpatch_jax.training.processes`, which the command leaves as they are.
        """
        flags = ["train", "recipe.py", "--workdir", run, "--coordinator", f"127.0.0.1:{port}"]
        asked, folders = [], []
        for at, (count, index) in enumerate(numbers):
            numbered = ["--process-count", str(count), "--process-index", str(index)]
            folders.append(self.folder / f"{name}-{at}")
            asked.append(
                {
                    "folder": str(folders[-1]),
                    "command": [*flags, "--train.mesh.fsdp", str(len(numbers)), *numbered],
                    "late": late[at] if late else 0.0,
                    "limits": limits,
                }
            )
        return Started(self, self.ask("start", asked), folders)


class Started:
    """Processes that were started together."""

    def __init__(self, processes: Processes, pids: list[int], folders: list[Path]):
        self._processes, self.pids, self._folders = processes, pids, folders

    def codes(self, *, seconds: float = 240) -> list[int | str]:
        """How all of them ended."""
        return self._processes.ask("wait", self.pids, seconds)

    def said(self, name: str) -> list[str]:
        return [(folder / name).read_text() for folder in self._folders]

    def finish(self) -> "Started":
        assert self.codes() == [0] * len(self.pids), self.said("err")
        assert ["report and plots" in text for text in self.said("out")] == [
            index == 0 for index in range(len(self.pids))
        ]
        return self

    def first_step(self) -> int:
        """The step from which the bar of process 0 counts."""
        found = re.search(rf"(\d+)/{STEPS} \[", self.said("err")[0])
        assert found
        return int(found[1])


def numbered(count: int) -> list[tuple[int, int]]:
    return [(count, index) for index in range(count)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
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
    processes = Processes(folder, folder / "cache")
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


def test_one_of_four_is_killed_and_they_go_on_as_four_and_as_three(processes: Processes) -> None:
    folder = processes.folder
    # One comes after the others.
    straight = processes.start(
        "straight", *numbered(4), run="straight", port=free_port(), late=(0, 0, 0, 2)
    )
    straight.finish()
    assert straight.first_step() == 0
    check_reads(straight)

    killed = processes.start(
        "killed", *numbered(4), run="killed", port=free_port(), heartbeat_timeout=HEARTBEAT_S
    )
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
        more = processes.start(name, *numbered(count), run=name, port=free_port()).finish()
        assert more.first_step() == committed
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


def test_what_is_wrong_is_one_sentence_to_each_and_code_2(processes: Processes) -> None:
    def start(name: str, *numbers: tuple[int, int], patience: float) -> Started:
        where = {"run": f"never-{name}", "port": free_port()}
        return processes.start(name, *numbers, **where, start_timeout=patience)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = {
            "free port": processes.start("port", (2, 0), run="never-port", port=port),
            "got no answer of 3 at process 0 of 4": start("few", *numbered(4)[:3], patience=5),
            "the same in all processes": start("count", (4, 0), (4, 1), (3, 2), patience=60),
            "got two of 1": start("twice", (4, 0), (4, 1), (4, 1), patience=60),
        }
        codes = {sentence: started.codes() for sentence, started in found.items()}
    # It comes when the others have given up.
    found["got no answer at process 3 of 4"] = start("late", (4, 3), patience=1)
    codes["got no answer at process 3 of 4"] = found["got no answer at process 3 of 4"].codes()
    for sentence, started in found.items():
        assert codes[sentence] == [2] * len(started.pids)
        (said,) = set(started.said("err"))
        assert said.count("\n") == 1
        assert sentence in said
        assert "; " in said
    assert not [*processes.folder.glob("never-*")]
