"""What predicts a file with a trained run: found by task and data; by default a row an example."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pandas as pd

from stpatch_jax.data import Source, write_table
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.protocols import EVERYTHING
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import require
from stpatch_jax.runs.judging.registry import Registry
from stpatch_jax.runs.trained import TrainedRun

_CHUNK = 4096


@dataclass(frozen=True)
class Request:
    """What is to be predicted, see `predict`; `source` names the data in messages."""

    source: str
    every: int | None = None
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
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz")
    """How the names of what it writes end."""

    def __init__(self, run: TrainedRun, data: Any, request: Request):
        self.run, self.task, self.data, self.request = run, run.task, data, request

    def result(self) -> Any:
        """What is predicted, in memory and in the units of the data: here the table."""
        return self.table()

    def write(self, target: Path) -> str:
        """Writes the result to a file; returns one sentence of what was written.

        Raises:
            InputError: The file or the target cannot be used; nothing was written.
        """
        require(
            self.request.process_count in (None, 1),
            f"process_count= must be 1 for a table, got {self.request.process_count}; leave it out",
        )
        table = self.table()
        write_table(target, table)
        return f"{len(table)} rows: {target}"

    def table(self) -> pd.DataFrame:
        """One row an example: its names, and the answer flattened.

        A number of the answer gets the name of its place in the tree, `output` where that is none,
        and its indices, such as `output_0_1`.
        """
        self.refuse_every()
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
        count = len(self.examples)
        for start in range(0, count, _CHUNK):
            yield self.run.predict(self.batch(np.arange(start, min(start + _CHUNK, count))))

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

    def refuse_every(self) -> None:
        """Refuses `--every`, by an InputError, where the examples have no order of time."""
        require(
            self.request.every is None,
            f"every= must be left out of a run on items without an order in time, got "
            f"{self.request.every}; leave it out",
        )


def _columns(answers: Any) -> dict[str, np.ndarray]:
    columns = {}
    for path, values in jax.tree_util.tree_leaves_with_path(answers):
        name = jax.tree_util.keystr(path, simple=True, separator="_") or "output"
        for index in np.ndindex(np.shape(values)[1:]):
            columns["_".join([name, *map(str, index)])] = np.asarray(values)[:, *index]
    return columns


predictors: Registry[type[Predictor]] = Registry("predictor")
"""Finds what predicts a file: `@predictors(MyTask, MyData)` registers one."""

predictors(object, object)(Predictor)
