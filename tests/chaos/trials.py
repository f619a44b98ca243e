"""What the tests of faults share: commands on small data, and what a folder holds."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from stpatch_jax.files import LOCK

ROOT = Path(__file__).parents[2]
TRAIN = (
    *("etth1", "--data.path", "loads.csv", "--data.context", "6", "--data.horizon", "2"),
    *("--data.season", "24", "--train.steps", "4", "--train.batch-size", "8"),
    *("--train.checkpoint-every", "2", "--train.evaluate-every", "2"),
    *("--train.keep-checkpoints", "1", "--train.optimizer.warmup-steps", "1"),
)
SPACE = ("--space", "train.optimizer.learning-rate=0.01,0.001")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", *TRAIN, "--workdir", "new"),
    "search": ("search", *TRAIN, *SPACE, "--workdir", "new"),
    "evaluate": ("evaluate", "run"),
    "explain": ("explain", "run"),
    **{
        f"predict {suffix}": ("predict", "run", "loads.csv", f"new.{suffix}", "--every", "8")
        for suffix in ("zarr", "nc", "csv")
    },
}
PATCHES = {"stpatch_jax.inference.fields:_SLAB_VALUES": 200}
"""Small regions, so that a prediction has several."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of a command: its exit code, negative for a signal, and what it said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> list[str]:
        """The lines on stderr but for progress, and doubts of XLA of jax 0.10.0 about its cache."""
        lines = [line for line in re.split(r"[\r\n]+", self.err) if line.strip()]
        progress = r"\d+/\d+ \[|^trial-\w+ \(\d+ of|cpu_aot_loader"
        return [line for line in lines if not re.search(progress, line)]


class Server:
    """A process that forks one for every command, see `fault_server`."""

    def __init__(self, cache: Path):
        env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
        script = Path(__file__).with_name("fault_server.py")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, str(script)], env=env, stdin=pipe, stdout=pipe, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, root: Path, command: Sequence[str], **befalls: Any) -> None:
        """Starts a command in a folder, below which faults count: `at`, `fault`, `size`."""
        assert self._process.stdin is not None
        known = {"root": str(root), "command": [*command], "patches": PATCHES, "fault": ""}
        self._process.stdin.write(json.dumps(known | befalls) + "\n")
        self._process.stdin.flush()

    def result(self) -> Ended:
        """Waits for the command that was started."""
        assert self._process.stdout is not None
        return Ended(**json.loads(self._process.stdout.readline()))

    def run(self, root: Path, command: Sequence[str], **befalls: Any) -> Ended:
        """Runs a command to its end."""
        self.start(root, command, **befalls)
        return self.result()


def write_loads(path: Path) -> None:
    """A table of two hourly series."""
    rows = np.arange(160)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, len(rows)))
    waves = np.stack([np.sin(rows / 4), np.cos(rows / 5)]) + noise
    table = pd.DataFrame(waves.T.round(4), columns=["a", "b"])
    table.insert(0, "date", pd.date_range("2024-01-01", periods=len(rows), freq="h"))
    table.to_csv(path, index=False)


@dataclasses.dataclass(frozen=True)
class Sound:
    """What a command leaves that nothing befalls, the events on its way, and how it ended."""

    left: dict[str, str]
    events: list[str]
    ended: Ended


class Stage:
    """A folder as commands find it, and as each of them leaves it when nothing befalls it."""

    def __init__(self, folder: Path, server: Server):
        self.folder, self.server = folder, server
        self._sound: dict[str, Sound] = {}
        self.start = folder / "start"
        self.start.mkdir()
        write_loads(self.start / "loads.csv")
        for name in ("mine.txt", ".stpatch-mine", "new.txt", "checkpoints"):
            (self.start / name).write_text("of the user")
        trained = server.run(self.start, ("train", *TRAIN, "--workdir", "run"))
        assert trained.code == 0, trained.err
        (self.start / "run" / "mine.txt").write_text("of the user")
        self.before = contents(self.start)

    def fresh(self) -> Path:
        """A copy of the folder as commands find it."""
        # Always under one name, which goes into the configuration of a run.
        copy = self.folder / "trial"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.start, copy)
        return copy

    def sound(self, name: str) -> Sound:
        """What becomes of a command that nothing befalls."""
        if name not in self._sound:
            for _ in range(2):  # The second finds its programs compiled, as all that follow do.
                copy, events = self.fresh(), self.folder / "events.json"
                ended = self.server.run(copy, COMMANDS[name], events=str(events))
                assert ended.code == 0, ended.err
                seen = json.loads(events.read_text())
                self._sound[name] = Sound(contents(copy), seen, ended)
        return self._sound[name]

    def told(self, name: str, ended: Ended) -> list[str]:
        """The lines that a command said on stderr and that it does not say in peace."""
        return [line for line in ended.told if line not in self.sound(name).ended.told]


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder, so that equal means the same to whoever reads it.

    Of a checkpoint that is its record, which holds a fingerprint of all arrays; a report comes
    without what the machine took.
    """
    return dict(sorted(_contents(folder, folder)))


def _contents(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    for path in folder.iterdir():
        name = str(path.relative_to(root))
        if path.is_dir() and folder.name == "checkpoints" and path.name.isdigit():
            try:
                saved = json.loads((path / "_CHECKPOINT_METADATA").read_text())
                yield name, json.dumps(saved["custom_metadata"], sort_keys=True)
            except (OSError, ValueError):
                yield name, "half a checkpoint"
        elif path.name == "tensorboard":
            continue
        elif path.is_dir():
            yield name, "a folder"
            yield from _contents(path, root)
        elif path.name == "report.json":
            report = json.loads(path.read_text())
            yield name, json.dumps({**report, "machine": None}, sort_keys=True)
        else:
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def is_in_the_making(name: str) -> bool:
    """Whether a name says that nobody may take it for what it will become."""
    parts = Path(name).parts
    return any(
        part.startswith((".stpatch-part.", LOCK)) or "orbax-checkpoint-tmp" in part
        for part in parts
    )
