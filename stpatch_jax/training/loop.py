"""The training loop: resume, step, log, validate, save, and stop cleanly when asked to."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from tqdm import tqdm

from stpatch_jax.errors import InputError, require
from stpatch_jax.flops import gradient_flops
from stpatch_jax.training.callbacks import Callback, check_callbacks
from stpatch_jax.training.checkpoint import Checkpoints
from stpatch_jax.training.config import TrainConfig
from stpatch_jax.training.distributed import of_every_process, require_alike
from stpatch_jax.training.log import MetricsLog, progress_bar
from stpatch_jax.training.machine import Profile, machine_metrics
from stpatch_jax.training.mesh import Batch, check_batch_size, make_mesh
from stpatch_jax.training.patience import Patience
from stpatch_jax.training.prefetch import prefetch_to_mesh
from stpatch_jax.training.record import to_bytes
from stpatch_jax.training.step import (
    CreateModel,
    LossFunction,
    Metrics,
    TrainState,
    TrainStep,
    abstract_state,
    create_state,
    make_train_step,
    require_updated,
)
from stpatch_jax.training.stopping import Stop
from stpatch_jax.training.watchdog import Watchdog

Validate = Callable[[Any], Mapping[str, float]]

ROLLBACKS = 3
"""How often a run goes back to a checkpoint before it gives up."""

_SLOWER = 10
"""How many times the timeout of a step anything else may take."""


def most_steps_lost(checkpoint_every: int) -> int:
    """How many steps a kill can cost: an interval, and those beside a save, see `train_loop`."""
    return checkpoint_every + _longest_save(checkpoint_every)


def _longest_save(checkpoint_every: int) -> int:
    """Steps that may begin beside a save: a quarter of the interval, rounded up."""
    return -(-checkpoint_every // 4)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` and `train_loop` leave.

    Attributes:
        state: Model, optimiser and counts of what was not finite, on the devices.
        step: The global step it stands at; a checkpoint of it is committed.
        interrupted: Whether SIGTERM ended the run before `config.steps`.
        ended_early: Whether `config.patience` ended it; the state is then that of `best_step`.
        validation: What `validate` measured of the state, the same in a run that is called again
            when it is finished; None where it was not due, or there is none.
        best_step: The step of the checkpoint that `config.keep_best` keeps, None where none is.
        machine: What depends on the machine, see `stpatch_jax.training.machine.machine_metrics`.
    """

    state: TrainState
    step: int
    interrupted: bool
    ended_early: bool
    validation: dict[str, float] | None
    best_step: int | None
    machine: dict[str, Any]

    @property
    def model(self) -> Any:
        """The trained model; with `config.ema`, that of the averaged weights."""
        return self.state.averaged()


def restore_state(
    create_model: CreateModel,
    config: TrainConfig,
    checkpoints: Checkpoints,
    mesh: Mesh,
    *,
    step: int | None = None,
) -> tuple[TrainState, int, dict[str, Any]] | None:
    """Restores a committed checkpoint, by default the latest, onto any mesh.

    Returns the state, of which `state.averaged()` is to be judged and used, its global step and the
    extras saved with it; None where nothing was saved.

    Raises:
        InputError: If the checkpoint is damaged, or `create_model` and `config` make another state.
    """
    step = checkpoints.latest_step if step is None else step
    if step is None:
        return None
    graphdef, abstract = abstract_state(create_model, config, mesh)
    # Orbax aborts the process if it meets a mesh that is not current.
    with jax.set_mesh(mesh):
        state, extras = checkpoints.restore(step, abstract)
        return nnx.merge(graphdef, state), step, extras


