"""The training loop: resume, step, log, validate, save, and stop cleanly when asked to."""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.errors import InputError
from stpatch_jax.training.checkpoint import Checkpoints
from stpatch_jax.training.config import TrainConfig
from stpatch_jax.training.log import MetricsLog, progress_bar
from stpatch_jax.training.mesh import Batch, check_batch_size, make_mesh, shard_batch
from stpatch_jax.training.step import (
    CreateModel,
    LossFunction,
    Metrics,
    TrainState,
    abstract_state,
    create_state,
    make_train_step,
)

Validate = Callable[[Any], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` leaves.

    Attributes:
        state: Model, optimiser and count of skipped updates, on the devices.
        step: The global step it stands at; a checkpoint of it is committed.
        interrupted: Whether SIGTERM ended the run before `config.steps`.
        machine: Figures that depend on the machine: `platform`, `device_kind`, `devices`,
            `processes`, `compile_seconds` (until the first step was dispatched), `steps_per_second`
            (without compilation, validation and saving; None below two steps),
            `validation_seconds`, `save_seconds` (for which saving held up the loop).
    """

    state: TrainState
    step: int
    interrupted: bool
    machine: dict[str, Any]

    @property
    def model(self) -> nnx.Module:
        """The trained model."""
        return self.state.model


def restore_state(
    create_model: CreateModel, config: TrainConfig, checkpoints: Checkpoints, mesh: Mesh
) -> tuple[TrainState, int, dict[str, Any]] | None:
    """Restores the latest committed checkpoint onto a mesh, which may differ from its own.

    Returns:
        The state, its global step and the extras saved with it; None where nothing was saved.

    Raises:
        InputError: If the checkpoint is damaged, or `create_model` and `config` make another state.
    """
    step = checkpoints.latest_step
    if step is None:
        return None
    graphdef, abstract = abstract_state(create_model, config, mesh)
    # Orbax aborts the process if it meets a mesh that is not current.
    with jax.set_mesh(mesh):
        state, extras = checkpoints.restore(step, abstract)
        return nnx.merge(graphdef, state), step, extras


@contextlib.contextmanager
def _sigterm_flag() -> Iterator[threading.Event]:
    """An event that SIGTERM sets instead of ending the process; handlers live in main threads."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


class _Clock:
    """Adds up the seconds spent under each name."""

    def __init__(self) -> None:
        self.seconds = {"step": 0.0, "compile": 0.0, "validation": 0.0, "save": 0.0}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def machine(self, mesh: Mesh, steps: int) -> dict[str, Any]:
        device = mesh.devices.flat[0]
        rate = (steps - 1) / self.seconds["step"] if steps > 1 else None
        return {
            "platform": device.platform,
            "device_kind": device.device_kind,
            "devices": mesh.size,
            "processes": jax.process_count(),
            "compile_seconds": self.seconds["compile"],
            "steps_per_second": rate,
            "validation_seconds": self.seconds["validation"],
            "save_seconds": self.seconds["save"],
        }


def fit(
    create_model: CreateModel,
    loss_fn: LossFunction,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    *,
    workdir: Path,
    extras: Mapping[str, Any],
    validate: Validate | None = None,
    progress: bool = True,
) -> FitResult:
    """Trains to `config.steps`, from the latest checkpoint in `workdir` or from the start.

    A run that was killed at any moment and is called again with the same arguments ends with the
    same bits, in the state and in `metrics.jsonl`, as one that never stopped (same devices, same
    number of CPU cores). The whole run is under `jax.set_mesh`, `validate` included.

    Files: `workdir/checkpoints/STEP` every `config.checkpoint_every` steps and at the last;
    `workdir/metrics.jsonl`, one object a step with `step`, `loss`, `grad_norm`, `skipped` (so far),
    the metrics of `loss_fn` and, where validated, those as `validation/NAME`.

    Args:
        create_model: Makes the network from its PRNG streams.
        loss_fn: `(model, batch) -> (loss, metrics)`; the loss a mean over the global batch.
        batches: `batches(s)` iterates over the global batches of steps s + 1, s + 2, ...; this
            process's part of them. It must depend on nothing but `s`, and be cheap for a large one.
        config: How to train. Only `steps` may have grown since the checkpoint.
        workdir: The run directory; made where it is missing.
        extras: Goes into every checkpoint as JSON: what a reader of it needs to know.
        validate: `model -> {name: value}`, called every `config.evaluate_every` steps and at the
            last. What it does to the model's state does not reach the training; arrays of the model
            are only valid until it returns.
        progress: Whether to show a bar on stderr.

    Returns:
        The trained state and what became of the run.

    Raises:
        InputError: If the batch does not split over the devices, the directory cannot be written,
            the checkpoint is damaged, beyond `config.steps` or of another configuration, or if a
            loss or gradient is not finite and `config.on_nonfinite` is `abort`.
    """
    mesh = make_mesh(fsdp=config.fsdp)
    check_batch_size(config.batch_size, mesh)
    # A model that cannot be built fails here, before anything is written.
    abstract_state(create_model, config, mesh)
    workdir = Path(workdir).absolute()
    with (
        _sigterm_flag() as stop,
        jax.set_mesh(mesh),
        Checkpoints(workdir / "checkpoints", keep=config.keep_checkpoints) as checkpoints,
    ):
        restored = restore_state(create_model, config, checkpoints, mesh)
        state, start = restored[:2] if restored else (create_state(create_model, config, mesh), 0)
        if start > config.steps:
            raise InputError(
                f"train.steps must be at least {start}, where the checkpoint in {workdir} stands, "
                f"but it is {config.steps}; raise it or choose another --workdir"
            )
        with MetricsLog(workdir / "metrics.jsonl", start) as log:
            run = _Run(config, mesh, state, log, checkpoints, extras, validate)
            train_step = make_train_step(loss_fn, mesh)
            with progress_bar(config.steps, start, shown=progress) as bar:
                end = run.train(train_step, batches(start), start, stop, bar)
    return FitResult(state, end, end < config.steps, run.clock.machine(mesh, end - start))


@dataclasses.dataclass
class _Run:
    """One call of `fit`: what its steps share."""

    config: TrainConfig
    mesh: Mesh
    state: TrainState
    log: MetricsLog
    checkpoints: Checkpoints
    extras: Mapping[str, Any]
    validate: Validate | None
    clock: _Clock = dataclasses.field(default_factory=_Clock)

    def train(
        self,
        train_step: Callable[[TrainState, Batch], Metrics],
        batches: Iterator[Batch],
        start: int,
        stop: threading.Event,
        bar: Any,
    ) -> int:
        """Takes the steps after `start`; returns the last one taken."""
        waiting = None
        for step in range(start + 1, self.config.steps + 1):
            with self.clock("step" if step > start + 1 else "compile"):
                metrics = train_step(self.state, shard_batch(next(batches), self.mesh))
                # The metrics of the step before: the device already works on this one.
                if waiting:
                    self._write(*waiting, bar)
            waiting, stopping = (step, metrics), stop.is_set()
            saves = stopping or self._due(step, self.config.checkpoint_every)
            if saves or self._due(step, self.config.evaluate_every):
                self._settle(step, metrics, saves, bar)
                waiting = None
            bar.update()
            if stopping:
                return step
        return self.config.steps

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.steps

    def _settle(self, step: int, metrics: Metrics, saves: bool, bar: Any) -> None:
        """Waits for a step, then validates and saves it where that is due.

        In this order, so that whatever a checkpoint stands for is in the log before it.
        """
        with self.clock("step"):
            jax.block_until_ready(metrics)
        measured = {}
        if self.validate and self._due(step, self.config.evaluate_every):
            with self.clock("validation"):
                # A model of its own on the same arrays: its counters may move, ours do not.
                measured = self.validate(nnx.merge(*nnx.split(self.state.model), copy=True))
        self._write(step, metrics, bar, measured)
        if saves:
            with self.clock("save"):
                self.log.sync()
                self.checkpoints.save(step, nnx.state(self.state), self.extras)

    def _write(
        self, step: int, metrics: Metrics, bar: Any, measured: Mapping[str, float] | None = None
    ) -> None:
        """Logs a finished step; aborts here if it was not finite and the run is not to go on."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        finite = values.pop("finite")
        head = {name: values.pop(name) for name in ("loss", "grad_norm", "skipped")}
        validation = {f"validation/{name}": float(x) for name, x in (measured or {}).items()}
        self.log.write({"step": step, **head, **values, **validation})
        bar.set_postfix(loss=f"{head['loss']:.4g}", refresh=False)
        if not finite and self.config.on_nonfinite == "abort":
            raise InputError(
                f"loss and gradient must be finite, but at step {step} the loss is {head['loss']} "
                f"and the norm of the gradient {head['grad_norm']}; lower "
                f"train.optimizer.learning-rate, look at the data, or pass "
                f"--train.on-nonfinite skip"
            )
