"""What does tiled prediction cost beside its network, against MONAI and TorchIO?

    python -m benchmarks.sliding_window [constant] [--small] [--repeats 5] [--gigabytes 8]

A volume is predicted by windows that overlap by half, with a network of two layers (3x3x3
convolutions from 1 to 8 to 1 channels) that has the same weights everywhere, blended with constant
or gaussian weights (Hann for TorchIO, which has no gaussian; MONAI cuts the tails of its gaussian
elsewhere, so networks are compared with constant weights). MONAI's `sliding_window_inference` and
TorchIO's `GridSampler` and `GridAggregator` run eagerly on as many threads. `copy` has a plain copy
in the place of the network: its time is what cutting and putting together cost. On a CPU our
network is written twice: as shifted products by hand, and by `nn.layers.convolve`, as the backbones
do. All calls are timed in turn in one process; times are medians. Memory is how far a process of
its own grows during one run, when libraries, volume and program are there. With `--gigabytes`, a
field of that size on disk is predicted, and the memory is that of the whole process at its largest.
"""

import argparse
import ctypes
import functools
import gc
import json
import math
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax

from benchmarks.arguments import arguments
from benchmarks.cases import peer
from benchmarks.timing import (
    Answer,
    Call,
    in_a_process,
    interleaved,
    print_case,
    write_results,
)
from stpatch_jax import WindowSpec
from stpatch_jax.inference import memory_plan, sliding_window_apply
from stpatch_jax.nn.layers import convolve

FEATURES = 8


@dataclass(frozen=True)
class Volume:
    """A cube, the cube of its windows, and the weights they are blended with."""

    cells: int
    window: int
    blend: str

    @property
    def spec(self) -> WindowSpec:
        """Windows that overlap by half."""
        return WindowSpec((self.window,) * 3, stride=self.window // 2, padding="COVER")

    def values(self) -> np.ndarray:
        """Random numbers `(cells, cells, cells, channel)`."""
        shape = (self.cells,) * 3
        return np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)


VOLUMES = {blend: Volume(160, 64, blend) for blend in ("constant", "gaussian")}
SMALL = {blend: Volume(24, 8, blend) for blend in VOLUMES}


def kernels() -> tuple[np.ndarray, np.ndarray]:
    """The weights of both layers, each `(3, 3, 3, in, out)`."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(3, 3, 3, 1, FEATURES))
    second = rng.normal(size=(3, 3, 3, FEATURES, 1))
    return (0.2 * first).astype(np.float32), (0.1 * second).astype(np.float32)


def by_convolve(windows: jax.Array) -> jax.Array:
    """The network on `[window, *space, 1]` as the backbones convolve."""
    first, second = kernels()
    return convolve(jax.nn.relu(convolve(windows, jnp.asarray(first))), jnp.asarray(second))


def by_products(windows: jax.Array) -> jax.Array:
    """The network as sums of shifted products, channel by channel."""
    first, second = kernels()
    x = _shifted(windows[..., 0])
    hidden = [
        _shifted(jax.nn.relu(sum(x[tap] * first[(*tap, 0, out)] for tap in x)))
        for out in range(FEATURES)
    ]
    terms = (y[tap] * second[(*tap, at, 0)] for at, y in enumerate(hidden) for tap in y)
    return sum(terms, jnp.zeros(()).reshape((1,) * 4))[..., None]


def _shifted(x: jax.Array) -> dict[tuple[int, int, int], jax.Array]:
    """The neighbours of every cell `[window, *space]` by offset, zero outside."""
    padded = jnp.pad(x, [(0, 0)] + [(1, 1)] * 3)
    return {
        tap: lax.slice(padded, (0, *tap), tuple(np.add(x.shape, (0, *tap)).tolist()))
        for tap in np.ndindex(3, 3, 3)
    }


def our_networks() -> dict[str, Callable[[jax.Array], jax.Array]]:
    """Ours, and a copy."""
    networks = {"ours": by_convolve, "ours, copy": jnp.copy}
    if jax.default_backend() == "cpu":
        networks = {"ours": by_products, "ours, convolve": by_convolve, "ours, copy": jnp.copy}
    return networks


def our_call(network: Callable[[jax.Array], jax.Array], volume: Volume) -> Call:
    """Our run on an array of the device."""
    x = jnp.asarray(volume.values())
    blend: Any = "uniform" if volume.blend == "constant" else volume.blend
    return functools.partial(
        sliding_window_apply,
        # These hold nothing that changes: no need to trace them at every call.
        jax.tree_util.Partial(network),
        x,
        volume.spec,
        blend=blend,
        batch_size=batch_size(),
    )


def batch_size() -> int:
    """Windows per call, for all alike: one at a time keeps the caches of a CPU warm."""
    return 1 if jax.default_backend() == "cpu" else 4


def torch_network(torch: ModuleType) -> Any:
    """The same two layers, on `(window, channel, *space)`."""
    layers = []
    for kernel in kernels():
        layer = torch.nn.Conv3d(*kernel.shape[-2:], 3, padding=1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.transpose(4, 3, 0, 1, 2).copy()))
        layers.append(layer)
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1]).to(torch_device())


def torch_device() -> str:
    """The device of torch that JAX computes on."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def monai_call(torch: ModuleType, monai: Any, network: Any, volume: Volume) -> Call:
    """MONAI's loop."""
    x = torch.from_numpy(np.moveaxis(volume.values(), -1, 0)[None].copy()).to(torch_device())

    def run() -> Any:
        with torch.no_grad():
            y = monai.inferers.sliding_window_inference(
                x, (volume.window,) * 3, batch_size(), network, overlap=0.5, mode=volume.blend
            )
        return y[0, 0].cpu()

    return run


