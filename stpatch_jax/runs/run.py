"""One run from its configuration to its report: train, evaluate, report, plots."""

import contextlib
import dataclasses
import functools
import math
import os
import signal
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

import stpatch_jax
from stpatch_jax.data import Data
from stpatch_jax.errors import InputError, require, require_members
from stpatch_jax.files import usable
from stpatch_jax.flops import gradient_flops
from stpatch_jax.nn import Backbone, Fixed
from stpatch_jax.runs.choosing import (
    chosen_before,
    chosen_by_folds,
    fitted_at_once,
    fitted_start,
    is_fixed,
)
from stpatch_jax.runs.config import (
    InMemory,
    RunConfig,
    check_windows,
    data_of,
    in_settings,
    resolved,
)
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.judge import Judged, judges
from stpatch_jax.runs.judging.registry import kind_of
from stpatch_jax.runs.judging.report import draw_plots, summary
from stpatch_jax.runs.judging.undefined import without_undefined
from stpatch_jax.runs.judging.verdict import verdict
from stpatch_jax.runs.lock import held
from stpatch_jax.runs.pages import write_told
from stpatch_jax.runs.trained import (
    DIGESTS,
    SPLITS,
    TrainedRun,
    chosen_of,
    digests_of,
    load_run,
    require_same_data,
)
from stpatch_jax.runs.values import plain, to_values, without_arrays
from stpatch_jax.tasks import Task, transfer_backbone
from stpatch_jax.training import (
    Checkpoints,
    Disagreement,
    FitResult,
    TrainConfig,
    TrainState,
    make_mesh,
    restore_state,
    train_loop,
)
from stpatch_jax.training.callbacks import Callback, check_callbacks
from stpatch_jax.training.distributed import first_process_first, require_alike
from stpatch_jax.training.fitting import (
    batches_of,
    check_source,
    example_of,
    prepared,
    temporary_workdir,
)
from stpatch_jax.training.patience import Patience
from stpatch_jax.training.step import require_updated

# From here on people want to know what a step costs before it begins.
_DEAR_STEP, _CORE_FLOPS = 1e11, 5e10


