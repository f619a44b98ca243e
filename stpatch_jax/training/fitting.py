"""Training in one call: a task, a backbone, examples and a configuration."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data.sampling.batches import Batch, Source, batch_iterator
from stpatch_jax.data.sizes import memory_there
from stpatch_jax.errors import InputError, require, require_members
from stpatch_jax.nn.own import as_backbone
from stpatch_jax.training.callbacks import Callback
from stpatch_jax.training.config import TrainConfig
from stpatch_jax.training.loop import FitResult, train_loop
from stpatch_jax.training.measuring import Measure
from stpatch_jax.training.mesh import check_batch_size, make_mesh

# Of the batch of a step, two are made ahead on the host and two on the devices.
_BATCHES = 5


class Learnable(Protocol):
    """What `fit` asks of a task; every `stpatch_jax.tasks.Task` has it, which describes it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays that the network reads, the field of the backbone first."""
        ...

    def build(self, backbone: Any, shapes: Any, *, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network for batches of the given shapes."""
        ...

    def check_batch(self, batch: Any) -> None:
        """Refuses a batch that cannot be learnt from."""
        ...

    def loss(self, model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The scalar to minimise, and metrics beside it."""
        ...


Examples = Source | Mapping[str, Any]
"""A source, or arrays by name [example, ...]."""


def fit(
    task: Learnable,
    backbone: Any,
    source: Examples,
    config: TrainConfig,
    *,
    validation: Examples | None = None,
    workdir: str | Path | None = None,
    progress: bool = True,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
) -> FitResult:
    """Trains the network of a task on a backbone, with `config.steps` batches of a source.

    Weights, dropout and the order of the examples are those of a run of `config.seed` on the same
    data, bit for bit; `train_loop` is the loop below both, for a model and batches that are no task
    and no source.

    Args:
        task: What the network is for: a `stpatch_jax.tasks.Task`, `fitted` to its data where it
            asks anything of them, or whatever has the members of `Learnable`.
        backbone: A `BackboneConfig`, or a callable that returns a module, called as
            `backbone(in_features, rngs=rngs)`: the class of a network, see `OwnBackbone`.
        source: The examples: what has a length and gives arrays by name at a number, or arrays by
            name [example, ...].
        config: How to train.
        validation: Examples whose loss and metrics are measured, without dropout and with the
            averages of `config.ema`, every `config.evaluate_every` steps and after the last.
        workdir: A directory for checkpoints and metrics.jsonl, from which the same call goes on
            after a kill, see `train_loop`; without it they are temporary.
        progress: Whether to show a bar on stderr.
        on_step: Called as `on_step(step, metrics)`, see `stpatch_jax.training.callbacks`.
        on_evaluate: Called as `on_evaluate(step, validation)`, likewise.

    Returns:
        The trained state, of which `model` is to be used, and what became of it.

    Raises:
        InputError: Task, backbone, examples and devices do not fit each other, or training cannot
            go on, see `train_loop`.

    >>> from stpatch_jax.tasks import BackboneWithHead, TaskBase
    >>> class Slope(TaskBase):
    ...     def network(self, body, backbone, shapes, *, rngs):
    ...         return BackboneWithHead(body, nnx.Linear(body.out_features, 1, rngs=rngs))
    ...
    ...     def loss(self, model, batch):
    ...         return ((model(batch["field"]).mean((1, 2)) - batch["slope"]) ** 2).mean(), {}
    >>> slope = np.linspace(-1, 1, 64, dtype=np.float32)
    >>> field = slope[:, None, None] * np.arange(5, dtype=np.float32)[:, None]
    >>> data = {"field": field, "slope": slope}
    >>> result = fit(
    ...     Slope(None),
    ...     lambda channels, *, rngs: nnx.Linear(channels, 4, rngs=rngs),
    ...     data,
    ...     TrainConfig(steps=60),
    ...     validation=data,
    ...     progress=False,
    ... )
    >>> result.validation["loss"] < 0.2
    True
    """
    require_members(task, Learnable, what="the task")
    source = _as_source(source, what="the source")
    example = example_of(source, what="the source")
    given = as_backbone(backbone)
    body, config, _ = prepared(task, given, config, example, examples=len(source))
    shapes = {name: values.shape for name, values in example.items()}
    require(
        workdir is not None or config.keep_best is None or config.patience is not None,
        f"workdir= must name a directory beside train.keep_best = {config.keep_best!r}, got none; "
        "give one, in which that checkpoint stays, or set train.patience",
    )
    measure = None
    if validation is not None:
        validation = _as_source(validation, what="the validation")
        other = example_of(validation, what="the validation").keys()
        require(
            example.keys() <= other,
            f"the validation must have the arrays of the source, {', '.join(example)}, got "
            f"{', '.join(other)}; give the same ones",
        )
        mesh = make_mesh(**dataclasses.asdict(config.mesh))
        measure = Measure(task.loss, validation, mesh, batch_size=config.examples)
    with contextlib.ExitStack() as temporary:
        return train_loop(
            lambda rngs: task.build(body, shapes, rngs=rngs),
            task.loss,
            batches_of(source, config),
            config,
            workdir=Path(workdir or temporary_workdir(temporary)),
            validate=measure,
            progress=progress,
            on_step=on_step,
            on_evaluate=on_evaluate,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """Arrays by name [example, ...] as a source."""

    arrays: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, i: int, /) -> Batch:
        return {name: values[i] for name, values in self.arrays.items()}


def _as_source(given: Any, *, what: str) -> Source:
    if not isinstance(given, Mapping):
        return given
    arrays = {name: np.asarray(values) for name, values in given.items()}
    counts = {name: values.shape[:1] for name, values in arrays.items()}
    require(
        len(set(counts.values())) == 1 and () not in counts.values(),
        f"{what} must have arrays [example, ...] of equally many examples, got "
        f"{ {name: values.shape for name, values in arrays.items()} }; give all of one set",
    )
    return _Rows(arrays)


def check_source(source: Source, *, what: str) -> None:
    """Refuses what is no source, or one without examples."""
    require_members(source, Source, what=what)
    require(len(source) > 0, f"{what} must have examples, got none; use more data")


def example_of(source: Source, *, what: str) -> dict[str, np.ndarray]:
    """A batch [1, ...] of the first example of a source.

    Raises:
        InputError: It is no source, has no examples, or they are no arrays of numbers by name.
    """
    check_source(source, what=what)
    try:
        first = source[0]
    except KeyError as error:
        raise InputError(
            f"{what} must give examples by their numbers from 0, got {type(source).__name__} "
            f"without {error}; give arrays by name, or a list of dicts"
        ) from error
    require(
        isinstance(first, Mapping),
        f"an example of {what} must be arrays by name, got {type(first).__name__}; give a dict",
    )
    example = {name: np.asarray(values)[None] for name, values in first.items()}
    for name, values in example.items():
        require(
            values.dtype.kind not in "OSUMm",
            f"the arrays of an example must be of numbers, got {name} of dtype {values.dtype}; "
            "leave it out, or tell it in names()",
        )
    return example


def prepared(
    task: Learnable,
    backbone: Any,
    config: TrainConfig,
    example: Batch,
    *,
    examples: int,
    mesh: Mesh | None = None,
) -> tuple[Any, TrainConfig, dict[str, str]]:
    """Backbone and settings with nothing left to the data, and how each that was left was chosen.

    A `mesh` is one of devices elsewhere, whose hosts may have other memory than this one.

    Raises:
        InputError: The examples lack an input, or cannot be learnt from; or a batch does not split
            over the devices, or does not fit into memory.
    """
    require(
        set(task.inputs) <= example.keys(),
        f"the inputs of the task must be arrays of the examples, got {task.inputs!r} for examples "
        f"of {', '.join(example)}; name those",
    )
    field = example[task.inputs[0]].shape
    # Tokens have no channel.
    backbone, windows = backbone.settled(field[1:-1] or field[1:], field[-1])
    size = sum(values.nbytes for values in example.values())
    config, batch = config.settled(examples=examples, example_bytes=size)
    here = mesh or make_mesh(**dataclasses.asdict(config.mesh))
    check_batch_size(config.examples, here)
    there = memory_there()
    most = there * jax.process_count() // (_BATCHES * max(size, 1))
    require(
        mesh is not None or config.examples <= most,
        f"train.batch_size must be at most {most} in {there / 1e9:.3g} GB of memory, which "
        f"{_BATCHES} batches share, got {config.examples} examples of {size} bytes; lower it",
    )
    task.check_batch(example)
    return backbone, config, {**windows, **batch}


def batches_of(source: Source, config: TrainConfig) -> Callable[[int], Iterator[Batch]]:
    """The batches of a source in the order of a configuration, as `train_loop` takes them."""
    size, seed = config.examples, config.seed

    def batches(start_step: int) -> Iterator[Batch]:
        return batch_iterator(source, batch_size=size, seed=seed, start_step=start_step)

    return batches


def temporary_workdir(removed: contextlib.ExitStack) -> Path:
    """A new folder, which is removed where the stack is closed.

    Raises:
        InputError: Several processes would each have their own.
    """
    require(
        jax.process_count() == 1,
        f"workdir= must name a directory that all {jax.process_count()} processes share, got none; "
        "give one",
    )
    path = tempfile.mkdtemp(prefix="stpatch-")
    removed.callback(shutil.rmtree, path, ignore_errors=True)
    return Path(path)
