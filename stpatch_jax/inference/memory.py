"""What a tiled prediction needs in memory, known before it runs."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import Mesh

from stpatch_jax.errors import InputError

# Cells in flight that keep a device busy; more only takes memory. Of a TPU what is made of them has
# to stay in the 128 MiB beside its cores, or it goes to its memory and back between all kernels: of
# `weather` on a v5e 2**19 move a sixteenth of what 2**23 do, of a U-Net in its place a fifth.
_BUSY = {"cpu": 2**18, "gpu": 2**23, "tpu": 2**19}
_LARGEST_BATCH = 256
# The share of what is free on an accelerator, as its libraries need some of it.
_SHARE = 0.8
_CPU_BUDGET = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device that a tiled prediction needs, by what its compiled program says.

    Attributes:
        batch_size: Windows per call of the function.
        arguments: The field, the arrays of the function and the weights.
        results: The predicted field.
        scratch: Windows, what the function holds meanwhile, sums, a padded copy of the field.
    """

    batch_size: int
    windows: int
    arguments: int
    results: int
    scratch: int

    @property
    def total(self) -> int:
        """Bytes altogether."""
        return self.arguments + self.results + self.scratch


def device_of(field: Any, mesh: Any) -> Any:
    """A device of a prediction: of its mesh, else of its field, else one of this process."""
    if isinstance(mesh, Mesh):
        return mesh.devices.flat[0]
    lies = None if isinstance(field, Tracer) else getattr(field, "sharding", None)
    devices = jax.local_devices() if lies is None else lies.device_set
    return min(devices, key=lambda device: device.id)


def default_budget(device: Any) -> int:
    """Bytes for a prediction: 80 % of what is free on an accelerator, 2 GiB on a CPU."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return _CPU_BUDGET
    return share_of(stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def share_of(free: int) -> int:
    """What a prediction may take of the bytes that are free on an accelerator."""
    return int(_SHARE * free)


def usual_batch_size(window: tuple[int, ...], windows: int, devices: int, platform: str) -> int:
    """Windows per call that keep the devices busy, evenly many in each call."""
    busy = _BUSY.get(platform, _BUSY["gpu"])
    most = max(1, min(_LARGEST_BATCH, busy // math.prod(window))) * devices
    calls = -(-windows // most)
    return rounded_up(-(-windows // calls), devices)


def rounded_up(batch_size: int, devices: int) -> int:
    """The next multiple of the number of devices."""
    return -(-batch_size // devices) * devices


def fitted(
    plan: Callable[[int], MemoryPlan | None], batch_size: int, budget: int, least: int
) -> int:
    """The largest multiple of `least` up to a batch size whose plan fits a budget, by few plans.

    There is no plan of what the compiler refuses for its size.
    """
    while True:
        need = plan(batch_size)
        if need is not None and need.total <= budget:
            return batch_size
        if batch_size <= least:
            raise InputError(
                f"the memory budget must hold the field and {least} windows, which need "
                f"{f'{need.total:,}' if need else 'more'} bytes, got {budget:,}; give more memory, "
                "a smaller field or window, or predict_field, which reads a field by regions"
            )
        if need is None:
            batch_size = max(batch_size // 2 // least * least, least)
            continue
        # Only scratch grows with the batch, and at most in proportion (sums and a padded copy
        # stay), so this never aims below what fits; at least one less, so that it ends.
        share = max(budget - need.arguments - need.results, 0) / max(need.scratch, 1)
        smaller = min(int(batch_size * share), batch_size - 1)
        batch_size = max(smaller // least * least, least)