class Run:
    """A configuration together with its data, its task and the mesh, ready to be trained.

    A data set, or what `config.data.of` makes one of, stands in place of `config.data.load()`.
    All processes of a run make one, of the same configuration, data and versions. A `mesh` of
    devices that are not here can be compiled for, see `plan`, and not trained on.

    Attributes:
        config: The configuration; what was left to the data is what they chose.
        example: A batch [1, ...] of the first example of training.
        abstract: The network, of shapes and dtypes alone.
        chosen: How each of these was chosen, by the name of its setting.

    Raises:
        InputError: The data cannot be used, or model, data and devices do not fit each other, or
            the processes differ; nothing was written.
    """

    def __init__(
        self, config: RunConfig, *, data: Data | InMemory | None = None, mesh: Mesh | None = None
    ):
        versions = {f"version of {of.__name__}": of.__version__ for of in (stpatch_jax, jax)}
        require_alike(versions | to_values(config))
        if config.train.keep_best is not None:
            config = dataclasses.replace(config, data=config.data.held_out())
        self._load(config, data)
        for split in SPLITS:
            check_source(self.data.source(split), what=f"the {split} split")
        source = self.data.source("train")
        self.example = example_of(source, what="the train split")
        self.shapes = {name: values.shape for name, values in self.example.items()}
        task: Task = config.task.create()
        require_members(task, Task, what="the task")
        self.task: Task = task.fitted(self.data)
        # What `config.data` left open is told by the data that it made.
        made = self.data is not data
        settled, self.chosen = config.data.settled(self.data) if made else (config.data, {})
        model, settings, chosen = prepared(
            self.task, config.model, config.train, self.example, examples=len(source), mesh=mesh
        )
        self.chosen = {**self.chosen, **chosen}
        config = dataclasses.replace(config, data=settled, model=model, train=settings)
        config, told = chosen_by_folds(config, self.task, self.data, self.shapes)
        if told:
            self.task = config.task.create(facts=self.task.facts)
        self.config, size = config, settings.examples
        self.mesh = mesh or make_mesh(**dataclasses.asdict(settings.mesh))
        # What cannot be written is refused before anything is.
        plain(self.task.facts, where="task.facts")
        plain(without_arrays(self.data.state())[0], where="data.state()")
        plain(self.data.report, where="data.report", finite=False)
        try:
            self.abstract = nnx.eval_shape(lambda: self.create_model(nnx.Rngs(0)))
        except InputError as error:
            shape = self.shapes[self.task.inputs[0]][1:]
            # Tokens have no channel.
            check_windows(config, self.data, shape[:-1] or shape)
            raise InputError(in_settings(str(error), config)) from error
        self.config, once = fitted_at_once(config, self.abstract)
        self.chosen |= told | once
        kept = nnx.state(self.abstract, nnx.Any(nnx.Param, Fixed))
        self.parameters = sum(x.size for x in jax.tree.leaves(kept))
        self.patches = _patches(self.abstract, self.shapes[self.task.inputs[0]])
        judge = judges.of(self.task, self.data)
        self.judge = judge(self.task, self.data, self.mesh, batch_size=size)
        self._validated: Judged | None = None

    def _load(self, config: RunConfig, given: Data | InMemory | None) -> None:
        """Takes the data, which all processes must see alike."""
        if jax.process_count() == 1:
            self.data = data_of(config, given)
            return
        try:
            self.data = data_of(config, given)
            seen = {f"{split} split of the data": name for split, name in self.digests.items()}
        except InputError as error:
            require_alike({"data": str(error)})
            raise Disagreement(str(error)) from error
        require_alike(seen)

    def create_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network for the shapes of the data."""
        return self.task.build(self.config.model, self.shapes, rngs=rngs)

    @functools.cached_property
    def create_start(self) -> Callable[[nnx.Rngs], nnx.Module]:
        """What builds the network that training starts from.

        It is random, or has a trained backbone; what is fitted at once is fitted.

        Raises:
            InputError: `start_from` names no run, or there is nothing to go on from; called, it
                raises where the backbone is another.
        """
        start = self.config.start_from
        if is_fixed(self.abstract):
            require(
                start is None,
                f"start_from must go with a network that is trained, got {start} for a model that "
                "is fitted at once; leave it out, or take a network and task.compare None",
            )
            source, seed = self.data.source("train"), self.config.train.seed
            return fitted_start(self.create_model, source, seed=seed)
        if start is None:
            return self.create_model
        pretrained: Any = load_run(start).model

        def create(rngs: nnx.Rngs) -> nnx.Module:
            model: Any = self.create_model(rngs)
            transfer_backbone(pretrained, model)
            return model

        return create

    @functools.cached_property
    def flops(self) -> int:
        """The arithmetic of one gradient of the loss on one example, see `count_flops`."""
        return gradient_flops(self.task.loss, self.abstract, self.example)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The digest of every split of the data, see `Data.digest`."""
        return digests_of(self.data)

    def extras(self) -> dict[str, Any]:
        """What a checkpoint holds beside state and arrays: what predictions of other files need."""
        return {
            "config": to_values(self.config),
            "facts": plain(self.task.facts, where="task.facts"),
            "state": plain(without_arrays(self.data.state())[0], where="data.state()"),
            DIGESTS: self.digests,
            "chosen": self.chosen,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
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
        if directory.config_file.exists():
            directory.require_same(to_values(self.config))
            self.require_data_of(directory)
            # The configuration of a run leaves nothing open any more.
            self.chosen = {**chosen_of(directory), **self.chosen}
        first_process_first(lambda: directory.claim(to_values(self.config)))

    def require_data_of(self, directory: RunDirectory) -> None:
        """Refuses data other than those that the run in a directory was trained on."""
        require_same_data(directory, self.data, self.digests)

    def fit(
        self,
        directory: RunDirectory,
        *,
        progress: bool = True,
        on_step: Callback | None = None,
        on_evaluate: Callback | None = None,
    ) -> FitResult:
        """Trains to the end in a claimed directory, or goes on there, without the test split."""
        result = train_loop(
            self.create_start,
            self.task.loss,
            batches_of(self.data.source("train"), self.config.train),
            self.config.train,
            workdir=directory.path,
            extras=self.extras(),
            arrays=without_arrays(self.data.state())[1],
            validate=self.validate,
            progress=progress,
            patches=self.patches,
            flops=lambda: self.flops,
            on_step=on_step,
            on_evaluate=on_evaluate,
        )
        if result.ended_early:
            # What was validated last is not what is left.
            self._validated = None
        return result

    def validate(self, model: nnx.Module) -> dict[str, float]:
        """The metrics of a model on the validation split; what they came from is kept.

        They are NaN where an answer of the model is not finite.
        """
        self._validated = self.judge(model, "validation")
        return self._figures(self._validated)

    def _figures(self, judged: Judged) -> dict[str, float]:
        metrics = self.judge.validation(judged)
        return dict.fromkeys(metrics, math.nan) if judged.broken else metrics

    def report(
        self, directory: RunDirectory, state: TrainState, step: int, machine: Mapping[str, Any]
    ) -> str:
        """Judges a model on the test split, writes its plots and its report, and returns the text.

        The model is the one that was validated last, if any was: that is not done again.

        Raises:
            InputError: No step has changed the model.
        """
        require_updated(state, directory.path)
        model = state.averaged()
        if self._validated is None:
            self.validate(model)
        assert self._validated is not None
        test = self.judge(model, "test", past=self._validated)
        report = {
            "recipe": self.config.recipe,
            "version": stpatch_jax.__version__,
            "task": kind_of(self.task),
            "step": step,
            **self._early_end(directory, step),
            "skipped": int(state.skipped[...]),
            "rollbacks": int(state.rollbacks[...]),
            "parameters": self.parameters,
            "patches": self.patches,
            "flops_per_example": self.flops,
            **self.judge.header(),
            **self._verdict(test),
            "chosen": self.chosen,
            "data": self.data.report,
            "validation": self._figures(self._validated),
            "test": self.judge.report(test),
            "machine": dict(machine),
        }
        judged = {"validation": self._validated, "test": test}
        report = without_undefined(plain(report, where="report", finite=False), judged)
        if jax.process_index() == 0:
            report["plots"] = draw_plots(directory, self.judge, test, report)
        text = summary(self.judge, report)
        if jax.process_index() == 0:
            write_told(directory.summary_file, text)
            # Last, because a report.json of the final step is what marks a run as finished.
            directory.write_json(directory.report_file, report)
        return text

    def finished(self, directory: RunDirectory) -> str | None:
        """The report of a run that is finished, None where it is not.

        Whatever of its files is missing is made again, without training; a directory that cannot
        be written is left as it is.

        Raises:
            InputError: The directory is another run's, or its data have changed.
        """
        report = directory.report()
        if not report or not (
            report.get("step") == self.config.train.steps or report.get("ended_early")
        ):
            return None
        directory.require_same(to_values(self.config))
        self.require_data_of(directory)
        told = directory.summary()
        text = told or summary(self.judge, report)
        if not os.access(directory.path, os.W_OK):
            return text
        files = [directory.plots / f"{name}.png" for name in report["plots"]]
        lost = not all(map(Path.exists, files))
        # Killed at its very end, a command leaves its lock.
        whole = told and directory.page_file.exists() and not lost
        if whole and not directory.has_unfinished():
            return text
        with held(directory.path):
            if lost:
                return self.report_anew(directory)
            if jax.process_index() == 0:
                write_told(directory.summary_file, text)
        return text

    def _early_end(self, directory: RunDirectory, step: int) -> dict[str, Any]:
        """What the report says of a run that `train.patience` ended."""
        train = self.config.train
        with Checkpoints(directory.checkpoints) as checkpoints:
            patience = Patience(train, checkpoints)
        if not patience.over(step):
            return {}
        told = {"keep_best": train.keep_best, "patience": train.patience, "best": patience.best}
        return {"ended_early": told}

    def _verdict(self, test: Judged) -> dict[str, Any]:
        assert self._validated is not None
        past, own = map(self.judge.losses, (self._validated, test))
        found = None if past is None or own is None else verdict(past, own)
        return {"verdict": found} if found else {}

    def report_anew(self, directory: RunDirectory, *, step: int | None = None) -> str:
        """Reports on a checkpoint, by default the latest, as `report` does."""
        with Checkpoints(directory.checkpoints) as checkpoints:
            train = self.config.train
            restored = restore_state(self.create_model, train, checkpoints, self.mesh, step=step)
        if restored is None:
            raise InputError(
                f"the run in {directory.path} must have a checkpoint, got none; train it first"
            )
        # The configuration of a run leaves nothing open any more.
        self.chosen = {**restored[2].get("chosen", {}), **self.chosen}
        machine = (directory.report() or {}).get("machine", {})
        return self.report(directory, restored[0], restored[1], machine)


class Stopped(SystemExit):
    """SIGTERM ended training once its last step was committed; it ends the program, as it asked."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def stopped_text(directory: Path) -> str:
    """What is said where SIGTERM stopped a command.

    >>> stopped_text(Path("runs/stocks"))
    'stopped by SIGTERM; the same command goes on from runs/stocks'
    """
    return f"stopped by SIGTERM; the same command goes on from {directory}"


@usable()
def train(
    config: RunConfig,
    *,
    data: Data | InMemory | None = None,
    workdir: str | Path | None = None,
    progress: bool = True,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
) -> TrainedRun:
    """Trains a run to its end, or goes on with it, and writes its report.

    `stpatch_jax.train` is this, describes the arguments, and takes the name of a recipe and single
    settings too. Of data in memory that are no data set `config.data.of` makes one.

    Raises:
        InputError: Configuration, data or directory cannot be used; nothing was overwritten.
        Stopped: SIGTERM ended the run; a checkpoint is committed.
    """
    callbacks: Any = {"on_step": on_step, "on_evaluate": on_evaluate}
    check_callbacks(**callbacks)
    config = resolved(config)
    shown = progress and jax.process_index() == 0
    with contextlib.ExitStack() as temporary:
        directory = RunDirectory(workdir or temporary_workdir(temporary))
        if shown and not workdir:
            told = f"the run lies in {directory.path} while it is in use; give workdir= to keep it"
            print(told, file=sys.stderr)
        run = Run(chosen_before(config, directory), data=data)
        text = run.finished(directory)
        if text is None:
            with held(directory.path):
                text = _trained(run, directory, shown=shown, **callbacks)
        if text is None:
            if shown and workdir:
                print(stopped_text(directory.path), file=sys.stderr)
            raise Stopped
        trained = dataclasses.replace(load_run(directory.path), report=text)
        weakref.finalize(trained, temporary.pop_all().close)
    return trained


def _trained(run: Run, directory: RunDirectory, *, shown: bool, **callbacks: Any) -> str | None:
    """The report of a run that is trained to its end; None where SIGTERM stopped it."""
    run.claim(directory)
    if shown and (cost := cost_text(run.flops, run.config.train)):
        print(cost, file=sys.stderr)
    result = run.fit(directory, progress=shown, **callbacks)
    if result.interrupted:
        return None
    return run.report(directory, result.state, result.step, result.machine)


def cost_text(flops: int, settings: TrainConfig) -> str:
    """What training computes, where a step is no matter of a moment; else nothing.

    `flops` are those of the gradient of one example. A CPU core makes some 50 GFLOP a second.

    >>> print(cost_text(20 * 10**9, TrainConfig(steps=200, batch_size=8)))
    a step is 160 GFLOP, about 3 s of a CPU core; 200 of them are 32000 GFLOP
    """
    step = flops * settings.examples
    if step < _DEAR_STEP:
        return ""
    return (
        f"a step is {step / 1e9:.3g} GFLOP, about {step / _CORE_FLOPS:.1g} s of a CPU core; "
        f"{settings.steps} of them are {settings.steps * step / 1e9:.0f} GFLOP"
    )


@usable()
def evaluate(workdir: str | Path, *, data: Data | InMemory | None = None) -> str:
    """Computes the report of a run anew from its latest checkpoint, writes and returns it.

    `workdir` is the run directory, `data` as in `train`, for a run of data in memory.

    Raises:
        InputError: The directory is no run, or has no checkpoint yet, or its data have changed:
            a report is on the data of the run, others are for `predict`.
    """
    trained = load_run(workdir)
    run = Run(trained.config, data=data)
    run.require_data_of(trained.directory)
    with held(trained.directory.path):
        return run.report_anew(trained.directory, step=trained.step)


def _patches(model: nnx.Module, field: tuple[int, ...]) -> int | None:
    """Number of cells in the feature map of an example, None for a model without a backbone."""
    modules = sorted(nnx.iter_modules(model), key=lambda found: len(found[0]))
    backbones = [module for _, module in modules if isinstance(module, Backbone)]
    return math.prod(backbones[0].grid_shape(field[1:-1])) if backbones and len(field) > 2 else None
