"""What a run tells while it goes: `metrics.jsonl`, TensorBoard where installed, a progress bar."""

import contextlib
import importlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
from tqdm import tqdm

from stpatch_jax.files import from_json, replaced, to_json
from stpatch_jax.training.record import writing

SummaryWriter: Any = None
with contextlib.suppress(ImportError):
    SummaryWriter = importlib.import_module("tensorboardX").SummaryWriter


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl` in their order, none where there is no such file.

    What is no record of a step is left out, as a line that a killed process left half written.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    records = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            records.append(from_json(line))
    return [record for record in records if _is_record(record)]


def _is_record(record: Any) -> bool:
    """Whether this is what `MetricsLog` writes: numbers, or None where one was not finite."""
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return False
    return all(isinstance(value, int | float | None) for value in record.values())


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
            kept = (record for record in read_metrics(path) if record["step"] <= step)
            part.write_text("".join(f"{to_json(record)}\n" for record in kept), encoding="utf-8")
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
            line = to_json(finite) + "\n"
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
