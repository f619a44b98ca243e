"""Programs side by side on a device: compiled, warmed up, timed in turn, with their memory.

Times are medians, and the device is waited for once for several calls. `memory_bytes` is what the
compiled program said it needs, `peak_bytes` what the device then held at most, where it tells and
the call raised it. Peers in PyTorch run on the same device, and may use TF32 in float32 as XLA does
there.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.cases import (
    peer,
)
from benchmarks.timing import Answer, Call, interleaved
from stpatch_jax.flops import compiled_bytes
from stpatch_jax.training.machine import PEAKS

Items = Iterator[tuple[str, Callable[[], Answer]]]
"""What a part measures, by name."""
Given = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""
REPEATS = 9


@dataclasses.dataclass
class Programs:
    """Compiled functions by name: calls, seconds to compile, programs, and what failed."""

    calls: dict[str, Call]
    compile_s: dict[str, float]
    programs: dict[str, Any]
    errors: dict[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Given]) -> "Programs":
        """Compiles all of them side by side; what a compiler refuses is left out and told."""

        def compiled(function: Callable[..., Any], values: tuple[Any, ...]) -> tuple[Any, float]:
            start = time.perf_counter()
            program = jax.jit(function).lower(*values).compile()
            return program, round(time.perf_counter() - start, 2)

        made = cls({}, {}, {}, {})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = {name: pool.submit(compiled, *each) for name, each in given.items()}
            for name, job in jobs.items():
                with failing(made.errors, name):
                    program, made.compile_s[name] = job.result()
                    made.programs[name] = program
                    made.calls[name] = functools.partial(program, *given[name][1])
        return made

    def timed(
        self, *, check: Callable[[str, Any], None] | None = None, repeats: int = REPEATS
    ) -> Answer:
        """Times them in turn, once each has run by itself; what fails is left out and told."""
        peaks: dict[str, int] = {}
        for name, call in [*self.calls.items()]:
            before = held()
            try:
                result = jax.block_until_ready(call())
                if check and name in self.programs:
                    check(name, result)
            except Exception as error:
                self.errors[name] = f"{type(error).__name__}: {str(error)[:200]}"
                del self.calls[name]
            if (after := held()) > before:
                peaks[name] = after
        answer: Answer = {
            "ms": interleaved(self.calls, repeats=repeats),
            "compile_s": self.compile_s,
            "memory_bytes": {name: compiled_bytes(p) for name, p in self.programs.items()},
        }
        optional = {"peak_bytes": peaks, "errors": self.errors}
        return answer | {name: values for name, values in optional.items() if values}


@contextlib.contextmanager
def failing(errors: dict[str, str], name: str) -> Iterator[None]:
    """What fails inside is told among the errors."""
    try:
        yield
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {str(error)[:200]}"


def held() -> int:
    """The most bytes that the device held so far, 0 where it does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


@functools.cache
def peak() -> float | None:
    """The bfloat16 FLOP/s of the data sheet, None for a device without one."""
    kind = jax.devices()[0].device_kind
    return next((value for name, value in PEAKS.items() if name in kind), None)


def rates(answer: Answer, flops: float, *, examples: int) -> Answer:
    """Examples and FLOP a second of every timed step, and their share of the device's peak."""
    for timing in answer["ms"].values():
        timing["examples_per_s"] = round(1e3 * examples / timing["ms"], 1)
        timing["flop_per_s"] = 1e3 * flops / timing["ms"]
        if peak():
            timing["share_of_peak"] = round(timing["flop_per_s"] / peak(), 4)
    return {"flops": flops, **answer}


class OfTorch:
    """A result of PyTorch that `jax.block_until_ready` waits for."""

    def __init__(self, torch: ModuleType, result: Any):
        self.torch, self.result = torch, result

    def block_until_ready(self) -> "OfTorch":
        """Waits for all that the device was given."""
        if self.torch.cuda.is_available():
            self.torch.cuda.synchronize()
        return self


def torch_on_device() -> tuple[ModuleType, str] | None:
    """PyTorch and its name of this device, None where it has none."""
    torch = peer("torch")
    if torch is None:
        return None
    torch.set_float32_matmul_precision("high")
    names = {"cpu": "cpu", "gpu": "cuda"}
    backend = jax.default_backend()
    there = backend == "cpu" or torch.cuda.is_available()
    return (torch, names[backend]) if backend in names and there else None


def different(got: Any, expected: np.ndarray) -> int:
    """How many numbers are not the same bits."""
    bits = f"uint{8 * expected.dtype.itemsize}"
    return int((np.asarray(got).view(bits) != expected.view(bits)).sum())
