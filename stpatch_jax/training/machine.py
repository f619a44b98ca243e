"""Metrics of a run that depend on the machine: times, throughput, share of peak, memory."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
PEAKS |= {"TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5p": 459e12}
PEAKS |= {"TPU v6 lite": 918e12, "TPU v6e": 918e12}
"""Dense bfloat16 FLOP/s of one device, by part of its `device_kind`; from the makers' data sheets
(NVIDIA's for the SXM forms)."""


def machine_metrics(
    mesh: Mesh,
    seconds: Mapping[str, float],
    steps: int,
    *,
    examples: int,
    patches: int | None,
    flops: int | None,
    memory: int | None,
) -> dict[str, Any]:
    """What a run tells of its machine, each None where it is not known.

    `platform`, `device_kind`, `devices`, `processes`; `compile_seconds` (until the first step was
    done), `validation_seconds`, `save_seconds` (for which saving held up the loop);
    `steps_per_second`, `samples_per_second` and `patches_per_second` (without those three);
    `flops_per_second` (of the model: matrix products and convolutions, recomputation not counted)
    and its `share_of_peak`; `step_memory_bytes` (what the compiled step needs on one device) and
    `memory_peak_bytes` (what one device held at most).

    It takes the seconds spent on `step`, `compile`, `validation` and `save`; the steps taken, that
    of `compile` among them; the examples of the global batch, the patches of an example, the FLOP
    of a step over all devices and its bytes of memory on one.
    """
    device = mesh.devices.flat[0]
    rate = (steps - 1) / seconds["step"] if steps > 1 else None
    per_second = rate * flops if rate and flops else None
    peak = next((value for name, value in PEAKS.items() if name in device.device_kind), None)
    used = mesh.local_devices[0].memory_stats() or {}
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": mesh.size,
        "processes": jax.process_count(),
        **{f"{name}_seconds": seconds[name] for name in ("compile", "validation", "save")},
        "steps_per_second": rate,
        "samples_per_second": rate * examples if rate else None,
        "patches_per_second": rate * examples * patches if rate and patches else None,
        "flops_per_second": per_second,
        "share_of_peak": per_second / (peak * mesh.size) if per_second and peak else None,
        "step_memory_bytes": memory,
        "memory_peak_bytes": used.get("peak_bytes_in_use"),
    }


class Profile:
    """A profile of the steps 3 to 5 of a process, for TensorBoard or Perfetto; None takes none."""

    def __init__(self, folder: Path | None):
        self._folder, self._steps, self._open = folder, 0, contextlib.ExitStack()

    def before_step(self) -> None:
        """Starts before the third step."""
        self._steps += 1
        if self._folder and self._steps == 3:
            self._open.enter_context(jax.profiler.trace(str(self._folder)))

    def after_step(self, outputs: Any) -> None:
        """Ends after the fifth step, once its outputs are there."""
        if self._folder and self._steps == 5:
            jax.block_until_ready(outputs)
            self._open.close()

    def close(self) -> None:
        """Ends where the run ends before the fifth step."""
        self._open.close()