def train_loop(
    create_model: CreateModel,
    loss_fn: LossFunction,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    *,
    workdir: Path,
    extras: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Any] | None = None,
    validate: Validate | None = None,
    progress: bool = True,
    patches: int | None = None,
    flops: Callable[[], int] | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
) -> FitResult:
    """Trains to `config.steps`, from the latest checkpoint in `workdir` or from the start.

    With `config.patience` it may end before; called again, it has ended.

    A run that was killed at any moment and is called again with the same arguments ends with the
    same bits, in the state and in `metrics.jsonl`, as one that never stopped (same devices, same
    number of CPU cores). The whole run is under `jax.set_mesh`, `validate` included.

    A save goes on beside the steps after it. A quarter of `config.checkpoint_every` (rounded up) of
    them may begin, then the loop waits until it is committed: a kill costs those and one interval.

    Files: `workdir/checkpoints/STEP` every `config.checkpoint_every` steps and at the last;
    `workdir/metrics.jsonl` and, as `MetricsLog` says, `workdir/tensorboard`: at each step `loss`,
    `grad_norm`, `skipped` and `rollbacks` (so far), the metrics of `loss_fn` and, where validated,
    those as `validation/NAME`; with `config.profile`, `workdir/profile`.

    A run that rolls back goes on after the step that was not finite, with the state of the last
    checkpoint due before it; all batches since that checkpoint count as skipped. The spike of a
    loss mostly begins before it is infinite, which is why more than one batch is left out
    (Chowdhery et al., "PaLM: scaling language modeling with pathways", 2022, section 5.1).

    Args:
        create_model: Makes the network from its PRNG streams.
        loss_fn: `(model, batch) -> (loss, metrics)`; the loss a mean over the global batch.
        batches: `batches(s)` iterates over the global batches of steps s + 1, s + 2, ...; this
            process's part of them. It must depend on nothing but `s`, and be cheap for a large one.
        config: How to train. Only `steps` may have grown since the checkpoint.
        workdir: The run directory; made where it is missing.
        extras: Goes into every checkpoint as JSON: what a reader of it needs to know.
        arrays: Goes into every checkpoint too, see `Checkpoints.save`: NumPy arrays fitted to the
            data, which `Checkpoints.arrays` gives back.
        validate: `model -> {name: value}`, given what `FitResult.model` would be, every
            `config.evaluate_every` steps and once after the last. What it does to the model's
            state does not reach the training; arrays of the model are only valid until it returns.
        progress: Whether to show a bar on stderr.
        patches: Patches of an example, where known, for `patches_per_second`.
        flops: Gives the arithmetic of the gradient of the loss on an example, counted without it.
        on_step: Called as `on_step(step, metrics)`, see `stpatch_jax.training.callbacks`.
        on_evaluate: Called as `on_evaluate(step, validation)`, likewise.

    Returns:
        The trained state and what became of the run.

    Raises:
        InputError: If the batch does not split over the devices, the processes of the run differ in
            configuration, extras or checkpoint, the directory cannot be written, the checkpoint is
            damaged, beyond `config.steps` or of another configuration, or if a loss or gradient is
            not finite and `config.on_nonfinite` does not let it go on, or if `config.keep_best`
            names a metric that `validate` does not give, or if they were finite in no step at all.
    """
    check_callbacks(on_step=on_step, on_evaluate=on_evaluate)
    mesh = make_mesh(**dataclasses.asdict(config.mesh))
    check_batch_size(config.examples, mesh, accumulate=config.accumulate)
    require(
        validate is not None or config.keep_best is None,
        f"train.keep_best must come with a validation, got {config.keep_best!r} and none; leave it "
        "out",
    )
    # What cannot be built or saved fails here, before anything is written.
    abstract = abstract_state(create_model, config, mesh)
    to_bytes(arrays or {})
    workdir = Path(workdir).absolute()
    every = config.checkpoint_every if config.on_nonfinite == "rollback" else None
    keep, best = config.keep_checkpoints, config.keep_best
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep, best=best, every=every)

    def state_at(step: int) -> TrainState:
        restored = step and restore_state(create_model, config, checkpoints, mesh, step=step)
        return restored[0] if restored else create_state(create_model, config, mesh)

    train_step = make_train_step(
        loss_fn, mesh, accumulate=config.accumulate, remat=config.remat, ema=config.ema
    )
    # Left last to first: the watchdog also watches the last save being committed.
    watchdog = Watchdog(config.step_timeout)
    with watchdog, contextlib.closing(Stop(mesh)) as stop, jax.set_mesh(mesh), checkpoints:
        phase = _Phases(watchdog)
        start = _start(checkpoints, config, workdir, extras or {})
        with (
            MetricsLog(workdir / "metrics.jsonl", start) as log,
            progress_bar(config.steps, start, shown=progress) as bar,
            contextlib.closing(Profile(workdir / "profile" if config.profile else None)) as profile,
            contextlib.closing(prefetch_to_mesh(batches(start), mesh)) as placed,
        ):
            callbacks, patience = (on_step, on_evaluate), Patience(config, checkpoints)
            ended = start == config.steps or patience.over(start)
            make = functools.partial(state_at, start)
            state, ahead = _begun(make, abstract, None if ended else train_step, placed, phase)
            save = functools.partial(checkpoints.save, extras=extras or {}, arrays=arrays)
            shared = (state_at, checkpoints, save, validate, phase, stop, log, bar)
            run = _Run(config, state, *shared, callbacks, patience)
            end = start if ended else run.train(train_step, ahead, start, profile)
        with phase("save"):
            checkpoints.wait()
        best = checkpoints.best_step(config.keep_best) if config.keep_best else None
        validation = checkpoints.metrics(end) or None
    early = patience.over(end)
    if early or end == config.steps:
        require_updated(state, workdir)
    count = flops or functools.partial(gradient_flops, loss_fn, state.model, run.shapes)
    cost: Any = {"flops": count() if run.shapes else None, "memory": run.memory}
    cost |= {"examples": config.examples, "patches": patches}
    machine = machine_metrics(mesh, phase.seconds, end - start, **cost)
    interrupted = end < config.steps and not early
    return FitResult(state, end, interrupted, early, validation, best, machine)


