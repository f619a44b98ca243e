"""A trained run: the latest checkpoint of a run directory, without the data it was trained on."""

import dataclasses
import hashlib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx

from stpatch_jax.data import Data, DataConfig
from stpatch_jax.data.digests import digest_of
from stpatch_jax.data.identity import change_of
from stpatch_jax.errors import InputError, check_size, listed, require, warn
from stpatch_jax.files import to_json, usable
from stpatch_jax.runs.config import (
    InMemory,
    RunConfig,
    config_of,
    data_of,
    for_these_devices,
    plain,
)
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.registry import Registry
from stpatch_jax.runs.values import from_values, with_arrays
from stpatch_jax.tasks import Task
from stpatch_jax.training import Checkpoints, make_mesh, replicate, restore_state
from stpatch_jax.training.step import require_updated

_BATCH = 64
DIGESTS = "contents"
"""The entry of a checkpoint that tells the digest of every split; before it there was another."""

SPLITS = ("train", "validation", "test")

Shapes = Mapping[str, Sequence[int]]

predictors: Registry[Any] = Registry("predictor")
"""Finds the class that predicts other data: `@predictors(MyTask, MyData)` registers one."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """The latest checkpoint of a run; `train` gives it, and `load_run` opens it.

    Attributes:
        directory: The run directory.
        config: The configuration, with a mesh that fits the devices here.
        step: The step of the checkpoint.
        task: The task, with what it knows of the training data.
        state: What was fitted to the training rows, as `Data.state` gave it.
        shapes: Shapes of the arrays of a training batch, by name.
        identity: What tells predictions of this checkpoint from others: recipe, step and checksum.
        report: The report as Markdown text; empty where the run is not finished.
    """

    directory: RunDirectory
    config: RunConfig
    step: int
    task: Task
    state: Mapping[str, Any]
    shapes: Shapes
    identity: Mapping[str, str]
    report: str

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """The figures of the report, as in report.json; empty where the run is not finished."""
        return self.directory.report() or {}

    @cached_property
    def model(self) -> nnx.Module:
        """The network without dropout, of `train.ema` with the averaged weights; restored once.

        Raises:
            InputError: The checkpoint is damaged.
        """
        return self.model_of(self.shapes)

    def model_of(self, shapes: Shapes) -> nnx.Module:
        """The network for batches of other shapes, such as of more companies.

        Raises:
            InputError: The checkpoint is damaged, or the network of these shapes is another one.
        """
        mesh = make_mesh(**dataclasses.asdict(self.config.train.mesh))

        def create(rngs: nnx.Rngs) -> nnx.Module:
            return self.task.build(self.config.model, shapes, rngs=rngs)

        with Checkpoints(self.directory.checkpoints) as checkpoints:
            restored = restore_state(create, self.config.train, checkpoints, mesh, step=self.step)
        assert restored is not None  # `load_run` found this step
        require_updated(restored[0], self.directory.path)
        whole = replicate(restored[0].averaged(), mesh)
        model = nnx.view(whole, deterministic=True, raise_if_not_found=False)
        graphdef, state = nnx.split(model)
        return nnx.merge(graphdef, jax.tree.map(_unbound, state))

    def predict(
        self,
        given: str | Path | InMemory,
        *,
        every: int | None = None,
        length: int | None = None,
        told: Mapping[str, Any] | None = None,
        future: str | Path | InMemory | None = None,
    ) -> Any:
        """What the run predicts for other data of its kind, in its own units, in memory.

        Args:
            given: The file, folder or URL, or what is in memory, as `train` takes it, but without
                answers: of `(x, y)` only `x`.
            every: Forecasts begin every so many time steps, at each row from the first context on;
                None for one forecast, of what follows the data.
            length: Of a run that writes text the number of characters to add.
            told: How the data are read where that differs from the run's.
            future: The covariates that are known over the horizon, a file or in memory. All of
                these are as in `stpatch_jax.runs.predict`, which writes the same to a file.

        Returns:
            Forecasts of a field as a `Dataset`; of an array the values
            [forecast, horizon, *space, channel], without the first axis where there is one
            forecast, and of a table of pandas the rows that would stand in a `.csv`. Whatever else
            is predicted is what its predictor makes: one row an item in a `DataFrame`, or arrays.

        Raises:
            InputError: The data cannot be read, or are of another kind than those of the run.
        """
        for name, count in (("every=", every), ("length=", length)):
            if count is not None:
                check_size(name, count)
        given = plain(given)
        if isinstance(given, InMemory):
            source = f"the {type(given).__name__}"
            other = self.data(other=given, told=told, future=future)
        else:
            require(
                isinstance(given, str | Path),
                f"what is predicted must be a path or data in memory, got {type(given).__name__}; "
                "give a batch to answers()",
            )
            source = str(given)
            other = self.data(path=source, told=told, future=future)
        table = isinstance(given, pd.DataFrame | pd.Series)
        asked = {"table": table, "source": source, "every": every, "length": length}
        # Who predicts what is registered where it is written, above this file.
        importlib.import_module("stpatch_jax.runs.predicting")
        answer = predictors.of(self.task, other).answer(self, other, **asked)
        return _like(given, answer, alone=every is None)

    @cached_property
    def _answers(self) -> Callable[[nnx.Module, Mapping[str, np.ndarray]], Any]:
        return nnx.jit(lambda model, batch: self.task.predict(model, batch))

    def answers(self, batch: Mapping[str, np.ndarray]) -> Any:
        """What the task answers to all examples of a batch of any size, as scaled as they are.

        It is computed in batches of one shape, so that one program serves them all.

        Args:
            batch: Arrays by name [example, ...], at least the `inputs` of the task. Where their
                shapes are not those of training, the network is built for them, see `model_of`.

        Returns:
            A tree of NumPy arrays [example, ...].

        Raises:
            InputError: The batch lacks an input or has no examples, or the network cannot be built
                for its shapes.
        """
        inputs = self.task.inputs
        require(
            all(name in batch for name in inputs),
            f"the batch must have the inputs {', '.join(inputs)}, got {', '.join(batch) or 'none'}"
            "; add the missing ones",
        )
        counts = {name: len(batch[name]) for name in inputs}
        count = counts[inputs[0]]
        require(
            count > 0 and set(counts.values()) == {count},
            f"the inputs must have equally many examples and one at least, got {counts}; give all "
            "of one batch",
        )
        shapes = {**self.shapes, **{name: np.shape(values) for name, values in batch.items()}}
        same = all(tuple(shapes[name][1:]) == tuple(self.shapes[name][1:]) for name in self.shapes)
        model = self.model if same else self.model_of(shapes)
        size = min(count, _BATCH)
        parts = []
        for start in range(0, count, size):
            # The last batch is filled up with its first example.
            rows = np.arange(start, start + size)
            rows = np.where(rows < count, rows, start)
            part = {name: np.asarray(batch[name])[rows] for name in inputs}
            parts.append(jax.device_get(self._answers(model, part)))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:count], *parts)

    def data(
        self,
        *,
        path: str | None = None,
        told: Mapping[str, Any] | None = None,
        future: str | Path | InMemory | None = None,
        other: InMemory | None = None,
        values: Data | InMemory | None = None,
    ) -> Data:
        """The data that the run was trained on, or others of the same kind.

        Args:
            path: The other file, folder or URL: a data set whose only split is `EVERYTHING`, with
                what was fitted to the training rows.
            other: What is in memory in place of another file.
            told: How the others are read where that differs from the run's: some of the settings
                that `config.data.reading` names.
            future: What is known of the time behind the others, a file or in memory.
            values: The data of the run where they are in memory, as in `train`.

        Raises:
            InputError: The data cannot be read, or those of the run have changed since.
        """
        if path is not None or other is not None:
            config = with_settings(self.config.data, told or {}).for_inputs(self.task.inputs)
            if future is not None:
                given = other if path is None else path
                return config.restore_ahead(given, self.state, future)
            if path is None:
                return config.restore_values(other, self.state)
            return config.restore(path, self.state)
        data = data_of(self.config, values)
        require_same_data(self.directory, data, digests_of(data))
        return data


@usable()
def load_run(directory: str | Path) -> TrainedRun:
    """Opens the latest checkpoint of a run directory; the data of the run are not needed.

    Raises:
        InputError: It is no run directory, has no whole checkpoint yet, or one of another version.
    """
    run = RunDirectory(directory)
    config = for_these_devices(config_of(run))
    if (latest := _latest(run)) is None:
        raise InputError(
            f"the run in {directory} must have a checkpoint, got none yet; train it first"
        )
    step, extras, arrays, measured = latest
    missing = {"facts", "state", "shapes"} - extras.keys()
    require(
        not missing,
        f"the run in {directory} must be of this version, got a checkpoint without "
        f"{', '.join(sorted(missing))}; train it anew",
    )
    kinds = {"facts": Mapping[str, Any], "state": Mapping[str, Any]}
    kinds |= {"shapes": Mapping[str, tuple[int, ...]]}
    for name, kind in kinds.items():
        from_values(kind, extras[name], where=f"{name} in checkpoint {step} of {directory}")
    state = with_arrays(extras["state"], arrays)
    named = to_json(extras, sort_keys=True) + digest_of(state)
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    identity = {"recipe": config.recipe, "step": str(step), "run": digest}
    # What validation told of the trained network stands for what was known before.
    told = config.task.measured
    facts = extras["facts"] | {name: measured[name] for name in told if name in measured}
    task = config.task.create(facts=facts)
    return TrainedRun(run, config, step, task, state, extras["shapes"], identity, run.summary())


def with_settings(config: DataConfig, told: Mapping[str, Any]) -> DataConfig:
    """A data configuration with other settings of how a file is read, see `DataConfig.reading`."""
    unknown = [name for name in told if name not in config.reading]
    require(
        not unknown,
        f"a file of this run must be told how it is read by {listed(config.reading, most=20)}, got "
        f"{listed(unknown)}; leave that out",
    )
    hints = get_type_hints(type(config))
    read = {name: from_values(hints[name], of, where=f"data.{name}") for name, of in told.items()}
    return dataclasses.replace(config, **read)


def digests_of(data: Data) -> dict[str, str]:
    """The digest of every split of the data of a run."""
    return {split: data.digest(split) for split in SPLITS}


def require_same_data(run: RunDirectory, data: Data, digests: Mapping[str, str]) -> None:
    """Refuses data other than those that a run was trained on, if it was trained at all.

    The digests are those of the data.

    Warns:
        UserWarning: The run was made before data were compared.
    """
    _, extras, *_ = _latest(run) or (0, {DIGESTS: {}})
    then = extras.get(DIGESTS)
    if then is None:
        warn(
            f"the run in {run.path} was made by a version that kept no digest of its data: nothing "
            "tells whether these are still the same",
            stacklevel=3,
        )
        return
    if changed := [split for split in then if then[split] != digests.get(split)]:
        told = change_of(extras.get("state", {}), data.state())
        raise InputError(
            f"the data of the run in {run.path} must be what it was trained on, got "
            f"{told or f'another {listed(changed)} split'}; give the data as they were, or "
            "train anew with another workdir="
        )


def chosen_of(run: RunDirectory) -> dict[str, str]:
    """How the settings of a run were chosen, as its latest checkpoint says, if there is one."""
    latest = _latest(run)
    return latest[1].get("chosen", {}) if latest else {}


def _like(given: Any, answer: Any, *, alone: bool) -> Any:
    """Forecasts of an array as an array, whatever else as it is."""
    if isinstance(given, np.ndarray) and "init_time" in getattr(answer, "dims", ()):
        values = answer.to_dataarray("channel").transpose(..., "channel").values
        return values[0] if alone else values
    return answer


def _latest(
    run: RunDirectory,
) -> tuple[int, dict[str, Any], dict[str, Any], dict[str, float]] | None:
    """Step, extras, arrays and finite metrics of the latest checkpoint, None without one."""
    if not run.checkpoints.is_dir():
        return None
    with Checkpoints(run.checkpoints) as checkpoints:
        step = checkpoints.latest_step
        if step is None:
            return None
        measured = {k: x for k, x in checkpoints.metrics(step).items() if math.isfinite(x)}
        return step, checkpoints.extras(step), checkpoints.arrays(step), measured


def _unbound(array: jax.Array) -> jax.Array:
    """An array that no device is bound to: it may be used alone, on any mesh, or as a constant."""
    # What comes from the host is placed where it is used.
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(array)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return jnp.asarray(np.asarray(array))
