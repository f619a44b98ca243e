"""What predicts a file with a trained run: found by task and data; by default a row an example."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from stpatch_jax.data import Source
from stpatch_jax.data.fields.writers import write_table
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.protocols import EVERYTHING
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import require
from stpatch_jax.runs.trained import TrainedRun, predictors

_CHUNK, _CHUNK_BYTES = 4096, 2**26
_TAKES = {
    "every": "every= must be left out of a run on items without an order in time, got {}; leave it "
    "out",
    "length": "length= must be left out of a run that writes no text, got {}; leave it out",
    "process_count": "process_count= must be 1 for what is no .zarr, got {}; leave it out",
}


@dataclass(frozen=True)
class Request:
    """What is to be predicted, see `predict`; `source` names the data in messages."""

    source: str
    every: int | None = None
    length: int | None = None
    process_index: int | None = None
    process_count: int | None = None
    progress: bool = True


class Predictor:
    """Predicts a file as a table: of each example what names it, and what the task answers.

    What predicts a kind of problem otherwise is a subclass, registered for its pair of classes:

        @predictors(MyTask, MyData)
        class MyPredictor(Predictor): ...

    Its `data` are what the data configuration of the run restored from the file. What is predicted
    is told by `result`, how it stands in a file by `write`.

    Raises:
        InputError: The request has an argument that this kind does not take.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz")
    """How the names of what it writes end."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Which of `every`, `length` and `process_count` of a request it knows."""

    def __init__(self, run: TrainedRun, data: Any, request: Request):
        for name, refused in _TAKES.items():
            value = getattr(request, name)
            allowed = name in self.takes or value in (None, *([1] * (name == "process_count")))
            require(allowed, refused.format(value))
        self.run, self.task, self.data, self.request = run, run.task, data, request

    @classmethod
    def answer(cls, run: TrainedRun, data: Any, *, table: bool, **asked: Any) -> Any:
        """The result for some data, or its table, asked for as in `Request`, without a bar."""
        one = cls(run, data, Request(**asked, progress=False))
        return one.table() if table else one.result()

    def result(self) -> Any:
        """What is predicted, in memory and in the units of the data: here the table."""
        return self.table()

    def write(self, target: Path) -> str:
        """Writes the result to a file; returns one sentence of what was written.

        Raises:
            InputError: The file or the target cannot be used; nothing was written.
        """
        table = self.table()
        write_table(target, table)
        return f"{len(table)} row{'s' * (len(table) != 1)}: {target}"

    def table(self) -> pd.DataFrame:
        """One row an example: its names, and the answer flattened.

        A number of the answer gets the name of its place in the tree, `output` where that is none,
        and its indices, such as `output_0_1`.
        """
        answers = pd.concat(map(pd.DataFrame, map(_columns, self.chunks())), ignore_index=True)
        return pd.concat([pd.DataFrame(self.names()), answers], axis=1)

    @functools.cached_property
    def examples(self) -> Source:
        """All examples of the file."""
        return self.data.source(EVERYTHING)

    def names(self) -> dict[str, Any]:
        """What tells the examples apart, by column [example]; else their `number`."""
        return dict(self.data.names(EVERYTHING)) or {"number": np.arange(len(self.examples))}

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Some examples as arrays by name [row, ...]."""
        examples = [self.examples[int(row)] for row in rows]
        return {name: np.stack([x[name] for x in examples]) for name in examples[0]}

    def chunks(self) -> Iterator[Any]:
        """What the task answers to the examples, a tree of [example, ...] for a part of them."""
        return (answers for _, answers in self.answered(np.arange(len(self.examples))))

    def answered(self, rows: np.ndarray, *, at_once: int = _CHUNK) -> Iterator[tuple[Any, Any]]:
        """Examples of some numbers and what the task answers, a part of them at a time.

        A part has `at_once` examples, or as many as take 64 MiB. A bar on stderr goes with them.
        """
        size = sum(values.nbytes for values in self.batch(rows[:1]).values())
        at_once = min(at_once, max(1, _CHUNK_BYTES // max(size, 1)))
        with tqdm(total=len(rows), desc="predicting", disable=not self.request.progress) as bar:
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                batch = self.batch(part)
                yield part, self.run.answers(batch)
                bar.update(len(part))

    def origins(self) -> np.ndarray:
        """Numbers of the forecasts that are asked for: of the last example, or every so many."""
        every, count = self.request.every, len(self.examples)
        return np.arange(0, count, every) if every else np.array([count - 1])

    def valid_times(self, times: np.ndarray, index: np.ndarray, horizon: int) -> np.ndarray:
        """The times of the targets of forecasts [forecast, horizon], see `TimeAxis.targets`.

        Raises:
            InputError: If a target lies behind the file, whose rows keep no step. Ask before
                anything is computed.
        """
        axis = TimeAxis.of(times, name=f"the times of {self.request.source}")
        step = FieldIdentity.of_state(self.run.state).step
        return axis.targets(index, horizon, step=step)


def _columns(answers: Any) -> dict[str, np.ndarray]:
    columns = {}
    for path, values in jax.tree_util.tree_leaves_with_path(answers):
        name = jax.tree_util.keystr(path, simple=True, separator="_") or "output"
        for index in np.ndindex(np.shape(values)[1:]):
            columns["_".join([name, *map(str, index)])] = np.asarray(values)[:, *index]
    return columns


predictors(object, object)(Predictor)
