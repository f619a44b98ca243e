"""Checkpoints: Orbax behind one small file, which takes neither half nor foreign arrays."""

import contextlib
import functools
import logging
import math
import sys
import threading
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from orbax.checkpoint import v1 as ocp

from stpatch_jax.errors import InputError, require
from stpatch_jax.files import OTHER, usable
from stpatch_jax.training.record import (
    load_arrays,
    load_bytes,
    make_record,
    read_record,
    to_bytes,
    writing,
)


def _silence_orbax() -> Callable[[], object]:
    """Drops stack traces that Orbax logs of what is raised here too; returns what ends that."""
    logger = logging.getLogger("absl")

    # A filter for each `Checkpoints`: a logger takes one only once, and the first to close would
    # remove it for the others.
    def not_from_orbax(record: logging.LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts

    logger.addFilter(not_from_orbax)
    return lambda: logger.removeFilter(not_from_orbax)


@functools.cache
def _drop_ended_loops() -> None:
    """Drops, from now on, what TensorStore prints of writes that outlive the save they are of.

    Where one part of a save fails, Orbax ends its event loop, and the writes of the others tell it
    in vain that they have ended, at any time until the process does.
    """
    printed = sys.unraisablehook

    def unraisable(told: Any) -> None:
        if str(told.exc_value) != "Event loop is closed":
            printed(told)

    sys.unraisablehook = unraisable


def _await_orbax() -> None:
    """Where one part of a save fails, threads still write the others, and log how these end."""
    for thread in threading.enumerate():
        if type(thread).__module__.partition(".")[0] == "orbax":
            threading.Thread.join(thread)  # Orbax's own raises what the thread did.


class Checkpoints:
    """The checkpoints of one run: `directory/STEP`, committed by an atomic rename.

    What a killed process left half written is not a checkpoint: it is never read, and the next
    writer removes it. Use it as a context manager, so that the last save is committed on the way
    out.

    Args:
        directory: Where the checkpoints lie.
        keep: How many of the newest stay on disk; given by the one that writes. None opens the
            directory, which must exist, for reading only.
        best: `min:NAME` or `max:NAME`; the best by this metric stays too.
        every: The newest at a multiple of so many steps stays too.

    Raises:
        InputError: If the directory cannot be made or, for reading, does not exist.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int | None = None,
        best: str | None = None,
        every: int | None = None,
    ):
        # Orbax hands the path to TensorStore, which takes absolute ones only.
        self.directory = Path(directory).absolute()
        self._keep, self._best, self._every = keep, best, every
        self._metrics: dict[int, dict[str, float]] = {}
        self._saving: Any = None
        require(
            keep is not None or self.directory.is_dir(),
            f"{self.directory} must hold checkpoints, got no such directory; give that of a run",
        )
        # Called by `close`, or where the object is dropped without it; the first of all, for Orbax
        # tells what it finds half removed.
        self._let_orbax_log = weakref.finalize(self, _silence_orbax())
        _drop_ended_loops()
        context = ocp.Context()
        # Made in the background, a directory that cannot be made shows after minutes of waiting.
        context.async_options.create_directories_asynchronously = False
        # Cut for as many devices as hold it, a small array costs more than its bytes.
        context.array_options.saving.min_slice_bytes_for_replica_parallel = 2**20
        training: Any = ocp.training  # Its policies do not match its own annotations.
        guard = usable(path=self.directory, must_be="writable", advice=OTHER)
        with guard, contextlib.ExitStack() as failed:
            failed.callback(self._let_orbax_log)
            self.directory.mkdir(parents=True, exist_ok=True)
            self._orbax = training.Checkpointer(
                str(self.directory),
                context=context,
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=types.SimpleNamespace(should_preserve=self._stay),
                cleanup_tmp_directories=keep is not None,
            )
            if keep is not None:
                self._remove_others()
            failed.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest committed step, None where there is none."""
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """The committed steps, in order."""
        return [checkpoint.step for checkpoint in self._orbax.checkpoints]

    def _remove_others(self) -> None:
        """Removes what a command would have that was killed between a save and this."""
        there = self._orbax.checkpoints
        with writing(self.directory):
            for checkpoint, stays in zip(there, self._stay(there, context=None), strict=True):
                if not stays:
                    self._orbax.delete(checkpoint.step)

    def _stay(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """What Orbax asks: which checkpoints stay on disk."""
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        staying = steps[-self._keep :] if self._keep else [*steps]
        if self._every:
            staying += [step for step in steps if step % self._every == 0][-1:]
        best = self._best and self._best_of(self._best, steps)
        return [one.step == best or one.step in staying for one in checkpoints]

    def save(
        self,
        step: int,
        state: Any,
        extras: Mapping[str, Any],
        *,
        arrays: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to save; returns once the arrays are safe from donation, before they are on disk.

        The save before it is waited for first, so at most one is not committed.

        Args:
            step: The global step, which is also the position in the data; must be new.
            state: A pytree of `jax.Array`, PRNG keys included.
            extras: What else is needed to go on; goes to JSON and comes back from `restore`.
            arrays: NumPy arrays by name, nested as one likes: of numbers, text or dates, such as
                what was fitted to the data. They come back from `arrays`, bit for bit, and must
                stay as they are until the save is committed.
            metrics: What validation measured at this step, for `metrics` and `best_step`.

        Raises:
            InputError: If this save, or the one before it, cannot be written, or `arrays` holds
                something else.
        """
        stored, layout = to_bytes(arrays or {})
        metrics = dict(metrics or {})
        finite = {name: x if math.isfinite(x) else None for name, x in metrics.items()}
        record = make_record(state, step=step, extras=extras, metrics=finite, arrays=layout)
        self._metrics[step] = metrics
        items = {"state": state, **({"arrays": stored} if stored else {})}
        self._end_save()
        with writing(self.directory):
            save = self._orbax.save_checkpointables_async
            self._saving = save(step, items, custom_metadata=record)

    def wait(self) -> None:
        """Waits until every save is committed; an InputError tells that one could not be."""
        self._end_save()

    def _end_save(self) -> None:
        saving, self._saving = self._saving, None
        with writing(self.directory):
            if saving is not None:
                # Only asked for its result does a save end its thread and its event loop.
                saving.result()
            self._orbax.wait()

    def close(self) -> None:
        """Waits as `wait` does, and ends the writing."""
        try:
            self._end_save()
        finally:
            try:
                with writing(self.directory):
                    self._orbax.close()
            finally:
                _await_orbax()
                self._let_orbax_log()

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """Restores a checkpoint onto the devices that `abstract` names, whatever wrote it.

        That is a pytree of `jax.ShapeDtypeStruct`, each with a sharding on real devices. What comes
        back is the state and the extras it was saved with.

        Raises:
            InputError: If the checkpoint is damaged, `arrays` included, holds another state than
                `abstract` or does not fit into memory.
        """
        self.arrays(step)
        return load_arrays(self._path(step), "state", abstract), self.extras(step)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def extras(self, step: int) -> dict[str, Any]:
        """Returns the extras of a checkpoint without its arrays.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        return read_record(self._path(step))["extras"]

    def arrays(self, step: int) -> dict[str, Any]:
        """Returns the NumPy arrays that a checkpoint was saved with.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        layout = read_record(self._path(step)).get("arrays", {"arrays": {}})
        return load_bytes(self._path(step), "arrays", layout) if layout["arrays"] else {}

    def metrics(self, step: int) -> dict[str, float]:
        """Returns what validation measured at a checkpoint, NaN for whatever was not finite.

        Nothing where its record is damaged, which `restore` tells.
        """
        if step not in self._metrics:
            with contextlib.suppress(InputError):
                saved = read_record(self._path(step))["metrics"].items()
                self._metrics[step] = {k: math.nan if x is None else x for k, x in saved}
        return self._metrics.get(step, {})

    def best_step(self, criterion: str) -> int | None:
        """Returns the earliest best step by `min:NAME` or `max:NAME`, None without measurements."""
        return self._best_of(criterion, self.steps)

    def _best_of(self, criterion: str, steps: Sequence[int]) -> int | None:
        order, _, name = criterion.partition(":")
        sign = -1 if order == "max" else 1
        values = {step: sign * self.metrics(step).get(name, math.nan) for step in steps}
        finite = [step for step, value in values.items() if math.isfinite(value)]
        return min(finite, key=lambda step: (values[step], step), default=None)
