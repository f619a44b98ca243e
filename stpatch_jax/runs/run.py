"""One run from its configuration to its report: train, evaluate, report, plots."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import nnx

import stpatch_jax
from stpatch_jax.data import DataConfig, batch_iterator
from stpatch_jax.data.protocols import CATALOG_PREFIX
from stpatch_jax.errors import InputError
from stpatch_jax.flops import gradient_flops
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.registry import make_evaluator
from stpatch_jax.runs.judging.report import draw_plots, summary
from stpatch_jax.runs.trained import pretrained_model
from stpatch_jax.runs.values import difference, from_values, to_values
from stpatch_jax.tasks import (
    ClassifyConfig,
    DetectConfig,
    ForecastConfig,
    NextTokenConfig,
    TaskConfig,
    transfer_backbone,
)
from stpatch_jax.training import (
    Checkpoints,
    FitResult,
    TrainConfig,
    check_batch_size,
    first_process_first,
    fit,
    make_mesh,
    restore_state,
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's figures; the flags of `stpatch train RECIPE`.

    Attributes:
        recipe: Name of the recipe it started from.
        data: The data and how they are cut into examples.
        model: The backbone.
        task: The task.
        train: How it is trained.
        start_from: Directory of a run with the same backbone, such as one of `pretrain`, whose
            backbone the training starts from; None starts from random weights.
    """

    recipe: tyro.conf.Suppress[str]  # the command line names it before the flags
    data: DataConfig
    model: BackboneConfig
    task: TaskConfig
    train: TrainConfig
    start_from: str | None = None


