"""The training loop: resume, step, log, validate, save, and stop cleanly when asked to."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.errors import InputError, require
from stpatch_jax.flops import gradient_flops
from stpatch_jax.training.checkpoint import Checkpoints
from stpatch_jax.training.config import TrainConfig
from stpatch_jax.training.log import MetricsLog, progress_bar
from stpatch_jax.training.machine import Clock, Profile, figures
from stpatch_jax.training.mesh import Batch, check_batch_size, make_mesh
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
)
from stpatch_jax.training.stopping import Stop, sigterm
from stpatch_jax.training.watchdog import Watchdog

Validate = Callable[[Any], Mapping[str, float]]

ROLLBACKS = 3
"""How often a run goes back to a checkpoint before it gives up."""

PATIENCE = 10
"""How many times the timeout of a step anything else may take."""


def most_steps_lost(checkpoint_every: int) -> int:
    """How many steps a kill can cost: an interval, and those that a save may take to be committed.

    >>> most_steps_lost(100)
    125
    """
    return checkpoint_every + _longest_save(checkpoint_every)


def _longest_save(checkpoint_every: int) -> int:
    """Steps that may begin beside a save: a quarter of the interval, rounded up."""
    return -(-checkpoint_every // 4)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` leaves.

    Attributes:
        state: Model, optimiser and counts of what was not finite, on the devices.
        step: The global step it stands at; a checkpoint of it is committed.
        interrupted: Whether SIGTERM ended the run before `config.steps`.
        validation: What `validate` measured after that step, the same in a run that is called again
            when it is finished; None where it was not due, or there is none.
        best_step: The step of the checkpoint that `config.keep_best` keeps, None where none is.
        machine: Figures that depend on the machine: `platform`, `device_kind`, `devices`,
            `processes`, `compile_seconds` (until the first step was done),
            `steps_per_second`, `samples_per_second` and `patches_per_second` (without compilation,
            validation and saving; None below two steps), `flops_per_second` (of the model: matrix
            products and convolutions, recomputation not counted), `share_of_peak` (None where the
            peak of the device is not known), `step_memory_bytes` (what the compiled step of a batch
            needs on one device, see `compiled_bytes`), `memory_peak_bytes` (of one device; None
            where it does not tell), `validation_seconds`, `save_seconds` (for which saving held up
            the loop).
    """

    state: TrainState
    step: int
    interrupted: bool
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

    What to judge and to use of it is `state.averaged()`.

    Returns:
        The state, its global step and the extras saved with it; None where nothing was saved.

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