def _start(
    checkpoints: Checkpoints, config: TrainConfig, workdir: Path, extras: Mapping[str, Any]
) -> int:
    """The step that all processes go on from, which must not lie beyond the last one."""
    start = checkpoints.latest_step or 0
    settings = {"train": dataclasses.asdict(config), **extras}
    require_alike({"step of the last checkpoint": start, **settings})
    require(
        start <= config.steps,
        f"train.steps must be at least {start}, where the checkpoint in {workdir} stands, got "
        f"{config.steps}; raise it or choose another workdir=",
    )
    return start


def _begun(
    make: Callable[[], TrainState],
    abstract: tuple[nnx.GraphDef[TrainState], nnx.State],
    train_step: TrainStep | None,
    batches: Iterator[Batch],
    phase: "_Phases",
) -> tuple[TrainState, Iterator[Batch]]:
    """The state, made while the step that is to be taken compiles, and the batches, none taken."""
    graphdef, shapes = abstract
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="state") as beside:
        made = beside.submit(make)
        if train_step:
            with phase("compile"):
                first = next(batches)
                train_step.lower(nnx.merge(graphdef, shapes), first).compile()
            batches = itertools.chain([first], batches)
        # In the modules that the step was compiled for.
        return nnx.merge(graphdef, nnx.state(made.result())), batches


class _Phases:
    """Times and watches what a run waits for: `with phase("save"): ...`."""

    def __init__(self, watchdog: Watchdog):
        self._watchdog = watchdog
        self.seconds: dict[str, float] = {"compile": 0, "step": 0, "validation": 0, "save": 0}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        patience = 1 if name == "step" else _SLOWER
        label = "first step" if name == "compile" else name
        start = time.perf_counter()
        with self._watchdog.watching(label, patience=patience):
            yield
        self.seconds[name] += time.perf_counter() - start