class Run:
    """A configuration together with its data, its task and the mesh, ready to be trained.

    Args:
        config: The configuration.
        data: What `config.data.load()` gave, for runs that share it; None loads it.

    Raises:
        InputError: The data cannot be used, or model, data and devices do not fit each other;
            nothing was written.
    """

    def __init__(self, config: RunConfig, *, data: Any = None):
        self.config = config
        self.data = config.data.load() if data is None else data
        self.task: Any = _told_by_data(config.task, self.data).create()
        self.mesh = make_mesh(**dataclasses.asdict(config.train.mesh))
        check_batch_size(config.train.batch_size, self.mesh)
        example = self.data.source("train")[0]
        batch = {name: np.asarray(value)[None] for name, value in example.items()}
        self.task.check_batch(batch)
        self._shapes = {name: values.shape for name, values in batch.items()}
        model = nnx.eval_shape(lambda: self.create_model(nnx.Rngs(0)))
        self.parameters = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
        self.patches = _patches(model, self._shapes)
        self.evaluator = make_evaluator(
            self.task, self.data, self.mesh, batch_size=config.train.batch_size
        )

    def create_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network for the shapes of the data."""
        return self.task.build(self.config.model, self._shapes, rngs=rngs)

    @functools.cached_property
    def create_start(self) -> Callable[[nnx.Rngs], nnx.Module]:
        """What builds the network that training starts from: random, or with a trained backbone.

        Raises:
            InputError: `start_from` names no run; called, it raises where the backbone is another.
        """
        if self.config.start_from is None:
            return self.create_model
        pretrained = pretrained_model(self.config.start_from)

        def create(rngs: nnx.Rngs) -> nnx.Module:
            model: Any = self.create_model(rngs)
            transfer_backbone(pretrained, model)
            return model

        return create

    @functools.cached_property
    def flops(self) -> int:
        """The arithmetic of one gradient of the loss on one example, see `count_flops`."""
        model = nnx.eval_shape(lambda: self.create_model(nnx.Rngs(0)))
        example = {name: np.asarray(x)[None] for name, x in self.data.source("train")[0].items()}
        return gradient_flops(self.task.loss, model, example)

    def extras(self) -> dict[str, Any]:
        """What a checkpoint holds beside the state: all that predictions of other files need."""
        return {
            "config": to_values(self.config),
            "task": to_values(self.task.config),
            "scaler": self.data.scaler_state(),
            "shapes": {name: list(shape) for name, shape in self._shapes.items()},
            "series": list(getattr(self.data, "series", ())),
        }

    def claim(self, directory: RunDirectory) -> None:
        """Makes a directory this run's, or accepts it where it already is.

        Raises:
            InputError: It is another run's, its data have changed, or what it starts from does not
                fit; nothing was overwritten.
        """
        if not directory.checkpoints.is_dir():
            # A start that does not fit fails here, before anything is written.
            create = self.create_start
            nnx.eval_shape(lambda: create(nnx.Rngs(0)))
        first_process_first(lambda: directory.claim(to_values(self.config)))
        _require_same_data(directory, self)

    def fit(self, directory: RunDirectory, *, progress: bool = True) -> FitResult:
        """Trains to the end in a claimed directory, or goes on there.

        Nothing of the test split is read.
        """
        return fit(
            self.create_start,
            self.task.loss,
            functools.partial(_batches, self),
            self.config.train,
            workdir=directory.path,
            extras=self.extras(),
            validate=lambda model: self.evaluator.summary(model, "validation"),
            progress=progress,
            patches=self.patches,
        )

    def report(self, model: nnx.Module, predictions: Any, step: int) -> dict[str, Any]:
        """The figures of a model and its test predictions, as `report.json` holds them."""
        windows = {
            name: getattr(self.data, name)
            for name in ("context", "horizon")
            if hasattr(self.data, name)
        }
        return {
            "recipe": self.config.recipe,
            "version": stpatch_jax.__version__,
            "task": type(self.task).__name__,
            "step": step,
            "parameters": self.parameters,
            "patches": self.patches,
            "flops_per_example": self.flops,
            **windows,
            "data": self.data.report,
            "validation": self.evaluator.summary(model, "validation"),
            "test": self.evaluator.report(predictions),
        }


def _told_by_data(task: TaskConfig, data: Any) -> TaskConfig:
    """The settings of a task with what only its data know."""
    if isinstance(task, ClassifyConfig) and not task.class_counts:
        return dataclasses.replace(task, class_counts=data.class_counts)
    if isinstance(task, DetectConfig) and not task.class_counts:
        return dataclasses.replace(task, class_counts=data.class_counts, mean_box=data.mean_box)
    if isinstance(task, NextTokenConfig) and not task.token_counts:
        return dataclasses.replace(task, token_counts=data.token_counts)
    if isinstance(task, ForecastConfig) and task.model_weight is None:
        if not hasattr(data, "model_weight"):
            raise InputError(
                f"task.model_weight must be a number from 0 to 1 for {type(data).__name__}, which "
                "cannot tell it, but there is none; give --task.model-weight 1"
            )
        return dataclasses.replace(task, model_weight=data.model_weight())
    return task


def train(
    config: RunConfig, *, workdir: str | Path | None = None, progress: bool = True
) -> str | None:
    """Trains a run to its end, or goes on with it, and writes its report.

    The same call on the same directory resumes from the last committed checkpoint; on a finished
    run it returns the report that is there.

    Args:
        config: The configuration; only `train.steps` may have grown since the run began.
        workdir: The run directory, by default `runs/RECIPE`.
        progress: Whether to show a bar on stderr.

    Returns:
        The report as Markdown text; None where SIGTERM ended the run (a checkpoint is committed).

    Raises:
        InputError: Configuration, data or directory cannot be used; nothing was overwritten.
    """
    config = resolved(config)
    directory = RunDirectory(workdir or Path("runs") / config.recipe)
    run = Run(config)
    run.claim(directory)
    finished = directory.report()
    if finished and finished.get("step") == config.train.steps and directory.plots.is_dir():
        return directory.summary_file.read_text()
    result = run.fit(directory, progress=progress)
    if result.interrupted:
        return None
    return _write_report(directory, run, result.model, result.step, result.machine)


def evaluate(workdir: str | Path) -> str:
    """Computes the report of a run anew from its latest checkpoint and writes it.

    Returns:
        The report as Markdown text.

    Raises:
        InputError: The directory is no run, or has no checkpoint yet.
    """
    directory = RunDirectory(workdir)
    run = Run(for_these_devices(from_values(RunConfig, directory.config())))
    if not directory.checkpoints.is_dir():
        raise InputError(
            f"the run in {directory.path} must have a checkpoint, but it has none yet; train it "
            "first"
        )
    _require_same_data(directory, run)
    with Checkpoints(directory.checkpoints) as checkpoints:
        restored = restore_state(run.create_model, run.config.train, checkpoints, run.mesh)
    if restored is None:
        raise InputError(
            f"the run in {directory.path} must have a checkpoint, but none was committed yet; "
            "train it first"
        )
    state, step, _ = restored
    before = directory.report() or {}
    return _write_report(directory, run, state.averaged(), step, before.get("machine", {}))


def resolved(config: RunConfig) -> RunConfig:
    """Returns the configuration with paths that hold in any working directory."""
    if config.start_from is not None:
        start = str(Path(config.start_from).absolute())
        config = dataclasses.replace(config, start_from=start)
    path = config.data.path
    if path is None or path.startswith(CATALOG_PREFIX) or "://" in path:
        return config
    path = str(Path(path).absolute())
    return dataclasses.replace(config, data=dataclasses.replace(config.data, path=path))


def for_these_devices(config: RunConfig) -> RunConfig:
    """The configuration with a mesh that fits the devices here, which may be fewer."""
    mesh = config.train.mesh.fitted(jax.device_count())
    return dataclasses.replace(config, train=dataclasses.replace(config.train, mesh=mesh))


def _batches(run: Run, start_step: int) -> Any:
    settings = run.config.train
    return batch_iterator(
        run.data.source("train"),
        batch_size=settings.batch_size,
        seed=settings.seed,
        start_step=start_step,
    )


def _require_same_data(directory: RunDirectory, run: Run) -> None:
    """Refuses to go on with a run whose table has changed under it."""
    if not directory.checkpoints.is_dir():
        return
    with Checkpoints(directory.checkpoints) as checkpoints:
        step = checkpoints.latest_step
        before = None if step is None else checkpoints.extras(step)["scaler"]
    now = json.loads(json.dumps(run.data.scaler_state()))
    changed = None if before is None else difference(before, now)
    if changed:
        raise InputError(
            f"the data of the run in {directory.path} must be what it was trained on, but its "
            f"{changed[0]} changed since; restore the data or choose another --workdir"
        )


def _write_report(
    directory: RunDirectory,
    run: Run,
    model: nnx.Module,
    step: int,
    machine: Mapping[str, Any],
) -> str:
    test = run.evaluator(model, "test")
    report = {**run.report(model, test, step), "machine": dict(machine)}
    text = summary(report)
    if jax.process_index() == 0:
        draw_plots(directory, run.data, test, report)
        directory.write_text(directory.summary_file, text)
        # Last, because a report.json of the final step is what marks a run as finished.
        directory.write_json(directory.report_file, report)
    return text


def _patches(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Number of cells in the feature map of an example, None for a model without a backbone."""
    backbone = getattr(getattr(model, "free", model), "backbone", None)
    field = shapes.get("context") or shapes.get("field")
    if backbone is None or field is None:
        return None
    return math.prod(backbone.grid_shape(field[1:-1]))