def fit(
    create_model: CreateModel,
    loss_fn: LossFunction,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    *,
    workdir: Path,
    extras: Mapping[str, Any],
    arrays: Mapping[str, Any] | None = None,
    validate: Validate | None = None,
    progress: bool = True,
    patches: int | None = None,
) -> FitResult:
    """Trains to `config.steps`, from the latest checkpoint in `workdir` or from the start.

    A run that was killed at any moment and is called again with the same arguments ends with the
    same bits, in the state and in `metrics.jsonl`, as one that never stopped (same devices, same
    number of CPU cores). The whole run is under `jax.set_mesh`, `validate` included.

    A save goes on beside the steps after it. A quarter of `config.checkpoint_every` (rounded up) of
    them may begin, then the loop waits until it is committed: a kill costs at most those steps and
    one interval.

    Files: `workdir/checkpoints/STEP` every `config.checkpoint_every` steps and at the last;
    `workdir/metrics.jsonl`, one object a step with `step`, `loss`, `grad_norm`, `skipped` and
    `rollbacks` (so far), the metrics of `loss_fn` and, where validated, those as `validation/NAME`;
    the same for TensorBoard in `workdir/tensorboard` where tensorboardX is installed; with
    `config.profile`, `workdir/profile`.

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

    Returns:
        The trained state and what became of the run.

    Raises:
        InputError: If the batch does not split over the devices, the directory cannot be written,
            the checkpoint is damaged, beyond `config.steps` or of another configuration, or if a
            loss or gradient is not finite and `config.on_nonfinite` does not let it go on, or if
            `config.keep_best` names a metric that `validate` does not give.
    """
    mesh = make_mesh(**dataclasses.asdict(config.mesh))
    check_batch_size(config.batch_size, mesh, accumulate=config.accumulate)
    require(
        validate is not None or config.keep_best is None,
        f"train.keep-best needs a validation, but this run has none and it is "
        f"{config.keep_best!r}; leave it out",
    )
    # What cannot be built or saved fails here, before anything is written.
    abstract_state(create_model, config, mesh)
    to_bytes(arrays or {})
    workdir = Path(workdir).absolute()
    every = config.checkpoint_every if config.on_nonfinite == "rollback" else None
    saved = Checkpoints(
        workdir / "checkpoints",
        keep=config.keep_checkpoints,
        best=config.keep_best,
        every=every,
    )
    # Left last to first: the watchdog also watches the last save being committed.
    with (
        Watchdog(config.step_timeout) as watchdog,
        sigterm(mesh) as stop,
        jax.set_mesh(mesh),
        saved,
    ):
        restored = restore_state(create_model, config, saved, mesh)
        state, start = restored[:2] if restored else (create_state(create_model, config, mesh), 0)
        if start > config.steps:
            raise InputError(
                f"train.steps must be at least {start}, where the checkpoint in {workdir} stands, "
                f"but it is {config.steps}; raise it or choose another --workdir"
            )
        beside = {"extras": extras, "arrays": arrays}
        run = _Run(create_model, config, mesh, state, saved, beside, validate, watchdog, stop)
        profile = Profile(workdir / "profile" if config.profile else None)
        train_step = make_train_step(
            loss_fn, mesh, accumulate=config.accumulate, remat=config.remat, ema=config.ema
        )
        with (
            MetricsLog(workdir / "metrics.jsonl", start) as run.log,
            progress_bar(config.steps, start, shown=progress) as run.bar,
            contextlib.closing(profile),
            contextlib.closing(prefetch_to_mesh(batches(start), mesh)) as placed,
        ):
            end = run.train(train_step, placed, start, profile)
        with run.phase("save"):
            saved.wait()
        best = saved.best_step(config.keep_best) if config.keep_best else None
        validation = saved.metrics(end) or None
    machine = figures(
        mesh,
        run.clock,
        end - start,
        examples=config.batch_size,
        patches=patches,
        flops=gradient_flops(loss_fn, run.state.model, run.shapes) if run.shapes else None,
        memory=run.memory,
    )
    return FitResult(run.state, end, end < config.steps, validation, best, machine)


