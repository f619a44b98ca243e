"""What scores a task on data and tells it: numbers (metrics), text, pictures (figures).

A judge goes through a split in batches, each process through its share of every batch, and holds
nothing of the split but sums, a few numbers an example, and what a plot shows.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import Batch, Data, sequential_batches
from stpatch_jax.errors import require, require_members
from stpatch_jax.runs.judging.question import Asked, Question, mean_answer
from stpatch_jax.runs.judging.registry import Registry
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.tasks import Task
from stpatch_jax.training import batch_sharding, prefetch_to_mesh
from stpatch_jax.training.distributed import of_every_process
from stpatch_jax.training.weights import spread, whole_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tree = Any
"""A tree of dicts whose leaves are NumPy arrays."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What is known of a model on one split, over all processes.

    Attributes:
        split: Name of the split.
        count: Number of examples.
        sums: What `Judge.sums` gave, added over all examples in float64.
        rows: What `Judge.rows` gave, one row an example [example, ...], in the order of the split.
        shown: Of each entry of `Judge.shows` the chosen examples [chosen, ...].
        broken: Number of examples to which the answer of the model is not finite.
    """

    split: str
    count: int
    sums: Tree
    rows: Tree
    shown: Mapping[str, Tree]
    broken: int = 0


class Shows(NamedTuple):
    """What a plot needs of some examples.

    Attributes:
        numbers: Numbers of the examples in the split, ascending.
        arrays: `(batch, answers) -> arrays [example, ...]` of some of the examples of a batch.
    """

    numbers: Sequence[int]
    arrays: Callable[[Batch, Tree], Tree]


class Judge(abc.ABC):
    """Base of all judges.

    The judge of a kind of problem is registered for its pair of classes:

        @judges(MyTask, MyData)
        class MyJudge(Judge): ...

    It gives `sums` for what is added up, `rows` where a score needs every example (ranks,
    intervals), `shows` for what is drawn, and `validation` and `report` out of these. A task
    without one of its own is judged by `DefaultJudge`. Global batches have `batch_size` examples, a
    multiple of the number of devices.

    Raises:
        InputError: Task or data lack a member that is asked of them.
    """

    needs: ClassVar[type] = Data
    """What is asked of the data."""

    def __init__(self, task: Task, data: Any, mesh: Mesh, *, batch_size: int):
        require_members(task, Task, what="the task")
        require_members(data, self.needs, what="the data")
        self.task, self.data, self.mesh, self.batch_size = task, data, mesh, batch_size
        self._outputs = nnx.jit(self.placed_outputs)

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """Goes through a split, without dropout.

        Judges that go by past errors take `past`, what came out of the validation split.
        """
        count = len(self.data.source(split))
        collected = _Collected(count, self.shows(count))
        for batch, outputs in self.predicted(model, split):
            real = batch.pop("example_mask")
            if jax.process_count() > 1 and collected.empty:
                first, found = jax.tree.map(lambda x: x[:1], (batch, outputs))
                numbers, answers = first.pop("example_number"), self.answers(first, found)
                sums, rows = self.sums(first, answers), self.rows(first, answers)
                collected.begin(numbers, sums, rows, first, answers)
            batch, outputs = jax.tree.map(lambda x, real=real: x[real], (batch, outputs))
            numbers = batch.pop("example_number")
            if len(numbers):
                answers = self.answers(batch, outputs)
                collected.add(numbers, self.sums(batch, answers), self.rows(batch, answers))
                collected.broken += _broken(outputs, len(numbers))
                collected.show(numbers, batch, answers)
        return collected.judged(split)

    @property
    def inputs(self) -> Sequence[str] | None:
        """Names of the arrays of a batch that `outputs` reads; None for all."""
        return self.task.inputs

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """What is computed on the devices: a tree of [batch, ...].

        Where rules are computed beside the model, its answers stand under `model`.
        """
        return self.task.predict(model, batch)

    def answers(self, batch: Batch, outputs: Tree) -> Tree:
        """What all of the following goes by [example, ...]: outputs and rules, in their units."""
        return outputs

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """What adds up over examples, of the real examples of a batch; float64 and integers."""
        return {}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """What every example is kept of: a few numbers [example, ...], never a field."""
        return {}

    def shows(self, count: int) -> Mapping[str, Shows]:
        """What plots show of which of the `count` examples of a split."""
        return {}

    def header(self) -> dict[str, Any]:
        """Entries of `report.json` beside the metrics, such as how many steps are forecast."""
        return {}

    @abc.abstractmethod
    def validation(self, judged: Judged) -> dict[str, float]:
        """A few metrics of the model; settings are compared by the first, the less the better."""

    @abc.abstractmethod
    def report(self, judged: Judged) -> dict[str, Any]:
        """All metrics of one split, JSON-able, beside those of the naive rules."""

    @abc.abstractmethod
    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The lines of `report.md` after its first ones, out of what `report.json` holds."""

    def losses(self, judged: Judged) -> Losses | None:
        """What the verdict of a report compares, by example; None tells none."""
        return None

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """The pictures by name, beside the learning curve."""
        return {}

    def question(self, asked: Asked) -> Question:
        """What `stpatch explain` explains of an example: here the mean of the model's answer.

        Raises:
            InputError: What was asked does not fit.
        """
        return mean_answer(asked)

    def predicted(self, model: nnx.Module, split: str) -> Iterator[tuple[Batch, Tree]]:
        """This process's part of every global batch of a split, and its outputs on the host.

        Batches are read and placed ahead in a thread, and the devices are a batch ahead of what is
        yielded, so that scoring on the host does not hold them up. A batch has `example_mask`,
        False for filling, and `example_number`.
        """
        # A model need not have dropout to be told to leave it out.
        model = nnx.view(model, deterministic=True, raise_if_not_found=False)
        model = spread(model, self.mesh)
        waiting: deque[Batch] = deque()
        ahead: deque[tuple[Batch, Tree]] = deque()
        for placed in prefetch_to_mesh(self._inputs(split, waiting), self.mesh):
            with jax.set_mesh(self.mesh):
                ahead.append((waiting.popleft(), self._outputs(model, placed)))
            if len(ahead) > 1:
                yield _on_host(*ahead.popleft())
        while ahead:
            yield _on_host(*ahead.popleft())

    def _inputs(self, split: str, waiting: deque[Batch]) -> Iterator[Batch]:
        """The arrays for the devices; whole batches are left in `waiting`, in the same order."""
        own = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        source = self.data.source(split)
        for batch in sequential_batches(source, batch_size=self.batch_size, **own):
            waiting.append(batch)
            names = batch.keys() - {"example_number"} if self.inputs is None else self.inputs
            yield {name: batch[name] for name in names}

    def placed_outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The outputs split along the batch alone: each process finds its own on its devices."""
        with whole_weights(model, self.mesh):
            outputs = self.outputs(model, batch)
        return jax.lax.with_sharding_constraint(outputs, batch_sharding(self.mesh))


judges: Registry[type[Judge]] = Registry("judge")
"""Finds the judge of a task on its data: `@judges(MyTask, MyData)` registers one."""


class _Collected:
    """What one process collects of a split, then all processes together."""

    def __init__(self, count: int, shows: Mapping[str, Shows]):
        self.count, self.shows = count, shows
        self.broken = 0
        self._sums: Tree = None
        self._rows: list[tuple[np.ndarray, Tree]] = []
        self._shown: dict[str, list[tuple[np.ndarray, Tree]]] = {name: [] for name in shows}

    @property
    def empty(self) -> bool:
        return not self._rows

    def begin(
        self, numbers: np.ndarray, sums: Tree, rows: Tree, batch: Batch, answers: Tree
    ) -> None:
        """Takes the form of what is collected from an example, and none of its values.

        So that a process whose part of a split is filling alone has the arrays of the others.
        """
        none = functools.partial(jax.tree.map, lambda x: np.asarray(x)[:0])
        self._sums = jax.tree.map(np.zeros_like, sums)
        self._rows = [(numbers[:0], none(rows))]
        for name, (_, arrays) in self.shows.items():
            self._shown[name] = [(numbers[:0], none(arrays(batch, answers)))]

    def add(self, numbers: np.ndarray, sums: Tree, rows: Tree) -> None:
        self._rows.append((numbers, rows))
        self._sums = sums if self._sums is None else jax.tree.map(np.add, self._sums, sums)

    def show(self, numbers: np.ndarray, batch: Batch, answers: Tree) -> None:
        for name, (wanted, arrays) in self.shows.items():
            chosen = np.isin(numbers, np.asarray(wanted))
            if chosen.any():
                of = jax.tree.map(lambda x, chosen=chosen: x[chosen], (batch, answers))
                # A copy, so that a view does not hold the whole batch.
                self._shown[name].append((numbers[chosen], jax.tree.map(np.array, arrays(*of))))

    def judged(self, split: str) -> Judged:
        own = self.broken, self._sums, self._rows, self._shown
        parts = _of_processes(*own) if jax.process_count() > 1 else [own]
        # Added in the order of the processes, so that all of them get the same bits.
        sums = functools.reduce(lambda a, b: jax.tree.map(np.add, a, b), [of[1] for of in parts])
        rows = _ordered(entry for of in parts for entry in of[2])[1]
        shown = {
            name: _ordered(entry for of in parts for entry in of[3][name])[1] for name in self.shows
        }
        broken = int(sum(of[0] for of in parts))
        return Judged(split, self.count, _model_first(sums), rows, shown, broken)


def _ordered(entries: Iterable[tuple[np.ndarray, Tree]]) -> tuple[np.ndarray, Tree]:
    """Numbers of examples and arrays of several batches as one, in the order of the examples."""
    entries = [*entries]
    if not entries:
        return np.empty(0, np.int64), {}
    parts, trees = zip(*entries, strict=True)
    numbers = np.concatenate(parts)
    order = np.argsort(numbers)
    joined = jax.tree.map(lambda *arrays: np.concatenate(arrays)[order], *trees)
    return numbers[order], _model_first(joined)


def _broken(outputs: Tree, count: int) -> int:
    """To how many of the examples the model gave anything that is not finite."""
    whole, beside = np.ones(count, bool), isinstance(outputs, dict) and "model" in outputs
    for leaf in jax.tree.leaves(outputs["model"] if beside else outputs):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            whole &= np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
    return count - int(whole.sum())


def _model_first(tree: Tree) -> Tree:
    """The tree with `model` before the rules it is told beside: JAX sorts entries by name."""
    if not isinstance(tree, dict):
        return tree
    names = sorted(tree, key=lambda name: name != "model")
    return {name: _model_first(tree[name]) for name in names}


def _of_processes(broken: int, sums: Tree, rows: list, shown: dict[str, list]) -> list[Tree]:
    """What every process collected, on every process."""
    # One entry each, so that all have one structure and none but arrays need be sent.
    one = broken, sums, [_ordered(rows)], {name: [_ordered(of)] for name, of in shown.items()}
    leaves, structure = jax.tree.flatten(one)
    sent = of_every_process(_to_bytes(leaves))
    return [structure.unflatten(_from_bytes(other, leaves)) for other in sent]


def _to_bytes(arrays: Sequence[Any]) -> bytes:
    stream = io.BytesIO()
    for array in map(np.asarray, arrays):
        require(
            not array.dtype.hasobject,
            "what a judge collects must be arrays of numbers or text where processes share the "
            f"work, got {array.dtype}; spread what its objects hold over arrays",
        )
        np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _from_bytes(sent: bytes, like: Sequence[Any]) -> list[np.ndarray]:
    stream = io.BytesIO(sent)
    arrays = [np.load(stream, allow_pickle=False) for _ in like]
    # NumPy does not know by name what it did not define, such as bfloat16.
    return [
        array.view(np.asarray(own).dtype) if array.dtype.kind == "V" else array
        for array, own in zip(arrays, like, strict=True)
    ]


def _on_host(batch: Batch, outputs: Tree) -> tuple[Batch, Tree]:
    """A batch with the outputs of its examples: the rows that lie on devices of this process."""

    def rows(array: jax.Array) -> np.ndarray:
        shards = {shard.index[0].start or 0: shard for shard in array.addressable_shards}
        return np.concatenate([np.asarray(shards[start].data) for start in sorted(shards)])

    return batch, jax.tree.map(rows, outputs)
