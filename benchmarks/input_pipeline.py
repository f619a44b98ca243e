"""What does it cost to train from a field that is larger than memory?

    python -m benchmarks.input_pipeline [--gigabytes 8] [--results FOLDER] [--note TEXT]

A chunked zarr store of that size is made in a temporary folder and removed at the end. Windows of
it are read in the order of the chunks, by `FieldWindows` (cleaned and scaled) and by xbatcher where
that is installed (as they are), the same windows in the same process; bytes read are those of all
chunks loaded. Then a small network trains on windows in shuffled blocks, and on one batch that is
already on the device. Last comes what a run knows its data by: the digest of 1 GiB, of which every
value counts, and that of the whole store, of which a sample does. Every part is a process of its
own, so that its peak memory is its own.
"""

import argparse
import importlib
import itertools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from benchmarks.timing import RESULTS, Answer, in_a_process, write_results
from stpatch_jax.data import BlockShuffle, Cleaner, CleaningConfig, FieldWindows, batch_iterator
from stpatch_jax.data.digests import MOST_BYTES, digest_of
from stpatch_jax.data.fields.contents import field_content

PARTS = ("make", "windows", "train", "digest")
SIDE = 256
CHUNK = (32, 64, 64, 1)
TILE = (64, 64)
CONTEXT, HORIZON, STRIDE = 12, 4, 2
BATCH = 16
# Long enough for a median that the scheduler does not make.
SECONDS = 20.0
# Steps before the clock starts use up the batches that were made ahead in the other's turn.
WARM_STEPS, STEPS = 4, 8
MIN_ROUNDS = 3
# The two readers take turns, so that the machine is the same for both.
ROUNDS = 10