@dataclasses.dataclass
class _Run:
    """One call of `fit`: what its steps share."""

    create_model: CreateModel
    config: TrainConfig
    mesh: Mesh
    state: TrainState
    checkpoints: Checkpoints
    beside: Mapping[str, Any]
    validate: Validate | None
    watchdog: Watchdog
    stop: Stop
    log: Any = None
    bar: Any = None
    shapes: Batch | None = None
    memory: int | None = None
    held: int | None = None  # The step that must not begin before the last save is committed.
    clock: Clock = dataclasses.field(default_factory=Clock)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times and watches what the run waits for."""
        patience = 1 if name == "step" else PATIENCE
        label = "first step" if name == "compile" else name
        with self.clock(name), self.watchdog.watching(label, patience=patience):
            yield

    def train(
        self,
        train_step: TrainStep,
        batches: Iterator[Batch],
        start: int,
        profile: Profile,
    ) -> int:
        """Takes the steps after `start`; returns the last one taken."""
        waiting = None
        for step in range(start + 1, self.config.steps + 1):
            if step == self.held:
                with self.phase("save"):
                    self.checkpoints.wait()
            profile.before_step()
            with self.phase("step" if step > start + 1 else "compile"):
                batch = next(batches)
                metrics = train_step(self.state, batch)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    self.memory = train_step.memory(self.state, batch)
                stopping = self.stop.agreed()
                # The metrics of the step before: the device already works on this one.
                if waiting and self._finish(*waiting):
                    # It was not finite, so this one has begun from what is no longer the state.
                    metrics = train_step(self.state, batch)
            profile.after_step(metrics)
            if self.shapes is None:
                self.shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
            waiting = (step, metrics)
            saves = stopping or self._due(step, self.config.checkpoint_every)
            if saves or self._due(step, self.config.evaluate_every):
                self._settle(step, metrics, saves)
                waiting = None
            self.bar.update()
            if stopping:
                return step
        return self.config.steps

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.steps

    def _settle(self, step: int, metrics: Metrics, saves: bool) -> None:
        """Waits for a step, then validates and saves it where that is due.

        In this order, so that whatever a checkpoint stands for is in the log before it.
        """
        with self.phase("step"):
            jax.block_until_ready(metrics)
        values, _ = self._fetch(step, metrics)
        measured: Mapping[str, float] = {}
        if self.validate and self._due(step, self.config.evaluate_every):
            with self.phase("validation"):
                # A model of its own: its counters may move, ours do not.
                measured = self.validate(self.state.averaged())
                measured = {name: float(value) for name, value in measured.items()}
            self._require_best(measured)
        self._write(step, values, measured)
        if saves:
            with self.phase("save"):
                self.log.sync()
                self.checkpoints.save(step, nnx.state(self.state), **self.beside, metrics=measured)
                self.held = step + _longest_save(self.config.checkpoint_every) + 1

    def _require_best(self, measured: Mapping[str, float]) -> None:
        name = (self.config.keep_best or "").partition(":")[2]
        require(
            not name or name in measured,
            f"train.keep-best must name a metric of the validation, one of "
            f"{', '.join(measured)}, but it is {self.config.keep_best!r}; name one of them",
        )

    def _finish(self, step: int, metrics: Metrics) -> bool:
        """Logs a finished step; whether the state went back to a checkpoint because of it."""
        values, back = self._fetch(step, metrics)
        self._write(step, values, {})
        return back

    def _fetch(self, step: int, metrics: Metrics) -> tuple[dict[str, Any], bool]:
        """The metrics of a finished step; rolls back or aborts here if it was not finite."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        mode = self.config.on_nonfinite
        if values.pop("finite") or mode == "skip":
            return values, False
        if mode == "rollback" and values["rollbacks"] < ROLLBACKS:
            return values | self._roll_back(step, values["rollbacks"] + 1), True
        self._write(step, values, {})
        advice = "pass --train.on-nonfinite skip"
        if mode == "rollback":
            advice = f"look into the batches since; it was rolled back {ROLLBACKS} times before"
        raise InputError(
            f"loss and gradient must be finite, but at step {step} the loss is {values['loss']} "
            f"and the norm of the gradient {values['grad_norm']}; lower "
            f"train.optimizer.learning-rate, look at the data, or {advice}"
        )

    def _roll_back(self, step: int, rollbacks: int) -> dict[str, int]:
        """Goes back to the last checkpoint due before a step, but not back in the data.

        Not simply to the last checkpoint: one that SIGTERM left must not change what comes out.
        """
        due = (step - 1) // self.config.checkpoint_every * self.config.checkpoint_every
        with self.phase("save"):
            self.checkpoints.wait()
            for leaf in jax.tree.leaves(nnx.state(self.state)):
                leaf.delete()  # There may be no room for two states.
            arguments = (self.create_model, self.config)
            restored = due and restore_state(*arguments, self.checkpoints, self.mesh, step=due)
            before = restored[0] if restored else create_state(*arguments, self.mesh)
            # Into the same modules: the step is compiled for them.
            nnx.update(self.state, nnx.state(before))
        counts = {"skipped": int(self.state.skipped[...]) + step - due, "rollbacks": rollbacks}
        for name, count in counts.items():
            variable = getattr(self.state, name)
            variable[...] = jax.device_put(np.int32(count), variable[...].sharding)
        return counts

    def _write(self, step: int, values: dict[str, Any], measured: Mapping[str, float]) -> None:
        head = {name: values[name] for name in ("loss", "grad_norm", "skipped", "rollbacks")}
        validation = {f"validation/{name}": x for name, x in measured.items()}
        self.log.write({"step": step, **head, **values, **validation})
        self.bar.set_postfix(loss=f"{head['loss']:.4g}", refresh=False)