@dataclasses.dataclass
class _Run:
    """What the steps of one call of `train_loop` share."""

    config: TrainConfig
    state: TrainState
    state_at: Callable[[int], TrainState]
    checkpoints: Checkpoints
    save: Callable[..., None]
    validate: Validate | None
    phase: _Phases
    stop: Stop
    log: MetricsLog
    bar: tqdm
    callbacks: tuple[Callback | None, Callback | None]
    patience: Patience
    barrier: int = 0
    """The step that must not begin before the last save is committed."""
    shapes: Batch | None = None
    """Of the first batch, for the arithmetic of a step."""
    memory: int | None = None
    """Bytes of the compiled step."""

    def train(
        self, train_step: TrainStep, batches: Iterator[Batch], start: int, profile: Profile
    ) -> int:
        """Takes the steps after `start`; returns the last one taken.

        The host is one step behind the device: it fetches and logs the metrics of a step once the
        next one is dispatched, so that the device does not wait for it. Only a step that is
        validated or saved is waited for.
        """
        late = None
        for step in range(start + 1, self.config.steps + 1):
            if step == self.barrier:
                with self.phase("save"):
                    self.checkpoints.wait()
            profile.before_step()
            with self.phase("step" if step > start + 1 else "compile"):
                batch = next(batches)
                metrics = train_step(self.state, batch)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    # Before it there is nothing to save, and a compilation may be long.
                    self.stop.listen()
                    self.memory = train_step.memory(self.state, batch)
                    self.shapes = jax.tree.map(
                        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch
                    )
                # A collective among processes: all ask at this place, once a step.
                stopping = self.stop.agreed()
                if late and self._finish(*late):
                    # It was not finite, so this one has begun from what is no longer the state.
                    metrics = train_step(self.state, batch)
            profile.after_step(metrics)
            late = (step, metrics)
            evaluates = self._due(step, self.config.evaluate_every)
            saves = stopping or self._due(step, self.config.checkpoint_every)
            if saves or evaluates:
                counted = evaluates and self.config.patience is not None
                self._settle(step, metrics, saves or counted)
                late = None
            self.bar.update()
            if stopping or self.patience.over(step):
                return step
        return self.config.steps

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.steps

    def _finish(self, step: int, metrics: Metrics) -> bool:
        """Logs a finished step; whether the state went back to a checkpoint because of it."""
        values, back = self._fetch(step, metrics)
        self._write(step, values)
        return back

    def _settle(self, step: int, metrics: Metrics, saves: bool) -> None:
        """Waits for a step, then validates, logs and saves it where that is due."""
        # In this order, so that whatever a checkpoint stands for is in the log before it.
        with self.phase("step"):
            jax.block_until_ready(metrics)
        values, _ = self._fetch(step, metrics)
        validation = None
        if self.validate and self._due(step, self.config.evaluate_every):
            with self.phase("validation"):
                # A model of its own: its counters may move, ours do not.
                validation = _of_first_process(self.validate(self.state.averaged()))
            name = (self.config.keep_best or "").partition(":")[2]
            require(
                not name or name in validation,
                f"train.keep_best must name a metric of the validation, one of "
                f"{', '.join(validation)}, got {self.config.keep_best!r}; name one of them",
            )
            self.patience.see(step, validation)
        self._write(step, values, validation)
        best = self.patience.best
        if best is not None and self.patience.over(step):
            self._go_back(best)
            self._recount({name: values[name] for name in ("skipped", "rollbacks")})
            validation = self.checkpoints.metrics(best)
        if saves:
            with self.phase("save"):
                self.log.sync()
                self.save(step, nnx.state(self.state), metrics=validation)
                self.barrier = step + _longest_save(self.config.checkpoint_every) + 1

    def _fetch(self, step: int, metrics: Metrics) -> tuple[dict[str, Any], bool]:
        """The metrics of a finished step; rolls back or aborts here if it was not finite."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        mode = self.config.on_nonfinite
        if values.pop("finite") or mode == "skip":
            return values, False
        if mode == "rollback" and values["rollbacks"] < ROLLBACKS:
            return values | self._roll_back(step, values["rollbacks"] + 1), True
        self._write(step, values)
        advice = "set train.on_nonfinite to skip"
        if mode == "rollback":
            advice = f"look into the batches since; it was rolled back {ROLLBACKS} times before"
        raise InputError(
            f"loss and gradient must be finite, got a loss of {values['loss']} and a norm of "
            f"{values['grad_norm']} at step {step}; lower train.optimizer.learning_rate, look at "
            f"the data, or {advice}"
        )

    def _roll_back(self, step: int, rollbacks: int) -> dict[str, int]:
        """Goes back to the last checkpoint due before a step, but not back in the data."""
        # Not simply to the last checkpoint: one that SIGTERM left must not change what comes out.
        due = (step - 1) // self.config.checkpoint_every * self.config.checkpoint_every
        self._go_back(due)
        counts = {"skipped": int(self.state.skipped[...]) + step - due, "rollbacks": rollbacks}
        self._recount(counts)
        return counts

    def _go_back(self, step: int) -> None:
        """Takes the state of a checkpoint, or of the start."""
        with self.phase("save"):
            self.checkpoints.wait()
            for leaf in jax.tree.leaves(nnx.state(self.state)):
                leaf.delete()  # There may be no room for two states.
            # Into the same modules: the step is compiled for them.
            nnx.update(self.state, nnx.state(self.state_at(step)))

    def _recount(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            variable = getattr(self.state, name)
            variable[...] = jax.device_put(np.int32(count), variable[...].sharding)

    def _write(
        self, step: int, values: dict[str, Any], validation: dict[str, float] | None = None
    ) -> None:
        head = {name: values[name] for name in ("loss", "grad_norm", "skipped", "rollbacks")}
        measured = {f"validation/{name}": value for name, value in (validation or {}).items()}
        self.log.write({"step": step, **head, **values, **measured})
        self.bar.set_postfix(loss=f"{head['loss']:.4g}", refresh=False)
        on_step, on_evaluate = self.callbacks
        if jax.process_index() == 0:
            if on_step:
                on_step(step, {**head, **values})
            if on_evaluate and validation is not None:
                on_evaluate(step, dict(validation))


def _of_first_process(measured: Mapping[str, float]) -> dict[str, float]:
    """What was measured, by the numbers of the first process, so that all decide alike."""
    validation = {name: float(value) for name, value in measured.items()}
    if jax.process_count() == 1:
        return validation
    first = of_every_process(np.array([*validation.values()], np.float64).tobytes())[0]
    return dict(zip(validation, np.frombuffer(first).tolist(), strict=True))