def torchio_call(torch: ModuleType, torchio: Any, network: Any, volume: Volume) -> Call:
    """TorchIO's sampler and aggregator."""
    image = torch.from_numpy(np.moveaxis(volume.values(), -1, 0).copy())
    subject = torchio.Subject(x=torchio.ScalarImage(tensor=image))
    mode = "average" if volume.blend == "constant" else "hann"

    def run() -> Any:
        sampler = torchio.GridSampler(subject, volume.window, volume.window // 2)
        aggregator = torchio.GridAggregator(sampler, overlap_mode=mode)
        loader = torchio.SubjectsLoader(sampler, batch_size=batch_size())
        with torch.no_grad():
            for batch in loader:
                windows = batch["x"][torchio.DATA].to(torch_device())
                aggregator.add_batch(network(windows), batch[torchio.LOCATION])
        return aggregator.get_output_tensor()[0]

    return run


def all_calls(volume: Volume) -> dict[str, Call]:
    """Every run by name."""
    calls = {name: our_call(network, volume) for name, network in our_networks().items()}
    torch, *others = (peer(name) for name in ("torch", "monai", "torchio"))
    if torch is None:
        return calls
    networks = {"": torch_network(torch), ", copy": torch.clone}
    libraries = (("monai", monai_call), ("torchio", torchio_call))
    for (library, make), module in zip(libraries, others, strict=True):
        if module:
            calls |= {
                f"{library}{name}": make(torch, module, network, volume)
                for name, network in networks.items()
            }
    return calls


def checked(volume: Volume) -> Callable[[str, Any], None]:
    """Whether copies give the volume back, and networks agree where all weigh windows alike.

    Raises:
        AssertionError: Some do not.
    """
    results: dict[str, np.ndarray] = {}

    def check(name: str, result: Any) -> None:
        results[name] = np.asarray(result).reshape((volume.cells,) * 3)
        if "copy" in name:
            expected = volume.values()[..., 0]
        elif volume.blend == "constant" or name.startswith("ours"):
            expected = results["ours"]
        else:
            return
        np.testing.assert_allclose(results[name], expected, atol=1e-4, err_msg=name)

    return check


def growth(name: str, volume: Volume) -> int:
    """Bytes by which this process grows at most during its second run."""
    # What is missing was told before.
    network = our_networks().get(name)
    call = all_calls(volume)[name] if network is None else our_call(network, volume)
    jax.block_until_ready(call())
    gc.collect()
    # What the first run took and freed must not be there for the second.
    ctypes.CDLL(None).malloc_trim(0)
    before, most, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    jax.block_until_ready(call())
    done.set()
    watcher.join()
    return max(most) - before


def resident() -> int:
    """Bytes of its own that this process holds now; mapped files are the system's to drop."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


MAP = (512, 1024)
STEPS = 64


def write_field(path: Path, gigabytes: float) -> None:
    """A field of float32 on disk, in pieces of some time steps."""
    steps = max(round(gigabytes * 1e9 / (4 * MAP[0] * MAP[1]) / STEPS), 1) * STEPS
    piece = np.random.default_rng(0).integers(0, 256, (STEPS, *MAP)).astype(np.float32)
    for first in range(0, steps, STEPS):
        coords = {"time": np.arange(first, first + STEPS)}
        part = xr.DataArray(piece + first, coords, ("time", "y", "x"), name="value").to_dataset()
        where: Any = {"append_dim": "time"} if first else {"mode": "w"}
        part.to_zarr(path, zarr_format=2, **where)


def predict_file(path: Path) -> dict[str, float]:
    """Seconds, and bytes of this process at its largest, for a field on disk."""
    from stpatch_jax.inference import predict_field  # with every reader of files

    start = time.perf_counter()
    spec = WindowSpec((8, 128, 128), stride=(8, 64, 64), padding="COVER")
    predict_field(jnp.tanh, path, path.with_name("out.zarr"), spec, progress=False)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measure_file(gigabytes: float) -> Answer:
    """Writes a field and predicts it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "field.zarr")
        write_field(path, gigabytes)
        return {"gigabytes": gigabytes, **in_a_process("sliding_window", "--file", path)}


