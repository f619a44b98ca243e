"""What is saved with arrays to tell damage, another model and another version from the truth."""

import contextlib
import dataclasses
import errno
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp

import stpatch_jax
from stpatch_jax.errors import InputError, require
from stpatch_jax.files import errno_of, from_json, refusal, to_json
from stpatch_jax.nn.blocks import is_stacked, paths_unrolled


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


def structure(state: Any) -> dict[str, str]:
    """The path of every leaf with its dtype and shape, e.g. `{"model.w": "float32[4, 4]"}`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}"
        for path, x in leaves
    }


def to_bytes(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The bytes of NumPy arrays in a nested dict, and what `from_bytes` needs to undo it, as JSON.

    As bytes every array comes back bit for bit: Orbax takes neither text nor empty arrays, and
    whatever passes through JAX loses half of a float64.

    >>> stored, layout = to_bytes({"mean": np.array([0.5]), "names": np.array(["x", "y"])})
    >>> from_bytes(stored, layout)
    {'mean': array([0.5]), 'names': array(['x', 'y'], dtype='<U1')}
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(dict(arrays), lambda leaf: leaf is None)
    stored, checksum = [], 0
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        array = np.ascontiguousarray(leaf)
        keys = [getattr(key, "key", None) for key in path]
        require(
            array.dtype.kind not in "OV" and all(isinstance(key, str) for key in keys),
            f"arrays must be dicts of arrays of numbers, text or dates, got {type(leaf).__name__} "
            f"of dtype {array.dtype} at {name}; convert it first",
        )
        # TensorStore refuses an array of no bytes.
        data = array.reshape(-1).view(np.uint8) if array.size else np.zeros(1, np.uint8)
        checksum = zlib.crc32(data.data, checksum)
        stored.append((data, [array.dtype.str, list(np.shape(leaf))]))
    data, described = (tree.unflatten([pair[side] for pair in stored]) for side in (0, 1))
    return data, {"arrays": described, "checksum": checksum}


def from_bytes(stored: Mapping[str, Any], layout: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays whose bytes `to_bytes` made.

    Raises:
        ValueError: If they are not those bytes.
    """
    checksum = 0
    for data in jax.tree.leaves(stored):
        checksum = zlib.crc32(data, checksum)
    if checksum != layout["checksum"]:
        raise ValueError("not the bytes that were saved")

    def array(data: np.ndarray, described: Any) -> np.ndarray:
        dtype, shape = np.dtype(described[0]), tuple(described[1])
        return data[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    return jax.tree.map(array, dict(stored), layout["arrays"])


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(to_json(record, sort_keys=True).encode())


def _read_through(directory: Path) -> None:
    """Reads what Orbax is about to read, and raises where that cannot be done.

    A failed read leaves the traces of Orbax's threads on stderr, so it must not get that far. Of
    several processes each reads its share.
    """
    for file in [directory / "_METADATA", *directory.glob("array_metadatas/*")]:
        from_json(file.read_text(encoding="utf-8"))
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{directory}/"}).result()
    keys = store.list().result()
    for key in keys[jax.process_index() :: jax.process_count()]:
        if not store.read(key).result().value:  # What a missing file of data looks like.
            raise FileNotFoundError(f"{key!r} is listed in {directory} but not there")
    if not keys:  # What a missing manifest looks like.
        raise FileNotFoundError(f"there are no arrays in {directory}")


def make_record(state: Any, **entries: Any) -> dict[str, Any]:
    """The metadata of a checkpoint: version, structure, fingerprint, JSON entries, checksum."""
    told = {"structure": structure(state), "fingerprint": int(fingerprint(state))}
    record = {"version": stpatch_jax.__version__, **told, **from_json(to_json(entries))}
    return {"record": record, "checksum": _checksum(record)}


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do about a checkpoint that cannot be used: the ends of the sentences that say so."""

    damaged: str = "delete that folder to go on from the checkpoint before it"
    foreign: str = "use the configuration of the run or another workdir="


RUN = Advice()
"""For a checkpoint of a run."""


_ENTRIES = {
    **{"version": str, "structure": dict, "fingerprint": int},
    **{"step": int, "extras": dict, "metrics": dict, "arrays": dict},
}
"""The types of the entries of a record; a checkpoint of weights alone has none of the latter."""


def read_record(path: Path, *, advice: Advice = RUN) -> dict[str, Any]:
    """Reads what `make_record` made for the checkpoint in a folder."""
    try:
        # Asking Orbax for it would also open the arrays, see `_read_through`.
        text = (path / "_CHECKPOINT_METADATA").read_text(encoding="utf-8")
        saved = from_json(text)["custom_metadata"]
        intact = _checksum(saved["record"]) == saved["checksum"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "a record that cannot be read", advice, error) from error
    record = saved["record"]
    if not intact or not all(isinstance(record.get(k, of()), of) for k, of in _ENTRIES.items()):
        raise _damaged(path, "another record than was saved", advice)
    return record


def load_arrays(path: Path, name: str, abstract: Any, *, advice: Advice = RUN) -> Any:
    """Restores the arrays `name` of a checkpoint onto the devices of `abstract`, and checks them.

    Arrays of blocks that `abstract` wants stacked may have been saved one by one.

    Raises:
        InputError: If they are damaged, others than those of `abstract` or do not fit into memory.
    """
    record = read_record(path, advice=advice)
    saved = record["structure"]
    abstract, stacked = _as_saved(abstract, saved)
    wanted = structure(abstract)
    for leaf in sorted(saved.keys() | wanted.keys()):
        version, now = record["version"], stpatch_jax.__version__
        another = "" if version == now else f" by version {version} (this is {now})"
        require(
            saved.get(leaf) == wanted.get(leaf),
            f"checkpoint {path} must be of this configuration, got one made by another{another}: "
            f"{leaf} is {saved.get(leaf, 'absent')} there and {wanted.get(leaf, 'absent')} here; "
            f"{advice.foreign}",
        )
    try:
        _read_through(path / name)
    except (OSError, ValueError) as error:
        raise _damaged(path, "files that cannot be read", advice, error) from error
    try:
        loaded = ocp.load_checkpointables(str(path), {name: abstract})[name]
    except Exception as error:  # Orbax wraps whatever happened, lack of memory too.
        if errno_of(error) not in _DAMAGE:
            raise refusal(error, path=path) from error
        raise InputError(
            f"checkpoint {path} must be one that Orbax restores, got "
            f"{first_line(error.__cause__ or error)!r}; look at the memory and at the version of "
            f"orbax first, else {advice.damaged}"
        ) from error
    if int(fingerprint(loaded)) != record["fingerprint"]:
        raise _damaged(path, "other arrays than were saved", advice)
    return stacked(loaded)


def _as_saved(abstract: Any, saved: Mapping[str, str]) -> tuple[Any, Callable[[Any], Any]]:
    """The arrays as saved, where those of blocks were not stacked, and what stacks them."""
    if not isinstance(abstract, nnx.State) or structure(abstract).keys() <= saved.keys():
        return abstract, lambda loaded: loaded
    wanted = dict(nnx.to_flat_state(abstract))
    paths = {path: paths_unrolled(path, leaf) for path, leaf in wanted.items()}
    unrolled = {
        part: _part(wanted[path]) if is_stacked(wanted[path]) else wanted[path]
        for path, parts in paths.items()
        for part in parts
    }

    def stacked(loaded: nnx.State) -> nnx.State:
        found = dict(nnx.to_flat_state(loaded))

        def whole(path: tuple[Any, ...]) -> Any:
            if not is_stacked(wanted[path]):
                return found[path]
            stack = jnp.stack([found[part].get_value() for part in paths[path]])
            return wanted[path].replace(jax.device_put(stack, wanted[path].get_value().sharding))

        return nnx.from_flat_state({path: whole(path) for path in wanted})

    return nnx.from_flat_state(unrolled), stacked


def _part(stacked: nnx.Variable) -> nnx.Variable:
    """One block of stacked ones, on the same devices."""
    whole: Any = stacked.get_value()
    share = NamedSharding(whole.sharding.mesh, PartitionSpec(*whole.sharding.spec[1:]))
    return stacked.replace(jax.ShapeDtypeStruct(whole.shape[1:], whole.dtype, sharding=share))


def load_bytes(path: Path, name: str, layout: Mapping[str, Any]) -> Any:
    """Reads the arrays `name` of a checkpoint that were saved by `to_bytes`."""
    try:
        _read_through(path / name)
        return from_bytes(ocp.load_checkpointables(str(path), {name: None})[name], layout)
    except Exception as error:  # Orbax wraps whatever happened.
        raise _damaged(path, f"other {name} than were saved", RUN, error) from error


_DAMAGE = (None, errno.ENOENT)
"""Errors of the operating system that tell of the checkpoint, not of what it lies on."""


def _damaged(
    path: Path, what: str, advice: Advice, error: BaseException | None = None
) -> InputError:
    if error is not None and errno_of(error) not in _DAMAGE:
        return refusal(error, path=path)
    return InputError(f"checkpoint {path} must be whole, got {what}; {advice.damaged}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells in one sentence that a file or folder of a run cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:  # TensorStore tells a full disk by a ValueError.
        advice = "make it writable and run again, what was committed before is untouched"
        raise refusal(error, path=path, must_be="writable", advice=advice) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
