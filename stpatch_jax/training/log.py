"""What a run tells while it goes: `metrics.jsonl`, TensorBoard where installed, a progress bar."""

import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
from tqdm import tqdm

from stpatch_jax.files import replaced
from stpatch_jax.training.record import writing

SummaryWriter: Any = None
with contextlib.suppress(ImportError):
    SummaryWriter = importlib.import_module("tensorboardX").SummaryWriter


def _cut(text: str, step: int) -> Iterator[str]:
    """The lines of steps up to `step`, without what a killed process left half written."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                yield line + "\n"


class MetricsLog:
    """`metrics.jsonl`: one JSON object a step, cut back to `step` when opened.

    The cut writes a new file and renames it over the old one. Only the first process writes. Where
    tensorboardX is installed, the numbers also go to TensorBoard, in `tensorboard/` beside the
    file; there a cut hides what comes after it. A missing file is made.

    Raises:
        InputError: If the file cannot be written.
    """

    def __init__(self, path: Path, step: int):
        self._file = self._board = None
        self._path, self._step = path, step
        if jax.process_index():
            return
        with replaced(path) as part:
            text = path.read_text(errors="replace", encoding="utf-8") if path.exists() else ""
            part.write_text("".join(_cut(text, step)), encoding="utf-8")
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one line; what is not finite becomes null, so that the line stays JSON."""
        if self._file is not None:
            finite = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in record.items()
            }
            line = json.dumps(finite) + "\n"
            with writing(self._path):
                self._file.write(line)
            self._draw(finite)

    def _draw(self, record: Mapping[str, Any]) -> None:
        if self._board is None and SummaryWriter is not None:
            # Not before there is something to draw: a finished run writes nothing.
            folder = str(self._path.with_name("tensorboard"))
            self._board = SummaryWriter(folder, purge_step=self._step + 1)
        if self._board is not None:
            for name, value in record.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(name, value, record["step"])

    def sync(self) -> None:
        """Forces the lines to disk, so that no checkpoint is ahead of them."""
        if self._file is not None:
            with writing(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())


def progress_bar(steps: int, start: int, *, shown: bool) -> tqdm:
    """A bar on stderr that counts to `steps` with steps/s; rarely redrawn where nobody watches."""
    return tqdm(
        total=steps,
        initial=start,
        desc="train",
        unit=" steps",
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        disable=not shown or jax.process_index() != 0,
    )