def measure(volume: Volume, *, repeats: int, small: bool) -> Answer:
    """Times and sizes of one blend."""
    calls = all_calls(volume)
    timings = interleaved(calls, repeats=repeats, check=checked(volume), slow_s=math.inf)
    network = next(iter(our_networks().values()))
    field = jax.ShapeDtypeStruct((*(volume.cells,) * 3, 1), jnp.float32)
    plan = memory_plan(network, field, volume.spec, batch_size=batch_size())
    answer: Answer = {
        "ms": timings,
        "share_of_copy": round(timings["ours, copy"]["ms"] / timings["ours"]["ms"], 4),
        "planned_bytes": plan.total,
    }
    if jax.default_backend() == "cpu" and sys.platform == "linux":
        names = [name for name in calls if "copy" not in name]
        options = ["--small"] if small else []
        answer["growth_bytes"] = {
            name: in_a_process("sliding_window", "--growth", name, volume.blend, *options)["bytes"]
            for name in names
        }
    return answer


def main() -> None:
    """Measures, prints and writes."""
    given = arguments(
        __doc__ or "",
        VOLUMES,
        small=SMALL,
        repeats=5,
        gigabytes={"type": float, "default": 0.0, "help": "of a field on disk to predict too"},
        growth={"nargs": 2, "help": argparse.SUPPRESS},
        file={"type": Path, "help": argparse.SUPPRESS},
    )
    if given.growth:
        name, blend = given.growth
        print(json.dumps({"bytes": growth(name, given.cases[blend])}))
        return
    if given.file:
        print(json.dumps(predict_file(given.file)))
        return
    answer: Answer = {"volumes": {}, "summary": {}}
    for blend, volume in given.cases.items():
        measured = measure(volume, repeats=given.repeats, small=given.small)
        answer["volumes"][blend] = measured
        print_case(blend, measured["ms"])
        print(
            f"{blend}: {json.dumps({k: v for k, v in measured.items() if k != 'ms'})}", flush=True
        )
        ours = measured["ms"]["ours"]["ms"]
        answer["summary"][blend] = {
            name: round(timing["ms"] / ours, 3) for name, timing in measured["ms"].items()
        }
    if given.gigabytes:
        answer["file"] = measure_file(given.gigabytes)
        print(f"file: {json.dumps(answer['file'])}")
    answer["cases"] = {
        blend: {"cells": volume.cells, "window": volume.window}
        for blend, volume in given.cases.items()
    }
    write_results("sliding_window", answer, folder=given.results, note=given.note)


if __name__ == "__main__":
    main()