def make(path: Path, gigabytes: float) -> Answer:
    """Writes the store, a slab of chunks at a time."""
    import zarr

    rows = max(4 * CHUNK[0], round(gigabytes * 1e9 / (4 * SIDE * SIDE) / CHUNK[0]) * CHUNK[0])
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array(
        "field",
        shape=(rows, SIDE, SIDE, 1),
        chunks=CHUNK,
        dtype="float32",
        attributes={"_ARRAY_DIMENSIONS": ["time", "y", "x", "channel"]},
    )
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(CHUNK[0], SIDE, SIDE, 1)).astype(np.float32)
    for start in range(0, rows, CHUNK[0]):
        array[start : start + CHUNK[0]] = np.roll(noise, start // CHUNK[0], axis=1) + start / rows
    return {"rows": rows, "gigabytes": round(array.nbytes / 1e9, 3)}


def opened(path: Path) -> xr.DataArray:
    """The lazy field."""
    field = xr.open_zarr(path, chunks=None, consolidated=False).field
    return field.assign_coords(time=np.arange(len(field)), channel=["value"])


def windows_of(field: xr.DataArray) -> FieldWindows:
    """All windows of the field; a tenth of it is enough to fit a mean."""
    cleaner = Cleaner.fit(field, range(max(CHUNK[0], len(field) // 10)), CleaningConfig())
    return FieldWindows(
        field,
        range(CONTEXT, len(field)),
        cleaner,
        context=CONTEXT,
        horizon=HORIZON,
        stride=STRIDE,
        tile=TILE,
    )


def in_turn(
    readers: dict[str, tuple[Callable[[Any], Any], Iterator[Any]]], seconds: float
) -> dict[str, Answer]:
    """Windows per second of each reader, which take turns until each had so many seconds."""
    counts, passed = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0.0)
    for _ in range(ROUNDS):
        for name, (read, order) in readers.items():
            begin = time.perf_counter()
            for item in order:
                read(item)
                counts[name] += 1
                if time.perf_counter() - begin > seconds / ROUNDS:
                    break
            passed[name] += time.perf_counter() - begin
    return {
        name: {
            "windows": counts[name],
            "seconds": round(passed[name], 2),
            "per_second": round(counts[name] / passed[name], 1),
        }
        for name in readers
    }


def read_windows(path: Path, seconds: float) -> Answer:
    """Windows per second of both libraries on the same windows, and bytes read per byte used."""
    field = opened(path)
    source = windows_of(field)
    before = source.reader.bytes_read
    order = source.chunk_order()
    answer: Answer
    readers: dict[str, Any] = {"ours": (lambda at: source[int(at)], iter(order))}
    try:
        xbatcher = importlib.import_module("xbatcher")
    except ImportError:
        note = {"xbatcher": "not installed; pip install xbatcher to compare"}
        answer = {**in_turn(readers, seconds), **note}
    else:
        length = CONTEXT + HORIZON
        batches = xbatcher.BatchGenerator(
            field,
            input_dims={"time": length, "y": TILE[0], "x": TILE[1]},
            input_overlap={"time": length - STRIDE},
        )
        _check_same(source, batches[0])
        # Its order is its own: tiles of one stretch of time, or times of one tile.
        readers["xbatcher"] = (lambda at: batches[at].values, iter(range(len(batches))))
        answer = {**in_turn(readers, seconds)}
        ours, theirs = (answer[name]["per_second"] for name in readers)
        answer["times_as_fast"] = round(ours / theirs, 2)
    used = _bytes_used(source, order[: answer["ours"]["windows"]])
    answer["bytes_read_per_byte_used"] = round((source.reader.bytes_read - before) / used, 3)
    return answer


def _bytes_used(source: FieldWindows, order: np.ndarray) -> int:
    """Bytes of all cells that lie in one of the windows."""
    seen = {}
    for at in order.tolist():
        start, tile = divmod(at, len(source.tiles))
        first = int(source.starts[start]) - CONTEXT
        seen.setdefault(tile, set()).update(range(first, first + CONTEXT + HORIZON))
    return sum(len(rows) for rows in seen.values()) * TILE[0] * TILE[1] * 4


def _check_same(source: FieldWindows, batch: xr.DataArray) -> None:
    example = source[0]
    context = source.cleaner.inverse(example["context"])
    np.testing.assert_allclose(context, batch.values[:CONTEXT], atol=1e-5)


def train(path: Path, seconds: float, width: int) -> Answer:
    """Seconds per training step with data from the store, and with data on the device."""
    source = windows_of(opened(path))
    block = len(source) // max(1, len(source.field) // CHUNK[0])
    sampler = BlockShuffle(source.chunk_order(), block=max(1, block // len(source.tiles)), mixed=8)
    batches = batch_iterator(source, batch_size=BATCH, seed=0, start_step=0, sampler=sampler)
    params, step = network(width)
    fixed = jax.device_put(_arrays(next(batches)))
    params, loss = step(params, fixed)
    jax.block_until_ready(loss)
    rounds: dict[str, list[float]] = {"store": [], "device": []}
    end = time.perf_counter() + seconds
    # In turn, so that whatever else the machine does hits both alike.
    while time.perf_counter() < end or len(rounds["device"]) < MIN_ROUNDS:
        for what, times in rounds.items():
            begin = 0.0
            for number in range(WARM_STEPS + STEPS):
                batch = jax.device_put(_arrays(next(batches))) if what == "store" else fixed
                params, loss = step(params, batch)
                if number == WARM_STEPS - 1:
                    jax.block_until_ready(loss)
                    begin = time.perf_counter()
            jax.block_until_ready(loss)
            times.append((time.perf_counter() - begin) / STEPS)
    pairs = zip(rounds["store"], rounds["device"], strict=True)
    return {
        "ms_per_step": {
            what: round(1e3 * statistics.median(times), 3) for what, times in rounds.items()
        },
        # The median over pairs of rounds: neighbours in time saw the same machine.
        "slowdown": round(statistics.median(store / device for store, device in pairs) - 1, 4),
        "rounds": len(rounds["device"]),
        "loss_is_finite": bool(jnp.isfinite(loss)),
        "batch": BATCH,
        "width": width,
    }


def digest(path: Path) -> Answer:
    """Seconds of CPU for the digest of what is read whole, and of what is sampled."""
    field = opened(path)
    rows = min(len(field), MOST_BYTES // (field.nbytes // len(field)))
    answer = {}
    for name, part in {"whole": slice(0, rows), "all": slice(None)}.items():
        begin = time.process_time()
        digest_of(field_content(field, part))
        seconds = time.process_time() - begin
        size = field[part].nbytes / 1e9
        answer[name] = {
            "gigabytes": round(size, 3),
            "cpu_seconds": round(seconds, 2),
            "gigabytes_per_second": round(size / seconds, 2),
        }
    return answer


def _arrays(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return batch["context"], batch["target"]


def network(width: int) -> tuple[list[jax.Array], Callable[..., Any]]:
    """Three convolutions over the frames as channels, and one step of gradient descent."""
    sizes = [CONTEXT, width, width, HORIZON]
    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        0.05 * jax.random.normal(key, (3, 3, *pair))
        for key, pair in zip(keys, itertools.pairwise(sizes), strict=True)
    ]

    def loss(params: list[jax.Array], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, y = (jnp.moveaxis(array[..., 0], 1, -1) for array in batch)
        for number, kernel in enumerate(params):
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x) if number < len(params) - 1 else x
        return jnp.mean((x - y) ** 2)

    @jax.jit
    def step(
        params: list[jax.Array], batch: tuple[jax.Array, jax.Array]
    ) -> tuple[list[jax.Array], jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, batch)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient), value

    return params, step


def main() -> None:
    """Makes the store, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=8.0, help="size of the store")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for each measurement")
    parser.add_argument("--width", type=int, default=64, help="features of the network trained")
    parser.add_argument("--results", type=Path, nargs="?", const=RESULTS, help="folder to write to")
    parser.add_argument("--note", default="", help="what to know about this machine")
    parser.add_argument("--folder", type=Path, help="where the store is made")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        parts = {
            "make": lambda: make(given.path, given.gigabytes),
            "windows": lambda: read_windows(given.path, given.seconds),
            "train": lambda: train(given.path, given.seconds, given.width),
            "digest": lambda: digest(given.path),
        }
        answer = parts[given.part]()
        # Linux counts in KiB.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(answer | {"peak_gib": round(peak, 3)}))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder, "field.zarr")
        options = ["--path", path, "--gigabytes", given.gigabytes]
        options += ["--seconds", given.seconds, "--width", given.width]
        answer: Answer = {}
        # Each in a process of its own, so that its peak memory is its own.
        for name in PARTS:
            answer[name] = in_a_process("input_pipeline", "--part", name, *options)
            print(f"{name}: {answer[name]}", flush=True)
    write_results("input_pipeline", answer, folder=given.results, note=given.note)


if __name__ == "__main__":
    main()
