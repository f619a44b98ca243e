"""Checkpoints: Orbax behind one small file, with a fingerprint that tells damage from truth."""

import contextlib
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import tensorstore as ts
from orbax.checkpoint import v1 as ocp

import stpatch_jax
from stpatch_jax.errors import InputError


@jax.jit
def fingerprint(state: Any) -> jax.Array:
    """Hashes every bit of a pytree of arrays to one uint32 scalar, on the devices.

    Each 32-bit word is mixed with its position by bijections of the integers modulo 2**32 and the
    results are summed, so the value does not depend on how the arrays are sharded, and any change
    of a single word changes it. Orbax stores array data without a checksum; this is ours.

    >>> one = fingerprint({"w": jnp.zeros(4)})
    >>> bool(one == fingerprint({"w": jnp.zeros(4).at[2].set(-0.0)}))
    False
    """
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(state):
        words = _words(leaf)
        position = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape)
        words = (words ^ (position * jnp.uint32(0x9E3779B1))) * jnp.uint32(0x85EBCA6B)
        words = (words ^ (words >> 15)) * jnp.uint32(0xC2B2AE35)
        total = total * jnp.uint32(31) + jnp.sum(words ^ (words >> 13), dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array, or of a PRNG key, as uint32."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag])
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _structure(state: Any) -> dict[str, str]:
    """The path of every leaf with its dtype and shape, e.g. `{"model.w": "float32[4, 4]"}`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}"
        for path, x in leaves
    }


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Drops the stack traces that Orbax logs for failures which are raised here as well."""
    return "orbax" not in Path(record.pathname).parts


def _read_through(directory: Path) -> None:
    """Reads what Orbax is about to read, and raises where that cannot be done.

    A failed read leaves the traces of Orbax's threads on stderr, so it must not get that far. Of
    several processes each reads its share.
    """
    for file in [directory / "_METADATA", *directory.glob("array_metadatas/*")]:
        json.loads(file.read_text())
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{directory}/"}).result()
    keys = store.list().result()
    for key in keys[jax.process_index() :: jax.process_count()]:
        if not store.read(key).result().value:  # What a missing file of data looks like.
            raise FileNotFoundError(f"{key!r} is listed in {directory} but not there")
    if not keys:  # What a missing manifest looks like.
        raise FileNotFoundError(f"there are no arrays in {directory}")


class Checkpoints:
    """The checkpoints of one run: `directory/STEP`, committed by an atomic rename.

    What a killed process left half written is not a checkpoint: it is never read, and the next
    writer removes it. Use it as a context manager, so that the last save is committed on the way
    out.

    Args:
        directory: Where the checkpoints lie.
        keep: How many of the newest stay on disk; given by the one that writes. None opens the
            directory, which must exist, for reading only.

    Raises:
        InputError: If the directory cannot be made or, for reading, does not exist.
    """

    def __init__(self, directory: str | Path, *, keep: int | None = None):
        # Orbax hands the path to TensorStore, which takes absolute ones only.
        self.directory = Path(directory).absolute()
        if keep is None and not self.directory.is_dir():
            raise InputError(
                f"there are no checkpoints in {self.directory}; give the directory of a run"
            )
        logging.getLogger("absl").addFilter(_not_from_orbax)
        context = ocp.Context()
        # Made in the background, a directory that cannot be made shows after minutes of waiting.
        context.async_options.create_directories_asynchronously = False
        training: Any = ocp.training  # Its policies do not match its own annotations.
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._orbax = training.Checkpointer(
                str(self.directory),
                context=context,
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=keep is not None,
            )
        except OSError as error:
            logging.getLogger("absl").removeFilter(_not_from_orbax)
            raise InputError(
                f"the checkpoint directory {self.directory} must be writable, but it is not "
                f"({error}); choose another --workdir"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest committed step, None where there is none."""
        latest = self._orbax.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: Any, extras: Mapping[str, Any]) -> None:
        """Starts to save; returns once the arrays are safe from donation, before they are on disk.

        Args:
            step: The global step, which is also the position in the data; must be new.
            state: A pytree of `jax.Array`, PRNG keys included.
            extras: What else is needed to go on; goes to JSON and comes back from `restore`.

        Raises:
            InputError: If this save, or the one before it, cannot be written.
        """
        record = {
            "step": step,
            "version": stpatch_jax.__version__,
            "structure": _structure(state),
            "fingerprint": int(fingerprint(state)),
            "extras": json.loads(json.dumps(extras)),
        }
        with self._writing():
            self._orbax.save_checkpointables_async(
                step,
                {"state": state},
                custom_metadata={"record": record, "checksum": _checksum(record)},
            )

    def close(self) -> None:
        """Waits until every save is committed.

        Raises:
            InputError: If one could not be written.
        """
        try:
            with self._writing():
                self._orbax.close()
        finally:
            logging.getLogger("absl").removeFilter(_not_from_orbax)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore tells a full disk by a ValueError.
            raise InputError(
                f"checkpoints must be written to {self.directory}, but that failed "
                f"({_short(error)}); make room or make it writable and run again, what was "
                f"committed before is untouched"
            ) from error

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """Restores a checkpoint onto the devices that `abstract` names, whatever wrote it.

        Args:
            step: A committed step.
            abstract: The pytree of `jax.ShapeDtypeStruct`, each with a sharding on real devices.

        Returns:
            The state and the extras it was saved with.

        Raises:
            InputError: If the checkpoint is damaged, holds another state than `abstract` or does
                not fit into memory.
        """
        record = self._record(step)
        self._compare(step, record["structure"], _structure(abstract))
        try:
            _read_through(self.directory / str(step) / "state")
        except (OSError, ValueError) as error:
            raise self._damaged(step, "its files cannot be read") from error
        try:
            loaded = self._orbax.load_checkpointables(step, {"state": abstract})["state"]
        except Exception as error:  # Orbax wraps whatever happened, lack of memory too.
            raise InputError(
                f"checkpoint {self.directory / str(step)} can be read but not restored "
                f"({_short(error.__cause__ or error)}); look at the memory and at the version of "
                f"orbax first, else delete that folder to go on from the checkpoint before it"
            ) from error
        if int(fingerprint(loaded)) != record["fingerprint"]:
            raise self._damaged(step, "its arrays are not those that were saved")
        return loaded, record["extras"]

    def extras(self, step: int) -> dict[str, Any]:
        """Returns the extras of a checkpoint without its arrays.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        return self._record(step)["extras"]

    def _record(self, step: int) -> dict[str, Any]:
        try:
            # Asking Orbax for it would also open the arrays, see `_read_through`.
            metadata = (self.directory / str(step) / "_CHECKPOINT_METADATA").read_text()
            saved = json.loads(metadata)["custom_metadata"]
            intact = _checksum(saved["record"]) == saved["checksum"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(step, "its record cannot be read") from error
        if not intact:
            raise self._damaged(step, "its record is not the one that was saved")
        return saved["record"]

    def _compare(self, step: int, saved: dict[str, str], wanted: dict[str, str]) -> None:
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"checkpoint {self.directory / str(step)} was made by another configuration: "
                    f"{name} is {saved.get(name, 'absent')} there and "
                    f"{wanted.get(name, 'absent')} here; use the configuration of the run or "
                    f"another --workdir"
                )

    def _damaged(self, step: int, reason: str) -> InputError:
        return InputError(
            f"checkpoint {self.directory / str(step)} is damaged ({reason}); delete that folder "
            f"to go on from the checkpoint before it"
        )


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
